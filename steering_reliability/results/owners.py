"""Who generates a completion: one process's name, and whether that process still runs.

This module knows nothing about the store; it only tells the dead from those who may be alive.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

# A process that runs, but whose start time this platform or its settings hide.
UNKNOWN_START = "unknown"


def new_owner() -> str:
    """A name for this process as an owner of leases: ``host:pid:start-nonce``.

    Every call gives another name. A forked child needs a name of its own: under its parent's it
    would pass for alive as long as the parent lives.
    """
    pid = os.getpid()
    return f"{_host()}:{pid}:{process_start(pid)}-{secrets.token_hex(4)}"


def check_owner(owner: str) -> tuple[str, int, str]:
    """Host, pid and start time in an owner's name.

    Raises:
        ValueError: the text is no owner's name.
    """
    match = re.fullmatch(r"(.+):(\d+):(\w+)-\w+", owner)
    if match is None:
        raise ValueError(f"owner: found {owner!r}, expected host:pid:start-nonce, see new_owner()")
    host, pid, started = match.groups()
    return host, int(pid), started


def is_dead(owner: str) -> bool:
    """Whether the process behind an owner has certainly ended.

    False for owners on other hosts, in other containers, and wherever it cannot be told: their
    leases lapse by time alone.

    Raises:
        ValueError: the text is no owner's name.
    """
    host, pid, started = check_owner(owner)
    if host != _host():
        return False
    start = process_start(pid)
    # The same pid with another start time is another process: pids are used again.
    return start is None or (start != started and UNKNOWN_START not in (start, started))


def process_start(pid: int) -> str | None:
    """When a process started, in the platform's own terms; None if no such process runs.

    A zombie has ended: a killed pytest-xdist worker stays one until its controller looks.
    """
    if sys.platform == "win32":
        # No signal 0 there: os.kill would end the process that is asked about.
        return UNKNOWN_START
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _process_start_by_ps(pid)
    # The name, in brackets, may hold spaces and brackets; state is field 3, start time field 22.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _process_start_by_ps(pid: int) -> str | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=10, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN_START
    state, _, start = answer.stdout.strip().partition(" ")
    # Silence means "no such process" or "hidden from you", and only the first may be called dead.
    if not state:
        return UNKNOWN_START
    return None if state[0] in "ZX" else re.sub(r"\W", "", start)


@cache
def _host() -> str:
    """This host as far as pids mean the same: containers may share a name but not their pids."""
    try:
        namespace = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}/{namespace}"
