"""Stores without a directory: one that lives as long as its process, and one that keeps nothing at all."""

import os

from capsula.core.digest import Digest, digest_of
from capsula.errors import BlobMissing, CapsulaError
from capsula.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from capsula.core.reapi import ActionResult


class MemoryStore:
    """BlobStore and ActionCache in two dictionaries, for tests and for runs that shall leave nothing behind.

    Entries are kept as bytes, so that what comes out is never the object that went in.
    """

    __slots__ = ("_blobs", "_entries", "written")
    at_hand = False

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._entries: dict[str, bytes] = {}
        self.written = 0

    def has(self, digest: Digest) -> bool:
        content = self._blobs.get(digest.hash)
        return content is not None and len(content) == digest.size_bytes

    def missing(self, digests: "Iterable[Digest]") -> "list[Digest]":
        return [digest for digest in digests if not self.has(digest)]

    def read(self, digest: Digest) -> bytes:
        if not self.has(digest):
            raise BlobMissing(f"the blob {digest!r} is not in the store", hint="the next run stores it again")
        return self._blobs[digest.hash]

    def fetch(self, digest: Digest, path: str, mode: int) -> None:
        files.write_new(path, self.read(digest), mode)

    def put(self, content: bytes) -> Digest:
        digest = digest_of(content)
        if digest.hash not in self._blobs:
            self._blobs[digest.hash] = bytes(content)
            self.written += len(content)
        return digest

    def put_file(self, path: str) -> Digest:
        fd = files.open_regular(path)
        try:
            with open(fd, "rb", closefd=False) as file:
                return self.put(file.read())
        except OSError as error:
            raise files.unreadable(path, error) from error
        finally:
            os.close(fd)

    def lookup(self, action: Digest) -> "ActionResult | None":
        from capsula.core.reapi import ActionResult
        from capsula.core.wire import decode

        payload = self._entries.get(action.hash)
        return None if payload is None else decode(ActionResult, payload)

    def store(self, action: Digest, result: "ActionResult") -> None:
        from capsula.core.wire import encode

        self._entries[action.hash] = encode(result)

    def touch(self, action: Digest) -> bool:
        return action.hash in self._entries

    def bring(
        self, action: Digest, result: "ActionResult", digests: "Sequence[Digest]", patience: float
    ) -> None:
        pass

    def let_go(self) -> None:
        pass

    def remove(self, action: Digest) -> None:
        self._entries.pop(action.hash, None)


class DummyStore:
    """The backend `dummy`: takes everything, keeps nothing, so every run is a miss. Digests are still true."""

    __slots__ = ("written",)
    at_hand = False

    def __init__(self) -> None:
        self.written = 0

    def has(self, digest: Digest) -> bool:  # noqa: ARG002 - the port's signature, here and below
        return False

    def missing(self, digests: "Iterable[Digest]") -> "list[Digest]":
        return list(digests)

    def read(self, digest: Digest) -> bytes:
        raise BlobMissing(f"the blob {digest!r} was not kept: the backend `dummy` keeps nothing")

    def fetch(self, digest: Digest, path: str, mode: int) -> None:  # noqa: ARG002
        self.read(digest)

    def put(self, content: bytes) -> Digest:
        return digest_of(content)

    def put_file(self, path: str) -> Digest:
        def unreadable(error: OSError) -> CapsulaError:
            return files.unreadable(path, error)

        fd = files.open_regular(path)
        try:
            return files.digest_file(fd, unreadable)
        finally:
            os.close(fd)

    def lookup(self, action: Digest) -> "ActionResult | None":  # noqa: ARG002
        return None

    def store(self, action: Digest, result: "ActionResult") -> None:
        pass

    def touch(self, action: Digest) -> bool:  # noqa: ARG002
        return False

    def bring(
        self, action: Digest, result: "ActionResult", digests: "Sequence[Digest]", patience: float
    ) -> None:
        pass

    def let_go(self) -> None:
        pass

    def remove(self, action: Digest) -> None:
        pass
