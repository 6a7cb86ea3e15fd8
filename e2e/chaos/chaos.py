#!/usr/bin/env python3
"""Random edits, invalid ones among them, while parts of the cluster die: `make chaos`, on the rig that `make rig-up` started.

What must hold all the time:
  * no request for a Route that nobody touches is answered otherwise than before; a request may fail without an answer
    only while kube-proxy sends to a data plane that was killed, and 8 s from its death;
  * no status says that a version is in effect while a data plane does not serve it;
  * 5 s after an edit, or after the end of what kept the API server from taking it or data planes from hearing of it, the
    status is that of the present version and every data plane serves what it should: the present version, the last
    acceptable one of a version that is not, 500 for a backend that does not exist, 404 for what is gone.

Of eight objects that are edited four are Routes, and one each is an HTTPRoute (at the GatewayConfig), an Upstream, an
EndpointSlice and a Secret. The last three stand behind Routes that nobody touches, which lead to this script: it answers
with the port at which it was asked, or with the value of the Secret.

Faults: kill -9 of the leader, of another controller, of a data plane; API server killed and started; etcd paused; the
network between controllers and data planes (and among controllers) cut; the wall clock of the leader, of all controllers,
of the data planes or of all of them back by up to 4 minutes (certificates begin 5 minutes before they are made) or forth
by up to 11 hours, and right again, for which nothing is excused. The first line of output says the seed.
"""
import argparse
import base64
import datetime
import email.utils
import http.client
import http.server
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "rig"))
from kube import Api  # noqa: E402
from proc import controller, data_plane  # noqa: E402

RIG = str(HERE.parent / "rig/rig")
SYSTEM = "diolkos-system"
NAMESPACE = "chaos"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/diolkos-leader"
OURS = "/apis/diolkos.io/v1alpha1"
ROUTES = f"{OURS}/namespaces/{NAMESPACE}/routes"
# Where data planes find this script: address, and first port of as many as versions take turns with.
NODE = "10.250.0.1"
FIRST_PORT = 18700
ANSWERING = 8
TRUTH = 5.0
# What reconnects by itself does so with a pause of up to 10 s.
HEALED = 15.0
UNTOUCHED = 20
PORT = 8080
NOT_FOUND = (404, '{"error":"route_not_found"}')
INVALID_BACKEND = '{"error":"invalid_backend"}'
NO_ENDPOINT = (503, '{"error":"no_healthy_upstream"}')
# Kinds of versions that a controller takes.
ACCEPTABLE = ("good", "unknown")


class Kube:
    """The API server, however often it goes away."""

    def __init__(self):
        self.api = None

    def once(self, method, path, body=None, kind="application/json"):
        try:
            if self.api is None:
                self.api = Api(os.environ["KUBECONFIG"])
            status, answer = self.api.call(method, path, body, kind)
        except (OSError, http.client.HTTPException):
            self.api = None
            raise
        if status in (429, 503, 504):
            raise OSError(f"{method} {path}: {status}")
        return status, answer

    def call(self, method, path, body=None, kind="application/json"):
        end = time.monotonic() + 120
        while True:
            try:
                return self.once(method, path, body, kind)
            except (OSError, http.client.HTTPException):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def pods(self, component):
        selector = f"app.kubernetes.io/component%3D{component}"
        _, pods = self.call("GET", f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector={selector}")
        return [p for p in pods["items"] if "deletionTimestamp" not in p["metadata"]]

    def roll_out(self, deployment, template):
        """Changes the template of a Deployment's Pods and waits for all of them."""
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{deployment}"
        body = {"spec": {"template": template}}
        status, answer = self.call("PATCH", path, body, "application/strategic-merge-patch+json")
        if status >= 300:
            sys.exit(f"{deployment} cannot be patched: {status} {answer}")
        end = time.monotonic() + 120
        while True:
            _, now = self.call("GET", path)
            said, wanted = now["status"], now["spec"]["replicas"]
            if said.get("observedGeneration") == now["metadata"]["generation"] and all(
                said.get(count) == wanted for count in ("replicas", "updatedReplicas", "readyReplicas")
            ):
                return
            if time.monotonic() > end:
                sys.exit(f"{deployment} is not rolled out")
            time.sleep(0.2)


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


class Clocks:
    """Wall clocks of their own for controllers and data planes: clock.c is loaded into each."""

    CONTAINERS = {"diolkos-controller": "controller", "diolkos-dataplane": "dataplane"}

    def __init__(self, kube):
        self.kube = kube

    def install(self):
        with tempfile.NamedTemporaryFile(suffix=".so") as library:
            source = str(HERE / "clock.c")
            subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library.name, source], check=True)
            content = base64.b64encode(pathlib.Path(library.name).read_bytes()).decode()
        path = f"/api/v1/namespaces/{SYSTEM}/configmaps/chaos-clock?fieldManager=chaos&force=true"
        name = {"name": "chaos-clock", "namespace": SYSTEM}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "binaryData": {"clock.so": content}}
        self.kube.call("PATCH", path, body, "application/apply-patch+yaml")
        self.patch(
            [{"name": "LD_PRELOAD", "value": "/chaos/lib/clock.so"}],
            [{"name": "chaos-lib", "mountPath": "/chaos/lib"}, {"name": "chaos-offset", "mountPath": "/chaos/offset"}],
            [{"name": "chaos-lib", "configMap": {"name": "chaos-clock"}}, {"name": "chaos-offset", "emptyDir": {}}],
        )

    def remove(self):
        gone = {"$patch": "delete"}
        self.patch(
            [{"name": "LD_PRELOAD", **gone}],
            [{"mountPath": path, **gone} for path in ("/chaos/lib", "/chaos/offset")],
            [{"name": name, **gone} for name in ("chaos-lib", "chaos-offset")],
        )

    def patch(self, env, mounts, volumes):
        for deployment, container in self.CONTAINERS.items():
            containers = [{"name": container, "env": env, "volumeMounts": mounts}]
            self.kube.roll_out(deployment, {"spec": {"containers": containers, "volumes": volumes}})

    def put(self, processes, seconds):
        """Lets the clocks of some processes be off."""
        for pid in processes:
            with open(f"/proc/{pid}/root/chaos/offset/ns", "r+b") as file:
                file.write(struct.pack("=q", int(seconds * 1e9)))


class Report:
    def __init__(self):
        self.lock = threading.Lock()
        self.violations = []

    def violation(self, text):
        with self.lock:
            self.violations.append(text)
            if len(self.violations) <= 40:
                print(f"VIOLATION: {text}", flush=True)


class Load(threading.Thread):
    """Requests for Routes that nobody touches, through the Service of the data planes."""

    def __init__(self, address, report, faults, number):
        super().__init__(daemon=True)
        self.address, self.report, self.faults = address, report, faults
        self.random = random.Random(number)
        self.sent = self.excused = 0
        self.ends = False

    def run(self):
        connection, used = None, 0
        while not self.ends:
            n = self.random.randrange(UNTOUCHED)
            began = time.monotonic()
            try:
                if connection is None or used >= 50:
                    connection, used = http.client.HTTPConnection(self.address, 80, timeout=10), 0
                connection.request("GET", "/", headers={"host": f"untouched-{n}.chaos"})
                answer = connection.getresponse()
                body = answer.read().decode(errors="replace")
                used += 1
                if answer.status != 200 or body != f"untouched-{n}":
                    self.report.violation(f"untouched-{n} is answered {answer.status} {body[:80]!r}")
            except (OSError, http.client.HTTPException) as error:
                connection = None
                # Whoever was connected to it, or is sent there before everybody knows.
                if self.faults.cut_since(began - 8):
                    self.excused += 1
                else:
                    self.report.violation(f"a request for untouched-{n} failed: {error!r}")
            self.sent += 1
            time.sleep(0.02)


class Faults(threading.Thread):
    """One fault after the other, each when what the one before broke is whole again."""

    def __init__(self, seed, kinds, report):
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.kinds, self.report = kinds, report
        self.kube = Kube()
        self.clocks_of = Clocks(self.kube)
        self.ends = False
        self.counts = {kind: 0 for kind in kinds}
        self.killed = []
        # When kube-proxy was last seen to send to a data plane that was killed.
        self.sent_to_the_dead = []
        # Statuses and traffic cannot follow before: while it is infinite, something is cut off.
        self.excused_until = 0.0

    def plane_killed_since(self, moment):
        return any(at >= moment for at in self.killed)

    def cut_since(self, moment):
        return any(at >= moment for at in self.killed + self.sent_to_the_dead)

    def watch_the_dead(self, address):
        """kube-proxy hears of a death from the API server, later than in 8 s where that was away shortly before."""
        end = time.monotonic() + 60
        while f" {address} . {PORT}" in subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout:
            self.sent_to_the_dead.append(time.monotonic())
            if time.monotonic() > end:
                self.report.violation(f"a minute after the death of {address}, kube-proxy sends to it")
                return
            time.sleep(0.2)

    def run(self):
        order = []
        while not self.ends:
            if not self.whole():
                continue
            self.wait(self.random.uniform(2, 5))
            if self.ends:
                return
            if not order:
                order = list(self.kinds)
                self.random.shuffle(order)
            kind = order.pop()
            print(f"{time.strftime('%X')} fault: {kind}", flush=True)
            try:
                getattr(self, kind)()
                self.counts[kind] += 1
            except Exception as error:  # a fault that cannot be made is a fault of this script
                self.report.violation(f"the fault {kind} cannot be made: {error!r}")

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.ends:
            time.sleep(0.1)

    def whole(self):
        for component in ("controller", "data-plane"):
            pods = self.kube.pods(component)
            if len(pods) < 2 or not all(is_ready(p) for p in pods):
                time.sleep(0.3)
                return False
        return True

    def kill(self, process_of, pod):
        pid = process_of(pod)
        if pid is None:
            raise LookupError(f"no process of {pod}")
        os.kill(pid, signal.SIGKILL)
        # Another Pod at once, instead of the same one after a pause that grows with each death.
        self.kube.call("DELETE", f"/api/v1/namespaces/{SYSTEM}/pods/{pod}?gracePeriodSeconds=0")

    def leading(self):
        _, lease = self.kube.call("GET", LEASE)
        return (lease["spec"].get("holderIdentity") or "").rsplit("_", 1)[0]

    def leader(self):
        self.kill(controller, self.leading())

    def follower(self):
        leader = self.leading()
        others = [p["metadata"]["name"] for p in self.kube.pods("controller")]
        self.kill(controller, next(name for name in others if name != leader))

    def plane(self):
        pod = self.random.choice(self.kube.pods("data-plane"))
        self.killed.append(time.monotonic())
        self.kill(data_plane, pod["metadata"]["name"])
        self.killed.append(time.monotonic())
        threading.Thread(target=self.watch_the_dead, args=[pod["status"]["podIP"]], daemon=True).start()

    def apiserver(self):
        self.excused_until = float("inf")
        rig("kill", "apiserver", "KILL")
        self.wait(self.random.uniform(1, 5))
        rig("start", "apiserver")
        self.api_is_back(TRUTH)

    def etcd(self):
        self.excused_until = float("inf")
        rig("kill", "etcd", "STOP")
        self.wait(self.random.uniform(3, 8))
        rig("kill", "etcd", "CONT")
        self.api_is_back(0)

    def api_is_back(self, grace):
        end = time.monotonic() + 60
        while True:
            try:
                if self.kube.once("GET", f"{ROUTES}?limit=1")[0] == 200:
                    break
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() > end:
                self.report.violation("the API server does not come back")
                break
            time.sleep(0.1)
        self.excused_until = time.monotonic() + grace

    def cut(self):
        self.excused_until = float("inf")
        rules = "table inet chaos { chain forward { type filter hook forward priority -10;"
        rules += " tcp dport 18000 drop; tcp sport 18000 drop; }; }"
        subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
        try:
            self.wait(self.random.uniform(4, 12))
        finally:
            subprocess.run(["nft", "delete", "table", "inet", "chaos"], check=True)
        self.excused_until = time.monotonic() + HEALED

    def clock(self):
        leader = self.leading()
        controllers = [p["metadata"]["name"] for p in self.kube.pods("controller")]
        planes = self.kube.pods("data-plane")
        of_controllers, of_planes = self.random.choice([([leader], []), (controllers, []), ([], planes), (controllers, planes)])
        # The API server's certificate is of the rig's start: before that it is none.
        age = time.time() - pathlib.Path(os.environ["KUBECONFIG"]).with_name("apiserver.crt").stat().st_mtime
        back = self.random.uniform(-min(240, age - 30), -2) if age > 40 else None
        step = self.random.choice([back or 60, self.random.uniform(2, 11 * 3600)])
        names = of_controllers + [p["metadata"]["name"] for p in of_planes]
        print(f"{time.strftime('%X')} clocks of {', '.join(names)}: {step:+.0f} s", flush=True)
        try:
            self.clocks(of_controllers, of_planes, step)
            self.wait(self.random.uniform(4, 10))
        finally:
            self.clocks(of_controllers, of_planes, 0)
        self.wait(5)

    def clocks(self, controllers, planes, seconds):
        names = [p["metadata"]["name"] for p in planes]
        self.clocks_of.put([controller(name) for name in controllers] + [data_plane(name) for name in names], seconds)
        self.wait(1.5)
        if self.ends:
            return
        # A step that nobody sees would try nothing.
        said = {p["metadata"]["name"]: date_of(p["status"]["podIP"]) for p in planes}
        if self.leading() in controllers:
            said["the leader"] = self.renewed()
        for who, date in said.items():
            off = date - time.time()
            if abs(off - seconds) > 4:
                self.report.violation(f"the clock of {who} is {off:.1f} s off, {seconds:.1f} were asked for")

    def renewed(self):
        _, lease = self.kube.call("GET", LEASE)
        return datetime.datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()


def date_of(plane):
    """What a data plane thinks it is."""
    connection = http.client.HTTPConnection(plane, PORT, timeout=5)
    try:
        connection.request("GET", "/", headers={"host": "untouched-0.chaos"})
        answer = connection.getresponse()
        answer.read()
        return email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
    finally:
        connection.close()


def rig(*args):
    subprocess.run([RIG, *args], check=True, stdout=subprocess.DEVNULL)


class Edited:
    """What an edited object is, and what may be seen of it."""

    # Of each: where it stands, what its author may do to it (with weights) and what is answered where there is none.
    path = ROUTES
    api, kind_of = "diolkos.io/v1alpha1", "Route"
    kinds = {"good": 60, "invalid": 12, "unknown": 10, "refused": 8, "gone": 10}
    missing = NOT_FOUND
    # Whether its status says what is in effect, and whether it says that an older version is.
    has_status = says_quarantined = True

    def __init__(self, number):
        self.name = f"edited-{number}"
        self.kind = "gone"
        self.generation = 0
        self.version = 0
        # Answers of versions that may be the last acceptable one: a controller may not have seen all of them, because some
        # followed each other while it could not hear of them, and none of them unless it is certain, which it is when one
        # was in effect or had its time. A version whose backend does not exist is acceptable, too.
        self.acceptable = set()
        self.certain = False
        self.changed = 0.0

    def object(self, kind, version):
        """What to apply."""
        return {
            "apiVersion": self.api, "kind": self.kind_of,
            "metadata": {"name": self.name, "namespace": NAMESPACE}, **self.content(kind, version),
        }

    def around(self):
        """Objects that stand before it, and are not edited."""
        return []

    def answer(self):
        """Of the present version, which is acceptable: status code and body."""
        return (200, str(self.version)) if self.kind == "good" else (500, INVALID_BACKEND)

    def next_kind(self, random):
        kinds = self.kinds
        if self.kind == "gone":
            kinds = {kind: kinds[kind] for kind in ACCEPTABLE if kind in kinds}
        kind = random.choices(list(kinds), list(kinds.values()))[0]
        known = self.certain or self.says_quarantined
        if kind == "invalid" and not (self.acceptable and known and self.kind in ("good", "invalid")):
            kind = "good"
        return kind

    def said(self, status):
        """Whether a status is of the present version, and says Ready and Quarantined (`None`: it never does)."""
        conditions = {c["type"]: c["status"] == "True" for c in status.get("conditions", [])}
        current = status.get("observedGeneration") == self.generation
        return current, current and conditions.get("Ready", False), conditions.get("Quarantined", False)

    def expected(self, quarantined):
        """Answers, any of which will do, and whether `Ready` and `Quarantined`, of which the present status says the latter."""
        if self.kind in ACCEPTABLE:
            return {self.answer()}, self.kind == "good", False
        if self.kind == "invalid" and (self.certain or quarantined):
            return self.acceptable, False, True
        if self.kind == "invalid":
            return {self.missing}, False, False
        return {self.missing}, None, None


class Route(Edited):
    def content(self, kind, version):
        rule = {"directResponse": {"status": 200, "body": str(version)}}
        if kind == "invalid":
            rule["matches"] = [{"path": {"type": "RegularExpression", "value": f"/({version}"}}]
        if kind == "unknown":
            rule = {"backends": [{"name": f"nothing-{version}", "port": 80}]}
        if kind == "refused":
            rule["directResponse"]["status"] = 99999
        return {"spec": {"hostnames": [f"{self.name}.chaos"], "rules": [rule]}}


class HttpRoute(Edited):
    """It has no answer of its own but a redirect: the host of that is its version."""

    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"
    api, kind_of = "gateway.networking.k8s.io/v1", "HTTPRoute"
    says_quarantined = False
    # The GatewayConfig where Routes attach that name none.
    parent = {"group": "diolkos.io", "kind": "GatewayConfig", "namespace": SYSTEM, "name": "default"}

    def content(self, kind, version):
        redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": f"v{version}.chaos", "statusCode": 302}}
        rule = {"filters": [redirect]}
        if kind == "invalid":
            rule["matches"] = [{"path": {"type": "RegularExpression", "value": f"/({version}"}}]
        if kind == "unknown":
            rule = {"backendRefs": [{"name": f"nothing-{version}", "port": 80}]}
        if kind == "refused":
            redirect["requestRedirect"]["statusCode"] = 99
        return {"spec": {"parentRefs": [self.parent], "hostnames": [f"{self.name}.chaos"], "rules": [rule]}}

    def answer(self):
        return (302, f"v{self.version}.chaos") if self.kind == "good" else super().answer()

    def said(self, status):
        conditions = [c for parent in status.get("parents", []) for c in parent["conditions"]]
        current = bool(conditions) and all(c.get("observedGeneration") == self.generation for c in conditions)
        true = {c["type"] for c in conditions if c["status"] == "True"}
        return current, current and {"Accepted", "ResolvedRefs", "Programmed"} <= true, None


class Behind(Edited):
    """Something behind a Route that nobody touches."""

    missing = (500, INVALID_BACKEND)

    def route(self, kind):
        backend = {"kind": kind, "name": self.name} | ({"port": 80} if kind == "Service" else {})
        return {
            "apiVersion": Edited.api, "kind": "Route", "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {"hostnames": [f"{self.name}.chaos"], "rules": [{"backends": [backend]}]},
        }

    def port(self, version):
        return FIRST_PORT + version % ANSWERING

    def answer(self):
        return (200, str(self.port(self.version))) if self.kind == "good" else self.missing


class Upstream(Behind):
    path = f"{OURS}/namespaces/{NAMESPACE}/upstreams"
    kind_of = "Upstream"
    kinds = {"good": 60, "invalid": 15, "refused": 10, "gone": 15}

    def around(self):
        return [(ROUTES, self.route("Upstream"))]

    def content(self, kind, version):
        spec = {"endpoints": [{"address": NODE, "port": self.port(version)}]}
        if kind == "invalid":
            spec["protocol"] = "H2"
        if kind == "refused":
            spec["endpoints"][0]["port"] = 99999
        return {"spec": spec}


class Slice(Behind):
    path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    api, kind_of = "discovery.k8s.io/v1", "EndpointSlice"
    kinds = {"good": 70, "unknown": 10, "refused": 8, "gone": 12}
    missing = NO_ENDPOINT
    has_status = False

    def around(self):
        service = {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        }
        return [(f"/api/v1/namespaces/{NAMESPACE}/services", service), (ROUTES, self.route("Service"))]

    def object(self, kind, version):
        # (Any number of a port is taken; an endpoint without address is not.)
        addresses = [] if kind == "refused" else [NODE]
        endpoints = [{"addresses": addresses, "conditions": {"ready": True}}]
        labels = {"kubernetes.io/service-name": self.name, "endpointslice.kubernetes.io/managed-by": "chaos"}
        return {
            "apiVersion": self.api, "kind": self.kind_of,
            "metadata": {"name": self.name, "namespace": NAMESPACE, "labels": labels}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": self.port(version), "protocol": "TCP"}],
            "endpoints": [] if kind == "unknown" else endpoints,
        }


class Secret(Behind):
    """What an Upstream shows to its endpoint."""

    path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    api, kind_of = "v1", "Secret"
    kinds = {"good": 80, "refused": 8, "gone": 12}
    has_status = False

    def around(self):
        header = {"name": "x-version", "valueFrom": {"secretKeyRef": {"name": self.name, "key": "version"}}}
        upstream = {
            "apiVersion": Edited.api, "kind": "Upstream", "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {"endpoints": [{"address": NODE, "port": FIRST_PORT}], "auth": {"headers": [header]}},
        }
        return [(Upstream.path, upstream), (ROUTES, self.route("Upstream"))]

    def content(self, kind, version):
        key = "no key" if kind == "refused" else "version"
        return {"data": {key: base64.b64encode(f"v{version}".encode()).decode()}}

    def answer(self):
        return (200, f"v{self.version}")


# In turn.
EDITED = (Route, HttpRoute, Route, Upstream, Route, Slice, Route, Secret)


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the value of x-version, or with the port at which it is asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = (self.headers.get("x-version") or str(self.server.server_port)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    @classmethod
    def start(cls):
        for port in range(FIRST_PORT, FIRST_PORT + ANSWERING):
            server = http.server.ThreadingHTTPServer((NODE, port), cls)
            threading.Thread(target=server.serve_forever, daemon=True).start()


class Chaos:
    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.seed)
        self.report = Report()
        self.kube = Kube()
        self.edited = [EDITED[n % len(EDITED)](n) for n in range(args.routes)]
        self.faults = Faults(args.seed + 1, args.faults.split(",") if args.faults else [], self.report)
        self.connections = {}
        self.checked = self.edits = self.refusals = 0
        self.slowest = 0.0

    def apply(self, collection, body):
        path = f"{collection}/{body['metadata']['name']}?fieldManager=chaos&force=true"
        return self.kube.call("PATCH", path, body, "application/apply-patch+yaml")

    def prepare(self):
        # What a run that was stopped has left would be taken for this one's.
        end = time.monotonic() + 60
        while self.kube.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}")[0] != 404:
            if time.monotonic() > end:
                sys.exit(f"the Namespace {NAMESPACE} does not go")
            time.sleep(0.5)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        self.kube.call("POST", "/api/v1/namespaces", namespace)
        for n in range(UNTOUCHED):
            name = f"untouched-{n}"
            route = Route(name)
            route.name = name
            body = route.object("good", name)
            self.apply(ROUTES, body)
        self.parent()
        for edited in self.edited:
            for collection, body in edited.around():
                status, answer = self.apply(collection, body)
                if status >= 300:
                    sys.exit(f"{body['kind']} {edited.name}: {status} {answer}")
        behind = [edited.name for edited in self.edited if edited.around()]
        for plane in self.planes():
            end = time.monotonic() + 30
            while any(self.ask(plane, f"untouched-{n}")[0] != 200 for n in range(UNTOUCHED)) or any(
                self.ask(plane, name) == NOT_FOUND for name in behind
            ):
                if time.monotonic() > end:
                    sys.exit("the untouched Routes do not serve")
                time.sleep(0.1)

    def parent(self):
        """Where Routes attach that name no parent."""
        _, configs = self.kube.call("GET", f"{OURS}/gatewayconfigs")
        default = [c["metadata"] for c in configs["items"] if c["spec"].get("default")]
        if default:
            oldest = min(default, key=lambda metadata: metadata["creationTimestamp"])
            HttpRoute.parent |= {"namespace": oldest["namespace"], "name": oldest["name"]}

    def planes(self):
        """Data planes that have been ready for a while."""
        settled = []
        for pod in self.kube.pods("data-plane"):
            if is_ready(pod) and pod["status"].get("podIP"):
                settled.append(pod["status"]["podIP"])
        return settled

    def ask(self, plane, name):
        for again in (True, False):
            connection = self.connections.get(plane)
            if connection is None:
                connection = self.connections[plane] = http.client.HTTPConnection(plane, PORT, timeout=5)
            try:
                connection.request("GET", "/", headers={"host": f"{name}.chaos"})
                answer = connection.getresponse()
                body = answer.read().decode(errors="replace")
                if answer.status == 302:
                    body = urllib.parse.urlsplit(answer.headers["location"]).hostname
                return answer.status, body
            except (OSError, http.client.HTTPException):
                self.connections.pop(plane, None)
                if not again:
                    return None, None
        return None, None

    def edit(self):
        edited = self.random.choice(self.edited)
        kind = edited.next_kind(self.random)
        version = edited.version + 1
        if edited.kind in ACCEPTABLE and time.monotonic() - max(edited.changed, self.faults.excused_until) > TRUTH:
            edited.acceptable, edited.certain = {edited.answer()}, True
        if kind == "gone":
            self.kube.call("DELETE", f"{edited.path}/{edited.name}")
            edited.acceptable, edited.certain = set(), False
        else:
            status, answer = self.apply(edited.path, edited.object(kind, version))
            if kind == "refused":
                self.refusals += 1
                if status < 400:
                    self.report.violation(f"{edited.kind_of} {edited.name}: the API server takes what the schema forbids")
                self.edits += 1
                return
            if status >= 300:
                sys.exit(f"{edited.kind_of} {edited.name}: {status} {answer}")
            edited.generation = answer["metadata"].get("generation", 0)
        edited.kind, edited.version, edited.changed = kind, version, time.monotonic()
        if kind in ACCEPTABLE:
            edited.acceptable.add(edited.answer())
        self.edits += 1

    def statuses(self):
        """Of all objects that have one, by path and name; `None`: they cannot be had."""
        found = {}
        for path in {edited.path for edited in self.edited if edited.has_status}:
            status, answer = self.kube.call("GET", path)
            if status != 200:
                return None
            found |= {(path, o["metadata"]["name"]): o.get("status", {}) for o in answer["items"]}
        return found

    def check(self, everything=False):
        """Whether all that has had its time is true; violations are reported."""
        listed = time.monotonic()
        statuses = self.statuses()
        if statuses is None:
            return False
        planes = self.planes()
        recently_killed = self.faults.plane_killed_since(listed - HEALED)
        all_true = True
        sample = self.edited if everything else self.random.sample(self.edited, min(60, len(self.edited)))
        for edited in sample:
            status = statuses.get((edited.path, edited.name), {})
            current, is_ready_now, quarantined_now = edited.said(status)
            is_ready_now = is_ready_now and edited.has_status
            expected, ready, quarantined = edited.expected(quarantined_now)
            told_truth = edited.kind == "gone" or not edited.has_status or (
                current and is_ready_now == ready and quarantined_now in (quarantined, None)
            )
            quiet = listed - max(edited.changed, self.faults.excused_until)
            due = quiet > TRUTH
            if not (due or everything or (is_ready_now and not recently_killed)):
                continue
            self.checked += 1
            answers = [self.ask(plane, edited.name) for plane in planes]
            if self.faults.plane_killed_since(listed - 8):
                answers = [a for a in answers if a[0] is not None]
            served = all(a in expected for a in answers)
            served = served and len(set(answers)) <= 1 if edited.kind == "invalid" else served
            if edited.kind in ACCEPTABLE and served and told_truth and (due or edited.has_status):
                # Nothing older is ever served again.
                edited.acceptable, edited.certain = {edited.answer()}, True
            if is_ready_now and not served and not recently_killed:
                self.report.violation(
                    f"{edited.kind_of} {edited.name} says that version {edited.version} is in effect, and data planes answer {answers}"
                )
            elif not (told_truth and served):
                all_true = False
                if due and not (recently_killed and told_truth):
                    self.report.violation(
                        f"{edited.kind_of} {edited.name} ({edited.kind}, version {edited.version}, generation {edited.generation}),"
                        f" {quiet:.1f} s after the edit: status {status}, data planes answer {answers}"
                    )
                    # Said once.
                    edited.changed = time.monotonic()
        return all_true

    def loads(self):
        """Starts what asks for the Routes that nobody touches."""
        _, service = self.kube.call("GET", f"/api/v1/namespaces/{SYSTEM}/services/diolkos-dataplane")
        loads = [Load(service["spec"]["clusterIP"], self.report, self.faults, n) for n in range(2)]
        for load in loads:
            load.start()
        return loads

    def finish(self, loads):
        for load in loads:
            load.ends = True
        for load in loads:
            load.join()
        self.kube.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}")

    def run(self):
        args = self.args
        print(f"seed {args.seed}, {args.edits} edits of {args.routes} objects, faults {args.faults or 'none'}", flush=True)
        clocks = "clock" in self.faults.kinds
        if clocks:
            self.faults.clocks_of.install()
        try:
            return self.run_prepared()
        finally:
            if clocks:
                self.faults.clocks_of.remove()

    def run_prepared(self):
        args = self.args
        Echo.start()
        self.prepare()
        loads = self.loads()
        if self.faults.kinds:
            self.faults.start()
        began = time.monotonic()
        for n in range(args.edits):
            due = began + n / args.rate
            self.edit()
            if n % args.rate == 0:
                self.check()
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            if n % 1000 == 999:
                print(f"{time.strftime('%X')} {n + 1} edits, {sum(l.sent for l in loads)} requests", flush=True)
        self.faults.ends = True
        if self.faults.kinds:
            self.faults.join(timeout=90)
        # All of it is true in the end.
        last = time.monotonic()
        while not self.check(everything=True):
            if time.monotonic() - last > TRUTH + HEALED:
                self.report.violation("not everything is true in the end")
                break
            time.sleep(0.2)
        settled = time.monotonic() - last
        self.finish(loads)
        print(
            f"{self.edits} edits ({self.refusals} refused by the schema), faults {self.faults.counts},"
            f" {sum(l.sent for l in loads)} requests ({sum(l.excused for l in loads)} cut with a data plane),"
            f" {self.checked} checks, true {settled:.1f} s after the last edit, {len(self.report.violations)} violations"
        )
        return 1 if self.report.violations else 0


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--edits", type=int, default=10000)
    args.add_argument("--rate", type=int, default=25, help="edits a second")
    args.add_argument("--routes", type=int, default=300, help="objects that are edited: Routes, and one of each other kind for four of them")
    args.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args.add_argument("--faults", default="leader,follower,plane,apiserver,etcd,cut,clock", help="some of them; empty: none")
    sys.exit(Chaos(args.parse_args()).run())


if __name__ == "__main__":
    main()
