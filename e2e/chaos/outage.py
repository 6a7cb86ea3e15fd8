#!/usr/bin/env python3
"""An API server that is gone for an hour: `make outage`, on the rig that `make rig-up` started.

While it is away nothing that Kubernetes knows can change, so what must hold is short:
  * every request for a Route is answered as before, by the Service and by each data plane itself;
  * a data plane that is killed answers so again within 30 s, from its copy on disk (the kubelet starts its container anew;
    until then kube-proxy, which nobody can tell, sends it a share of the requests, which fail without an answer);
  * a controller that is killed takes nothing away from data planes when it starts and can list nothing.

When it is back: controllers are ready and every data plane follows one within 15 s (what reconnects by itself does so with
a pause of up to 10 s; statuses speak of data planes that are connected), and after edits statuses and answers are true within 5 s.
"""
import argparse
import http.client
import os
import random
import re
import signal
import sys
import time

import chaos
from proc import controller, data_plane

# A container that the kubelet starts anew, of which the first death has no pause.
AGAIN = 30.0
ADMIN = 9090
# Who is connected hears something more often, in seconds.
NOW = 12.0
# So long everything is left alone between two deaths, so that the kubelet's pauses do not grow.
REST = 660.0


def admin(address, path):
    """Status and text of a page of the admin port; `None` and nothing where there is no answer."""
    connection = http.client.HTTPConnection(address, ADMIN, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return None, ""
    finally:
        connection.close()


def is_ready(address):
    return admin(address, "/readyz")[0] == 200


def hears(address):
    """Whether a controller has said something to a data plane just now."""
    found = re.search(r"^diolkos_config_age_seconds (\S+)$", admin(address, "/metrics")[1], re.M)
    return found is not None and float(found[1]) < NOW


class Outage(chaos.Chaos):
    def untouched(self, plane):
        return all(self.ask(plane, f"untouched-{n}") == (200, f"untouched-{n}") for n in range(chaos.UNTOUCHED))

    def until(self, what, holds, seconds):
        """Seconds that it took; a violation where it does not come."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                self.report.violation(f"{what}: not within {seconds:.0f} s")
                break
            time.sleep(0.1)
        return time.monotonic() - began

    def kill_plane(self, name, address):
        pid = data_plane(name)
        os.kill(pid, signal.SIGKILL)

        def is_back():
            # As long as it is not, whoever is sent there fails.
            self.faults.sent_to_the_dead.append(time.monotonic())
            return data_plane(name) not in (None, pid) and self.untouched(address)

        took = self.until(f"data plane {name} after its death", is_back, AGAIN)
        print(f"{time.strftime('%X')} data plane {name} killed, answers as before after {took:.1f} s", flush=True)

    def run_prepared(self):
        args = self.args
        chaos.Echo.start()
        # The kubelet lets a container that has died before wait longer: these have not.
        begun = {"metadata": {"annotations": {"diolkos.io/outage": str(time.time())}}}
        for deployment in chaos.Clocks.CONTAINERS:
            self.kube.roll_out(deployment, begun)
        self.prepare()
        controllers = [p["metadata"]["name"] for p in self.kube.pods("controller")]
        planes = [(p["metadata"]["name"], p["status"]["podIP"]) for p in self.kube.pods("data-plane")]
        loads = self.loads()
        chaos.rig("kill", "apiserver", "KILL")
        # One that is elected ends when it cannot renew its lease, and counts heartbeats of nodes anew when it starts again.
        # The rig's would stay, and say at once that the node is not ready.
        chaos.rig("kill", "kcm", "KILL")
        began = time.monotonic()
        print(f"{time.strftime('%X')} the API server is gone", flush=True)
        deaths = [lambda: self.kill_plane(*planes[0]), lambda: self.kill_controller(controllers[0]),
                  lambda: self.kill_plane(*planes[1]), lambda: self.kill_controller(controllers[1])]
        due = began + min(60, args.seconds / 8)
        while time.monotonic() - began < args.seconds:
            if deaths and time.monotonic() > due:
                deaths.pop(0)()
                due = time.monotonic() + min(REST, args.seconds / 6)
            for name, address in planes:
                if not self.untouched(address):
                    self.report.violation(f"data plane {name} answers otherwise than before")
            time.sleep(0.5)
        chaos.rig("start", "apiserver")
        self.faults.api_is_back(chaos.HEALED)
        back = time.monotonic()
        print(f"{time.strftime('%X')} the API server is back after {back - began:.0f} s", flush=True)
        addresses = [p["status"]["podIP"] for p in self.kube.pods("controller")]
        self.until("controllers ready", lambda: all(map(is_ready, addresses)), chaos.HEALED)
        # It ends once more where it may not read its settings yet.
        chaos.rig("start", "kcm")
        self.until("data planes connected", lambda: all(hears(address) for _, address in planes), chaos.HEALED)
        healed = time.monotonic() - back
        self.faults.excused_until = time.monotonic()
        for _ in range(args.edits):
            self.edit()
        true = self.until("statuses and answers", lambda: self.check(everything=True), chaos.TRUTH)
        self.finish(loads)
        print(
            f"away for {back - began:.0f} s, {sum(l.sent for l in loads)} requests ({sum(l.excused for l in loads)} failed at a data plane that was"
            f" killed), healed {healed:.1f} s after it was back, true {true:.1f} s after {self.edits} edits, {len(self.report.violations)} violations"
        )
        return 1 if self.report.violations else 0

    def kill_controller(self, name):
        pid = controller(name)
        os.kill(pid, signal.SIGKILL)
        self.until(f"controller {name} after its death", lambda: controller(name) not in (None, pid), AGAIN)
        print(f"{time.strftime('%X')} controller {name} killed and started", flush=True)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--seconds", type=int, default=3600, help="so long it is away")
    args.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args.set_defaults(faults="", routes=40, edits=50)
    sys.exit(Outage(args.parse_args()).run())


if __name__ == "__main__":
    main()
