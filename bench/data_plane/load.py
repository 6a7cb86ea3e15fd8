"""The clients: wrk, h2load and our own (e2e/src/measure). Each returns how many requests were answered well."""
import json
import os
import re
import subprocess
import time
from pathlib import Path

from processes import OTHER_CPUS, Failure, Process, first_line, place

HERE = Path(__file__).parent
CONNECTIONS = 64
# What all peers and all clients have: then nobody is faster because it encrypts less.
CIPHER = "TLS_AES_128_GCM_SHA256"
GROUP = "X25519"
FIELDS = ["user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
          "accept: application/json, text/plain, */*", "accept-language: en-GB,en;q=0.7,el;q=0.3",
          "accept-encoding: gzip, deflate, br, zstd", "x-request-id: 7f9c2ba4-e88f-4cd1-b8a6-5c3f1d2e0a77"]


def run(command, seconds):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=seconds + 60,
                          preexec_fn=lambda: place(OTHER_CPUS))
    if done.returncode:
        raise Failure(f"{command[0]} failed:\n{(done.stderr or done.stdout)[-1500:]}")
    return done.stdout


def checked(done, failed, what):
    """A proxy that refuses looks fast: more than one failure in a thousand and the run does not count."""
    if not done or failed > done / 1000:
        raise Failure(f"{what}: {failed} of {done} requests failed")
    return done - failed


def h1(peer, seconds):
    """HTTP/1.1, keep-alive, one request."""
    host, path = peer.layout.last("bytes/1024")
    fields = [part for field in [f"Host: {host}", *FIELDS] for part in ("-H", field)]
    return wrk([*fields, "-s", HERE / "one.lua", f"http://127.0.0.1:{peer.http}{path}"], seconds)


def routes(peer, seconds):
    """HTTP/1.1, keep-alive, over all routes of the layout."""
    return wrk(["-s", HERE / "routes.lua", f"http://127.0.0.1:{peer.http}", "--", peer.layout.hosts, peer.layout.prefixes, "bytes/1024"], seconds)


def wrk(arguments, seconds):
    text = run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", *arguments], seconds)
    found = re.search(r"result done=(\d+) failed=(\d+)", text)
    return checked(int(found[1]), int(found[2]), text)


# (peer, options) -> requests a second, as seen last: h2load counts requests well, and time badly.
_rates = {}


def h2load(peer, seconds, port, scheme, *options):
    host, path = peer.layout.last("bytes/1024")
    fields = [part for field in FIELDS for part in ("-H", field)]
    count = max(int(_rates.get((peer.name, scheme, options), 1000) * seconds), 1000)
    begun = time.monotonic()
    text = run(["h2load", "-t1", f"-n{count}", f"--tls13-ciphers={CIPHER}", f"--groups={GROUP}", *fields, *options,
                f"--connect-to=127.0.0.1:{port}", f"{scheme}://{host}{path}"], seconds)
    found = re.search(r"requests: .* (\d+) succeeded, (\d+) failed", text)
    good = re.search(r"status codes: (\d+) 2xx", text)
    if not found or not good:
        raise Failure(text[-1500:])
    _rates[(peer.name, scheme, options)] = count / (time.monotonic() - begun)
    done, failed = int(found[1]), int(found[2])
    return checked(int(good[1]) + failed, failed + done - int(good[1]), text)


def tls_h1(peer, seconds):
    return h2load(peer, seconds, peer.https, "https", "--h1", f"-c{CONNECTIONS}")


def tls_h2(peer, seconds):
    return h2load(peer, seconds, peer.https, "https", "-c8", "-m8")


def h2c(peer, seconds):
    return h2load(peer, seconds, peer.h2c, "http", "-c8", "-m8")


def tool(peer, *arguments):
    return [peer.site.programs / "bench-tool", *arguments]


def handshakes(peer, seconds, group):
    host, path = peer.layout.last("bytes/16")
    text = run(tool(peer, "handshakes", f"127.0.0.1:{peer.https}", host, path, peer.site.certificate, group, seconds, 8), seconds)
    return json.loads(text)["done"]


def events(port, peer, streams, each, gap):
    """Server-sent events through a port: what the client saw."""
    host, path = peer.layout.last(f"events/{each}/{gap}")
    return json.loads(run(tool(peer, "events", f"127.0.0.1:{port}", host, path, streams, each), each * gap / 1000))


def hold(peer, count, log):
    """Holds so many streams until its input is closed."""
    host, path = peer.layout.last("hold")
    client = Process(tool(peer, "hold", f"127.0.0.1:{peer.http}", host, path, count), log, OTHER_CPUS,
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    first_line(client, "held")
    return client
