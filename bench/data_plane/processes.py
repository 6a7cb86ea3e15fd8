"""Child processes: where they run, what they cost, and that none is left behind."""
import atexit
import os
import signal
import subprocess
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")
CPUS = sorted(os.sched_getaffinity(0))
# The proxy under measurement has a core for itself, where there is more than one.
PROXY_CPUS = CPUS[:1]
OTHER_CPUS = CPUS[1:] or CPUS

_alive = []


class Failure(Exception):
    """A measurement that cannot be had, with the reason."""


def place(cpus):
    """For a process that begins. Who sends requests and who answers them share cores, and neither interrupts the other: what comes meanwhile
    waits for its turn, and the proxy is kept busy."""
    os.sched_setaffinity(0, cpus)
    if cpus == OTHER_CPUS:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class Process:
    def __init__(self, command, log, cpus, env=None, stdin=None, stdout=None):
        self.log = log
        self.begun = time.monotonic()
        with open(log, "ab") as file:
            self.popen = subprocess.Popen(
                [str(part) for part in command], stdin=stdin or subprocess.DEVNULL, stdout=stdout or file, stderr=file,
                env={**os.environ, **(env or {})}, start_new_session=True,
                preexec_fn=lambda: place(cpus))
        _alive.append(self)

    @property
    def pid(self):
        return self.popen.pid

    def check(self):
        if self.popen.poll() is not None:
            raise Failure(f"{self.popen.args[0]} ended with {self.popen.returncode}:\n{self.tail()}")

    def tail(self):
        with open(self.log, errors="replace") as file:
            return "".join(file.readlines()[-15:])

    def pids(self):
        """The process and its children."""
        return [self.pid] + children(self.pid)

    def cpu(self):
        """Seconds of CPU that the process and its children have used, those that have ended included."""
        total = ended_children(self.pid)
        for pid in self.pids():
            total += cpu_clock(pid)
        return total

    def kernel(self):
        """Seconds of that which the kernel has used, in steps of a tick."""
        return sum(stat(pid, SYSTEM) for pid in self.pids()) + stat(self.pid, SYSTEM_ENDED)

    def pss(self):
        """KiB, pages shared with others counted in part."""
        return sum(field(f"/proc/{pid}/smaps_rollup", "Pss") for pid in self.pids())

    def resident(self):
        """KiB now, and the most that it ever was."""
        pids = self.pids()
        now = sum(field(f"/proc/{pid}/status", "VmRSS") for pid in pids)
        return now, sum(field(f"/proc/{pid}/status", "VmHWM") for pid in pids)

    def stop(self):
        if self in _alive:
            _alive.remove(self)
        for number, patience in ((signal.SIGTERM, 1), (signal.SIGKILL, 10)):
            if self.popen.poll() is None:
                # Only its own session is signalled.
                os.killpg(self.pid, number)
                try:
                    self.popen.wait(patience)
                except subprocess.TimeoutExpired:
                    continue
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe:
                pipe.close()


@atexit.register
def stop_all():
    for process in list(_alive):
        process.stop()


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def cpu_clock(pid):
    """What clock_getcpuclockid(3) gives: all threads, those that have ended included, in nanoseconds' resolution."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    except OSError:
        return 0


# Places of times in /proc/PID/stat behind the name (proc(5)): in the kernel, and of children that have ended.
SYSTEM, USER_ENDED, SYSTEM_ENDED = 12, 13, 14


def stat(pid, place):
    """Seconds, in steps of a tick."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(") ", 1)[1].split()[place]) / TICKS
    except OSError:
        return 0


def ended_children(pid):
    return stat(pid, USER_ENDED) + stat(pid, SYSTEM_ENDED)


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return []


def field(path, name):
    try:
        with open(path) as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def first_line(process, start, patience=120):
    """Waits for a line of a process whose output is a pipe."""
    deadline = time.monotonic() + patience
    for line in process.popen.stdout:
        line = line.decode()
        if line.startswith(start):
            return line.strip()
        if time.monotonic() > deadline:
            break
    process.popen.poll()
    raise Failure(f"{process.popen.args[0]} never said {start!r}:\n{process.tail()}")
