"""What has just come from a remote: small blobs are used out of memory, and stored when they have been used.

What was verified as it came needn't be written, read and verified again before it is written where it is wanted. Of
many, a process of its own fills the store meanwhile: of the making of files most is waiting for the file system's
locks, and threads would take turns under the interpreter's one lock. What that process costs is what it takes to make
some thirty files. It shares nothing but memory that it only reads, and what becomes of it doesn't matter: what it
hasn't stored, or nobody knows of, is stored here when it has been used.
"""

from __future__ import annotations

import os
import posix
from _thread import allocate_lock

from capsula.core.digest import sha256
from capsula.store.receive import SMALL, Receiving, check_name, other, too_many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from capsula.core.digest import Digest
    from capsula.ports import Receiver
    from capsula.store.disk import DiskStore

# So much is kept in memory; the rest goes straight to the disk.
_ROOM = 16 << 20
# So many are worth a process.
MANY = 64


class Arrivals:
    """Of one result; `is_all`: none of it had to go to the disk. After `finish`, all is in the store, and nothing in
    memory."""

    def __init__(self, near: DiskStore, now: Callable[[], float]) -> None:
        self._near = near
        self._now = now
        self.is_all = True
        self._room = _ROOM
        self._contents: dict[str, bytes] = {}
        # The process that stores them, 0 if there is none.
        self._pid = 0
        self._lock = allocate_lock()

    def receive(self, digest: Digest) -> Receiver:
        with self._lock:
            is_kept = digest.size_bytes <= min(SMALL, self._room)
            if is_kept:
                self._room -= digest.size_bytes
        if is_kept:
            return _Arriving(digest, self._contents)
        self.is_all = False
        return Receiving(self._near.root, digest, self._now)

    def get(self, digest: Digest) -> bytes | None:
        content = self._contents.get(digest.hash)
        return content if content is not None and len(content) == digest.size_bytes else None

    def keep_meanwhile(self) -> None:
        """Begin to store them: all has come, and is going to be used."""
        if len(self._contents) < MANY or not _is_alone() or len(os.sched_getaffinity(0)) < 2:
            return
        parent = posix.getpid()
        try:
            self._pid = posix.fork()
        except OSError:
            return
        if self._pid == 0:
            self._keep_all(parent)

    def finish(self) -> None:
        """StoreError when this disk refuses."""
        contents, self._contents = self._contents, {}
        pid, self._pid = self._pid, 0
        if pid and _has_done_it(pid):
            self._near.written += sum(map(len, contents.values()))
            return
        for name, content in contents.items():
            self._near.keep(name, content)

    def _keep_all(self, parent: int) -> NoReturn:
        try:
            for name, content in self._contents.items():
                if posix.getppid() != parent:
                    break  # nobody waits any more, and somebody may be removing this store
                self._near.keep(name, content)
            else:
                posix._exit(0)
        finally:
            posix._exit(1)


def _is_alone() -> bool:
    """Whether no other thread is in this process: one that holds a lock now would hold it in the other for ever."""
    try:
        return len(posix.listdir("/proc/self/task")) == 1
    except OSError:  # no Linux
        return False


def _has_done_it(pid: int) -> bool:
    try:
        return posix.waitpid(pid, 0)[1] == 0
    except ChildProcessError:  # SIGCHLD is ignored: nobody tells how it ended
        return False


class _Arriving:
    """A Receiver of a small blob, which is among `contents` when it is known to be right."""

    def __init__(self, digest: Digest, contents: dict[str, bytes]) -> None:
        check_name(digest)
        self._digest = digest
        self._contents = contents
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, piece: bytes | memoryview) -> None:
        self._size += len(piece)
        if self._size > self._digest.size_bytes:
            raise too_many(self._digest)
        self._pieces.append(bytes(piece))  # whose buffer may be filled anew

    def finish(self) -> None:
        content = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        if len(content) != self._digest.size_bytes or sha256(content).hexdigest() != self._digest.hash:
            raise other(self._digest, len(content))
        self._contents[self._digest.hash] = content

    def abandon(self) -> None:
        self._pieces.clear()
