"""Where a bundle is unpacked: `<vault>/.capsula/incoming/<chance>`, which nobody takes for capsules.

Who imports holds a lock on the `.lock` in there. It dies with its process, so what a killed import left can be told
from what one is at work in.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from capsula.vault.ours import locked, make_place, place

FOLDER = "incoming"
_LOCK = ".lock"


@contextmanager
def aside(root: str) -> Iterator[str]:
    """A new directory for one import. What killed ones have left is cleared away before."""
    folder = make_place(root, FOLDER)
    made = os.path.join(folder, os.urandom(8).hex())
    for path in abandoned(root):
        shutil.rmtree(path, ignore_errors=True)
    # Nobody looks for abandoned ones before this one has its lock.
    with locked(folder):
        os.mkdir(made, 0o700)
        lock = os.open(os.path.join(made, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def abandoned(root: str) -> list[str]:
    """What imports that were killed have left. OSError when that can't be looked at."""
    folder = place(root, FOLDER)
    if not os.path.isdir(folder):
        return []
    with locked(folder):
        paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name != _LOCK]
        return [path for path in paths if not _is_held(path)]


def _is_held(path: str) -> bool:
    try:
        lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # it was killed before it had one, or while it cleared up
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
