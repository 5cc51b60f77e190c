"""Ports for servers of tests, each for one of them alone.

A port that was free a moment ago may be taken when the server gets to it: by a server of another worker, or by any
connection from this machine, for which the kernel takes ports from a range of its own. So these are from outside of
that range, and whoever has one holds a lock on it until its process ends.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_LOWEST, _HIGHEST = 10_000, 65_000
_locks: list[int] = []


def free_port() -> int:
    """Nobody listens there, and nobody else is given it while this process lives."""
    folder = Path(tempfile.gettempdir()) / f"capsula-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for port in random.sample(_candidates(), 500):
        lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as tried:
                # Without SO_REUSEADDR: not one of which a connection is still on its way out, either.
                tried.bind(("127.0.0.1", port))
        except OSError:
            os.close(lock)
            continue
        _locks.append(lock)
        return port
    raise AssertionError("no port is free")


def _candidates() -> list[int]:
    try:
        first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        first, last = 32_768, 60_999
    found = [port for port in range(_LOWEST, _HIGHEST) if not first <= port <= last]
    return found if len(found) >= 2000 else [*range(_LOWEST, _HIGHEST)]
