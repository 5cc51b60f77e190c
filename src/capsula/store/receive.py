"""A blob on its way into a store on this disk: written piece by piece, digested as it comes, there only when right.

What comes from somewhere else may be cut short, swapped or without end, so nothing is believed of it: a piece beyond
the announced size ends it, and the name appears only when the digest is the one that was asked for.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread

from capsula.core.digest import sha256
from capsula.errors import BlobCorrupt, CapsulaError
from capsula.store import files
from capsula.store.layout import blob_path, create_temporary, discard, is_hash, publish, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from hashlib import _Hash

    from capsula.core.digest import Digest
    from capsula.ports import Receiver

# Up to here it is kept in memory until it is known to be right.
SMALL = 1 << 16
# From here on it is worth a thread to digest what came while more comes.
LARGE = 8 << 20
# So many pieces may wait for that.
_AHEAD = 4
# Making a file is waiting for its directory. Threads that make them in one directory at once don't sleep meanwhile,
# they spin, and it takes several times as long as one after the other.
_making = allocate_lock()


class Receiving:
    """One blob. `write` any number of pieces, then `finish`, or `abandon` it; after either, nothing more.

    Raises BlobCorrupt when it isn't what was asked for, StoreError when this disk refuses.
    """

    def __init__(self, root: str, digest: Digest, now: Callable[[], float]) -> None:
        self.digest = digest
        self.size = 0
        self._root = root
        self._now = now
        check_name(digest)
        self._hashed: _Hash | _Beside = sha256() if digest.size_bytes < LARGE else _Beside()
        self._pieces: list[bytes] = []
        self._fd, self._path = -1, ""
        if digest.size_bytes > SMALL:
            self._create()

    def write(self, piece: "bytes | memoryview") -> None:
        self.size += len(piece)
        if self.size > self.digest.size_bytes:
            raise too_many(self.digest)
        self._hashed.update(piece)
        if self._fd < 0:
            self._pieces.append(bytes(piece))  # whose buffer may be filled anew
            return
        try:
            files.write_all(self._fd, piece)
        except OSError as error:
            raise refusal(error, self._root, "write") from error

    def finish(self) -> None:
        """Verified, and there from now on; else nothing is left of it."""
        try:
            if self.size != self.digest.size_bytes or self._hashed.hexdigest() != self.digest.hash:
                raise other(self.digest, self.size)
            with _making:
                if self._fd < 0:
                    self._create()
                    files.write_all(self._fd, b"".join(self._pieces))
                self._close()
                publish(self._path, blob_path(self._root, self.digest.hash))
        except OSError as error:
            self.abandon()
            raise refusal(error, self._root, "write") from error
        except CapsulaError:
            self.abandon()
            raise

    def abandon(self) -> None:
        self._pieces.clear()
        if isinstance(self._hashed, _Beside):
            self._hashed.abandon()
        self._close()
        if self._path:
            discard(self._path)

    def _create(self) -> None:
        try:
            self._fd, self._path = create_temporary(self._root, 0o400, self._now())
        except OSError as error:
            raise refusal(error, self._root, "write") from error

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class _Beside:
    """Digests in a thread of its own, a few pieces behind: that releases the interpreter lock, as do the network and
    the disk, which it would else wait for in turn. Its results are a hash's; `abandon` ends it, at any time, any number
    of times."""

    def __init__(self) -> None:
        from _queue import SimpleQueue

        self._hashed = sha256()
        self._pieces: SimpleQueue[bytes | memoryview | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(_AHEAD):
            self._room.put(None)
        self._is_right = True
        self._done = allocate_lock()
        self._done.acquire()
        start_new_thread(self._run, ())

    def update(self, piece: bytes | memoryview) -> None:
        self._room.get()
        self._pieces.put(piece if _is_for_good(piece) else bytes(piece))

    def hexdigest(self) -> str:
        """ "" when it can't be told."""
        self._pieces.put(None)
        self._done.acquire()
        self._done.release()
        return self._hashed.hexdigest() if self._is_right else ""

    def abandon(self) -> None:
        self._pieces.put(None)

    def _run(self) -> None:
        try:
            while (piece := self._pieces.get()) is not None:
                try:
                    self._hashed.update(piece)
                except Exception:
                    # Who gives the pieces waits for room.
                    self._is_right = False
                self._room.put(None)
        finally:
            self._done.release()


def _is_for_good(piece: bytes | memoryview) -> bool:
    """Whether these bytes stay as they are. A view that can only be read may be of a buffer that is filled anew: what
    it is a view of decides."""
    return isinstance(piece, bytes) or memoryview(piece.obj).readonly


def check_name(digest: Digest) -> None:
    if not is_hash(digest.hash):
        raise BlobCorrupt(f"no blob can have the name {digest.hash!a}")


def too_many(digest: Digest) -> BlobCorrupt:
    """While it comes: nobody waits for the end of what may have none."""
    return BlobCorrupt(f"more than the {digest.size_bytes} bytes of the blob {digest!r} came")


def other(digest: Digest, size: int) -> BlobCorrupt:
    """When all of it has come."""
    came = (
        f"{size} of the {digest.size_bytes} bytes" if size != digest.size_bytes else "other bytes than those"
    )
    return BlobCorrupt(f"{came} of the blob {digest!r} came")


def receiving(receive: Callable[[Digest], Receiver], digest: Digest) -> _Block:
    """In a `with`, the receiver of this blob: finished when all of it came, and abandoned whatever else ends the
    block."""
    return _Block(receive(digest))


class _Block:
    __slots__ = ("_receiver",)

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def __enter__(self) -> Receiver:
        return self._receiver

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._receiver.finish()
        else:
            self._receiver.abandon()
