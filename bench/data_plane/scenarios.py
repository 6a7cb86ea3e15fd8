"""What is measured. A scenario takes the peers one after the other in every round, so that whatever else the machine does hits all alike."""
import subprocess
import time
from contextlib import ExitStack
from statistics import median

import load
from layout import Layout
from peers.diolkos import Diolkos
from processes import Failure

STREAMS, EVENTS, GAP_MS = 50, 200, 10
HELD = 10_000
CHANGES = 10
# Seconds after which allocators have given back what a start has left over.
GIVEN_BACK = 3
# Of those to whom a request costs less than that, its growth by the number of routes is measured so many times as often.
QUICK_US, MORE = 80, 4
# What ends one measurement and not the run.
ERRORS = (Failure, OSError, ValueError, subprocess.SubprocessError)
# Seconds, unmeasured, before the first measurement of a proxy.
WARM_UP = 1


class Bench:
    """One run: which peers, how long, how often; and what came of it."""

    def __init__(self, peers, site, work, rounds, seconds, say):
        self.peers, self.site, self.work = peers, site, work
        self.rounds, self.seconds, self.say = rounds, seconds, say
        # (scenario, peer, value) -> samples
        self.samples = {}
        # The same -> the rounds that they are of: what is compared is of one round, as the machine is not the same an hour long.
        self.rounds_of = {}
        self.round = 0
        # What could not be measured, as text.
        self.failures = []

    def note(self, scenario, peer, **values):
        for key, value in values.items():
            self.samples.setdefault((scenario, peer, key), []).append(value)
            self.rounds_of.setdefault((scenario, peer, key), []).append(self.round)
        numbers = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
        self.say(f"  {scenario:14} {peer:10} {numbers}")

    def failed(self, scenario, peer, error):
        self.failures.append(f"{scenario}, {peer}: {error}")
        self.say(f"!! {scenario}: {peer} FAILED: {error}")

    def running(self, layout):
        return Running(self, layout)

    def alternate(self, scenario, all_peers, measure, rounds=None):
        """Calls `measure(peer)` for every peer in every round, beginning with another one each time."""
        for i in rounds or range(self.rounds):
            self.round = i
            first = i % len(all_peers)
            for peer in all_peers[first:] + all_peers[:first]:
                try:
                    measure(peer)
                except ERRORS as error:
                    self.failed(scenario, peer.name, error)

    def cost(self, scenario, send):
        """A measurement of CPU for each of what `send(peer, seconds)` says it has done. Without a name the scenario is the peer's layout."""
        def measure(peer):
            if self.round == 0:
                send(peer, WARM_UP)
            before, kernel, begun = peer.process.cpu(), peer.process.kernel(), time.monotonic()
            done = send(peer, self.seconds)
            cpu, kernel, took = peer.process.cpu() - before, peer.process.kernel() - kernel, time.monotonic() - begun
            self.note(scenario or peer.layout.name, peer.name, cpu_us=cpu / done * 1e6, kernel_us=kernel / done * 1e6, rps=done / took)
        return measure


class Running:
    """All peers on one layout, started."""

    def __init__(self, bench, layout, when_started=None):
        self.bench, self.layout, self.peers = bench, layout, []
        self.when_started = when_started

    def __enter__(self):
        for kind in self.bench.peers:
            try:
                peer = kind(self.bench.work, self.bench.site, self.layout)
                try:
                    seconds = peer.start()
                except BaseException:
                    peer.stop()
                    raise
            except ERRORS as error:
                self.bench.failed(f"start of {self.layout.name}", kind.name, error)
                continue
            self.peers.append(peer)
            if self.when_started:
                self.when_started(peer, seconds)
        return self

    def __exit__(self, *_):
        for peer in self.peers:
            peer.stop()


def requests(bench, wanted):
    """CPU of a proxied request, by protocol."""
    with bench.running(Layout("requests", tls=True)) as running:
        for name, send in [("h1", load.h1), ("tls_h1", load.tls_h1), ("tls_h2", load.tls_h2), ("h2c", load.h2c)]:
            if name in wanted:
                bench.say(f"{name}:")
                bench.alternate(name, running.peers, bench.cost(name, send))
        for name, group in [("handshakes", "X25519"), ("handshakes_pq", "X25519MLKEM768")]:
            if name in wanted:
                bench.say(f"{name}: full, P-256, {group}")
                able = list(running.peers)
                if group != "X25519":
                    running.peers = [p for p in able if can_shake(bench, name, p, group)]
                bench.alternate(name, running.peers, bench.cost(name, lambda peer, seconds, group=group: load.handshakes(peer, seconds, group)))
                running.peers = able
        if "sse" in wanted:
            bench.say(f"sse: {STREAMS} streams of {EVENTS} events, {GAP_MS} ms apart")
            bench.alternate("sse", running.peers, lambda peer: relay(bench, peer))
        if "idle" in wanted:
            idle(bench, running)


def can_shake(bench, scenario, peer, group):
    try:
        return load.handshakes(peer, 0.1, group) > 0
    except Failure:
        bench.say(f"  {scenario:14} {peer.name:10} does not know {group}")
        return False


def relay(bench, peer):
    """Server-sent events through the proxy, and past it: what it adds is the difference."""
    direct = load.events(bench.site.backend_port(), peer, STREAMS, EVENTS, GAP_MS)
    before = peer.process.cpu()
    through = load.events(peer.http, peer, STREAMS, EVENTS, GAP_MS)
    cpu = peer.process.cpu() - before
    added = {f"added_{key}": through[key] - direct[key] for key in ("p50_us", "p99_us", "first_p50_us")}
    bench.note("sse", peer.name, cpu_us=cpu / through["events"] * 1e6, **added)


def idle(bench, running):
    """Memory of an event stream on which nothing happens. Kernel buffers of sockets are not in it."""
    # Two sockets a stream in the proxy; Diolkos takes four fifths of what it may for those.
    count = min(HELD, (bench.site.files - 500) * 2 // 5)
    bench.say(f"idle: {count} streams held")
    for peer in running.peers:
        try:
            before = peer.process.pss()
            client = load.hold(peer, count, bench.work / "hold.log")
            try:
                kib = (peer.process.pss() - before) / count
                bench.note("idle", peer.name, kib=kib, streams=count)
            finally:
                client.popen.stdin.close()
                client.popen.wait(60)
                client.popen.stdin = None
                client.stop()
        except ERRORS as error:
            bench.failed("idle", peer.name, error)


def routes(bench, wanted):
    """Cost of a request, start and memory by the number of routes."""
    layouts = [Layout("hosts_1"), Layout("hosts_1000", hosts=1000), Layout("hosts_10000", hosts=10_000), Layout("prefixes_5000", prefixes=5000)]
    for layout in layouts:
        def started(peer, seconds, layout=layout):
            settle(peer)
            time.sleep(GIVEN_BACK)
            now, most = peer.process.resident()
            bench.note(layout.name, peer.name, start_s=seconds, pss_kib=peer.process.pss(), rss_kib=now, peak_kib=most)

        bench.say(f"{layout.name}:")
        with Running(bench, layout, started) as running:
            if layout.name == "hosts_10000":
                if "start" in wanted:
                    for peer in running.peers:
                        restart(bench, peer)
                if "change" in wanted:
                    change(bench, running)
    if "routes" in wanted:
        growth(bench, layouts)


def growth(bench, layouts):
    """CPU of a request with every layout: all at once, so that those of one proxy are measured one after the other."""
    bench.say("routes: CPU of a request by their number")
    with ExitStack() as stack:
        everywhere = [stack.enter_context(bench.running(layout)).peers for layout in layouts]
        peers = [p for kind in bench.peers for peers in everywhere for p in peers if isinstance(p, kind)]
        measure = bench.cost(None, load.routes)
        bench.alternate("routes", peers, measure)
        # A few hundredths are told apart by many rounds alone, and only those who are quick are about hundredths.
        quick = [p for p in peers if (costs := bench.samples.get(("hosts_1", p.name, "cpu_us"))) and median(costs) < QUICK_US]
        bench.alternate("routes", quick, measure, range(bench.rounds, MORE * bench.rounds))


def settle(peer):
    """Waits until its CPU is idle: what it does after the first answer belongs to its start."""
    before = peer.process.cpu()
    for _ in range(100):
        time.sleep(0.2)
        now = peer.process.cpu()
        if now - before < 0.005:
            return
        before = now


def restart(bench, peer):
    """More starts with 10,000 routes, of those for whom that is quick."""
    first = bench.samples[("hosts_10000", peer.name, "start_s")][0]
    again = 0 if first > 15 else 4
    for _ in range(again):
        peer.stop()
        bench.note("hosts_10000", peer.name, start_s=peer.start())
        settle(peer)
    if isinstance(peer, Diolkos):
        for _ in range(5):
            peer.stop()
            bench.note("start", "diolkos, last-good copy", start_s=peer.start_from_disk())
            settle(peer)
            time.sleep(GIVEN_BACK)
            now, most = peer.process.resident()
            bench.note("start", "diolkos, last-good copy", pss_kib=peer.process.pss(), rss_kib=now, peak_kib=most)
        peer.stop()
        bench.note("start", "diolkos run, YAML", start_s=peer.start_standalone())
        peer.stop()
        peer.start()


def change(bench, running):
    """One more route beside 10,000: CPU of the proxy, and bytes that Diolkos' controller sends."""
    bench.say("change: one route more beside 10,000")
    for peer in (p for p in running.peers if p.changes):
        try:
            settle(peer)
            for i in range(CHANGES if isinstance(peer, Diolkos) else 3):
                before, sent, begun = peer.process.cpu(), getattr(peer, "sent", 0), time.monotonic()
                peer.add_route(f"added{i}")
                peer.until_served(f"added{i}.bench.example.com", "/api/bytes/16", begun, pause=0.02)
                settle(peer)
                values = {"cpu_ms": (peer.process.cpu() - before) * 1e3}
                if isinstance(peer, Diolkos):
                    values["bytes"] = peer.sent - sent
                bench.note("change", peer.name, **values)
        except ERRORS as error:
            bench.failed("change", peer.name, error)


GROUPS = [
    (requests, ["h1", "tls_h1", "tls_h2", "h2c", "handshakes", "handshakes_pq", "sse", "idle"]),
    (routes, ["routes", "start", "change"]),
]
NAMES = [name for _, names in GROUPS for name in names]
