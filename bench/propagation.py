#!/usr/bin/env python3
"""From `apply` to the first answer, in a cluster: how long a new Route takes until a data plane serves it.

Runs inside the rig's network (`make bench-propagation`), against the Diolkos that `make rig-up` started. It makes a
number of Routes first, then applies more one by one, and polls every data-plane Pod on one keep-alive connection until
it answers 200. The clock starts before the request to the API server is sent. Answers other than 404 and 200 count as
wrong.
"""
import argparse
import http.client
import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e/rig"))
from kube import Api  # noqa: E402

NAMESPACE = f"bench-propagation-{os.getpid()}"
API = f"/apis/diolkos.io/v1alpha1/namespaces/{NAMESPACE}/routes"


def route(name):
    return {
        "apiVersion": "diolkos.io/v1alpha1",
        "kind": "Route",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "hostnames": [f"{name}.bench"],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": f"/{name}/"}}],
                "responseHeaders": {"set": [{"name": "x-bench", "value": name}]},
                "directResponse": {"status": 200, "body": name},
            }],
        },
    }


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--routes", type=int, default=100, help="Routes that are there before")
    args.add_argument("--samples", type=int, default=200, help="Routes that are timed")
    args.add_argument("--port", type=int, default=8080)
    args = args.parse_args()
    api = Api(os.environ["KUBECONFIG"])
    api.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    selector = "app.kubernetes.io/component%3Ddata-plane,app.kubernetes.io/part-of%3Ddiolkos"
    _, pods = api.call("GET", f"/api/v1/namespaces/diolkos-system/pods?labelSelector={selector}")
    planes = [p["status"]["podIP"] for p in pods["items"] if p["status"].get("phase") == "Running" and "deletionTimestamp" not in p["metadata"]]
    if not planes:
        sys.exit("no data plane is running: make rig-up first")
    connections = [http.client.HTTPConnection(ip, args.port, timeout=10) for ip in planes]
    wrong = 0

    def ask(connection, name):
        connection.request("GET", f"/{name}/x", headers={"host": f"{name}.bench"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def until_served(name, begun):
        """When the first and when the last data plane answered 200."""
        nonlocal wrong
        waiting, times = list(connections), []
        while waiting:
            for connection in list(waiting):
                status = ask(connection, name)
                if status == 200:
                    times.append(time.perf_counter() - begun)
                    waiting.remove(connection)
                elif status != 404:
                    wrong += 1
            # The cluster runs on the same cores: polling must not take one for itself.
            time.sleep(0.0005)
            if time.perf_counter() - begun > 30:
                sys.exit(f"{name} was not served within 30 s")
        return times[0], times[-1]

    def apply(name):
        status, answer = api.call("POST", API, route(name))
        if status not in (200, 201):
            sys.exit(f"the API server refused {name}: {status} {answer}")

    for i in range(args.routes):
        apply(f"before-{i}")
    until_served(f"before-{args.routes - 1}", time.perf_counter())
    first, last, stored = [], [], []
    for i in range(args.samples):
        name = f"timed-{i}"
        begun = time.perf_counter()
        apply(name)
        stored.append(time.perf_counter() - begun)
        a, b = until_served(name, begun)
        first.append(a)
        last.append(b)
    api.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}")

    def row(what, values):
        values = sorted(v * 1000 for v in values)
        p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
        print(f"{what:34} p50 {statistics.median(values):6.1f}  p99 {p99:6.1f}  max {values[-1]:6.1f} ms")

    print(f"{len(planes)} data planes, {args.routes} Routes before, {args.samples} timed, {wrong} wrong answers")
    row("apply -> stored by the API server", stored)
    row("stored -> first data plane answers", [a - s for a, s in zip(first, stored)])
    row("apply -> first data plane answers", first)
    row("apply -> every data plane answers", last)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
