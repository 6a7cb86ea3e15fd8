#!/usr/bin/env python3
"""Our data plane beside nginx, HAProxy, Envoy, Traefik and Caddy. Start it as `make bench`, which builds and installs first."""
import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers
import report
import scenarios
from layout import Site
from processes import OTHER_CPUS, Process, first_line

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "data-plane.md"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"comma-separated, of: {' '.join(scenarios.NAMES)}")
    parser.add_argument("--peers", default="", help="comma-separated names; all by default")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement")
    parser.add_argument("--programs", type=Path, required=True, help="where cargo has built")
    parser.add_argument("--packages", type=Path, required=True, help="where pip has installed")
    parser.add_argument("--plain", action="store_true", help="our programs are built without a profile")
    parser.add_argument("--keep", action="store_true", help="leave configurations and logs")
    args = parser.parse_args()
    args.only = [name for name in args.only.split(",") if name]
    unknown = set(args.only) - set(scenarios.NAMES)
    if unknown:
        parser.error(f"no scenario {' '.join(sorted(unknown))}; there are: {' '.join(scenarios.NAMES)}")
    return args


def raise_limits():
    """Held streams take two descriptors each in a proxy."""
    wanted = 65536
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def certificate(work):
    """P-256, signed by itself, for every name of the layouts."""
    pem, key = work / "bench.crt", work / "bench.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=bench",
                    "-addext", "subjectAltName=DNS:*.bench.example.com", "-addext", "basicConstraints=critical,CA:FALSE",
                    "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True)
    return pem, key


def main():
    args = arguments()
    files = raise_limits()
    begun = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="diolkos-bench-"))
    try:
        backend = Process([args.programs / "bench-tool", "backend", "127.0.0.1:0"], work / "backend.log", OTHER_CPUS, stdout=subprocess.PIPE)
        address = first_line(backend, "listening").split("=")[1]
        site = Site(address, *certificate(work), args.programs, args.packages, files)
        chosen, versions = [], []
        for peer in peers.ALL:
            if args.peers and peer.name not in args.peers.split(","):
                continue
            if not peer.program(site):
                print(f"!! {peer.name} IS NOT INSTALLED AND IS LEFT OUT", flush=True)
                versions.append(f"{peer.name} not installed")
                continue
            chosen.append(peer)
            versions.append(f"{peer.name} {peer.version(site)}")
        print(", ".join(versions), flush=True)
        bench = scenarios.Bench(chosen, site, work, args.rounds, args.seconds, lambda text: print(text, flush=True))
        wanted = args.only or scenarios.NAMES
        for group, names in scenarios.GROUPS:
            if set(names) & set(wanted):
                group(bench, wanted)
        command = "make bench" + (f" BENCH={','.join(args.only)}" if args.only else "")
        load = os.getloadavg()[2]
        head = (f"`{command}`, ROUNDS={args.rounds} SECONDS_EACH={args.seconds}, {time.strftime('%Y-%m-%d')}, {report.machine()}; "
                f"commit {commit()}; load average of the last 15 minutes {load:.1f}.\n\n"
                f"{', '.join(versions)}.\n\n{METHOD}{PLAIN if args.plain else PROFILED}")
        text = report.Report(bench).text(head)
        # Part of the scenarios is a look, not a result.
        target = RESULTS if not args.only and not args.peers else args.programs.parent / "bench" / "data-plane.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        print(f"\n{text}\n{time.monotonic() - begun:.0f} s; written to {target}")
        return 1 if bench.failures else 0
    finally:
        from processes import stop_all
        stop_all()
        shutil.rmtree(work, ignore_errors=True) if not args.keep else print(work)


def commit():
    done = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


METHOD = """\
CPU is user and system time of all the proxy's processes and threads, by the number of requests (handshakes, events) that succeeded; medians of rounds
in which all proxies take turns, and ratios are medians of the rounds' ratios. One worker thread each, on a core of its own; load and backend share the others, as batch work (SCHED_BATCH). Pooled connections to the one
backend, no access logs, TLS 1.3 with AES-128-GCM, X25519 and a P-256 certificate, a request with five fields of a browser, 1 KiB answers. Diolkos
runs with its defaults: edge gate, limits and metrics on. Where load or backend are at their limit, the number a second is too low for the fast, CPU is not.
"""

PROFILED = """
Diolkos is the release build of `make release`: compiled with a profile of its own, taken while it served some of these scenarios. Of the others nginx,
HAProxy and Envoy are the builds of Debian and PyPI.
"""

PLAIN = """
Diolkos is built without a profile (`PLAIN=1`), unlike a release.
"""


if __name__ == "__main__":
    sys.exit(main())
