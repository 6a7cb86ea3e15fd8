import os
import signal

from .peer import Peer, output


class Nginx(Peer):
    name = "nginx"
    changes = True

    @classmethod
    def version(cls, site):
        return output(cls.program(site), "-v").split("/")[-1]

    def configure(self):
        self.added = []
        self.write("nginx.conf", self.text())

    def text(self):
        listen = f"listen 127.0.0.1:{self.http};"
        if self.layout.tls:
            listen += f" listen 127.0.0.1:{self.h2c} http2; listen 127.0.0.1:{self.https} ssl http2;"
            listen += f" ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {self.site.certificate}; ssl_certificate_key {self.site.key};"
        to = 'proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_buffering off;'
        routes = self.layout.routes() + [(name, f"{name}.bench.example.com", ["/api/"]) for name in self.added]
        servers = []
        for _, host, prefixes in routes:
            locations = "".join(f"location {prefix} {{ {to} }}\n" for prefix in prefixes)
            servers.append(f"server {{ {listen} server_name {host};\n{locations}}}\n")
        temporary = "".join(f"{kind}_temp_path {self.work}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return f"""daemon off; worker_processes 1; pid {self.work}/pid; error_log stderr warn;
events {{ worker_connections {self.site.files - 100}; }}
http {{
access_log off; {temporary}
keepalive_requests 1000000;
server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
upstream bench {{ server {self.site.backend}; keepalive 512; keepalive_requests 1000000; }}
{"".join(servers)}}}
"""

    def command(self):
        return [self.program(self.site), "-p", self.work, "-c", self.work / "nginx.conf"]

    def add_route(self, name):
        self.added.append(name)
        self.write("nginx.conf", self.text())
        os.kill(self.process.pid, signal.SIGHUP)
