"""A store in one directory: blobs and entries as files that many processes read, write and sweep at once.

No locks. A file appears under its name by a rename and is never changed afterwards, so a reader has the whole of
it or nothing, and a process that is killed leaves at most a file in tmp/. Whatever is read is verified; what doesn't
verify is moved to quarantine/, so that its place is free to be filled again. What a sweep may remove and when:
sweep.py.
"""

import errno
import os

from capsula.core.digest import Digest, digest_of, sha256
from capsula.errors import BlobCorrupt, BlobMissing, CapsulaError, EntryCorrupt, StoreError, WireError
from capsula.store import files
from capsula.store.files import SMALL
from capsula.store.layout import (
    GRACE,
    blob_path,
    create_temporary,
    discard,
    entry_path,
    is_hash,
    publish,
    refusal,
    seal,
    set_aside,
    unopened_path,
    unseal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from capsula.core.reapi import ActionResult

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
# What the system says when the fault is in that one file: a bad sector, or something else in its place.
_SPOILED = (errno.EIO, errno.EISDIR, errno.ELOOP)


class DiskStore:
    """BlobStore and ActionCache over the directory `root`, which needn't exist. Making one touches nothing.

    `now` is the wall clock, in seconds. `written` counts the bytes that this object added to the directory; threads
    may lose some of the count, which only ever decides when to sweep.
    """

    __slots__ = ("_held", "_now", "root", "written")
    at_hand = False

    def __init__(self, root: str, *, now: "Callable[[], float]") -> None:
        self.root = root
        self.written = 0
        self._now = now
        # What couldn't be kept on this disk, by its hash.
        self._held: dict[str, bytes] = {}

    # ------------------------------------------------------------------------------------------------ BlobStore

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there now. A promise of nothing: what has to stay must be put (or asked of `missing`)."""
        if self.is_held(digest):
            return True
        try:
            look = os.lstat(blob_path(self.root, digest.hash)) if is_hash(digest.hash) else None
        except FileNotFoundError:
            return False
        except OSError as error:
            raise refusal(error, self.root, "read") from error
        return look is not None and look.st_size == digest.size_bytes

    def missing(self, digests: "Iterable[Digest]") -> "list[Digest]":
        """Those that aren't there. Those that are there are as safe from a sweep as if they had just been put."""
        try:
            return [
                digest
                for digest in digests
                if not self.is_held(digest)
                and not (
                    is_hash(digest.hash) and self._holds(blob_path(self.root, digest.hash), digest.size_bytes)
                )
            ]
        except OSError as error:
            raise refusal(error, self.root, "read") from error

    def read(self, digest: Digest) -> bytes:
        if self.is_held(digest):
            return self._held[digest.hash]
        fd = self._open(digest)
        try:
            size = digest.size_bytes
            content = os.read(fd, size) if size <= SMALL else files.read_head(fd, size)
        except OSError as error:
            raise self._unreadable(digest, error) from error
        finally:
            os.close(fd)
        if sha256(content).hexdigest() != digest.hash:
            raise self._spoiled(digest)
        return content

    def fetch(self, digest: Digest, path: str, mode: int) -> None:
        """A copy (sharing blocks where the file system can): through a link, who edits the output edits the blob."""
        if digest.size_bytes <= SMALL:
            files.write_new(path, self.read(digest), mode)
            return
        source = self._open(digest)
        try:
            target = files.create(path)
            try:
                self._fill(source, target, digest, path, mode)
            except BaseException:
                discard(path)
                raise
            finally:
                os.close(target)
        finally:
            os.close(source)

    def verify(self, digest: Digest) -> None:
        """Raises what `read` would; memory stays flat."""
        if self.is_held(digest):
            return
        fd = self._open(digest)
        try:
            if files.digest_file(fd, lambda error: self._unreadable(digest, error)).hash != digest.hash:
                raise self._spoiled(digest)
        finally:
            os.close(fd)

    def put(self, content: bytes) -> Digest:
        digest = digest_of(content)
        path = blob_path(self.root, digest.hash)
        try:
            if self._holds(path, digest.size_bytes):
                return digest
            # 0400: nothing changes a blob, not even its owner by mistake.
            self._write(path, content, 0o400)
        except OSError as error:
            raise refusal(error, self.root, "write") from error
        return digest

    def set_aside(self, path: str) -> None:
        """Out of the way, as it isn't what was stored there."""
        set_aside(self.root, path, self._now())

    def is_held(self, digest: Digest) -> bool:
        return bool(self._held) and len(self._held.get(digest.hash, b"")) == digest.size_bytes > 0

    def hold(self, name: str, content: bytes) -> None:
        """Have what is known to have this hash in memory, where the disk refuses it, as one that can only be read."""
        self._held[name] = content

    def keep(self, name: str, content: bytes) -> None:
        """Put what is known to have this hash."""
        try:
            self._write(blob_path(self.root, name), content, 0o400)
        except OSError as error:
            raise refusal(error, self.root, "write") from error

    def put_file(self, path: str) -> Digest:
        """OutputError if `path` is not a regular file (links aren't followed) or can't be read."""
        source = files.open_regular(path)
        try:
            content = files.read_head(source, SMALL + 1)
            return self.put(content) if len(content) <= SMALL else self._put_large(source, path)
        except OSError as error:
            raise files.unreadable(path, error) from error
        finally:
            os.close(source)

    # ------------------------------------------------------------------------------------------------ ActionCache

    def lookup(self, action: Digest) -> "ActionResult | None":
        from capsula.core.reapi import ActionResult
        from capsula.core.wire import decode

        if not is_hash(action.hash):
            return None
        path = entry_path(self.root, action.hash)
        try:
            fd = os.open(path, _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._bad_entry(path, error) from error
        try:
            payload = unseal(action.hash, files.read_head(fd, os.fstat(fd).st_size))
            result = None if payload is None else decode(ActionResult, payload)
        except OSError as error:
            raise self._bad_entry(path, error) from error
        except WireError as error:
            raise self._bad_entry(path) from error
        finally:
            os.close(fd)
        if result is None:
            raise self._bad_entry(path)
        if os.path.lexists(unopened_path(self.root, action.hash)):
            from capsula.store.unopened import open_one

            open_one(self, action.hash)
        self.touch(action)
        return result

    def store(self, action: Digest, result: "ActionResult") -> None:
        """To be called within half of `layout.GRACE` after the first of its blobs was put."""
        from capsula.core.wire import encode

        if not is_hash(action.hash):
            raise StoreError(f"{action.hash!a} is no hash, so nothing can be stored under it")
        try:
            self._write(entry_path(self.root, action.hash), seal(action.hash, encode(result)), 0o600)
        except OSError as error:
            raise refusal(error, self.root, "write") from error

    def bring(
        self, action: Digest, result: "ActionResult", digests: "Sequence[Digest]", patience: float
    ) -> None:
        """Nothing is nearer than here."""

    def let_go(self) -> None:
        """And nothing of it in memory."""

    def touch(self, action: Digest) -> bool:
        """Count a use of the entry without reading it; False if there is none."""
        if not is_hash(action.hash):
            return False
        path = entry_path(self.root, action.hash)
        moment = self._now()
        try:
            os.utime(path, (moment, moment))
            return True
        except FileNotFoundError:
            return False
        except OSError:  # a store that can only be read: nothing sweeps it either
            return os.path.lexists(path)

    def remove(self, action: Digest) -> None:
        """Forget the entry, if there is one; its blobs are left to the sweep."""
        try:
            if is_hash(action.hash):
                os.unlink(entry_path(self.root, action.hash))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise refusal(error, self.root, "write") from error

    # ------------------------------------------------------------------------------------------------ inside

    def _open(self, digest: Digest) -> int:
        """A descriptor of the blob. Its size is compared first: a hostile digest may claim petabytes to allocate."""
        if not is_hash(digest.hash):
            raise BlobMissing(f"no blob can have the name {digest.hash!a}")
        try:
            fd = os.open(blob_path(self.root, digest.hash), _READ)
        except FileNotFoundError as error:
            raise _missing(digest) from error
        except OSError as error:
            raise self._unreadable(digest, error) from error
        try:
            if os.fstat(fd).st_size == digest.size_bytes:
                return fd
        except OSError as error:
            os.close(fd)
            raise self._unreadable(digest, error) from error
        os.close(fd)
        raise self._spoiled(digest)

    def _holds(self, path: str, size: int) -> bool:
        """Whether the blob is there with that size and, if so, will not be swept before its entry can be written.

        The time stamp is what a sweep goes by, so this refreshes one that is getting old. The order matters: look, then
        refresh. If the sweep takes the blob between the two, the refresh finds nothing and the answer is no.
        """
        try:
            look = os.lstat(path)
            if look.st_size != size:
                return False  # cut short by a crash; writing it again heals it
            moment = self._now()
            if not 0 <= moment - look.st_mtime < GRACE / 2:
                os.utime(path, (moment, moment))
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EPERM, errno.EACCES):
                raise
            return os.path.lexists(path)  # it can only be read, so nothing sweeps it
        return True

    def _write(self, path: str, content: bytes, mode: int) -> None:
        fd, temporary = create_temporary(self.root, mode, self._now())
        try:
            try:
                files.write_all(fd, content)
            finally:
                os.close(fd)
            publish(temporary, path)
        except BaseException:
            discard(temporary)
            raise
        self.written += len(content)

    def _put_large(self, source: int, path: str) -> Digest:
        def unreadable(error: OSError) -> CapsulaError:
            return files.unreadable(path, error)

        def unwritable(error: OSError) -> CapsulaError:
            return refusal(error, self.root, "write")

        try:
            fd, temporary = create_temporary(self.root, 0o400, self._now())
        except OSError as error:
            raise unwritable(error) from error
        try:
            try:
                # Digesting the source first would tell whether a copy is needed, but not of which bytes.
                digest = files.copy(source, fd, unreadable, unwritable)
            finally:
                os.close(fd)
            kept = blob_path(self.root, digest.hash)
            if self._holds(kept, digest.size_bytes):
                discard(temporary)
            else:
                publish(temporary, kept)
                self.written += digest.size_bytes
        except OSError as error:
            discard(temporary)
            raise unwritable(error) from error
        except BaseException:
            discard(temporary)
            raise
        return digest

    def _fill(self, source: int, target: int, digest: Digest, path: str, mode: int) -> None:
        def unreadable(error: OSError) -> CapsulaError:
            return self._unreadable(digest, error)

        def unwritable(error: OSError) -> CapsulaError:
            return files.unwritable(path, error)

        if files.copy(source, target, unreadable, unwritable) != digest:
            raise self._spoiled(digest)
        try:
            os.fchmod(target, mode & 0o777)
        except OSError as error:
            raise unwritable(error) from error

    def _unreadable(self, digest: Digest, error: OSError) -> StoreError:
        return self._spoiled(digest) if error.errno in _SPOILED else self._refused(error)

    def _refused(self, error: OSError) -> StoreError:
        return refusal(error, self.root, "read")

    def _spoiled(self, digest: Digest) -> StoreError:
        """Set the blob aside, unless another look shows that it is right: then it was healed meanwhile, or the fault is
        in the digest, whose size an entry got wrong. A good blob is never lost to a bad entry."""
        path = blob_path(self.root, digest.hash)
        try:
            fd = os.open(path, _READ)
            try:
                if files.digest_file(fd, self._refused).hash == digest.hash:
                    return _missing(digest)
            finally:
                os.close(fd)
        except (OSError, StoreError):
            pass
        self.set_aside(path)
        return BlobCorrupt(
            f"the blob {digest!r} in the store had other bytes than it was stored with; it has been set aside",
            hint="the next run stores it again",
        )

    def _bad_entry(self, path: str, error: "OSError | None" = None) -> StoreError:
        if error is not None and error.errno not in _SPOILED:
            return refusal(error, self.root, "read")
        self.set_aside(path)
        return EntryCorrupt(
            f"the entry {os.path.basename(path)} in the store isn't as it was stored; it has been set aside",
            hint="the next run stores it again",
        )


def _missing(digest: Digest) -> BlobMissing:
    return BlobMissing(f"the blob {digest!r} is not in the store", hint="the next run stores it again")
