"""The processes of a run: started, watched through /proc, and ended by id whatever happens.

Used by proxies.py and load.py. It must never end a process that it did not start, and never leave one.
"""

import ctypes
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

from supplies import Unavailable

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_living = []


def raise_descriptor_limit():
    """2,000 connections need more descriptors than the usual soft limit; the children inherit this one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _end_with_parent():
    # Only for the case that the rig itself is killed and cannot clean up.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def start(command, log, environment=None, **streams):
    """Starts a program whose output goes to the file `log` (unless `stdout` is given)."""
    with open(log, "ab") as sink:
        process = subprocess.Popen(command, stdin=streams.pop("stdin", subprocess.DEVNULL), stderr=sink,
                                   stdout=streams.pop("stdout", sink), env=environment,
                                   preexec_fn=_end_with_parent)
    process.log = Path(log)
    _living.append(process)
    return process


def _stat(pid):
    """The fields of /proc/PID/stat after the program's name, or None when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def family(pid):
    """The process and all its living descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(entry)):
            parents.setdefault(int(fields[1]), []).append(int(entry))
    members = [pid]
    for member in members:
        members.extend(parents.get(member, []))
    return members


def cpu_seconds(pids):
    """User and system time of these processes so far."""
    return sum(int(fields[11]) + int(fields[12]) for pid in pids if (fields := _stat(pid))) / TICKS_PER_SECOND


def memory_bytes(pids):
    """Proportional set size of these processes: what they share among them counts once."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def last_words(process):
    """The last line of a process's log, for the sentence that reports its failure."""
    lines = process.log.read_text(errors="replace").strip().splitlines() if process.log.exists() else []
    return lines[-1].strip()[:300] if lines else "it said nothing"


def wait_until(ready, process, what, seconds=60):
    """Waits for a state of a starting process; its death or the deadline is one sentence."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise Unavailable(f"{what} ended at its start with status {process.returncode}: {last_words(process)}.")
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} was not ready after {seconds} s: {last_words(process)}.")
        time.sleep(0.02)


def end(process):
    """Ends a process and its descendants by their ids and waits for them."""
    # The descendants are named before their parent dies, since orphans cannot be told from strangers.
    members = family(process.pid) if process.poll() is None else []
    for request, seconds in ((signal.SIGTERM, 3), (signal.SIGKILL, 3)):
        for pid in members:
            try:
                os.kill(pid, request)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            process.poll()
            members = [pid for pid in members if (fields := _stat(pid)) and fields[0] != "Z"]
            if not members:
                break
            time.sleep(0.02)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    if process in _living:
        _living.remove(process)


def end_all():
    """Ends everything that still lives, the youngest first."""
    for process in reversed(list(_living)):
        end(process)
