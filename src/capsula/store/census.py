"""What a remote holds and what its entries name, counted in a database on this disk, so that it may be any number."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from capsula.core.digest import Digest
from capsula.core.packs import LARGEST_MEMBER, Cutting, packs_of
from capsula.core.reapi import Action, ActionResult, Tree
from capsula.core.wire import decode
from capsula.errors import BlobCorrupt, BlobMissing, EntryCorrupt, WireError
from capsula.ports import Holdings, Remote
from capsula.store.layout import BLOBS
from capsula.store.packed import WORTH_COMPRESSING
from capsula.store.parallel import each
from capsula.store.sealed import size_of_action

AT_ONCE = 16
# How long one call may take; a remote that is slower is told as not reachable, and nothing is concluded from that.
PATIENCE = 120.0
_SLOWEST = 100_000  # bytes a second
_ASKED_AT_ONCE = 500

_TABLES = """
create table entries (
    id integer primary key, name text unique, size integer, time real, state text default 'new',
    packed integer default 0);
create table blobs (
    id integer primary key, name text unique, size integer, stored integer, time real,
    bad integer default 0, taken integer default 0);
create table needs (entry integer, blob integer, primary key (entry, blob)) without rowid;
create table has (tree integer, blob integer, primary key (tree, blob)) without rowid;
create table likes (entry integer, blob integer, primary key (entry, blob)) without rowid;
create table trees (blob integer primary key, is_read integer default 0);
create table kept (blob integer primary key);
create table packs (entry integer, begin text, blob integer, primary key (entry, begin)) without rowid;
create index packs_by_blob on packs (blob);
create table within (entry integer, blob integer, primary key (entry, blob)) without rowid;
create table opened (pack integer primary key);
create table holds (pack integer, blob integer, primary key (pack, blob)) without rowid;
"""
# Each entry with each blob that a hit has to have; and which of them can't be what was stored. Where an entry has
# packs, the small files of its trees are in these. Small blobs are stored as they are. Of nothing, nothing has to be
# fetched.
_ALONE = f"not (packed and blobs.size between 1 and {LARGEST_MEMBER})"
OF_TREES = (
    "select entry, has.blob as blob from needs join has on tree = needs.blob "
    f"join entries on entries.id = entry join blobs on blobs.id = has.blob where {_ALONE}"
)
REACHED = f"(select entry, blob from needs union {OF_TREES})"
_UNUSABLE = f"size > 0 and (stored is null or bad or (size < {WORTH_COMPRESSING} and stored <> size))"

# Each entry with each small blob that should be in one of its packs, and the number of that one.
_IN_PACKS = f"""
select entry, blob, (
    select packs.blob from packs where packs.entry = small.entry and begin <= substr(name, 1, 4)
    order by begin desc limit 1) as pack
from (
    select entry, blob from within union
    select entry, has.blob from needs join has on tree = needs.blob join entries on entries.id = entry where packed
) as small join blobs on id = blob where size between 1 and {LARGEST_MEMBER} and {_UNUSABLE}
"""
# Of those of which the pack has been read, those that it doesn't hold.
_NOT_HELD = f"""
select entry from ({_IN_PACKS}) as inside join opened using (pack)
where not exists (select * from holds where holds.pack = inside.pack and holds.blob = inside.blob)
"""

A = TypeVar("A")
B = TypeVar("B")
_IS_PACK = "select count(*) from packs where blob = ?"
UNNAMED = f"id not in (select blob from {REACHED} union select blob from likes)"

Pages = Iterable[Sequence[tuple[str, int, float]]]
Progress = Callable[[int], object]
# What is being done, how much of it is done, and how much there is to do (0: nobody knows).
Tell = Callable[[str, int, int], object]


class Census:
    """One look at a remote, whose `lookup` verifies entries. Close it.

    `entries` have size and time as they are listed; `state` is "new" until it is read, then "", "damaged" or
    "incomplete"; `packed`: its small blobs are in packs, which are among what it needs. `blobs`: `size` as entries say,
    `stored` and `time` as listed (null: it isn't there). `needs` and `has` are the blobs that an entry or a tree names,
    `likes` those that only tell what the action was. `packs` are those of an entry by the hash at which they begin,
    `within` is what should be in them and is in no tree, and what those hold that were `opened` is in `holds`.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._scratch = tempfile.TemporaryDirectory(prefix="capsula-")
        self.rows = sqlite3.connect(f"{self._scratch.name}/census.sqlite", isolation_level=None)
        self.rows.executescript("pragma journal_mode = off; pragma synchronous = off;" + _TABLES)

    def close(self) -> None:
        self.rows.close()
        self._scratch.cleanup()

    # ------------------------------------------------------------------------------------------------ filling

    def list_entries(self, pages: Pages, progress: Progress) -> None:
        """What is known already stays as it is, unless it was written again since."""
        for page in pages:
            self.rows.execute("begin")
            self.rows.executemany(
                "insert into entries (name, size, time) values (?1, ?2, ?3) on conflict (name) do update "
                "set size = ?2, time = ?3, state = 'new' where time <> ?3",
                page,
            )
            self.rows.execute("commit")
            progress(len(page))

    def read_entries(self, progress: Progress, size_of: Callable[[str], int] = lambda _: 0) -> None:
        """What the new ones name. `size_of` tells the size of an action by its hash, 0: it isn't known."""
        while rows := self.rows.execute(
            "select id, name from entries where state = 'new' limit ?", (_ASKED_AT_ONCE,)
        ).fetchall():
            found = _each(rows, lambda row: (row[0], self._entry(Digest(row[1], size_of(row[1])))))
            self.rows.execute("begin")
            for entry, named in found:
                self._note(entry, named)
            self.rows.execute("commit")
            self._read_trees()
            progress(len(rows))

    def list_blobs(self, holdings: Holdings, progress: Progress) -> None:
        for page in holdings.pages(BLOBS):
            self.rows.execute("begin")
            self.rows.executemany(
                "insert into blobs (name, stored, time) values (?1, ?2, ?3) on conflict (name) do update "
                "set stored = ?2, time = ?3",
                page,
            )
            self.rows.execute("commit")
            progress(len(page))

    def ask_for_blobs(self, progress: Progress) -> None:
        """Where nothing can be listed: which of those that are named are there."""
        for rows in self._blobs("size is not null"):
            absent = {each.hash for each in self._remote.missing([digest for _, digest in rows], soon())}
            there = [(digest.size_bytes, number) for number, digest in rows if digest.hash not in absent]
            self.rows.executemany("update blobs set stored = ? where id = ?", there)
            progress(len(rows))

    def read_blobs(self, share: float, progress: Progress) -> int:
        """Read this share of the named blobs again and compare them with their digests; how many that were."""
        count = 0
        chosen = f"stored is not null and size > 0 and abs(random()) % 1000000 < {int(share * 1_000_000)}"
        for rows in self._blobs(chosen):
            asked = [(number, digest, self.number(_IS_PACK, number) > 0) for number, digest in rows]
            packs = [row for row in asked if row[2]]
            # What is in a pack may be much: few of them at a time.
            parts = [packs[at : at + AT_ONCE] for at in range(0, len(packs), AT_ONCE)]
            for part in ([row for row in asked if not row[2]], *parts):
                for number, reading in _each(part, self._reread):
                    if reading is None:
                        self.rows.execute("update blobs set bad = 1 where id = ?", (number,))
                    elif isinstance(reading, ReadingPack):
                        self._note_members(number, reading.members)
            count += len(asked)
            progress(len(rows))
        return count

    def mark_incomplete(self) -> None:
        self.rows.execute("update entries set state = '' where state = 'incomplete'")
        wrong = [f"select entry from {REACHED} join blobs on id = blob where {_UNUSABLE}"]
        if self.number("select count(*) from opened"):
            wrong.append(_NOT_HELD)
        for query in wrong:
            self.rows.execute(f"update entries set state = 'incomplete' where state = '' and id in ({query})")

    # ------------------------------------------------------------------------------------------------ asking

    def unusable(self) -> Iterator[list[tuple[int, Digest]]]:
        """The blobs that keep entries from being used, a list at a time."""
        return self._blobs(f"{_UNUSABLE} and id in (select blob from {REACHED})")

    def lacks(self, digest: Digest) -> bool:
        """Whether that is what keeps an entry from being used."""
        return self.number(f"select count(*) from blobs where name = ? and {_UNUSABLE}", digest.hash) > 0

    def has_come(self, digests: Sequence[Digest]) -> None:
        self.rows.executemany(
            "update blobs set stored = size, bad = 0 where name = ?", [(each.hash,) for each in digests]
        )

    def names(self, query: str, *given: object) -> Iterator[list[str]]:
        """The first column, in lists as long as a server takes at once."""
        cursor = self.rows.execute(query, given)
        while rows := cursor.fetchmany(1000):
            yield [row[0] for row in rows]

    def number(self, query: str, *given: object) -> int:
        return int(self.rows.execute(query, given).fetchone()[0] or 0)

    # ------------------------------------------------------------------------------------------------ inside

    def _blobs(self, chosen: str) -> Iterator[list[tuple[int, Digest]]]:
        last = 0
        while rows := self.rows.execute(
            f"select id, name, size from blobs where id > ? and {chosen} order by id limit ?",
            (last, _ASKED_AT_ONCE),
        ).fetchall():
            last = rows[-1][0]
            yield [(number, Digest(name, size)) for number, name, size in rows]

    def _entry(self, action: Digest) -> _Named:
        try:
            result = self._remote.lookup(action, soon())
        except (EntryCorrupt, WireError):
            return _Named("damaged")
        if result is None:
            return _Named("gone")
        trees = [each.tree_digest for each in result.output_directories if each.tree_digest is not None]
        files = [each.digest for each in result.output_files if each.digest is not None]
        if len(trees) < len(result.output_directories) or len(files) < len(result.output_files):
            return _Named("damaged")
        logs = [each for each in (result.stdout_digest, result.stderr_digest) if each is not None]
        packs = packs_of(result)
        alone, together = packs.split([*files, *trees, *logs])
        return _Named(
            "",
            [*alone, *[pack.digest for pack in packs.packs]],
            trees,
            self._described(action, result),
            [(pack.begin, pack.digest) for pack in packs.packs],
            [digest for _, members in together.values() for digest in members],
        )

    def _described(self, action: Digest, result: ActionResult) -> list[Digest]:
        known = Digest(action.hash, action.size_bytes or size_of_action(result))
        try:
            command = decode(Action, self._content(known)).command_digest if known.size_bytes else None
        except (BlobMissing, BlobCorrupt, WireError):
            command = None  # neither is kept where it may hold a secret
        return [known] if command is None else [known, command]

    def _note(self, entry: int, named: _Named) -> None:
        for table in ("needs", "likes", "packs", "within"):
            self.rows.execute(f"delete from {table} where entry = ?", (entry,))
        if named.state == "gone":
            self.rows.execute("delete from entries where id = ?", (entry,))
            return
        self.rows.execute(
            "update entries set state = ?, packed = ? where id = ?", (named.state, bool(named.packs), entry)
        )
        for table, digests in (("needs", named.needed), ("likes", named.liked), ("within", named.within)):
            rows = [(entry, self._blob(digest)) for digest in digests]
            self.rows.executemany(f"insert or ignore into {table} values (?, ?)", rows)
        self.rows.executemany(
            "insert or ignore into trees (blob) values (?)", [(self._blob(digest),) for digest in named.trees]
        )
        packs = [(entry, begin, self._blob(digest)) for begin, digest in named.packs]
        self.rows.executemany("insert or ignore into packs values (?, ?, ?)", packs)

    def _note_members(self, pack: int, members: Sequence[Digest]) -> None:
        self.rows.execute("insert or ignore into opened values (?)", (pack,))
        self.rows.executemany(
            "insert or ignore into holds select ?, id from blobs where name = ? and size = ?",
            [(pack, each.hash, each.size_bytes) for each in members],
        )

    def _read_trees(self) -> None:
        """Each once: the entries of one task share most of theirs."""
        while rows := self.rows.execute(
            "select id, name, size from blobs join trees on id = blob where not is_read limit ?", (AT_ONCE,)
        ).fetchall():
            found = _each(rows, lambda row: (row[0], self._tree(Digest(row[1], row[2]))))
            self.rows.execute("begin")
            for tree, named in found:
                self.rows.execute("update trees set is_read = 1 where blob = ?", (tree,))
                if named is None:
                    self.rows.execute("update blobs set bad = 1 where id = ?", (tree,))
                rows = [(tree, self._blob(digest)) for digest in named or ()]
                self.rows.executemany("insert or ignore into has values (?, ?)", rows)
            self.rows.execute("commit")

    def _tree(self, digest: Digest) -> list[Digest] | None:
        """The files that are in it, None when it can't be had or is none."""
        try:
            tree = decode(Tree, self._content(digest))
        except (BlobMissing, BlobCorrupt, WireError):
            return None
        folders = [*([tree.root] if tree.root is not None else []), *tree.children]
        named = [node.digest for folder in folders for node in folder.files if node.digest is not None]
        return list({each.hash: each for each in named}.values())

    def _blob(self, digest: Digest) -> int:
        """Its number; noted if it wasn't known."""
        row = self.rows.execute(
            "insert into blobs (name, size) values (?1, ?2) on conflict (name) do update "
            "set size = coalesce(size, ?2) returning id",
            (digest.hash, digest.size_bytes),
        ).fetchone()
        return int(row[0])

    def _content(self, digest: Digest) -> bytes:
        read = Reading(digest, keep=True)
        self._remote.fetch([digest], lambda _: read, soon())
        return b"".join(read.pieces)

    def _reread(self, row: tuple[int, Digest, bool]) -> tuple[int, Reading | None]:
        """By its number, a blob that was read again; None: it isn't right. The last says whether it is a pack."""
        number, digest, is_pack = row
        begun: list[Reading] = []

        def receive(_: Digest) -> Reading:
            begun.append(ReadingPack(digest) if is_pack else Reading(digest))
            return begun[-1]

        try:
            self._remote.fetch([digest], receive, soon() + digest.size_bytes / _SLOWEST)
        except (BlobCorrupt, BlobMissing):
            return number, None
        return number, begun[-1]


@dataclass(frozen=True, slots=True)
class _Named:
    """What an entry names: the blobs that it needs, which of them are trees, and those that it likes to have; its
    packs, and what is in these but in no tree."""

    state: str
    needed: Sequence[Digest] = ()
    trees: Sequence[Digest] = ()
    liked: Sequence[Digest] = ()
    packs: Sequence[tuple[str, Digest]] = ()
    within: Sequence[Digest] = ()


class Counter:
    """Tells how far it is with one thing."""

    def __init__(self, doing: str, total: int, tell: Tell) -> None:
        self._doing = doing
        self._total = total
        self._done = 0
        self._tell = tell

    def add(self, count: int) -> None:
        self._done += count
        self._tell(self._doing, self._done, self._total)


class Reading:
    """A Receiver that compares what comes with its digest, and keeps it in memory if asked."""

    def __init__(self, digest: Digest, *, keep: bool = False) -> None:
        self.pieces: list[bytes] = []
        self._digest = digest
        self._keep = keep
        self._size = 0
        self._hashed = sha256()

    def write(self, piece: bytes | memoryview) -> None:
        self._size += len(piece)
        if self._size > self._digest.size_bytes:
            raise self._wrong()
        self._hashed.update(piece)
        if self._keep:
            self.pieces.append(bytes(piece))

    def finish(self) -> None:
        if (self._size, self._hashed.hexdigest()) != (self._digest.size_bytes, self._digest.hash):
            raise self._wrong()

    def abandon(self) -> None:
        self.pieces.clear()

    def _wrong(self) -> BlobCorrupt:
        return BlobCorrupt(f"other bytes than those of the blob {self._digest!r} came")


class ReadingPack(Reading):
    """The same of a pack. `members` are those of it that are right: none, where an entry takes for one what is none."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(digest)
        self.members: list[Digest] = []
        self._cutting: Cutting | None = Cutting(digest)
        self._member = sha256()

    def write(self, piece: bytes | memoryview) -> None:
        super().write(piece)
        if self._cutting is None:
            return
        try:
            for member, part, is_last in self._cutting.cut(piece):
                self._member.update(part)
                if is_last:
                    if self._member.hexdigest() == member.hash:
                        self.members.append(member)
                    self._member = sha256()
        except BlobCorrupt:
            self.members.clear()
            self._cutting = None


def _each(rows: Sequence[A], work: Callable[[A], B]) -> list[B]:
    """What `work` makes of each row, several at once; the database is for the caller's thread alone."""
    found: list[B] = []
    each(rows, lambda row: found.append(work(row)), AT_ONCE)
    return found


def soon() -> float:
    return time.monotonic() + PATIENCE
