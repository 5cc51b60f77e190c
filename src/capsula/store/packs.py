"""Packs on their way: made of the blobs of this disk, a few at a time, and cut up again as they come."""

from __future__ import annotations

from contextlib import contextmanager

from capsula.core.digest import Digest, sha256
from capsula.core.packs import Cutting, Pack, head
from capsula.errors import BlobCorrupt
from capsula.store.layout import create_temporary, discard, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from capsula.ports import Receiver
    from capsula.store.disk import DiskStore


@contextmanager
def made(
    groups: Iterable[tuple[str, Sequence[Digest]]], near: DiskStore, now: Callable[[], float]
) -> Iterator[tuple[list[Pack], Callable[[Digest], str]]]:
    """The packs, and what tells the file that has one for the time of the block. BlobMissing, BlobCorrupt for a member
    that isn't here or isn't right; StoreError when this disk refuses."""
    paths: list[str] = []
    try:
        packs = [Pack(begin, _make(members, near, now, paths)) for begin, members in groups]
        path_of = {pack.digest.hash: path for pack, path in zip(packs, paths, strict=True)}
        yield packs, lambda digest: path_of[digest.hash]
    finally:
        for path in paths:
            discard(path)


class Unpacking:
    """A Receiver of a pack. Those of its members that are wanted go to receivers of their own as they come. BlobCorrupt
    when one of them isn't in it."""

    def __init__(
        self, digest: Digest, wanted: Iterable[Digest], receive: Callable[[Digest], Receiver]
    ) -> None:
        self._digest = digest
        self._cutting = Cutting(digest)
        self._wanted = {each.hash: each for each in wanted}
        self._receive = receive
        self._current: Receiver | None = None
        self._is_new = True

    def write(self, piece: bytes | memoryview) -> None:
        for member, part, is_last in self._cutting.cut(piece):
            if self._is_new and self._wanted.pop(member.hash, None) == member:
                self._current = self._receive(member)
            self._is_new = is_last
            if self._current is not None:
                self._current.write(part)
                if is_last:
                    current, self._current = self._current, None
                    current.finish()

    def finish(self) -> None:
        self._cutting.end()
        if self._wanted:
            raise BlobCorrupt(f"the pack {self._digest!r} came without what it should hold")

    def abandon(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.abandon()


def _make(members: Sequence[Digest], near: DiskStore, now: Callable[[], float], paths: list[str]) -> Digest:
    """The pack's digest; the path of its file is added to `paths`."""
    try:
        fd, path = create_temporary(near.root, 0o400, now())
        paths.append(path)
        hashed, size = sha256(), 0
        with open(fd, "wb") as file:
            for content in (head(members), *(near.read(each) for each in members)):
                hashed.update(content)
                size += file.write(content)
    except OSError as error:
        raise refusal(error, near.root, "write") from error
    return Digest(hashed.hexdigest(), size)
