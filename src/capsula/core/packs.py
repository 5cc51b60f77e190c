"""Packs: the small blobs of one result as a few larger ones, for stores where each object costs a request of its own.

A pack is a blob like others, named by its own digest:

    capsula-pack1\\n  number of members  { hash, size } of each, by hash  their contents, in that order

(numbers are 32 bits, big-endian; hashes are 32 bytes). Who stores a result attaches to its entry which packs it has.
They hold all of its small blobs but for its trees, which say what there is to fetch and so are wanted before.

Which member is in which pack depends on its hash alone, so that of two results that share most of their files, the one
after the other, most packs are the same where there are many.
"""

from capsula.core.digest import Digest
from capsula.core.facts import pack, unpack
from capsula.core.statement import attached, with_attached
from capsula.errors import BlobCorrupt, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from capsula.core.facts import Fact
    from capsula.core.reapi import ActionResult

TYPE_URL = "type.capsula.dev/packs.v1"
MAGIC = b"capsula-pack1\n"
# Beyond, a blob takes longer to come than a request.
LARGEST_MEMBER = 1 << 17
# They have half of it to all of it, on average: several are on the way at once, and one that changed is sent whole.
SIZE = 1 << 20
# With fewer, each goes alone: it is then shared by all results that have it.
FEWEST = 8
_MOST_PACKS = 1 << 16
_NUMBER = 4
_ROW = 32 + _NUMBER
_FIXED = len(MAGIC) + _NUMBER
# Beyond, it is none of ours, whatever an entry says: chance puts no eight times the average into one.
_LARGEST = SIZE << 3
_MOST_LISTED = 1 << 20


class Pack:
    """`begin`: the first four hexadecimal digits of a hash from which on it has the members, up to the next pack."""

    __slots__ = ("begin", "digest")

    def __init__(self, begin: str, digest: Digest) -> None:
        self.begin = begin
        self.digest = digest


class Packs:
    """Those of one result. `apart`: the hashes of its trees, which aren't in them."""

    __slots__ = ("apart", "packs")

    def __init__(self, packs: "Sequence[Pack]" = (), apart: "frozenset[str]" = frozenset()) -> None:
        self.packs = sorted(packs, key=lambda each: each.begin)
        self.apart = apart

    def split(
        self, digests: "Iterable[Digest]"
    ) -> "tuple[list[Digest], dict[str, tuple[Digest, list[Digest]]]]":
        """Of these blobs of the result, those that are to be asked for alone; and by its hash, each pack that is to be
        asked for, with what is wanted of it."""
        alone: list[Digest] = []
        wanted: dict[str, tuple[Digest, list[Digest]]] = {}
        for digest in digests:
            found = self._holding(digest)
            if found is None:
                alone.append(digest)
            else:
                wanted.setdefault(found.hash, (found, []))[1].append(digest)
        return alone, wanted

    def _holding(self, digest: Digest) -> "Digest | None":
        if not self.packs or not is_small(digest) or digest.hash in self.apart:
            return None
        from bisect import bisect_right

        at = bisect_right(self.packs, digest.hash[:4], key=lambda each: each.begin)
        return self.packs[at - 1].digest if at else None


def is_small(digest: Digest) -> bool:
    return 0 < digest.size_bytes <= LARGEST_MEMBER


def trees_of(result: "ActionResult") -> "frozenset[str]":
    return frozenset(
        each.tree_digest.hash for each in result.output_directories if each.tree_digest is not None
    )


def grouped(result: "ActionResult", named: "Iterable[Digest]") -> "list[tuple[str, list[Digest]]]":
    """The members of each pack, in their order, and where it begins; `named` are all blobs that the result names.
    Empty if it has too few small ones."""
    apart = trees_of(result)
    members = {each.hash: each for each in named if is_small(each) and each.hash not in apart}
    if len(members) < FEWEST:
        return []
    total, parts = sum(each.size_bytes for each in members.values()), 1
    while parts * SIZE < total and parts < _MOST_PACKS:
        parts *= 2
    groups: dict[str, list[Digest]] = {}
    for _, digest in sorted(members.items()):
        begin = int(digest.hash[:4], 16) * parts // _MOST_PACKS * (_MOST_PACKS // parts)
        groups.setdefault(f"{begin:04x}", []).append(digest)
    return list(groups.items())


def head(members: "Sequence[Digest]") -> bytes:
    rows = [bytes.fromhex(each.hash) + each.size_bytes.to_bytes(_NUMBER, "big") for each in members]
    return MAGIC + len(members).to_bytes(_NUMBER, "big") + b"".join(rows)


def lists(read: "Callable[[int], bytes]", names: "Iterable[str]") -> bool:
    """Whether the pack that is read has a member of one of these hashes, going by its head: what doesn't begin like a
    pack has none."""
    from bisect import bisect_left

    fixed = read(_FIXED)
    count = int.from_bytes(fixed[len(MAGIC) :], "big") if fixed.startswith(MAGIC) else 0
    rows = read(_ROW * min(count, _MOST_LISTED))
    places = range(len(rows) // _ROW)

    def name_at(place: int) -> bytes:
        return rows[place * _ROW : place * _ROW + 32]

    for wanted in map(bytes.fromhex, names):
        place = bisect_left(places, wanted, key=name_at)
        if place < len(places) and name_at(place) == wanted:
            return True
    return False


class Cutting:
    """Tells of the bytes of a pack, which come piece by piece, whose they are. BlobCorrupt when it can't be that pack:
    what its head says is believed as far as it agrees with the size."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._head = bytearray()
        self._rest: list[Digest] | None = None
        self._left = 0

    def cut(self, piece: "bytes | memoryview") -> "Iterator[tuple[Digest, bytes | memoryview, bool]]":
        """A member, some of its bytes, and whether these are its last."""
        if self._rest is None:
            self._head += piece
            self._rest = self._members()
            if self._rest is None:
                return
            piece = memoryview(self._head)[_FIXED + _ROW * len(self._rest) :]
            self._rest.reverse()
            self._left = self._rest[-1].size_bytes if self._rest else 0
        # To cut bytes copies what is left of them, each time.
        piece = memoryview(piece)
        while piece:
            if not self._rest:
                raise self._wrong()
            part, piece = piece[: self._left], piece[self._left :]
            self._left -= len(part)
            yield self._rest[-1], part, not self._left
            if not self._left:
                self._rest.pop()
                self._left = self._rest[-1].size_bytes if self._rest else 0

    def end(self) -> None:
        """All has come."""
        if self._rest is None or self._rest:
            raise self._wrong()

    def _members(self) -> "list[Digest] | None":
        """None while not all of the head has come."""
        if not MAGIC.startswith(bytes(self._head[: len(MAGIC)])):
            raise self._wrong()
        if len(self._head) < _FIXED:
            return None
        end = _FIXED + _ROW * int.from_bytes(self._head[len(MAGIC) : _FIXED], "big")
        if end > self._digest.size_bytes:
            raise self._wrong()
        if len(self._head) < end:
            return None
        found = [
            Digest(self._head[at : at + 32].hex(), int.from_bytes(self._head[at + 32 : at + _ROW], "big"))
            for at in range(_FIXED, end, _ROW)
        ]
        sizes = [each.size_bytes for each in found]
        if end + sum(sizes) != self._digest.size_bytes or not all(sizes):
            raise self._wrong()
        return found

    def _wrong(self) -> BlobCorrupt:
        return BlobCorrupt(f"what came isn't the pack {self._digest!r}")


def with_packs(result: "ActionResult", packs: "Sequence[Pack]") -> "ActionResult":
    """The same result, with these named in it and no others."""
    rows: list[Fact] = [("pack", each.begin, each.digest.hash, str(each.digest.size_bytes)) for each in packs]
    return with_attached(result, TYPE_URL, pack(rows) if rows else None)


def packs_of(result: "ActionResult") -> Packs:
    """Those that it names, which may be anything: blobs are verified wherever they come from. What can't be read names
    none."""
    said = attached(result, TYPE_URL)
    if not said:
        return Packs()
    try:
        rows = [row for row in unpack(said) if row[:1] == ("pack",) and len(row) == 4]
        packs = [Pack(begin, Digest(name, int(size))) for _, begin, name, size in rows]
    except (WireError, ValueError):
        return Packs()
    return Packs([each for each in packs if _may_be(each)], trees_of(result))


def _may_be(named: Pack) -> bool:
    """Also whether it has the name of a blob: a store may take what is none for a fault of its own."""
    names = (named.begin, 4), (named.digest.hash, 64)
    are_names = all(len(name) == length and not name.strip("0123456789abcdef") for name, length in names)
    return are_names and 0 < named.digest.size_bytes <= _LARGEST
