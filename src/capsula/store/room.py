"""Making room in a remote whose layout is ours, while others read it and write to it.

There is no lock that all machines share, and nothing tells when an entry was used, so an entry's age is that of its
last writing. What keeps results from being spoilt:

* Entries are listed first, blobs after, as an entry is stored after its blobs.
* An entry goes before its blobs, so nobody finds one whose blobs are being removed. Who has found it just before may
  miss a blob, and that is a miss.
* A blob that was written less than GRACE ago stays, as the entry that will name it may still be on its way.
* Before blobs go, entries are listed again: what was written meanwhile is kept with all that it names. After they went,
  once more: an entry that had come in between, and counted on an old blob, goes too, so that the next run makes it
  again. One that comes even later is found incomplete by whoever wants it, which is a miss, and that run stores it
  anew.
* Nothing is concluded from a remote that doesn't answer: then all ends at once.
* Ages are reckoned by the server's clock alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from capsula.ports import Holdings, Remote
from capsula.store.census import OF_TREES, REACHED, UNNAMED, Census, Counter, Tell
from capsula.store.layout import BLOBS, ENTRIES

LEFTOVERS = ("lease", "probe")
DAY = 86400.0
GRACE = DAY


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to go: entries older than `age` seconds, and the oldest of them until all takes `size` bytes. None: as
    many and as much as there is."""

    age: float | None = None
    size: int | None = None
    grace: float = GRACE


@dataclass(frozen=True, slots=True)
class Cleared:
    """`damaged` of the removed entries could not be used. Bytes are as they are stored. `young` blobs are named by no
    entry and stay for a day."""

    removed_entries: int
    removed_blobs: int
    removed_bytes: int
    damaged: int
    entries: int
    blobs: int
    bytes: int
    young: int


def make_room(remote: Remote, holdings: Holdings, wanted: Wanted, tell: Tell) -> Cleared:
    """`remote` verifies entries. StoreError when it can't be asked."""
    census = Census(remote)
    try:
        now = holdings.now()
        _look(census, holdings, tell)
        census.list_blobs(holdings, Counter("listing blobs", 0, tell).add)
        census.mark_incomplete()
        before = _usage(census)
        damaged = _choose(census, wanted, now)
        removed = _remove_entries(census, holdings)
        _look(census, holdings, tell)
        blobs, size = _remove_blobs(census, holdings, now - wanted.grace, tell)
        _look(census, holdings, tell)
        census.rows.execute(
            f"update entries set state = 'goes' where id in "
            f"(select entry from {REACHED} join blobs on id = blob where taken)"
        )
        removed += _remove_entries(census, holdings)
        _remove_leftovers(holdings, now)
        return Cleared(
            removed_entries=removed,
            removed_blobs=blobs,
            removed_bytes=size,
            damaged=damaged,
            entries=census.number("select count(*) from entries where state <> 'gone'"),
            blobs=before[1] - blobs,
            bytes=_usage(census)[2],
            young=census.number(f"select count(*) from blobs where stored is not null and {UNNAMED}"),
        )
    finally:
        census.close()


def _look(census: Census, holdings: Holdings, tell: Tell) -> None:
    """At entries that are new, or were written again."""
    census.list_entries(holdings.pages(ENTRIES), Counter("listing entries", 0, tell).add)
    count = census.number("select count(*) from entries where state = 'new'")
    census.read_entries(Counter("reading entries", count, tell).add)


def _choose(census: Census, wanted: Wanted, now: float) -> int:
    """State 'goes' for entries that go; how many of them couldn't be used."""
    rows = census.rows
    # One that was damaged just now may be about to be written again.
    rows.execute(
        "update entries set state = 'goes' where state in ('damaged', 'incomplete') and time < ?",
        (now - wanted.grace,),
    )
    damaged = census.number("select count(*) from entries where state = 'goes'")
    if wanted.age is not None:
        # Servers tell the time in whole seconds, and some list times more exactly: of the age 0 is also what was stored
        # in this second.
        oldest = now - wanted.age
        rows.execute("update entries set state = 'goes' where cast(time as integer) <= ?", (oldest,))
    if wanted.size is not None:
        _choose_by_size(census, wanted.size)
    return damaged


def _choose_by_size(census: Census, limit: int) -> None:
    """The newest are kept as long as they and what they name have room; one that has none alone takes it from
    nobody."""
    rows, total, is_full = census.rows, 0, False
    rows.execute("begin")
    entries = rows.execute(
        "select id, size from entries where state = '' order by time desc, name"
    ).fetchall()
    for entry, size in entries:
        own = size + census.number(
            f"select sum(stored) from blobs where id in ({_OF_ENTRY}) and {_NOT_KEPT}", entry
        )
        is_full = is_full or (total + own > limit and own <= limit)
        if is_full or own > limit:
            rows.execute("update entries set state = 'goes' where id = ?", (entry,))
        else:
            total += own
            rows.execute(f"insert or ignore into kept {_OF_ENTRY}", (entry,))
    rows.execute("commit")


_NOT_KEPT = "id not in (select blob from kept)"
_OF_ENTRY = (
    f"select blob from needs where entry = ?1 union select blob from ({OF_TREES} and entry = ?1) "
    "union select blob from likes where entry = ?1"
)


def _remove_entries(census: Census, holdings: Holdings) -> int:
    for names in census.names("select name from entries where state = 'goes'"):
        holdings.remove(ENTRIES, names)
    gone = "(select id from entries where state = 'goes')"
    count = census.number(f"select count(*) from {gone}")
    for table in ("needs", "likes"):
        census.rows.execute(f"delete from {table} where entry in {gone}")
    # They stay known: a list that is a little old may still have them.
    census.rows.execute("update entries set state = 'gone' where state = 'goes'")
    return count


def _remove_blobs(census: Census, holdings: Holdings, before: float, tell: Tell) -> tuple[int, int]:
    goes = f"stored is not null and time < ? and {UNNAMED}"
    rows = census.rows.execute(f"select count(*), sum(stored) from blobs where {goes}", (before,)).fetchone()
    count, size = int(rows[0]), int(rows[1] or 0)
    done = Counter("removing blobs", count, tell)
    for names in census.names(f"select name from blobs where {goes} order by name", before):
        holdings.remove(BLOBS, names)
        done.add(len(names))
    census.rows.execute(f"update blobs set stored = null, taken = 1 where {goes}", (before,))
    return count, size


def _remove_leftovers(holdings: Holdings, now: float) -> None:
    for kind in LEFTOVERS:
        for page in list(holdings.pages(kind)):
            holdings.remove(kind, [name for name, _, moment in page if moment < now - DAY])


def _usage(census: Census) -> tuple[int, int, int]:
    """Entries, blobs, and the bytes of both."""
    entries, size = census.rows.execute(
        "select count(*), coalesce(sum(size), 0) from entries where state <> 'gone'"
    ).fetchone()
    blobs, stored = census.rows.execute(
        "select count(*), coalesce(sum(stored), 0) from blobs where stored is not null"
    ).fetchone()
    return int(entries), int(blobs), int(size) + int(stored)
