"""The outbox: which results are still to be sent to which remote. It outlives the run, and whoever comes later sends.

`spool/<hash of the remote's name>/<action>` holds the action's size, how often it was tried, when it was put there,
whether the remote is to get all its blobs anew, and whether it had no entry. Blobs go before the entry: those that the
remote doesn't have, each with the bytes that it should have.
"""

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256

from capsula.core.carried import with_trees
from capsula.core.digest import Digest
from capsula.core.packs import Pack, grouped, with_packs
from capsula.core.reapi import Action, ActionResult
from capsula.core.result import from_result
from capsula.core.wire import decode
from capsula.errors import BlobCorrupt, CapsulaError, StoreError, StoreUnreachable
from capsula.ports import Remote
from capsula.store.disk import DiskStore
from capsula.store.layout import (
    LOCKS,
    SPOOL,
    blob_path,
    discard,
    is_hash,
    make_directories,
    open_making,
    refusal,
)
from capsula.store.packs import made

# After so many days nobody needs it any more; after so many tries it is something about this result.
_DAYS, _TRIES = 7, 20
_REFUSALS = 3
_PACKS_AT_ONCE = 32
_ANEW, _IF_NONE = b"anew", b"if-none"


@dataclass(frozen=True, slots=True)
class _Waiting:
    """`size` is the action's, `tries` how often it failed, `since` in seconds since 1970."""

    size: int
    tries: int
    since: float
    anew: bool
    if_none: bool


class Outbox:
    """What waits for one remote, in the store `root`. `now` is the wall clock."""

    def __init__(self, root: str, name: str, now: Callable[[], float] = time.time) -> None:
        place = sha256(name.encode()).hexdigest()[:32]
        self._folder = f"{root}/{SPOOL}/{place}"
        self._lock = f"{root}/{LOCKS}/send-{place}"
        self._now = now

    def add(self, action: Digest, *, anew: bool = False, if_none: bool = False) -> None:
        """StoreError when this disk refuses. `anew`: also the blobs that the remote says it has, as they are spoiled
        there. `if_none`: it had no entry, and of whoever comes first now, that one stays."""
        self._write(action, _Waiting(action.size_bytes, 0, self._now(), anew, if_none))

    def waiting(self) -> Iterator[Digest]:
        """What failed least often first, of those the oldest. What is too old, or failed too often, is forgotten."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return
        rows = []
        for name in names:
            if not is_hash(name):
                self._tidy(name)
                continue
            row = self._read(name)
            if row is None or row.tries >= _TRIES or self._now() - row.since > _DAYS * 86400:
                discard(f"{self._folder}/{name}")
                continue
            rows.append((row.tries, row.since, Digest(name, row.size)))
        for _, _, digest in sorted(rows, key=lambda row: row[:2]):
            yield digest

    @contextmanager
    def turn(self, *, waits: bool = False) -> Iterator[bool]:
        """Whether no other process sends from this outbox, for the time of the block; `waits` until it is so. Where no
        lock can be had, it is taken to be so: sending twice is the same as once."""
        fd = -1
        try:
            fd = open_making(self._lock, os.O_RDWR)
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
            os.utime(fd)
            is_ours = True
        except BlockingIOError:
            is_ours = False
        except OSError:
            is_ours = True
        try:
            yield is_ours
        finally:
            if fd >= 0:
                os.close(fd)

    def tried(self, action: Digest) -> None:
        row = self._read(action.hash)
        try:
            if row is not None:
                self._write(action, replace(row, tries=row.tries + 1))
        except StoreError:
            return

    def is_sent_anew(self, action: Digest) -> bool:
        row = self._read(action.hash)
        return row is not None and row.anew

    def is_sent_if_none(self, action: Digest) -> bool:
        row = self._read(action.hash)
        return row is not None and row.if_none

    def remove(self, action: Digest) -> None:
        discard(f"{self._folder}/{action.hash}")

    def _tidy(self, name: str) -> None:
        """Somebody was writing it. What is a day old was left by one who was killed."""
        path = f"{self._folder}/{name}"
        try:
            if self._now() - os.lstat(path).st_mtime > 86400:
                os.unlink(path)
        except OSError:
            return

    def _read(self, name: str) -> "_Waiting | None":
        try:
            with open(f"{self._folder}/{name}", "rb") as file:
                size, tries, since, *more = file.read(100).split()
                row = _Waiting(int(size), int(tries), float(since), _ANEW in more, _IF_NONE in more)
        except (OSError, ValueError):
            return None
        return row if row.size >= 0 else None

    def _write(self, action: Digest, row: "_Waiting") -> None:
        path = f"{self._folder}/{action.hash}"
        more = [word for word, is_said in ((_ANEW, row.anew), (_IF_NONE, row.if_none)) if is_said]
        try:
            make_directories(self._folder)
            with open(f"{path}.{os.getpid()}", "wb") as file:
                file.write(b" ".join([b"%d %d %.3f" % (row.size, row.tries, row.since), *more]) + b"\n")
            os.rename(f"{path}.{os.getpid()}", path)
        except OSError as error:
            raise refusal(error, self._folder, "write") from error


def empty(
    box: Outbox,
    near: DiskStore,
    remote: Remote,
    deadline: float,
    own: Collection[Digest] = (),
    *,
    waits: bool = False,
) -> StoreError | None:
    """Send what waits, as far as time allows; what keeps the rest from being sent, None when nothing is left.

    One that is refused (too large for the server, say) doesn't hold up those behind it; several in a row are all. A
    remote that can't even be asked says nothing about a result, and isn't asked about the next. While another process
    sends from this outbox, only our `own` are sent: it sees to the others, and so do we to what comes meanwhile. With
    `waits`, it is waited for.
    """
    seen: set[str] = set()
    refused: list[StoreError] = []
    while any(action.hash not in seen for action in box.waiting()):
        with box.turn(waits=waits) as is_ours:
            todo = [action for action in box.waiting() if action.hash not in seen]
            todo = todo if is_ours else [action for action in todo if action in own]
            if not todo:
                break
            for action in todo:
                seen.add(action.hash)
                try:
                    _send(box, near, remote, action, deadline)
                except StoreError as error:
                    refused.append(error)
                    if isinstance(error, StoreUnreachable) or len(refused) == _REFUSALS:
                        return refused[0]
    return refused[0] if refused else None


def _send(box: Outbox, near: DiskStore, remote: Remote, action: Digest, deadline: float) -> None:
    """Blobs, then the entry. What can't be sent because it isn't here any more, or not whole, is forgotten."""

    def path_of(digest: Digest) -> str:
        # A power cut may have left zeros; others would have these for ever.
        near.verify(digest)
        return blob_path(near.root, digest.hash)

    try:
        result, named = _whole(near, action)
        described = _described_by(action, near)
    except CapsulaError:
        box.remove(action)
        return
    groups = grouped(result, named) if remote.packs else []
    together = {each.hash for _, members in groups for each in members}
    wanted = [*[each for each in named if each.hash not in together], *described]
    is_anew = box.is_sent_anew(action)
    absent = wanted if is_anew else remote.missing(wanted, deadline)
    try:
        if absent:
            remote.send(absent, path_of, deadline)
        packs = _send_packs(groups, near, remote, deadline, is_anew=is_anew)
        trees = dict.fromkeys([each.tree_digest for each in result.output_directories if each.tree_digest])
        carrying = with_trees(with_packs(result, packs), map(near.read, trees))
        remote.store(action, carrying, deadline, if_none=box.is_sent_if_none(action))
    except BlobCorrupt:
        # It has been set aside, and the next run makes it again: that, and what else there is (the power went).
        _set_aside_spoiled(near, named)
    except StoreError:
        box.tried(action)
        raise
    box.remove(action)


def _send_packs(
    groups: list[tuple[str, list[Digest]]], near: DiskStore, remote: Remote, deadline: float, *, is_anew: bool
) -> list[Pack]:
    """Some at a time: they take room on this disk until they are there."""
    sent: list[Pack] = []
    for at in range(0, len(groups), _PACKS_AT_ONCE):
        with made(groups[at : at + _PACKS_AT_ONCE], near, time.time) as (packs, path_of):
            digests = [pack.digest for pack in packs]
            absent = digests if is_anew else remote.missing(digests, deadline)
            if absent:
                remote.send(absent, path_of, deadline)
            sent += packs
    return sent


def _set_aside_spoiled(near: DiskStore, named: list[Digest]) -> None:
    for digest in named:
        try:
            near.verify(digest)
        except StoreError:
            continue


def _whole(near: DiskStore, action: Digest) -> tuple[ActionResult, list[Digest]]:
    """The result, and the blobs that it names. CapsulaError when it isn't here, or not whole."""
    result = near.lookup(action)
    if result is None:
        raise CapsulaError("the result isn't here any more")
    named = named_by(result, near)
    if near.missing(named):
        raise CapsulaError("the result isn't whole any more")
    return result, named


def named_by(result: ActionResult, near: DiskStore) -> list[Digest]:
    """All blobs that an entry names, each once; those of trees are read here."""
    nodes = from_result(result, near.read)
    digests = [node.digest for node in nodes.values() if node.digest is not None]
    digests += [each.tree_digest for each in result.output_directories if each.tree_digest is not None]
    digests += [each for each in (result.stdout_digest, result.stderr_digest) if each is not None]
    return list({digest.hash: digest for digest in digests}.values())


def _described_by(action: Digest, near: DiskStore) -> list[Digest]:
    """The action and its command, for those who look at it later; they aren't kept where they may hold a secret."""
    if not near.has(action):
        return []
    command = decode(Action, near.read(action)).command_digest
    return [action] if command is None or not near.has(command) else [action, command]
