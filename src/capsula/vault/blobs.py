"""The files that several capsules of a vault share: one read-only inode each, found by the digest of its bytes.

`<vault>/.capsula/blobs/ab/abcd…` (with an `x` behind it for one that may be executed) is a hard link of the file of the
first capsule that had it; a later capsule with the same bytes gets another link, so it costs nothing but a name. Where
the file system can share blocks (btrfs, XFS) later capsules get a clone instead, which is a file of its own.

What could go wrong with links, and why it doesn't:

* All names of an inode have its bytes and its mode. So only sealed files get in here, which nobody writes; whether a
  file may be executed is in the name; the times of a file are not kept.
* Somebody may write to a sealed file all the same. Before a capsule gets a link, the bytes are compared with its own: a
  file that was changed isn't handed on, and the good one takes its place.
* A link is never one to a file of the user's: what is moved into a capsule and has other names is copied.
* An inode can have only so many names (65,000 on ext4): then the next file starts anew.
* Removing a capsule removes names. A blob whose only name is the one in here belongs to no capsule any more and can go
  at any time (`sweep`): who was about to link it fails and keeps its own copy.

None of this is needed for a capsule to be whole. Whatever fails, a capsule keeps the file that it had.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass

SMALLEST = 1 << 10  # below, a name in here costs about as much as the file
_CHUNK = 1 << 20
_FICLONE = 0x40049409  # Linux, <linux/fs.h>
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_PLAIN, _EXECUTABLE = 0o400, 0o500


def sealed_mode(mode: int) -> int:
    """For the owner alone, whatever it was; only that a file may be executed stays."""
    return _EXECUTABLE if mode & 0o100 else _PLAIN


@dataclass(frozen=True, slots=True)
class Swept:
    files: int
    bytes: int


class Blobs:
    """Those of the vault at `root`. Nothing in here raises OSError: what can't be shared isn't."""

    def __init__(self, root: str) -> None:
        self._place = os.path.join(root, ".capsula", "blobs")
        self._can_clone = True

    def fetch(self, source: str, digest: str, target: str) -> bool:
        """Make `target`, which isn't there yet, from the blob with the bytes of `source`; False if there is none."""
        try:
            blob = self._path(digest, os.stat(source).st_mode)
            if not os.path.lexists(blob) or not _is_good(blob, source):
                return False
            self._link(blob, target)
        except OSError:
            return False
        return True

    def share(self, path: str, digest: str) -> None:
        """A sealed file becomes one with the blob that has its bytes, or is that blob from now on."""
        with suppress(OSError):
            look = os.lstat(path)
            if not stat.S_ISREG(look.st_mode) or look.st_size < SMALLEST:
                return
            blob = self._path(digest, look.st_mode)
            if not self._is_new(path, blob):
                self._join(path, blob, look.st_ino)

    def sweep(self) -> Swept:
        """Remove what belongs to no capsule any more."""
        files = size = 0
        for folder, _, names in os.walk(self._place):
            for name in names:
                with suppress(OSError):
                    path = os.path.join(folder, name)
                    look = os.lstat(path)
                    if look.st_nlink == 1:
                        os.unlink(path)
                        files += 1
                        size += look.st_blocks * 512
        return Swept(files, size)

    def _path(self, digest: str, mode: int) -> str:
        return os.path.join(self._place, digest[:2], digest + ("x" if mode & 0o100 else ""))

    def _is_new(self, path: str, blob: str) -> bool:
        try:
            os.link(path, blob)
        except FileExistsError:
            return False
        except FileNotFoundError:
            os.makedirs(os.path.dirname(blob), mode=0o700, exist_ok=True)
            try:
                os.link(path, blob)
            except FileExistsError:
                return False
        return True

    def _join(self, path: str, blob: str, inode: int) -> None:
        if os.lstat(blob).st_ino == inode:
            return
        if not _is_good(blob, path):
            _replace(blob, path)
            return
        aside = _aside(path)
        try:
            self._link(blob, aside)
        except OSError:
            # It has as many names as it can have, or has gone meanwhile.
            _replace(blob, path)
            return
        try:
            os.replace(aside, path)
        except OSError:
            os.unlink(aside)
            raise

    def _link(self, blob: str, target: str) -> None:
        if self._can_clone:
            self._can_clone = _clone(blob, target)
        if not self._can_clone:
            os.link(blob, target)


def _is_good(blob: str, source: str) -> bool:
    """Whether the blob is ours, has the bytes of the other file, and nobody may write to it (any more)."""
    theirs, own = os.open(blob, _READ), -1
    try:
        look = os.fstat(theirs)
        if not stat.S_ISREG(look.st_mode) or look.st_uid != os.geteuid():
            return False
        own = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(own).st_size != look.st_size or not _are_same(theirs, own):
            return False
        if look.st_mode & 0o777 != sealed_mode(look.st_mode):
            os.fchmod(theirs, sealed_mode(look.st_mode))
        return True
    finally:
        os.close(theirs)
        if own >= 0:
            os.close(own)


def _are_same(one: int, other: int) -> bool:
    while (mine := os.read(one, _CHUNK)) == os.read(other, _CHUNK):
        if not mine:
            return True
    return False


def _replace(blob: str, path: str) -> None:
    aside = _aside(blob)
    os.link(path, aside)
    os.replace(aside, blob)


def _clone(blob: str, target: str) -> bool:
    source = os.open(blob, _READ)
    try:
        look = os.fstat(source)
        made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if not clone_into(source, made):
                os.unlink(target)
                return False
            os.fchmod(made, look.st_mode & 0o777)
        finally:
            os.close(made)
    finally:
        os.close(source)
    return True


def clone_into(source: int, target: int) -> bool:
    """Share the blocks of one open file with another, where the file system can."""
    try:
        from fcntl import ioctl

        ioctl(target, _FICLONE, source)
    except (ImportError, OSError):
        return False
    return True


def digest_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _aside(path: str) -> str:
    return os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}.new")
