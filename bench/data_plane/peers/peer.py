"""What all proxies have in common."""
import os
import shutil
import socket
import subprocess
import time

from probe import status
from processes import PROXY_CPUS, Failure, Process

_ports = iter(range(21000, 30000))


def free_port():
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failure("no free port")


class Peer:
    """A proxy with one worker thread, pooled upstream connections and no access log."""

    name = ""
    env = {}
    # Whether `add_route` exists.
    changes = False

    def __init__(self, work, site, layout):
        self.site, self.layout = site, layout
        self.work = work / f"{self.name}-{layout.name}"
        self.work.mkdir(parents=True, exist_ok=True)
        self.http, self.https, self.h2c, self.admin = (free_port() for _ in range(4))
        self.process = None
        self.configure()

    # What each proxy says for itself.

    @classmethod
    def program(cls, site):
        """Its program; None where it is not installed."""
        return shutil.which(cls.name)

    @classmethod
    def version(cls, site):
        raise NotImplementedError

    def configure(self):
        """Writes its files."""
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def add_route(self, name):
        """Makes it serve the host NAME.bench.example.com as well; does not wait until it does."""
        raise NotImplementedError

    # What is the same for all.

    def write(self, name, text):
        """Replaces a file in one step: some are being watched."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f".{path.name}.new")
        half.write_text(text)
        os.replace(half, path)
        return path

    def start(self, patience=180):
        """Starts it; gives the seconds from there to the first 200 of the last route."""
        self.process = Process(self.command(), self.work / "log", PROXY_CPUS, self.env)
        return self.until_served(*self.layout.last("bytes/16"), self.process.begun, patience)

    def until_served(self, host, path, begun, patience=60, pause=0.001):
        while True:
            if status(self.http, host, path) == 200:
                return time.monotonic() - begun
            self.process.check()
            if time.monotonic() - begun > patience:
                raise Failure(f"{self.name} does not serve {host}{path} after {patience} s:\n{self.process.tail()}")
            time.sleep(pause)

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None


def output(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()
