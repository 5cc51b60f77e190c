"""The index of a vault: what all its capsules say, in one file, so that ten thousand are listed without reading each.

It is a copy and nothing but: made from the capsules' own files, and made again whenever it is missing, damaged or of
another version. Where it can't be written (a vault on a read-only disk) a copy of it is brought up to date in memory.

How it stays true. A capsule's directory changes when files are made or replaced in it, and sealing replaces
capsule.json, so the names and times of both tell what is new. They are read *before* the files, so a change in between
shows the next time; a time that is fresh proves nothing (two changes fit into one tick of the clock): such a capsule is
read again, and so is one in which something couldn't be read. Whether one that says `running` still does is asked of
its process each time.

How it is kept small and quick. The facts of a file or of a section are a *part*, kept once however many capsules have
it, and its names apart from its values: ten thousand runs have as many values and a handful of *shapes*. A condition is
held against the shapes first, and only parts that have one of its names are read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self, TypeVar

from capsula.vault import remarks
from capsula.vault.database import Connection, Database, Error, is_damage
from capsula.vault.facts import Fact, Facts
from capsula.vault.layout import VaultError
from capsula.vault.query import Condition, named
from capsula.vault.record import DAMAGED, Capsule, seen
from capsula.vault.remarks import NONE, Remarks
from capsula.vault.rows import Memory, Part, Row, read_row
from capsula.vault.stamps import capsule_stamps, is_there, remark_stamps

T = TypeVar("T")
Progress = Callable[[int, int], None]

_BATCH = 250
_MANY = 500
# What is known of every capsule, whatever it says.
OURS = ("status", "tags", "note")


@dataclass(frozen=True, slots=True)
class Found:
    """A capsule, by the `key` that the index has for it; `facts` are those that were asked for."""

    key: int
    path: str
    id: str
    status: str
    remarks: Remarks
    facts: Mapping[str, Fact]

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


class Index:
    """Close it, or use it in a `with`. Not for several threads."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._database = Database(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    @property
    def is_kept(self) -> bool:
        """Whether it is on the disk, and not in memory for this once."""
        return self._database.is_kept

    def refresh(self, progress: Progress | None = None) -> int:
        """Take in what is new or changed and drop what is gone; how many capsules that were. `progress` is told how
        many of how many are read. VaultError when the vault itself can't be read."""
        return self._again(lambda: self._refresh(progress), progress)

    def find(
        self, condition: Condition | None = None, names: Iterable[str] = (), most: int = 0
    ) -> list[Found]:
        """Those that it holds for (all without one), newest first, with the facts of these names; `most` 0: all."""
        wanted = frozenset(names) | (condition.names if condition else frozenset())

        def look() -> list[Found]:
            # All of it as of one moment, whoever else writes.
            with self._database.snapshot():
                return list(self._find(condition, wanted, most))

        return self._again(look)

    def names(self) -> frozenset[str]:
        """All that a capsule in here has a fact of."""
        shapes = self._again(lambda: self._database.rows("SELECT names FROM shape"))
        return frozenset(OURS).union(*(json.loads(names) for (names,) in shapes))

    def texts(self) -> dict[int, str]:
        """By key, what there is to search in, as `text.sayings` made it."""
        return self._again(lambda: dict(self._database.rows("SELECT key, said FROM capsule")))

    def capsule(self, found: Found) -> Capsule:
        """One that has been found, whole."""
        rows = self._again(lambda: self._database.rows("SELECT record FROM capsule WHERE key = ?", found.key))
        if rows:
            return Capsule(found.path, json.loads(rows[0][0]), found.status)
        # Somebody has read it anew since.
        return seen(found.path) or Capsule(found.path, {}, found.status)

    def _refresh(self, progress: Progress | None) -> int:
        self._refresh_remarks()
        seen = capsule_stamps(self.root)
        known = dict(self._database.rows("SELECT directory, stamp FROM capsule"))
        memory = Memory()
        changed = [
            name
            for name, stamp in seen.items()
            if (not stamp or known.get(name) != stamp) and not self._says(name, known, memory)
        ]
        todo = iter(changed)
        count = done = 0
        while batch := list(islice(todo, _BATCH)):
            count += self._write({name: seen[name] for name in batch}, memory)
            done += len(batch)
            if progress is not None:
                progress(done, len(changed))
        return count + self._drop_gone([name for name in known if name not in seen])

    def _says(self, name: bytes, known: Mapping[bytes, str], memory: Memory) -> bool:
        """Whether one that was too fresh to trust is as it was, so that there is nothing to write."""
        if known.get(name) != "":
            return False
        row = read_row(self.root, name, "", memory)
        return row is not None and _has(self._database, row)

    def _write(self, stamps: Mapping[bytes, str], memory: Memory) -> int:
        """One transaction; how many of them make a difference."""
        count = 0
        keys: dict[bytes, int] = {}
        with self._database.transaction() as database:
            for name, stamp in stamps.items():
                # Read while nobody else writes: what another has read before is never put over what it read later.
                row = read_row(self.root, name, stamp, memory)
                if row is not None and _has(self._database, row):
                    continue
                for gone in _drop(database, name):
                    keys.pop(gone, None)
                if row is not None:
                    _insert(database, row, keys)
                count += 1
        return count

    def _drop_gone(self, names: list[bytes]) -> int:
        if not names:
            return 0
        with self._database.transaction() as database:
            # Another may have seen it come since we looked.
            gone = [name for name in names if not is_there(self.root, name)]
            for name in gone:
                _drop(database, name)
            database.execute(
                "DELETE FROM shape WHERE NOT EXISTS (SELECT 1 FROM part WHERE shape = shape.key)"
            )
        return len(gone)

    def _refresh_remarks(self) -> None:
        seen = remark_stamps(self.root)
        known = dict(self._database.rows("SELECT id, stamp FROM remark"))
        kept = dict(self._database.rows("SELECT id, remarks FROM remark"))
        changed = [
            name
            for name, stamp in seen.items()
            if (not stamp or known.get(name) != stamp)
            and (known.get(name) != "" or kept.get(name) != _remarks(self.root, name))
        ]
        gone = [name for name in known if name not in seen]
        if changed or gone:
            with self._database.transaction() as database:
                # As above: in here, nobody else has newer ones.
                for name in [*changed, *gone]:
                    text = _remarks(self.root, name)
                    database.execute("DELETE FROM remark WHERE id = ?", (name,))
                    if text:
                        database.execute(
                            "INSERT INTO remark VALUES (?, ?, ?)", (name, seen.get(name, ""), text)
                        )

    def _find(self, condition: Condition | None, names: frozenset[str], most: int) -> Iterator[Found]:
        facts = self._facts(names) if names else {}
        said = {
            name: remarks.parse(text) for name, text in self._database.rows("SELECT id, remarks FROM remark")
        }
        count = 0
        question = "SELECT key, directory, id, status, own FROM capsule ORDER BY place DESC, directory DESC"
        for key, directory, identity, status, own in self._database.rows(question):
            path = os.path.join(self.root, os.fsdecode(directory))
            status = _status_now(path) if status == "running" else status
            remarked = said.get(identity) or (remarks.parse(own) if own else NONE)
            ours = {"status": status, "tags": remarked.tags, "note": remarked.note}
            found = Found(key, path, identity, status, remarked, {**facts.get(key, {}), **ours})
            if condition is None or condition.matches(found.facts):
                yield found
                count += 1
                if count == most:
                    return

    def _facts(self, asked: frozenset[str]) -> dict[int, Facts]:
        """By the key of each capsule, what its parts say to these names: what is nearest to them in each."""
        places: dict[int, dict[str, int]] = {}
        for each in asked:
            # A name that is meant ends with the last part of what is asked for.
            ending = json.dumps(each.rpartition(".")[2])[1:]
            for shape, text in self._database.rows(
                "SELECT key, names FROM shape WHERE instr(names, ?)", ending
            ):
                at = {name: place for place, name in enumerate(json.loads(text))}
                if wanted := {name: at[name] for name in named(at, each)[1]}:
                    places.setdefault(shape, {}).update(wanted)
        found: dict[int, Facts] = {}
        for some in _chunks(places):
            marks = ",".join("?" * len(some))
            said = {
                key: _values(places[shape], json.loads(facts))
                for key, shape, facts in self._database.rows(
                    f"SELECT key, shape, facts FROM part WHERE shape IN ({marks})", *some
                )
            }
            question = (
                f"SELECT capsule, part FROM holds JOIN part ON part = part.key WHERE shape IN ({marks})"
            )
            for capsule, part in self._database.rows(question, *some):
                found.setdefault(capsule, {}).update(said.get(part, {}))
        return found

    def _again(self, work: Callable[[], T], progress: Progress | None = None) -> T:
        """Do it; after a failure of the index once more with a new one, then with one in memory."""
        try:
            return work()
        except Error as error:
            try:
                self._database.replace() if is_damage(error) else self._database.leave()
                self._refresh(progress)
                return work()
            except (OSError, Error):
                pass
        self._database.leave(empty=True)
        self._refresh(progress)
        return work()


def _remarks(root: str, identity: str) -> str:
    """As they are kept; "" where there are none or they can't be read."""
    try:
        found = remarks.kept(root, identity)
    except VaultError:
        return ""
    return remarks.dump(found) if found is not None else ""


def _has(database: Database, row: Row) -> bool:
    kept = database.rows(
        "SELECT key, directory, stamp, id, place, status, record, said, own FROM capsule WHERE directory = ?",
        row.directory,
    )
    if not kept or tuple(kept[0][1:]) != row.columns:
        return False
    held = database.rows(
        "SELECT digest FROM holds JOIN part ON part = part.key WHERE capsule = ?", kept[0][0]
    )
    return {digest for (digest,) in held} == {digest for digest, *_ in row.parts}


def _drop(database: Connection, directory: bytes) -> list[bytes]:
    """The digests of the parts that nobody else has: these go, too."""
    rows = database.execute("SELECT key FROM capsule WHERE directory = ?", (directory,)).fetchall()
    dropped = []
    for (key,) in rows:
        held = database.execute(
            "SELECT part, digest FROM holds JOIN part ON part = part.key WHERE capsule = ?", (key,)
        ).fetchall()
        database.execute("DELETE FROM holds WHERE capsule = ?", (key,))
        database.execute("DELETE FROM capsule WHERE key = ?", (key,))
        for part, digest in held:
            if not database.execute("SELECT 1 FROM holds WHERE part = ? LIMIT 1", (part,)).fetchone():
                database.execute("DELETE FROM part WHERE key = ?", (part,))
                dropped.append(digest)
    return dropped


def _insert(database: Connection, row: Row, keys: dict[bytes, int]) -> None:
    """`keys` are those of the parts that this transaction has met."""
    key = database.execute(
        "INSERT INTO capsule (directory, stamp, id, place, status, record, said, own) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        row.columns,
    ).lastrowid
    for part in row.parts:
        if part[0] not in keys:
            keys[part[0]] = _key_of(database, part)
    held = {(key, keys[digest]) for digest, *_ in row.parts}
    database.executemany("INSERT INTO holds VALUES (?, ?)", held)


def _key_of(database: Connection, part: Part) -> int:
    digest, names, _ = part
    database.execute("INSERT OR IGNORE INTO shape (names) VALUES (?)", (names,))
    database.execute(
        "INSERT OR IGNORE INTO part (digest, shape, facts) VALUES (?, (SELECT key FROM shape WHERE names = ?), ?)",
        part,
    )
    return int(database.execute("SELECT key FROM part WHERE digest = ?", (digest,)).fetchone()[0])


def _status_now(path: str) -> str:
    """Whether it still is running depends on its process, not on its files."""
    capsule = seen(path)
    return capsule.status if capsule is not None else DAMAGED


def _values(places: Mapping[str, int], values: list[Any]) -> Facts:
    found: Facts = {}
    for name, place in places.items():
        value = values[place]
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


def _chunks(keys: Collection[int]) -> Iterator[list[int]]:
    todo = iter(keys)
    while some := list(islice(todo, _MANY)):
        yield some
