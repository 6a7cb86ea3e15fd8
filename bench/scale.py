#!/usr/bin/env python3
"""The control plane at scale, in a cluster: HTTPRoutes, Services and endpoints by the thousand.

Runs inside the rig's network (`make bench-scale`), against the Diolkos that `make rig-up` started. One Gateway with its
own data planes takes HTTPRoutes, each to a Service of its own with endpoints in EndpointSlices (addresses that nobody
has: nothing is sent there; what is timed is a response header). For each size it prints how long a controller takes to
start, its memory, the time from apply to the last data plane's answer (nothing else going on, and under churn), status
writes, and the bytes that one change costs.
"""
import argparse
import http.client
import os
import pathlib
import random
import re
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e/rig"))
from kube import Api  # noqa: E402

SYSTEM = "diolkos-system"
NAMESPACE = f"bench-scale-{os.getpid()}"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
GATEWAY_API = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
MERGE = "application/merge-patch+json"
PORT = 8080
THREADS = 6


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
        self.made = 0
        self.connections = {}

    # ---- what is measured

    def pods(self, namespace, selector):
        pods = must(self.api.call("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector.replace('=', '%3D')}"))
        return [p for p in pods["items"] if "deletionTimestamp" not in p["metadata"] and p["status"].get("podIP")]

    def controllers(self):
        return self.pods(SYSTEM, "app.kubernetes.io/component=controller")

    def planes(self):
        return [p["status"]["podIP"] for p in self.pods(NAMESPACE, "gateway.networking.k8s.io/gateway-name=scale")]

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

    def memory(self):
        texts = [self.metrics(p["status"]["podIP"]) for p in self.controllers()]
        return sorted(float(re.search(r"^process_resident_memory_bytes (\S+)", t, re.M).group(1)) / 1e6 for t in texts)

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
            time.sleep(0.0005)
        return time.perf_counter() - begun

    def quiet(self):
        """Until no status has been written and nothing sent for a while."""
        last, since = None, time.monotonic()
        while time.monotonic() - since < 3:
            now = (self.total(r'diolkos_status_writes_total\{result="written"\}'), self.total("diolkos_config_sent_bytes_total"))
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.5)
        return last

    def row(self, what, value):
        print(f"| {what} | {value} |", flush=True)

    def times(self, what, values, stored):
        def of(all_values):
            ordered = sorted(v * 1000 for v in all_values)
            return f"p50 {statistics.median(ordered):.1f}, p99 {ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]:.1f} ms"
        self.row(what, of(values))
        self.row("- of which after the API server had stored it", of([v - s for v, s in zip(values, stored)]))

    # ---- what is done

    def prepare(self):
        must(self.api.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
        self.api.call("POST", "/apis/gateway.networking.k8s.io/v1/gatewayclasses", {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "bench-scale"},
            "spec": {"controllerName": "diolkos.io/controller"},
        })
        must(self.api.call("POST", f"{GATEWAY_API}/gateways", {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "scale", "namespace": NAMESPACE},
            "spec": {"gatewayClassName": "bench-scale", "listeners": [{"name": "http", "port": PORT, "protocol": "HTTP"}]},
        }))
        end = time.monotonic() + 90
        while len([p for p in self.pods(NAMESPACE, "gateway.networking.k8s.io/gateway-name=scale") if p["status"]["phase"] == "Running"]) < 2:
            if time.monotonic() > end:
                sys.exit("the Gateway has no data planes")
            time.sleep(0.5)

    def grow(self, size):
        """Objects up to a size."""
        items = range(self.made, size)
        per_service = max(1, self.args.endpoints // self.args.sizes[-1])
        written = self.total(r'diolkos_status_writes_total\{result="written"\}')
        began = time.monotonic()
        in_parallel(lambda api, i: (
            must(api.call("POST", f"{CORE}/services", service(i))),
            must(api.call("POST", SLICES, slices(i, per_service))),
        ))(items)
        in_parallel(lambda api, i: must(api.call("POST", f"{GATEWAY_API}/httproutes", route(i))))(items)
        made = time.monotonic() - began
        self.until_served(size - 1, "0", time.perf_counter(), self.planes())
        served = time.monotonic() - began
        writes = self.quiet()[0] - written
        self.made = size
        print(f"\n## {size} HTTPRoutes, {size} Services, {size * per_service} endpoints\n\n| | |\n|---|---|")
        self.row("to make them (the API server's time)", f"{made:.0f} s; the last one served {served - made:.2f} s after it was made")
        self.row("status writes for each HTTPRoute made", f"{writes / len(items):.2f}")
        self.row("memory of the controllers", ", ".join(f"{m:.0f} MB" for m in self.memory()))

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
        written = self.quiet()[0]
        idle = [self.edit(self.random.randrange(self.made)) for _ in range(count)]
        writes = self.quiet()[0] - written
        self.times("apply to the last of two data planes, idle", [a for a, _ in idle], [s for _, s in idle])
        self.row("status writes for each edit", f"{writes / count:.2f}")
        stop = threading.Event()
        churning = threading.Thread(target=self.churn, args=(stop,))
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
        stop.set()
        churning.join()
        self.times("the same for new ones while 50 endpoints and 10 HTTPRoutes change each second", [a for a, _ in busy], [s for _, s in busy])
        self.row("wrong answers", self.wrong)
        in_parallel(lambda api, n: api.call("DELETE", f"{GATEWAY_API}/httproutes/r{self.made + n}"))(range(count))
        self.bytes_of("one HTTPRoute", lambda n: self.edit(n))
        self.bytes_of("one endpoint", self.flip)
        for pod in self.controllers()[:1]:
            name = pod["metadata"]["name"]
            begun = time.monotonic()
            self.api.call("DELETE", f"/api/v1/namespaces/{SYSTEM}/pods/{name}?gracePeriodSeconds=0")
            while True:
                pods = self.controllers()
                ready = [p for p in pods if any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", []))]
                if len(ready) == 2 and all(p["metadata"]["name"] != name for p in ready):
                    break
                time.sleep(0.1)
            self.row("a controller that is replaced is ready after", f"{time.monotonic() - begun:.1f} s (its Pod included)")
        self.quiet()
        self.row("memory of the controllers after that", ", ".join(f"{m:.0f} MB" for m in self.memory()))

    def flip(self, n):
        for ready in (False, True):
            must(self.api.call("PATCH", f"{SLICES}/s{n}", [{"op": "replace", "path": "/endpoints/0/conditions/ready", "value": ready}], "application/json-patch+json"))
            time.sleep(0.3)

    def bytes_of(self, what, change):
        count = 10
        before = self.quiet()[1]
        for n in range(count):
            change(n)
        sent = self.quiet()[1] - before
        changes = count * (2 if what == "one endpoint" else 1)
        self.row(f"bytes to each data plane for {what}", f"{sent / changes / len(self.live):.0f}")

    def run(self):
        self.prepare()
        try:
            for size in self.args.sizes:
                self.grow(size)
                self.measure()
        finally:
            api = new_api()
            for path in (f"{GATEWAY_API}/httproutes", f"{GATEWAY_API}/gateways", SLICES):
                api.call("DELETE", path)
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
