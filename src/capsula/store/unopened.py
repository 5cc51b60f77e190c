"""Results as they came from a shared store: the many small files of one in one file, until somebody asks for it here.

    unopened/<hash of the action>   in the form of a pack (core.packs): what it has is told by the digests in its head

Outputs are put in place out of the memory that they came to. To make a file in the store for each of them as well takes
as long as that, and on most machines of a CI nobody asks for them again.

Whoever finds a result here opens what it has left unopened; so does a sweep, so that all else in a store is as if there
were no such files. What another result has unopened is looked into before anything is fetched.
"""

from __future__ import annotations

import os

from capsula.core.digest import Digest, sha256
from capsula.core.packs import Cutting, head
from capsula.errors import BlobCorrupt, StoreError
from capsula.store import files
from capsula.store.layout import UNOPENED, create_temporary, discard, is_hash, publish, refusal, unopened_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import FileIO

    from capsula.store.disk import DiskStore

# Of so many it is worth it.
FEWEST = 32
# Two results that share files share many of them, as a rule.
_SAMPLE = 8
# How much of a file is looked through for them (the digests of some hundreds), and of how many files, the newest.
_GLANCE = 1 << 14
_NEWEST = 64
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def keep(near: DiskStore, action: Digest, contents: Mapping[str, bytes], now: float) -> None:
    """Contents by their hashes, which they are known to have. StoreError when this disk refuses."""
    members = [Digest(name, len(content)) for name, content in contents.items()]
    try:
        fd, path = create_temporary(near.root, 0o400, now)
        try:
            try:
                files.write_all(fd, b"".join((head(members), *contents.values())))
            finally:
                os.close(fd)
            publish(path, unopened_path(near.root, action.hash))
            near.written += sum(digest.size_bytes for digest in members)
        except BaseException:
            discard(path)
            raise
    except OSError as error:
        raise refusal(error, near.root, "write") from error


def open_one(near: DiskStore, name: str) -> None:
    """Put what the result of this action has unopened where all blobs are. What isn't right, or can't be kept, is as if
    it weren't there."""
    path = unopened_path(near.root, name)
    try:
        with _reading(path) as file:
            look = os.fstat(file.fileno())
            try:
                for digest, content in _members(file, Digest(name, look.st_size)):
                    if sha256(content).hexdigest() == digest.hash and near.missing([digest]):
                        near.keep(digest.hash, content)
            except BlobCorrupt:
                pass  # what is left of it can't be told
        # The result may have come anew meanwhile.
        if os.lstat(path).st_ino == look.st_ino:
            os.unlink(path)
    except (StoreError, OSError):
        return  # it has been opened, or can't be now, as on a full disk


def open_what_has(near: DiskStore, wanted: Sequence[Digest]) -> bool:
    """Open what has some of these. Whether there was such."""
    found = False
    sample = [bytes.fromhex(digest.hash) for digest in wanted[:: max(1, len(wanted) // _SAMPLE)]]
    for name in _newest_first(near.root)[:_NEWEST]:
        try:
            with _reading(unopened_path(near.root, name)) as file:
                start = file.read(_GLANCE)
        except OSError:
            continue
        if any([each in start for each in sample]):
            open_one(near, name)
            found = True
    return found


def open_all(near: DiskStore) -> None:
    for name in _newest_first(near.root):
        open_one(near, name)


def _newest_first(root: str) -> Sequence[str]:
    found = []
    try:
        with os.scandir(f"{root}/{UNOPENED}") as entries:
            for entry in entries:
                try:
                    found.append((-entry.stat(follow_symlinks=False).st_mtime, entry.name))
                except FileNotFoundError:
                    continue  # somebody has opened it
    except OSError:
        return ()  # there are none
    return [name for _, name in sorted(found) if is_hash(name)]


def _reading(path: str) -> FileIO:
    """Whatever was put in its place, nobody waits for it."""
    return open(path, "rb", buffering=0, opener=lambda path, _: os.open(path, _READ))


def _members(file: FileIO, whole: Digest) -> Iterator[tuple[Digest, bytes]]:
    cutting = Cutting(whole)
    parts: list[bytes | memoryview] = []
    while piece := file.read(1 << 20):
        for digest, part, is_last in cutting.cut(piece):
            parts.append(part)
            if is_last:
                yield digest, b"".join(parts)
                parts.clear()
