"""Tables and the judgement of the aims, as Markdown."""
import os
import platform
from statistics import median


class Report:
    def __init__(self, bench):
        self.samples = bench.samples
        self.rounds_of = bench.rounds_of
        self.failures = bench.failures

    def value(self, scenario, peer, key):
        samples = self.samples.get((scenario, peer, key))
        return median(samples) if samples else None

    def peers(self, scenario, key):
        found = []
        for (s, peer, k) in self.samples:
            if s == scenario and k == key and peer not in found:
                found.append(peer)
        return found

    def spread(self, scenario, peer, key):
        """Of the samples about their median: what a difference must exceed to mean something."""
        samples = self.samples[(scenario, peer, key)]
        middle = median(samples)
        return f"{min(samples):.3g}-{max(samples):.3g}" if len(samples) > 1 and middle else ""

    def quotient(self, key, value, to):
        """Of two (scenario, peer): the median of what each round has given."""
        ours, theirs = (dict(zip(self.rounds_of.get((*of, key), []), self.samples.get((*of, key), []))) for of in (value, to))
        of_rounds = [ours[i] / theirs[i] for i in ours if theirs.get(i)]
        return median(of_rounds) if of_rounds else None

    def ratio(self, scenario, key, to, peer="diolkos"):
        return self.quotient(key, (scenario, peer), (scenario, to))

    def text(self, head):
        parts = ["# The data plane beside others\n", head, self.aims()]
        parts += [self.requests(), self.sse(), self.idle(), self.routes(), self.start(), self.change()]
        if self.failures:
            parts.append("## Not measured\n\n" + "".join(f"- {' '.join(str(f).split())[:400]}\n" for f in self.failures))
        return "\n".join(part for part in parts if part)

    # The tables.

    def requests(self):
        titles = [
            ("h1", "HTTP/1.1, keep-alive, 1 KiB"), ("tls_h1", "HTTP/1.1 over TLS"), ("tls_h2", "HTTP/2 over TLS, 8 connections of 8 streams"),
            ("h2c", "HTTP/2 without TLS, 8 connections of 8 streams"), ("handshakes", "full handshakes, P-256, X25519, with one request"),
            ("handshakes_pq", "full handshakes, P-256, X25519MLKEM768, with one request"),
        ]
        out = ""
        for scenario, title in titles:
            peers = self.peers(scenario, "cpu_us")
            if not peers:
                continue
            rows = []
            for peer in peers:
                cpu = self.value(scenario, peer, "cpu_us")
                rows.append([peer, f"{cpu:.1f}", self.spread(scenario, peer, "cpu_us"), f"{self.value(scenario, peer, 'kernel_us'):.1f}",
                             self.of(scenario, peer, "cpu_us", "nginx"), f"{self.value(scenario, peer, 'rps'):,.0f}"])
            out += f"## {title}\n\n" + table(["", "CPU us each", "range", "of which kernel", "of nginx", "a second"], rows) + "\n"
        return out

    def of(self, scenario, peer, key, to):
        ratio = self.ratio(scenario, key, to, peer)
        return f"{ratio:.2f}" if ratio else ""

    def sse(self):
        peers = self.peers("sse", "cpu_us")
        rows = [[peer, f"{self.value('sse', peer, 'cpu_us'):.1f}", self.spread("sse", peer, "cpu_us"), self.of("sse", peer, "cpu_us", "nginx"),
                 *(f"{self.value('sse', peer, f'added_{key}_us'):.0f}" for key in ("p50", "p99", "first_p50"))] for peer in peers]
        head = ["", "CPU us an event", "range", "of nginx", "added us p50", "p99", "first event, p50"]
        return rows and "## Server-sent events, 50 streams, 10 ms apart\n\n" + table(head, rows)

    def idle(self):
        rows = [[peer, f"{self.value('idle', peer, 'kib'):.1f}", f"{self.value('idle', peer, 'streams'):.0f}"] for peer in self.peers("idle", "kib")]
        return rows and "## Event streams held open\n\n" + table(["", "KiB (PSS) each", "streams"], rows)

    def routes(self):
        layouts = ["hosts_1", "hosts_1000", "hosts_10000", "prefixes_5000"]
        rows = []
        for peer in self.peers("hosts_1", "cpu_us"):
            row = [peer]
            for layout in layouts:
                cpu, growth = self.value(layout, peer, "cpu_us"), self.growth(layout, peer)
                row.append("" if cpu is None else f"{cpu:.1f}" if layout == "hosts_1" else f"{cpu:.1f} (x{growth:.2f})")
            rows.append(row)
        head = ["CPU us a request", "1 host", "1,000 hosts", "10,000 hosts", "one host, 5,000 prefixes"]
        return rows and "## By number of routes\n\n" + table(head, rows)

    def growth(self, layout, peer="diolkos"):
        return self.quotient("cpu_us", (layout, peer), ("hosts_1", peer))

    def route_kib(self, peer="diolkos", layout="hosts_10000", count=10_000):
        one, many = self.value("hosts_1", peer, "pss_kib"), self.value(layout, peer, "pss_kib")
        return (many - one) / (count - 1) if one and many else None

    def start(self):
        rows = []
        peers = [("hosts_10000", peer) for peer in self.peers("hosts_10000", "start_s")] + [("start", p) for p in self.peers("start", "start_s")]
        for scenario, peer in peers:
            seconds = self.value(scenario, peer, "start_s")
            row = [peer, f"{seconds * 1e3:,.0f}", self.spread(scenario, peer, "start_s")]
            now, most = self.value(scenario, peer, "rss_kib"), self.value(scenario, peer, "peak_kib")
            each = self.route_kib(peer) if scenario == "hosts_10000" else None
            row.append(f"{each:.2f}" if each is not None else "")
            row += [f"{now / 1024:.0f}", f"{most / 1024:.0f} (x{most / now:.2f})"] if now else ["", ""]
            rows.append(row)
        head = ["", "exec to first 200, ms", "range, s", "KiB (PSS) a route", "MiB resident, settled", "MiB at most"]
        return rows and "## Start with 10,000 routes\n\n" + table(head, rows)

    def change(self):
        rows = [[peer, f"{self.value('change', peer, 'cpu_ms'):.2f}", self.spread("change", peer, "cpu_ms"),
                 f"{pushed:.0f}" if (pushed := self.value("change", peer, "bytes")) else ""] for peer in self.peers("change", "cpu_ms")]
        return rows and "## One route more beside 10,000\n\n" + table(["", "CPU ms of the proxy", "range", "bytes pushed"], rows)

    # The aims.

    def aims(self):
        peak = None
        if now := self.value("hosts_10000", "diolkos", "rss_kib"):
            peak = self.value("hosts_10000", "diolkos", "peak_kib") / now
        haproxy = self.value("hosts_10000", "haproxy", "start_s")
        start = self.value("hosts_10000", "diolkos", "start_s")
        disk = self.value("start", "diolkos, last-good copy", "start_s")
        aims = [
            ("HTTP/1.1: CPU of nginx", self.ratio("h1", "cpu_us", "nginx"), 0.95),
            ("HTTP/1.1: CPU of Envoy", self.ratio("h1", "cpu_us", "envoy"), 0.25),
            ("HTTP/1.1 over TLS: CPU of nginx", self.ratio("tls_h1", "cpu_us", "nginx"), 0.85),
            ("HTTP/2 over TLS: CPU of HAProxy", self.ratio("tls_h2", "cpu_us", "haproxy"), 1.2),
            ("full handshake: CPU of nginx", self.ratio("handshakes", "cpu_us", "nginx"), 0.6),
            ("10,000 hosts: growth of a request's CPU", self.growth("hosts_10000"), 1.05),
            ("5,000 prefixes on one host: growth of a request's CPU", self.growth("prefixes_5000"), 1.10),
            ("10,000 routes: KiB a route", self.route_kib(), 1.0),
            ("10,000 routes: peak of settled memory", peak, 2.0),
            ("10,000 routes: start from the last-good copy, of HAProxy's time", disk / haproxy if disk and haproxy else None, 3.0),
            ("10,000 routes: start with a controller, of HAProxy's time", start / haproxy if start and haproxy else None, 3.0),
            ("held event stream: KiB", self.value("idle", "diolkos", "kib"), 25),
            ("server-sent events: CPU of nginx", self.ratio("sse", "cpu_us", "nginx"), 1.05),
            ("one route more beside 10,000: CPU ms", self.value("change", "diolkos", "cpu_ms"), 3),
            ("one route more beside 10,000: bytes pushed", self.value("change", "diolkos", "bytes"), 4096),
        ]
        rows = [[name, f"{value:.3g}" if value < 1000 else f"{value:.0f}", f"{limit:g}", "met" if value <= limit else "**missed**"]
                for name, value, limit in aims if value is not None]
        return rows and "## Aims\n\n" + table(["", "measured", "at most", ""], rows) + self.floor()

    def floor(self):
        """Below what a share of Envoy's CPU no proxy comes here."""
        kernel, envoy = self.value("h1", "diolkos", "kernel_us"), self.value("h1", "envoy", "cpu_us")
        if not kernel or not envoy:
            return ""
        return (f"\nOf a request over HTTP/1.1 the kernel alone takes {kernel:.1f} us of diolkos' CPU, which is {kernel / envoy:.2f} of all that Envoy "
                "uses: so much a proxy asks for that reads and writes each message once.\n")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def machine():
    model = "unknown CPU"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{len(os.sched_getaffinity(0))} cores, {model}, {platform.system()} {platform.release()} {platform.machine()}"
