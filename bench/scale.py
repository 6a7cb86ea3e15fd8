#!/usr/bin/env python3
"""The control plane at scale, in a cluster: HTTPRoutes, Services and endpoints by the thousand.

Runs inside the rig's network (`make bench-scale`), against the Diolkos that `make rig-up` started. One Gateway with its
own data planes takes HTTPRoutes, each to a Service of its own with endpoints in EndpointSlices (addresses that nobody
has: nothing is sent there; what is timed is a response header). For each size it prints how long a controller takes to
start, its memory, the time from apply to the last data plane's answer (nothing else going on, and under churn), status
writes (of all controllers, as the API server's audit log has them), and the bytes and CPU that one change costs.
"""
import argparse
import base64
import collections
import datetime
import http.client
import json
import multiprocessing
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e/rig"))
import proc  # noqa: E402
from kube import Api  # noqa: E402

SYSTEM = "diolkos-system"
NAMESPACE = f"bench-scale-{os.getpid()}"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
GATEWAY_API = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
MERGE = "application/merge-patch+json"
PORT = 8080
THREADS = 6
AUDIT = pathlib.Path(os.environ["KUBECONFIG"]).parent.parent / "log/audit.log"


def new_api():
    return Api(os.environ["KUBECONFIG"])


def must(answer):
    if answer[0] >= 300:
        sys.exit(f"the API server says {answer[0]}: {answer[1].get('message')}")
    return answer[1]


def service(i):
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{i}", "namespace": NAMESPACE},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    }


def slices(i, endpoints):
    address = lambda n: f"10.{128 + (i * endpoints + n) // 65536}.{(i * endpoints + n) // 256 % 256}.{(i * endpoints + n) % 256}"
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": f"s{i}", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": f"s{i}"}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address(n)], "conditions": {"ready": True}} for n in range(endpoints)],
    }


def rules(i, version):
    header = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-version", "value": version}]}}
    redirect = {"type": "RequestRedirect", "requestRedirect": {"statusCode": 302, "path": {"type": "ReplaceFullPath", "replaceFullPath": f"/{version}"}}}
    return [
        {"matches": [{"path": {"type": "Exact", "value": "/version"}}], "filters": [redirect]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "filters": [header], "backendRefs": [{"name": f"s{i}", "port": 80}]},
    ]


def route(i):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": f"r{i}", "namespace": NAMESPACE},
        "spec": {"parentRefs": [{"name": "scale"}], "hostnames": [f"r{i}.scale"], "rules": rules(i, "0")},
    }


def certificate():
    """A new certificate and its key, as a Secret has them."""
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{name}" for name in ("tls.crt", "tls.key")]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
             "-subj", "/CN=scale", "-addext", "subjectAltName=DNS:secret.scale", "-out", files[0], "-keyout", files[1]],
            check=True, stderr=subprocess.DEVNULL)
        return {os.path.basename(file): base64.b64encode(pathlib.Path(file).read_bytes()).decode() for file in files}


class Writes:
    """Status writes that the API server takes from now on."""

    def __init__(self):
        self.from_byte = AUDIT.stat().st_size

    def moments(self):
        """For each object when its status was written."""
        found = collections.defaultdict(list)
        with open(AUDIT, "rb") as file:
            file.seek(self.from_byte)
            for line in file:
                if b'"subresource":"status"' not in line or b":diolkos-controller" not in line:
                    continue
                event = json.loads(line)
                of = event["objectRef"]
                at = datetime.datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
                found[of["resource"], of["namespace"], of["name"]].append(at)
        return found

    def of_routes(self):
        """How many in all, and of one HTTPRoute at most."""
        counts = [len(at) for (resource, _, _), at in self.moments().items() if resource == "httproutes"]
        return sum(counts), max(counts, default=0)

    def of_gateway(self):
        """How many, and the shortest time between two of them in seconds."""
        moments = sorted(at for (resource, _, _), all_of in self.moments().items() if resource == "gateways" for at in all_of)
        return len(moments), min((b - a for a, b in zip(moments, moments[1:])), default=float("inf"))


def in_parallel(work):
    """Runs `work(api, item)` for all items of a list on some connections."""
    def run(items):
        errors = []
        def some(part):
            api = new_api()
            try:
                for item in part:
                    work(api, item)
            except BaseException as error:  # said by the caller
                errors.append(error)
        threads = [threading.Thread(target=some, args=(items[n::THREADS],)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            sys.exit(str(errors[0]))
    return run


class Scale:
    def __init__(self, args):
        self.args = args
        self.api = new_api()
        self.random = random.Random(1)
        self.made = self.wrong = 0
        self.ready = {}
        self.connections = {}

    # ---- what is measured

    def pods(self, namespace, selector):
        pods = must(self.api.call("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector.replace('=', '%3D')}"))
        return [p for p in pods["items"] if "deletionTimestamp" not in p["metadata"] and p["status"].get("podIP")]

    def controllers(self):
        return self.pods(SYSTEM, "app.kubernetes.io/component=controller")

    def data_planes(self):
        return self.pods(NAMESPACE, "gateway.networking.k8s.io/gateway-name=scale")

    def planes(self):
        return [p["status"]["podIP"] for p in self.data_planes()]

    def metrics(self, ip):
        connection = http.client.HTTPConnection(ip, 9090, timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def total(self, pattern):
        """Sum of all series of all controllers that match."""
        texts = [self.metrics(p["status"]["podIP"]) for p in self.controllers()]
        return sum(float(v) for t in texts for v in re.findall(rf"^{pattern} (\S+)$", t, re.M))

    def processes(self):
        """Process ids of the controllers, and of the data planes."""
        name = lambda pod: pod["metadata"]["name"]
        return [proc.controller(name(p)) for p in self.controllers()], [proc.data_plane(name(p)) for p in self.data_planes()]

    def memory(self, what):
        for kind, pids in zip(("controllers", "data planes"), self.processes()):
            now = ", ".join("{:.0f} MB (at most {:.0f})".format(*proc.megabytes(pid)) for pid in pids)
            self.row(f"memory of the {kind}{what}", now)

    def ask(self, ip, host):
        for again in (True, False):
            connection = self.connections.get(ip)
            if connection is None:
                connection = self.connections[ip] = http.client.HTTPConnection(ip, PORT, timeout=10)
            try:
                connection.request("GET", "/version", headers={"host": host})
                answer = connection.getresponse()
                answer.read()
                return answer.status, answer.headers.get("location", "")
            except (OSError, http.client.HTTPException):
                self.connections.pop(ip, None)
                if not again:
                    raise

    def until_served(self, i, version, begun, planes):
        waiting = list(planes)
        while waiting:
            for ip in list(waiting):
                status, location = self.ask(ip, f"r{i}.scale")
                if status == 302 and location.endswith(f"/{version}"):
                    waiting.remove(ip)
                elif status not in (302, 404):
                    self.wrong += 1
            if time.perf_counter() - begun > 60:
                sys.exit(f"r{i} is not served after 60 s")
            # Who asks all the time takes the processor from those who are waited for.
            time.sleep(0.001)
        return time.perf_counter() - begun

    def quiet(self):
        """Until no status has been written and nothing sent for a while; bytes sent so far."""
        last, since = None, time.monotonic()
        while time.monotonic() - since < 3:
            now = (AUDIT.stat().st_size, self.total("diolkos_config_sent_bytes_total"))
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.5)
        return last[1]

    def row(self, what, value):
        print(f"| {what} | {value} |", flush=True)

    def times(self, what, values, stored):
        def of(all_values):
            ordered = sorted(v * 1000 for v in all_values)
            return f"p50 {statistics.median(ordered):.1f}, p99 {ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]:.1f} ms"
        self.row(what, of(values))
        self.row("- of which after the API server had stored it", of([v - s for v, s in zip(values, stored)]))
        slowest = sorted(zip(values, stored), reverse=True)[:6]
        self.row("- the slowest, and of each until it was stored", ", ".join(f"{v * 1000:.0f} ({s * 1000:.0f})" for v, s in slowest) + " ms")

    def stages(self):
        """How many changes the controllers have passed on so far, by stage and by upper bound of seconds."""
        found = collections.Counter()
        for pod in self.controllers():
            text = self.metrics(pod["status"]["podIP"])
            pattern = r'^diolkos_config_propagation_seconds_bucket{stage="(.*?)",le="(.*?)"} (\S+)$'
            for stage, bound, count in re.findall(pattern, text, re.M):
                found[stage, float(bound)] += int(count)
        return found

    def passed_on(self, before):
        """A row of what the controllers say of the changes since."""
        since = self.stages() - before
        parts = []
        for stage in ("watch", "compile", "send", "apply", "total"):
            bounds = sorted((bound, count) for (of, bound), count in since.items() if of == stage)
            if bounds:
                all_of = bounds[-1][1]
                p50, p99 = (next(bound for bound, count in bounds if count >= all_of * part) for part in (0.5, 0.99))
                parts.append(f"{stage} {p50 * 1000:g}, {p99 * 1000:g}")
        self.row("- as the controllers count it, p50 and p99 at most", "; ".join(parts) + " ms")

    # ---- what is done

    def prepare(self):
        must(self.api.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
        self.api.call("POST", "/apis/gateway.networking.k8s.io/v1/gatewayclasses", {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "bench-scale"},
            "spec": {"controllerName": "diolkos.io/controller"},
        })
        must(self.api.call("POST", f"{GATEWAY_API}/gateways", {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "scale", "namespace": NAMESPACE},
            "spec": {"gatewayClassName": "bench-scale", "listeners": [
                {"name": "http", "port": PORT, "protocol": "HTTP"},
                {"name": "https", "port": 8443, "protocol": "HTTPS", "hostname": "secret.scale", "tls": {"certificateRefs": [{"name": "scale"}]}},
            ]},
        }))
        must(self.api.call("POST", f"{CORE}/secrets", {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "scale"}, "type": "kubernetes.io/tls", "data": certificate(),
        }))
        end = time.monotonic() + 90
        while len([p for p in self.data_planes() if p["status"]["phase"] == "Running"]) < 2:
            if time.monotonic() > end:
                sys.exit("the Gateway has no data planes")
            time.sleep(0.5)

    def grow(self, size):
        """Objects up to a size."""
        items = range(self.made, size)
        per_service = max(2, self.args.endpoints // self.args.sizes[-1])
        self.quiet()
        writes = Writes()
        began = time.monotonic()
        in_parallel(lambda api, i: (
            must(api.call("POST", f"{CORE}/services", service(i))),
            must(api.call("POST", SLICES, slices(i, per_service))),
        ))(items)
        in_parallel(lambda api, i: must(api.call("POST", f"{GATEWAY_API}/httproutes", route(i))))(items)
        made = time.monotonic() - began
        self.until_served(size - 1, "0", time.perf_counter(), self.planes())
        served = time.monotonic() - began
        counted = self.until_counted(size) - began
        self.quiet()
        self.made = size
        print(f"\n## {size} HTTPRoutes, {size} Services, {size * per_service} endpoints\n\n| | |\n|---|---|")
        self.row("to make them (the API server's time)", f"{made:.0f} s; the last one served {served - made:.2f} s after it was made")
        self.row("`attachedRoutes` counts all of them", f"{max(0, counted - made):.1f} s after the last one was made")
        self.of_writes(writes, len(items))
        self.memory("")

    def of_writes(self, writes, changes):
        """Rows of what statuses were written since."""
        total, most = writes.of_routes()
        self.row("status writes for each HTTPRoute changed", f"{total / changes:.2f} (of one at most {most})")
        count, apart = writes.of_gateway()
        self.row("status writes of the Gateway", f"{count}" + (f", at least {apart * 1000:.0f} ms apart" if count > 1 else ""))

    def until_counted(self, size):
        """When the Gateway's status counts so many."""
        end = time.monotonic() + 600
        while True:
            status = must(self.api.call("GET", f"{GATEWAY_API}/gateways/scale")).get("status", {})
            if any(of["name"] == "http" and of["attachedRoutes"] == size for of in status.get("listeners", [])):
                return time.monotonic()
            if time.monotonic() > end:
                sys.exit(f"attachedRoutes is not {size} after 600 s: {status.get('listeners')}")
            time.sleep(0.05)

    def edit(self, i):
        """Seconds from the request to the last data plane's answer, and to the API server's."""
        version = str(self.random.randrange(1 << 40))
        planes = self.live
        begun = time.perf_counter()
        must(self.api.call("PATCH", f"{GATEWAY_API}/httproutes/r{i}", {"spec": {"rules": rules(i, version)}}, MERGE))
        stored = time.perf_counter() - begun
        return self.until_served(i, version, begun, planes), stored

    def churn(self, stop):
        api, chance = new_api(), random.Random(2)
        while not stop.is_set():
            i = chance.randrange(self.made)
            ready = chance.random() < 0.5
            api.call("PATCH", f"{SLICES}/s{i}", [{"op": "replace", "path": "/endpoints/0/conditions/ready", "value": ready}], "application/json-patch+json")
            if chance.random() < 0.2:
                i = chance.randrange(self.made)
                api.call("PATCH", f"{GATEWAY_API}/httproutes/r{i}", {"spec": {"rules": rules(i, str(chance.randrange(1 << 40)))}}, MERGE)
            stop.wait(1 / 50)

    def measure(self):
        self.live = self.planes()
        self.wrong = 0
        count = self.args.samples
        self.quiet()
        writes = Writes()
        stages = self.stages()
        idle = []
        for i in self.random.sample(range(self.made), count):
            idle.append(self.edit(i))
            # Until the status of this one is written, which would be something else that goes on.
            time.sleep(0.1)
        self.quiet()
        self.times("apply to the last of two data planes, idle", [a for a, _ in idle], [s for _, s in idle])
        self.passed_on(stages)
        self.of_writes(writes, count)
        stages = self.stages()
        stop = multiprocessing.Event()
        # A thread of this process would share its turns with what measures.
        churning = multiprocessing.Process(target=self.churn, args=(stop,), daemon=True)
        churning.start()
        # Routes that the churn edits as well would be overtaken.
        busy = []
        for n in range(count):
            i = self.made + n
            version = "0"
            begun = time.perf_counter()
            must(self.api.call("POST", f"{GATEWAY_API}/httproutes", {**route(i), "spec": {**route(i)["spec"], "rules": rules(0, version)}}))
            stored = time.perf_counter() - begun
            busy.append((self.until_served(i, version, begun, self.live), stored))
            time.sleep(0.1)
        stop.set()
        churning.join()
        self.times("the same for new ones while 50 endpoints and 10 HTTPRoutes change each second", [a for a, _ in busy], [s for _, s in busy])
        self.passed_on(stages)
        self.row("wrong answers", self.wrong)
        in_parallel(lambda api, n: api.call("DELETE", f"{GATEWAY_API}/httproutes/r{self.made + n}"))(range(count))
        self.cost_of("one HTTPRoute", self.edit)
        self.cost_of("one endpoint", self.flip)
        self.cost_of("one Secret", self.renew)
        pod = self.follower()
        servers = {name: proc.process_of(program, "") for name, program in (("API server", "kube-apiserver"), ("etcd", "etcd"))}
        before = {name: proc.cpu(pid) for name, pid in servers.items()}
        self.api.call("DELETE", f"/api/v1/namespaces/{SYSTEM}/pods/{pod}?gracePeriodSeconds=0")
        pid, ready = self.until_ready(pod)
        used = {"the controller": proc.cpu(pid), **{name: proc.cpu(pid) - before[name] for name, pid in servers.items()}}
        self.row("a controller that starts is ready after", f"{ready:.2f} s")
        self.row("- CPU until then", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in used.items()))
        self.quiet()
        self.memory(" after that")

    def follower(self):
        """A controller that does not lead: another that takes the place of the leader waits for a new leader first."""
        leads = lambda pod: re.search(r"^diolkos_leader 1$", self.metrics(pod["status"]["podIP"]), re.M)
        return next(pod["metadata"]["name"] for pod in self.controllers() if not leads(pod))

    def until_ready(self, before):
        """The process of the controller in place of another Pod, and how old it is when it says that it is ready."""
        end = time.monotonic() + 180
        known = {p["metadata"]["name"] for p in self.controllers()} - {before}
        pid = address = None
        while time.monotonic() < end:
            if pid is None:
                # Asked for again and again, the API server would have less for the one that starts.
                for pod in self.controllers():
                    if pod["metadata"]["name"] not in known | {before} and (address := pod["status"].get("podIP")):
                        pid = proc.controller(pod["metadata"]["name"])
            try:
                if pid is not None:
                    connection = http.client.HTTPConnection(address, 9090, timeout=10)
                    connection.request("GET", "/readyz")
                    if connection.getresponse().status == 200:
                        return pid, proc.age(pid)
            except OSError:
                pass
            time.sleep(0.01)
        sys.exit("no controller has taken the place of the one deleted")

    def flip(self, n):
        # The churn is about the first one of each.
        self.ready[n] = not self.ready.get(n, True)
        ready = {"op": "replace", "path": "/endpoints/1/conditions/ready", "value": self.ready[n]}
        must(self.api.call("PATCH", f"{SLICES}/s{n}", [ready], "application/json-patch+json"))

    def renew(self, _):
        must(self.api.call("PATCH", f"{CORE}/secrets/scale", {"data": certificate()}, MERGE))

    def cost_of(self, what, change):
        """What ten changes, each by itself, cost."""
        count = 10
        controllers, planes = self.processes()
        used = lambda pids: sum(map(proc.cpu, pids)) / len(pids)
        self.quiet()
        # What they use anyway.
        before = used(controllers), used(planes)
        time.sleep(5)
        idle = [(used(pids) - was) / 5 for pids, was in zip((controllers, planes), before)]
        before = self.total("diolkos_config_sent_bytes_total"), used(controllers), used(planes)
        began = time.monotonic()
        for n in range(count):
            change(n)
            time.sleep(0.5)
        took = time.monotonic() - began
        cpu = [(used(pids) - was - took * without) / count for pids, was, without in zip((controllers, planes), before[1:], idle)]
        sent = self.quiet() - before[0]
        self.row(f"bytes to each data plane for {what}", f"{sent / count / len(self.live):.0f}")
        self.row(f"CPU of a controller, of a data plane for {what}", ", ".join(f"{max(0, c) * 1000:.1f} ms" for c in cpu))

    def run(self):
        self.prepare()
        try:
            for size in self.args.sizes:
                self.grow(size)
                self.measure()
        finally:
            api = new_api()
            api.call("DELETE", f"{GATEWAY_API}/gateways/scale")
            api.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}")
            api.call("DELETE", "/apis/gateway.networking.k8s.io/v1/gatewayclasses/bench-scale")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")], default=[1000, 10000])
    args.add_argument("--endpoints", type=int, default=100000, help="at the largest size")
    args.add_argument("--samples", type=int, default=200)
    Scale(args.parse_args()).run()


if __name__ == "__main__":
    main()
