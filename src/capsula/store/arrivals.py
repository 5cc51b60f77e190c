"""What has just come from a remote: small blobs are used out of memory, and stored when they have been used.

What was verified as it came needn't be written, read and verified again before it is written where it is wanted.
"""

from __future__ import annotations

from _thread import allocate_lock

from capsula.core.digest import sha256
from capsula.store.receive import SMALL, Receiving, check_name, other, too_many
from capsula.store.unopened import FEWEST, keep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.core.digest import Digest
    from capsula.ports import Receiver
    from capsula.store.disk import DiskStore

# So much is kept in memory; the rest goes straight to the disk.
_ROOM = 16 << 20


class Arrivals:
    """Of one result; `is_all`: none of it had to go to the disk. After `finish`, all is in the store, and nothing in
    memory."""

    def __init__(self, near: DiskStore, action: Digest, now: Callable[[], float]) -> None:
        self._near = near
        self._action = action
        self._now = now
        self.is_all = True
        self._room = _ROOM
        self._contents: dict[str, bytes] = {}
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

    def finish(self) -> None:
        """StoreError when this disk refuses."""
        contents, self._contents = self._contents, {}
        if len(contents) >= FEWEST:
            keep(self._near, self._action, contents, self._now())
            return
        for name, content in contents.items():
            self._near.keep(name, content)


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
