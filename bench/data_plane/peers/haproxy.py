import socket

from .peer import Peer, output


class HAProxy(Peer):
    """Routes are a map file, which its runtime interface changes."""

    name = "haproxy"
    changes = True

    @classmethod
    def version(cls, site):
        return output(cls.program(site), "-v").split()[2]

    def configure(self):
        lines = [f"{host}{prefix} bench\n" for _, host, prefixes in self.layout.routes() for prefix in prefixes]
        self.map = self.write("routes.map", "".join(lines))
        pem = self.write("bench.pem", self.site.certificate.read_text() + self.site.key.read_text())
        binds = f"bind 127.0.0.1:{self.http}\n"
        if self.layout.tls:
            binds += f"bind 127.0.0.1:{self.h2c} proto h2\nbind 127.0.0.1:{self.https} ssl crt {pem} alpn h2,http/1.1\n"
        self.write("haproxy.cfg", f"""global
  nbthread 1
  maxconn {(self.site.files - 200) // 2}
  stats socket {self.work}/socket level admin
defaults
  mode http
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 100s
  timeout server 100s
frontend bench
  {binds}
  http-request set-var(txn.to) base,map_beg({self.map})
  http-request return status 404 unless {{ var(txn.to) -m found }}
  use_backend %[var(txn.to)]
backend bench
  server one {self.site.backend} pool-max-conn 512
""")

    def command(self):
        return [self.program(self.site), "-db", "-q", "-f", self.work / "haproxy.cfg"]

    def add_route(self, name):
        with socket.socket(socket.AF_UNIX) as runtime:
            runtime.connect(f"{self.work}/socket")
            runtime.sendall(f"add map {self.map} {name}.bench.example.com/api/ bench\n".encode())
            runtime.recv(4096)
