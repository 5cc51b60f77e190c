"""The outbox: which results are still to be sent to which remote. It outlives the run, and whoever comes later sends.

`spool/<hash of the remote's name>/<action>` holds the action's digest, how often it was tried and when it was put
there. Blobs go before the entry, and only those that the remote doesn't have.
"""

import os
import time
from collections.abc import Callable, Iterator
from hashlib import sha256

from capsula.core.digest import Digest
from capsula.core.reapi import Action, ActionResult
from capsula.core.result import from_result
from capsula.core.wire import decode
from capsula.errors import CapsulaError, StoreError, WireError
from capsula.ports import Remote
from capsula.store.disk import DiskStore
from capsula.store.layout import SPOOL, blob_path, discard, is_hash, make_directories, refusal

# After so many days nobody needs it any more; after so many tries it is something about this result.
_DAYS, _TRIES = 7, 20
_REFUSALS = 3


class Outbox:
    """What waits for one remote, in the store `root`. `now` is the wall clock."""

    def __init__(self, root: str, name: str, now: Callable[[], float] = time.time) -> None:
        self._folder = f"{root}/{SPOOL}/{sha256(name.encode()).hexdigest()[:32]}"
        self._now = now

    def add(self, action: Digest) -> None:
        """StoreError when this disk refuses."""
        self._write(action, 0, self._now())

    def waiting(self) -> Iterator[Digest]:
        """Oldest first. What is too old, or was tried too often, is forgotten."""
        try:
            names = [name for name in os.listdir(self._folder) if is_hash(name)]
        except OSError:
            return
        rows = []
        for name in names:
            size, tries, since = self._read(name)
            if size < 0 or tries >= _TRIES or self._now() - since > _DAYS * 86400:
                discard(f"{self._folder}/{name}")
                continue
            rows.append((since, Digest(name, size)))
        for _, digest in sorted(rows, key=lambda row: row[0]):
            yield digest

    def tried(self, action: Digest) -> None:
        _, tries, since = self._read(action.hash)
        try:
            self._write(action, tries + 1, since)
        except StoreError:
            return

    def remove(self, action: Digest) -> None:
        discard(f"{self._folder}/{action.hash}")

    def _read(self, name: str) -> tuple[int, int, float]:
        try:
            with open(f"{self._folder}/{name}", "rb") as file:
                size, tries, since = file.read(100).split()
                return int(size), int(tries), float(since)
        except (OSError, ValueError):
            return -1, 0, 0.0

    def _write(self, action: Digest, tries: int, since: float) -> None:
        path = f"{self._folder}/{action.hash}"
        try:
            make_directories(self._folder)
            with open(f"{path}.{os.getpid()}", "wb") as file:
                file.write(f"{action.size_bytes} {tries} {since:.3f}\n".encode())
            os.rename(f"{path}.{os.getpid()}", path)
        except OSError as error:
            raise refusal(error, self._folder, "write") from error


def empty(box: Outbox, near: DiskStore, remote: Remote, deadline: float) -> StoreError | None:
    """Send what waits, as far as time allows; what keeps the rest from being sent, None when nothing is left.

    One that is refused (too large for the server, say) doesn't hold up those behind it; several in a row are all.
    """
    refused: list[StoreError] = []
    for action in box.waiting():
        try:
            send(near, remote, action, deadline)
        except StoreError as error:
            box.tried(action)
            refused.append(error)
            if len(refused) == _REFUSALS:
                break
            continue
        except CapsulaError:
            pass  # it isn't here any more, or isn't whole
        box.remove(action)
    return refused[0] if refused else None


def send(near: DiskStore, remote: Remote, action: Digest, deadline: float) -> None:
    """Blobs, then the entry. StoreError from the remote; another CapsulaError when it isn't here, or not whole."""
    try:
        result = near.lookup(action)
        if result is None:
            raise CapsulaError("the result isn't here any more")
        wanted = [*named_by(result, near), *_described_by(action, near)]
        if near.missing(wanted):
            raise CapsulaError("the result isn't whole any more")
    except (StoreError, WireError) as error:
        raise CapsulaError(error.what) from error
    absent = remote.missing(wanted, deadline)
    if absent:
        remote.send(absent, lambda digest: blob_path(near.root, digest.hash), deadline)
    remote.store(action, result, deadline)


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
