"""Removing capsules: first out of sight by one rename, then piece by piece, so that nothing half-deleted ever counts.

What is on its way out lies in `<vault>/.capsula/removed`. Who dies in between leaves it there, and the next one to
remove anything finishes the work.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from capsula.core.names import printable
from capsula.vault import incoming, remarks
from capsula.vault.blobs import Blobs
from capsula.vault.index import Found
from capsula.vault.layout import RECORD, VaultError
from capsula.vault.ours import make_place, place
from capsula.vault.record import CRASHED, DAMAGED

REMOVED = "removed"
_MINE_ALONE_S = 86400


@dataclass(frozen=True, slots=True)
class Rules:
    """Seconds since a run began: `crashed` for those that crashed, `older_than` for any (None: however old). Of those
    that didn't crash the last `keep_last` stay; None: all, unless `older_than` says which go."""

    crashed: float
    older_than: float | None = None
    keep_last: int | None = None


@dataclass(frozen=True, slots=True)
class Doomed:
    found: Found
    why: str


def choose(found: Iterable[Found], rules: Rules, now: float) -> list[Doomed]:
    """Those that go, of all in the vault, newest first. What has remarks stays, and so does what is running, what is
    damaged, and what doesn't say when it began."""
    chosen = []
    kept = 0
    for each in found:
        began = began_at(each.id)
        if began is None or each.status in ("running", DAMAGED):
            continue
        age = now - began
        is_last = each.status != CRASHED and rules.keep_last is not None and kept < rules.keep_last
        kept += each.status != CRASHED
        if each.remarks != remarks.NONE:
            continue
        if each.status == CRASHED and age > rules.crashed:
            chosen.append(Doomed(each, "crashed"))
        elif is_last or (rules.keep_last is None and rules.older_than is None):
            continue
        elif rules.older_than is None:
            chosen.append(Doomed(each, f"not among the last {rules.keep_last}"))
        elif age > rules.older_than:
            chosen.append(Doomed(each, "old"))
    return chosen


def began_at(identity: str) -> float | None:
    """Seconds since 1970, which the first twelve digits of an id are."""
    try:
        return int(identity[:12], 16) / 1000 if len(identity) == 18 else None
    except ValueError:
        return None


def remove(root: str, path: str, identity: str) -> int:
    """How many bytes that freed. VaultError when it may not be removed; then it is all there."""
    try:
        folder = make_place(root, REMOVED)
        aside = os.path.join(folder, os.urandom(8).hex())
        os.rename(path, aside)
    except OSError as error:
        raise VaultError(f"can't remove {printable(path)}: {error.strerror}") from error
    with suppress(OSError):
        remarks.drop(root, identity)
    return _delete(aside)


def sweep(root: str, now: float) -> tuple[int, int]:
    """What removals, imports and runs that died left: how many things that were, and how many bytes that freed."""
    count = freed = 0
    with suppress(OSError):
        for name in os.listdir(place(root, REMOVED)):
            freed += _delete(place(root, REMOVED, name))
            count += 1
    for path in (*_abandoned(root), *never_begun(root, now)):
        freed += _delete(path)
        count += 1
    return count, freed + Blobs(root).sweep().bytes


def leftovers(root: str, now: float) -> list[str]:
    """What `sweep` would remove, but for the blobs."""
    found = []
    with suppress(OSError):
        found = [place(root, REMOVED, name) for name in sorted(os.listdir(place(root, REMOVED)))]
    return found + _abandoned(root) + never_begun(root, now)


def _abandoned(root: str) -> list[str]:
    with suppress(OSError):
        return incoming.abandoned(root)
    return []


def never_begun(root: str, now: float) -> list[str]:
    """Directories that were to become capsules, and whose maker died before it could say so in them."""
    found = []
    with suppress(OSError):
        for name in sorted(os.listdir(root)):
            path = os.path.join(root, name)
            with suppress(OSError):
                if name.startswith(".") or not stat.S_ISDIR(os.lstat(path).st_mode):
                    continue
                is_old = os.lstat(path).st_mtime < now - _MINE_ALONE_S
                if is_old and set(os.listdir(path)) <= {f".{RECORD}.new"}:
                    found.append(path)
    return found


def size_of(path: str) -> int:
    """What removing it frees: what other capsules share stays. Blobs that nobody needs then come on top."""
    look = os.lstat(path)
    size = look.st_blocks * 512 if look.st_nlink == 1 or stat.S_ISDIR(look.st_mode) else 0
    if stat.S_ISDIR(look.st_mode):
        with suppress(OSError):
            size += sum(_size_if_there(os.path.join(path, name)) for name in os.listdir(path))
    return size


def _size_if_there(path: str) -> int:
    try:
        return size_of(path)
    except OSError:
        return 0


def _delete(path: str) -> int:
    """Whatever it is; another may do the same at the same time. Links aren't followed."""
    try:
        look = os.lstat(path)
    except OSError:
        return 0
    freed = look.st_blocks * 512 if look.st_nlink == 1 or stat.S_ISDIR(look.st_mode) else 0
    if not stat.S_ISDIR(look.st_mode):
        with suppress(OSError):
            os.unlink(path)
            return freed
        return 0
    with suppress(OSError):
        # A directory that was moved into the capsule as it was may be closed even to us.
        os.chmod(path, stat.S_IMODE(look.st_mode) | stat.S_IRWXU)
    with suppress(OSError):
        freed += sum(_delete(os.path.join(path, name)) for name in os.listdir(path))
    with suppress(OSError):
        os.rmdir(path)
    return freed
