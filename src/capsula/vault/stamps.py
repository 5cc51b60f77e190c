"""Stamps: what the file system says of capsules and remarks, to tell those that may have changed from the others."""

from __future__ import annotations

import os
import time

from capsula.core.names import printable
from capsula.vault.layout import RECORD, VaultError
from capsula.vault.ours import place
from capsula.vault.record import has_lost_its_record
from capsula.vault.remarks import FOLDER

# Two changes that fit into one tick of the clock of a file system leave the same times.
_FRESH_NS = 2_000_000_000
_RECORD = b"/" + RECORD.encode()


def capsule_stamps(root: str) -> dict[bytes, str]:
    """The capsules of the vault by directory; empty for one that is too fresh to prove anything. VaultError."""
    now = time.time_ns()
    try:
        names = os.listdir(os.fsencode(root))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise VaultError(f"can't look into {printable(root)}: {error.strerror}") from error
    place = os.fsencode(root) + b"/"
    found = {}
    for name in names:
        stamp = _look(place + name, now) if not name.startswith(b".") else None
        if stamp is not None:
            found[name] = stamp
    return found


def is_there(root: str, directory: bytes) -> bool:
    return _look(os.path.join(os.fsencode(root), directory), 0) is not None


def _look(path: bytes, now: int) -> str | None:
    """None for what is no capsule."""
    try:
        return _stamp((os.stat(path), os.stat(path + _RECORD)), now)
    except PermissionError:
        # That it can't be read is told where it is read.
        return "" if os.path.isdir(path) else None
    except OSError:
        return "" if has_lost_its_record(os.fsdecode(path)) else None


def remark_stamps(root: str) -> dict[str, str]:
    """The ids that have remarks, as above; none where they can't be looked at."""
    now = time.time_ns()
    found = {}
    try:
        with os.scandir(place(root, FOLDER)) as entries:
            for entry in entries:
                name, dot, suffix = entry.name.partition(".")
                if name and dot + suffix == ".json":
                    try:
                        found[name] = _stamp((entry.stat(),), now)
                    except OSError:
                        continue
    except OSError:
        return {}
    return found


def _stamp(looks: tuple[os.stat_result, ...], now: int) -> str:
    if max(max(look.st_mtime_ns, look.st_ctime_ns) for look in looks) >= now - _FRESH_NS:
        return ""
    return " ".join(f"{look.st_mtime_ns} {look.st_ctime_ns} {look.st_ino}" for look in looks)
