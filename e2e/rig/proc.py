"""Processes in the rig's containers, seen from outside them."""
import os
import pathlib
import time

TICKS = os.sysconf("SC_CLK_TCK")


def process_of(program, argument):
    """The process id of the container whose program has this argument; `None`: there is none."""
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if line[0].endswith(b"/" + program.encode()) and argument.encode() in line:
            return int(entry.name)
    return None


def controller(pod):
    return process_of("diolkos-controller", f"--identity={pod}")


def data_plane(pod):
    return process_of("diolkos-dataplane", f"--node-id={pod}")


def stat(pid):
    # The second field is a name in parentheses that may hold anything.
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def cpu(pid):
    """Seconds of CPU used."""
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def age(pid):
    """Seconds since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(stat(pid)[19]) / TICKS


def megabytes(pid):
    """Resident now, and at most so far."""
    lines = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status") if ":" in line)
    return tuple(int(lines[name].split()[0]) / 1000 * 1.024 for name in ("VmRSS", "VmHWM"))
