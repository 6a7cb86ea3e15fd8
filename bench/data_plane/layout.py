"""What a proxy is to serve: which hosts and prefixes, and where the backend is."""
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Every route is a host and a path prefix that ends in '/', and leads to the one backend."""

    name: str
    hosts: int = 1
    # On each host.
    prefixes: int = 1
    tls: bool = False

    def host(self, i):
        return f"h{i}.bench.example.com"

    def prefix(self, i):
        return "/api/" if self.prefixes == 1 else f"/p{i}/"

    def routes(self):
        """(name, host, prefixes) of each host."""
        prefixes = [self.prefix(p) for p in range(self.prefixes)]
        return [(f"r{h}", self.host(h), prefixes) for h in range(self.hosts)]

    def count(self):
        return self.hosts * self.prefixes

    def last(self, rest):
        """Host and path of the last route."""
        return self.host(self.hosts - 1), self.prefix(self.prefixes - 1) + rest


@dataclass(frozen=True)
class Site:
    """What all proxies share."""

    # HOST:PORT of the backend.
    backend: str
    certificate: Path
    key: Path
    # Where this workspace has built its programs.
    programs: Path
    # Where pip has put the peers that come from PyPI.
    packages: Path
    # Descriptors that a process may have.
    files: int

    def backend_port(self):
        return int(self.backend.rsplit(":", 1)[1])
