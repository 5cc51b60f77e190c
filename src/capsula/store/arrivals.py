"""What has just come from a remote: small blobs are used out of memory, while a process of its own puts them into the
store on this disk.

Making a file is waiting for the file system, and each blob of a result becomes two: the store's, and the output. Two
processes make them in two thirds of the time of one, and what was verified as it came needn't be read and verified
again. So the store's are made by a process that finds them in memory that both have, and is told through a pipe where
(through the pipe itself, each would wait for the other). It is told when that was all, and says by its exit code that
they are all there; whatever happens to it, what it was to do is done here again. When we are killed, the pipe ends
early, and so does it: each file that it made is whole.
"""

from __future__ import annotations

import os
import posix
from _thread import allocate_lock

from capsula.core.digest import sha256
from capsula.errors import StoreError
from capsula.store.receive import SMALL, Receiving, check_name, other, too_many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from mmap import mmap

    from capsula.core.digest import Digest
    from capsula.ports import Receiver
    from capsula.store.disk import DiskStore

# So much is kept in memory; the rest goes straight to the disk.
_ROOM = 16 << 20
# From so many on, a process is worth its start.
_MANY = 32
# What is told of each: its name, where it is and how long. Short enough for a pipe to take it in one piece.
_LINE = 80
_END = bytes(_LINE)


class Arrivals:
    """Of one result. After `finish`, which has to be called, everything is in the store and nothing in memory."""

    def __init__(self, near: DiskStore, digests: Sequence[Digest], now: Callable[[], float]) -> None:
        self._near = near
        self._now = now
        self._room = _ROOM
        self._contents: dict[str, bytes] = {}
        self._lock = allocate_lock()
        self._pid, self._pipe, self._used = 0, -1, 0
        self._shared: mmap | None = None
        small = [digest.size_bytes for digest in digests if digest.size_bytes <= SMALL]
        if len(small) >= _MANY:
            self._start(min(sum(small), _ROOM))

    def receive(self, digest: Digest) -> Receiver:
        with self._lock:
            is_kept = digest.size_bytes <= min(SMALL, self._room)
            if is_kept:
                self._room -= digest.size_bytes
        return _Arriving(self, digest) if is_kept else Receiving(self._near.root, digest, self._now)

    def get(self, digest: Digest) -> bytes | None:
        content = self._contents.get(digest.hash)
        return content if content is not None and len(content) == digest.size_bytes else None

    def add(self, digest: Digest, content: bytes) -> None:
        """It has been verified."""
        with self._lock:
            if digest.hash in self._contents:
                return
            self._contents[digest.hash] = content
            start, end = self._used, self._used + len(content)
            if self._shared is not None and end <= len(self._shared):
                self._shared[start:end] = content
                self._used = end
                self._tell(digest.hash.encode() + start.to_bytes(8, "little") + end.to_bytes(8, "little"))
            else:
                self._close()

    def finish(self) -> None:
        """StoreError when this disk refuses."""
        with self._lock:
            contents, self._contents = self._contents, {}
            self._tell(_END)
            self._close()
            is_done = self._pid > 0 and _has_done_it(self._pid)
            self._pid, self._shared = 0, None
        if not is_done:
            for name, content in contents.items():
                self._near.keep(name, content)

    def _start(self, size: int) -> None:
        try:
            from mmap import mmap

            self._shared = mmap(-1, max(size, 1))
            reading, self._pipe = os.pipe()
        except (ImportError, OSError):
            return
        try:
            self._pid = posix.fork()
        except OSError:
            posix.close(reading)
            self._close()
            return
        if self._pid:
            posix.close(reading)
            return
        try:
            posix.close(self._pipe)
            _put_all(reading, self._shared, self._near)
            posix._exit(0)
        finally:
            posix._exit(1)

    def _tell(self, line: bytes) -> None:
        if self._pipe >= 0:
            try:
                posix.write(self._pipe, line)
            except OSError:  # it is gone: what it had to do is done in the end
                self._close()

    def _close(self) -> None:
        if self._pipe >= 0:
            pipe, self._pipe = self._pipe, -1
            posix.close(pipe)


class _Arriving:
    """A Receiver of a small blob."""

    def __init__(self, arrivals: Arrivals, digest: Digest) -> None:
        self._arrivals = arrivals
        self._digest = digest
        self._pieces: list[bytes] = []
        self._size = 0
        check_name(digest)

    def write(self, piece: bytes | memoryview) -> None:
        self._size += len(piece)
        if self._size > self._digest.size_bytes:
            raise too_many(self._digest)
        self._pieces.append(bytes(piece))  # whose buffer may be filled anew

    def finish(self) -> None:
        content = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        if len(content) != self._digest.size_bytes or sha256(content).hexdigest() != self._digest.hash:
            raise other(self._digest, len(content))
        self._arrivals.add(self._digest, content)

    def abandon(self) -> None:
        self._pieces.clear()


def _put_all(pipe: int, shared: mmap | bytes, near: DiskStore) -> None:
    """In the process that does it: until it is told that this was all. StoreError when the pipe ends before."""
    contents, came = memoryview(shared), b""
    while True:
        piece = posix.read(pipe, 50 * _LINE)
        if not piece:
            raise StoreError("whoever had them is gone")
        came += piece
        while len(came) >= _LINE:
            line, came = came[:_LINE], came[_LINE:]
            if line == _END:
                return
            start, end = int.from_bytes(line[64:72], "little"), int.from_bytes(line[72:], "little")
            near.keep(line[:64].decode(), contents[start:end])


def _has_done_it(pid: int) -> bool:
    try:
        return posix.waitpid(pid, 0)[1] == 0
    except ChildProcessError:  # SIGCHLD is ignored: nobody tells how it ended
        return False
