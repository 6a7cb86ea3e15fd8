#!/usr/bin/env python3
"""Request smuggling: every stream of the corpus goes through Diolkos to nginx, Node and Go, and nobody may read it in
two ways, at a listener that is as strict as can be and at one that lets in what can be let in (`edge`).

The gateway's access log says which requests it forwarded, in order, with method, target and body bytes; the backend
says which requests it read. The two lists must be equal for every stream. After each stream an honest request on a
connection of its own must get the answer to itself (a poisoned upstream connection would give it another's).

    run.py DIOLKOS [VARIATIONS]     needs nginx, node and go on the PATH
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from corpus import corpus  # noqa: E402

HERE = Path(__file__).parent
DEADLINE = 20


class Lines:
    """Output of a process, line by line, with waiting."""

    def __init__(self, pipe):
        self.lines, self.changed, self.ended = [], threading.Condition(), False
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe):
        for line in pipe:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait(self, condition, what):
        with self.changed:
            found = self.changed.wait_for(lambda: condition(self.lines) or self.ended, DEADLINE)
            if not condition(self.lines):
                raise SystemExit(f"{'nothing more came' if found else 'waited too long'}: {what}; last lines {self.lines[-5:]}")


def start(command, **more):
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="backslashreplace", bufsize=1, **more)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def backend(kind, work):
    """Process, its lines, and its port."""
    if kind == "nginx":
        port = free_port()
        (work / "nginx.conf").write_text(f"""
daemon off; master_process off; worker_processes 1; pid {work}/nginx.pid; error_log stderr crit;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {work}/body; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f; uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
  keepalive_requests 1000000; client_max_body_size 0; large_client_header_buffers 8 128k;
  log_format line '$request_method $request_uri -';
  server {{ listen 127.0.0.1:{port}; access_log /dev/stdout line; location / {{ return 200 "$request_method $request_uri -"; }} }}
}}""")
        process = start(["nginx", "-p", str(work), "-c", str(work / "nginx.conf")])
        lines = Lines(process.stdout)
        return process, lines, port
    if kind == "node":
        process = start(["node", str(HERE / "backends/node.js")])
    else:
        binary = work / "go-backend"
        subprocess.run(["go", "build", "-o", str(binary), str(HERE / "backends/main.go")], check=True)
        process = start([str(binary)])
    lines = Lines(process.stdout)
    lines.wait(lambda seen: any(line.startswith("listening ") for line in seen), f"{kind} listens")
    port = int(lines.lines[0].split()[1])
    return process, lines, port


MANIFESTS = """
apiVersion: diolkos.io/v1alpha1
kind: GatewayConfig
metadata: {name: default, namespace: diolkos-system}
spec:
  default: true
  listeners:
  - {name: http, port: 8080, protocol: HTTP, health: false}
  - {name: lax, port: LAX, protocol: HTTP, health: false, edge: {escapedSlashes: Keep, underscoresInHeaders: Keep}}
  timeouts: {requestHeader: 1s, keepAlive: 300ms}
  accessLog: {format: JSON}
---
apiVersion: diolkos.io/v1alpha1
kind: Upstream
metadata: {name: backend}
spec:
  endpoints: [{address: 127.0.0.1, port: PORT}]
---
apiVersion: diolkos.io/v1alpha1
kind: Route
metadata: {name: all}
spec:
  rules:
  - backends: [{kind: Upstream, name: backend}]
    timeouts: {streamIdle: 1s}
"""


def talk(address, data):
    """Sends a stream and reads until the gateway closes; it does so soon after the last answer."""
    with socket.create_connection(address, DEADLINE) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass  # refused early
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except OSError:
            pass  # cut
    return answer


def forwarded(lines):
    """What the gateway says it forwarded whole: method, target, body bytes."""
    out = []
    for line in lines:
        if not line.startswith("{"):
            continue
        record = json.loads(line)
        if record.get("upstream"):
            out.append((record["method"], record["uri"], record["request_bytes"], record.get("error"), record["status"]))
    return out


def run(kind, diolkos, variations):
    work = Path(tempfile.mkdtemp(prefix="diolkos-differential-"))
    processes = []
    try:
        back, seen, port = backend(kind, work)
        processes.append(back)
        (work / "manifests").mkdir()
        lax = free_port()
        (work / "manifests/all.yaml").write_text(MANIFESTS.replace("PORT", str(port)).replace("LAX", str(lax)))
        gateway = start([diolkos, "run", str(work / "manifests"), "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--threads", "1"],
                        stderr=open(work / "stderr", "w"))
        processes.append(gateway)
        log = Lines(gateway.stdout)
        strict = "127.0.0.1", wait_port(work / "stderr", log, r"127\.0\.0\.1:(\d+)")
        lenient = "127.0.0.1", wait_port(work / "stderr", log, rf":({lax})\b")
        cases, problems = {}, []

        def one(case):
            number, name, is_lax, data = case
            cases[number] = (name, data)
            address = lenient if is_lax else strict
            talk(address, data)
            own = f"/own/{number}"
            answer = talk(address, f"GET {own} HTTP/1.1\r\nHost: d.example.com\r\nConnection: close\r\n\r\n".encode())
            if not answer.startswith(b"HTTP/1.1 200 ") or f"GET {own} ".encode() not in answer:
                problems.append(f"{number} {name}: the request after it got {answer[:120]!r}")

        with ThreadPoolExecutor(24) as pool:
            list(pool.map(one, corpus(variations)))
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(DEADLINE)
        seen.wait(lambda lines: len([line for line in lines if "/own/" in line]) >= len(cases) - len(problems), "the backend's last lines")
        ours = forwarded(log.lines)
        if not any("%2F" in target for _, target, *_ in ours):
            problems.append("no escaped slash came through the listener that lets them in")
        problems += compare(kind, ours, [line for line in seen.lines if not line.startswith("listening")], cases)
        count = len([line for line in seen.lines if "/own/" not in line])
        print(f"{kind}: {len(cases)} streams, {count} requests of them forwarded and read alike, {len(problems)} differences")
        print(f"test result: {'FAILED' if problems else 'ok'}. {0 if problems else 1} passed; {1 if problems else 0} failed; 0 ignored")
        for problem in problems[:20]:
            print("  " + problem)
        return not problems
    finally:
        for process in processes:
            process.kill()
            process.wait()
        shutil.rmtree(work, ignore_errors=True)


def wait_port(path, log, pattern):
    for _ in range(DEADLINE * 20):
        lines = path.read_text().splitlines() + log.lines
        for line in lines:
            found = re.search(pattern, line) if "listening" in line and "diolkos-system/default/" in line else None
            if found:
                return int(found.group(1))
        threading.Event().wait(0.05)
    raise SystemExit("the gateway does not listen: " + path.read_text()[-500:])


def compare(kind, ours, theirs, cases):
    """Both lists by the number of their case; within it they must be equal and in the same order."""
    def number(target):
        found = re.search(r"/(?:a|b|own)(?:[/\\]|%2F)*(\d+)", target) or re.search(r"(\d+)", target)
        return int(found.group(1)) if found else -1

    def grouped(items, key):
        groups = {}
        for item in items:
            groups.setdefault(number(key(item)), []).append(item)
        return groups

    read = []
    for line in theirs:
        if line.startswith("- "):
            continue  # nginx about something that was no request
        method, rest = line.split(" ", 1)
        target, size = rest.rsplit(" ", 1)
        read.append((method, target, size))
    # A tunnel to a host of the client's choice is nothing that two could agree about.
    problems = [f"forwarded {method} {target}" for method, target, *_ in ours if method == "CONNECT"]
    a, b = grouped(ours, lambda i: i[1]), grouped(read, lambda i: i[1])
    for which in sorted(set(a) | set(b)):
        mine, other = a.get(which, []), b.get(which, [])
        # What broke off on its way counts on neither side, nor what the backend refused (a method that it does not
        # know): it has not read those to their end.
        not_read = {t for _, t, _, error, status in mine if error is not None or status >= 400}
        whole = [(m, t, "-" if kind == "nginx" else str(n)) for m, t, n, _, _ in mine if t not in not_read]
        other = [item for item in other if item[1] not in not_read]
        if whole != other:
            name, data = cases.get(which, ("?", b""))
            problems.append(f"{which} {name}: forwarded {whole}, read {other}, stream {data[:300]!r}")
    return problems


def main():
    diolkos = os.path.abspath(sys.argv[1])
    variations = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    missing = [tool for tool in ("nginx", "node", "go") if not shutil.which(tool)]
    if missing:
        raise SystemExit(f"needs {' and '.join(missing)} on the PATH")
    results = [run(kind, diolkos, variations) for kind in ("nginx", "node", "go")]
    sys.exit(0 if all(results) else 1)


main()
