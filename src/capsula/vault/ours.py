"""What a vault holds beside the capsules: the directory `.capsula` in it, with the index, the remarks, what is on its
way out."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from capsula.core.names import printable
from capsula.vault.layout import MARK, VaultError

OURS = ".capsula"


def place(root: str, *names: str) -> str:
    return os.path.join(root, OURS, *names)


def make_place(root: str, *names: str) -> str:
    """The directory, made where it isn't there. OSError; VaultError for what isn't marked as a vault: nothing of ours
    shall lie among somebody's things because they are in a directory called `vault`."""
    if not os.path.exists(os.path.join(root, MARK)):
        raise VaultError(f"{printable(root)} is no vault", hint="capsula monitor command … makes one")
    path = place(root, *names)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Alone in there, among those who ask. A process that dies lets go of it."""
    lock = os.open(os.path.join(folder, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
