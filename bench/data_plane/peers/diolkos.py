import json
import subprocess
import time

from processes import OTHER_CPUS, PROXY_CPUS, Failure, Process, first_line

from .peer import Peer, output

API = "diolkos.io/v1alpha1"
# Routes that share a file, but for those that are added later.
FILE = 1000


class Diolkos(Peer):
    """`diolkos-dataplane`, which is what is measured. Its routes come from a controller's push channel (controller/examples/push.rs)."""

    name = "diolkos"
    changes = True

    @classmethod
    def program(cls, site):
        return site.programs / "diolkos-dataplane"

    @classmethod
    def version(cls, site):
        return output(cls.program(site), "--version").split()[1]

    def configure(self):
        # HTTP/2 without TLS is told by its first bytes.
        self.h2c = self.http
        self.controller = None
        # What the controller has sent in all, in bytes.
        self.sent = 0
        listeners = [{"name": "http", "port": 8080, "protocol": "HTTP"}]
        objects = []
        if self.layout.tls:
            listeners.append({"name": "https", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "bench"}]}})
            pair = {"tls.crt": self.site.certificate.read_text(), "tls.key": self.site.key.read_text()}
            objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bench"}, "stringData": pair})
        host, port = self.site.backend.rsplit(":", 1)
        objects += [
            {"apiVersion": API, "kind": "GatewayConfig", "metadata": {"name": "bench"}, "spec": {"default": True, "listeners": listeners, "caps": {"requestsPerConnection": 1_000_000}}},
            {"apiVersion": API, "kind": "Upstream", "metadata": {"name": "bench"}, "spec": {"endpoints": [{"address": host, "port": int(port)}]}},
        ]
        self.objects("base.yaml", objects)
        routes = self.layout.routes()
        for i in range(0, len(routes), FILE):
            self.objects(f"routes-{i}.yaml", [o for route in routes[i:i + FILE] for o in self.routes(*route)])

    def routes(self, name, host, prefixes):
        """One Route for each prefix, as different teams would have them."""
        return [{"apiVersion": API, "kind": "Route", "metadata": {"name": f"{name}-{i}"}, "spec": {
            "hostnames": [host],
            "rules": [{"matches": [{"path": {"value": prefix.rstrip("/")}}], "backends": [{"kind": "Upstream", "name": "bench"}]}],
        }} for i, prefix in enumerate(prefixes)]

    def objects(self, name, objects):
        self.write(f"manifests/{name}", "\n---\n".join(json.dumps(o) for o in objects))

    def command(self):
        address = self.admin if self.controller else 1
        return [self.program(self.site), "--controller", f"http://127.0.0.1:{address}", "--state-dir", self.work / "state", "--state-key", self.work / "state-key",
                "--threads", "1", "--http", f"127.0.0.1:{self.http}", "--https", f"127.0.0.1:{self.https}",
                "--admin", "127.0.0.1:0", "--settle", "0"]

    def start(self, patience=180):
        self.controller = Process([self.site.programs / "examples" / "push", f"127.0.0.1:{self.admin}", self.work / "manifests"],
                                  self.work / "controller.log", OTHER_CPUS, stdout=subprocess.PIPE)
        first_line(self.controller, "listening")
        seconds = super().start(patience)
        self.acknowledged()
        return seconds

    def start_from_disk(self):
        """Starts it from the last-good copy that an earlier start has left, without a controller."""
        if self.controller:
            raise Failure("stop it first")
        return super().start()

    def start_standalone(self):
        """`diolkos run` on the manifests: controller and data plane in one process, YAML and all."""
        self.process = Process([self.site.programs / "diolkos", "run", self.work / "manifests", "--threads", "1", "--http", f"127.0.0.1:{self.http}",
                                "--https", f"127.0.0.1:{self.https}", "--admin", "127.0.0.1:0"], self.work / "log", PROXY_CPUS)
        return self.until_served(*self.layout.last("bytes/16"), self.process.begun)

    def acknowledged(self):
        """Waits until the data plane has taken over what it was sent last."""
        line = first_line(self.controller, "acknowledged")
        self.sent = int(line.rsplit("=", 1)[1])

    def add_route(self, name):
        self.objects(f"{name}.yaml", self.routes(name, f"{name}.bench.example.com", ["/api/"]))
        begun = time.monotonic()
        self.acknowledged()
        return time.monotonic() - begun

    def stop(self):
        super().stop()
        if self.controller:
            self.controller.stop()
            self.controller = None
