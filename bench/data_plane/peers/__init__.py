"""The proxies. Each file knows one: how it is configured, started and told of a change."""
from .caddy import Caddy
from .diolkos import Diolkos
from .envoy import Envoy
from .haproxy import HAProxy
from .nginx import Nginx
from .traefik import Traefik

ALL = [Diolkos, Nginx, HAProxy, Envoy, Traefik, Caddy]
