"""Results as they came from a shared store: the many small files of one in one file, until somebody asks for it here.

    unopened/<hash of the action>   in the form of a pack (core.packs): a list of digests, and the contents

Outputs are put in place out of the memory that they came to. To make a file in the store for each of them as well takes
as long as that, and on most machines of a CI nobody asks for them again.

Who finds a result here opens what it has unopened; then all is as if there had been no such file. Where the disk takes
nothing, it is held in memory. What another result has unopened is looked into before anything is fetched.
"""

from __future__ import annotations

import os

from capsula.core.digest import Digest, sha256
from capsula.core.packs import Cutting, head, lists
from capsula.errors import BlobCorrupt, StoreError
from capsula.store import files
from capsula.store.layout import create_temporary, discard, is_hash, publish, refusal, unopened_path
from capsula.store.reach import scan_unopened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from io import FileIO

    from capsula.store.disk import DiskStore
    from capsula.store.reach import File

# Of so many it is worth it.
FEWEST = 32
# Two results that share files share many of them, as a rule. So many are looked for, and in so many files, the newest.
_SAMPLE = 8
_NEWEST = 64
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def keep(near: DiskStore, action: Digest, contents: Mapping[str, bytes], now: float) -> None:
    """Contents by their hashes, which they are known to have. StoreError when this disk refuses."""
    # What is there already couldn't be opened, or it would be gone.
    rows = sorted({**_right(unopened_path(near.root, action.hash)), **contents}.items())
    members = [Digest(name, len(content)) for name, content in rows]
    try:
        fd, path = create_temporary(near.root, 0o400, now)
        try:
            try:
                files.write_pieces(fd, [head(members), *[content for _, content in rows]])
            finally:
                os.close(fd)
            publish(path, unopened_path(near.root, action.hash))
            near.written += sum(digest.size_bytes for digest in members)
        except BaseException:
            discard(path)
            raise
    except OSError as error:
        raise refusal(error, near.root, "write") from error


def open_one(near: DiskStore, name: str, wanted: Container[str] | None = None) -> None:
    """Put what the result of this action has unopened where all blobs are. What isn't right is as if it weren't there,
    and the file is set aside then. Where the disk takes nothing, `wanted` of it are held, by their hashes (None: all).
    """
    path = unopened_path(near.root, name)
    written = near.written
    try:
        with _reading(path) as file:
            look = os.fstat(file.fileno())
            is_right, is_kept = _put(near, file, look.st_size, wanted)
            # The result may have come anew meanwhile.
            if not is_right:
                near.set_aside(path)
            elif is_kept and os.lstat(path).st_ino == look.st_ino:
                os.unlink(path)
    except OSError:
        return  # there is none, or somebody has just opened it
    finally:
        near.written = written  # it was counted when it came


def open_what_has(near: DiskStore, wanted: Sequence[Digest]) -> bool:
    """Open what has some of these. Whether there was such."""
    found = False
    names = [digest.hash for digest in wanted if is_hash(digest.hash)]
    sample = names[:: max(1, len(names) // _SAMPLE)]
    for file in sorted(_there(near.root), key=lambda file: -file.mtime)[:_NEWEST]:
        try:
            with _reading(file.path) as opened:
                has_some = lists(opened.read, sample)
        except OSError:
            continue
        if has_some:
            open_one(near, file.name, frozenset(names))
            found = True
    return found


def open_all(near: DiskStore) -> bool:
    """Whether there are none any more. Where nobody may look, there may be."""
    try:
        for file in scan_unopened(near.root):
            open_one(near, file.name, ())
        return not list(scan_unopened(near.root))
    except OSError:
        return False


def members(path: str) -> dict[str, int] | None:
    """The sizes of what is in such a file, by the hashes. None if not all of it is right; nothing when it is gone."""
    found = {}
    try:
        with _reading(path) as file:
            for digest, content in _members(file, os.fstat(file.fileno()).st_size):
                if sha256(content).hexdigest() != digest.hash:
                    return None
                found[digest.hash] = digest.size_bytes
    except FileNotFoundError:
        return {}
    except (OSError, BlobCorrupt):
        return None
    return found


def _right(path: str) -> dict[str, bytes]:
    found = {}
    try:
        with _reading(path) as file:
            for digest, content in _members(file, os.fstat(file.fileno()).st_size):
                if sha256(content).hexdigest() == digest.hash:
                    found[digest.hash] = content
    except (OSError, BlobCorrupt):
        pass
    return found


def _there(root: str) -> list[File]:
    try:
        return list(scan_unopened(root))
    except OSError:
        return []  # another user's, who lets nobody look


def _put(near: DiskStore, file: FileIO, size: int, wanted: Container[str] | None) -> tuple[bool, bool]:
    """Whether all of it was right, and whether all that is right is on the disk now."""
    is_right = is_kept = True
    try:
        for digest, content in _members(file, size):
            if sha256(content).hexdigest() != digest.hash:
                is_right = False
            elif near.is_held(digest) or near.missing([digest]):
                try:
                    near.keep(digest.hash, content)
                except StoreError:
                    is_kept = False
                    if wanted is None or digest.hash in wanted:
                        near.hold(digest.hash, content)
    except BlobCorrupt:
        is_right = False
    except StoreError:
        is_kept = False
    return is_right, is_kept


def _reading(path: str) -> FileIO:
    """Whatever was put in its place, nobody waits for it."""
    return open(path, "rb", buffering=0, opener=lambda path, _: os.open(path, _READ))


def _members(file: FileIO, size: int) -> Iterator[tuple[Digest, bytes]]:
    cutting = Cutting(Digest("", size))
    parts: list[bytes | memoryview] = []
    while piece := file.read(1 << 20):
        for digest, part, is_last in cutting.cut(piece):
            parts.append(part)
            if is_last:
                yield digest, b"".join(parts)
                parts.clear()
    cutting.end()
