"""Is a remote as it should be: are its entries as they were stored, and are all blobs there that they name?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import file_digest

from capsula.core.digest import Digest
from capsula.core.names import printable
from capsula.core.packs import grouped
from capsula.errors import CapsulaError, StoreError
from capsula.ports import Remote
from capsula.store.census import REACHED, UNNAMED, Census, Counter, Tell, soon
from capsula.store.disk import DiskStore
from capsula.store.layout import BLOBS, ENTRIES, blob_path, entry_path
from capsula.store.outbox import named_by
from capsula.store.packs import made
from capsula.store.reach import load_entry, scan
from capsula.store.sealed import size_of_action
from capsula.store.unopened import open_all


@dataclass(frozen=True, slots=True)
class Audit:
    """`lists`: the remote can tell what it holds; where it can't, the results that are on this machine, too, were
    looked for, and `entries` are those of them that are there. `blobs` are those that these name, `reread` of them
    were compared with their digests, and `bad` aren't as they were stored. `unnamed` blobs no entry names.

    `damaged` and `incomplete` are the keys of entries (the first thousand each). What was done about it: `sent` blobs
    came from this machine, `removed` entries will be made again.
    """

    lists: bool
    entries: int
    blobs: int
    reread: int
    bad: tuple[str, ...]
    unnamed: int
    damaged: tuple[str, ...]
    incomplete: tuple[str, ...]
    sent: int = 0
    removed: int = 0

    @property
    def wrong(self) -> int:
        return len(self.damaged) + len(self.incomplete)


def audit(remote: Remote, near: DiskStore, *, share: float = 0.0, repair: bool = False, tell: Tell) -> Audit:
    """`share` of the blobs is read again. StoreError when the remote can't be asked: then nothing is concluded."""
    census = Census(remote)
    try:
        lists = _count(census, remote, near, tell)
        blobs = census.number(
            f"select count(*) from (select blob from {REACHED} union select blob from likes)"
        )
        seen = Counter("reading blobs", round(blobs * share), tell)
        reread = census.read_blobs(share, seen.add) if share else 0
        census.mark_incomplete()
        damaged, incomplete = (
            tuple(_first(census.names("select name from entries where state = ? order by name", state)))
            for state in ("damaged", "incomplete")
        )
        found = Audit(
            lists=lists,
            entries=census.number("select count(*) from entries where state = ''"),
            blobs=blobs,
            reread=reread,
            bad=tuple(_first(census.names("select name from blobs where bad order by name"))),
            unnamed=census.number(f"select count(*) from blobs where stored is not null and {UNNAMED}")
            if lists
            else 0,
            damaged=damaged,
            incomplete=incomplete,
        )
        if not (repair and found.wrong):
            return found
        if not open_all(near):
            raise StoreError(
                f"{printable(near.root)} can't be looked through for what is lacking there",
                hint="it needs room on its disk, and to be yours",
            )
        return _repaired(found, census, remote, near)
    finally:
        census.close()


def _count(census: Census, remote: Remote, near: DiskStore, tell: Tell) -> bool:
    holdings = remote.holdings()
    listed = Counter("listing entries", 0, tell).add
    if holdings is not None:
        census.list_entries(holdings.pages(ENTRIES), listed)
    else:
        census.list_entries(_known(near.root), listed)
    count = census.number("select count(*) from entries")
    read = Counter("reading entries", count, tell).add
    if holdings is not None:
        census.read_entries(read)
        census.list_blobs(holdings, Counter("listing blobs", 0, tell).add)
    else:
        census.read_entries(read, lambda name: _size(near.root, name))
        blobs = census.number("select count(*) from blobs")
        census.ask_for_blobs(Counter("asking for blobs", blobs, tell).add)
    return holdings is not None


def _repaired(found: Audit, census: Census, remote: Remote, near: DiskStore) -> Audit:
    """Bad blobs are removed where that can be, what is missing is sent if it is here, and what can't be used after
    that is removed: a run that finds no entry makes it again."""
    holdings = remote.holdings()
    if holdings is not None:
        for names in census.names("select name from blobs where bad"):
            holdings.remove(BLOBS, names)
    sent = 0
    for rows in list(census.unusable()):
        here = [(number, digest) for number, digest in rows if _is_whole(near, digest)]
        try:
            remote.send([digest for _, digest in here], lambda each: blob_path(near.root, each.hash), soon())
        except CapsulaError:
            if holdings is None:
                raise
            continue  # then the entry goes
        census.has_come([digest for _, digest in here])
        sent += len(here)
    census.mark_incomplete()
    if holdings is not None:
        sent += _send_packs(census, remote, near)
        census.mark_incomplete()
    removed = 0
    if holdings is not None:
        for names in census.names("select name from entries where state in ('damaged', 'incomplete')"):
            holdings.remove(ENTRIES, names)
            removed += len(names)
    return replace(found, sent=sent, removed=removed)


def _send_packs(census: Census, remote: Remote, near: DiskStore) -> int:
    """Those that can be made again of what is here. As they were, so that the entries, which may be signed, stay as
    they are."""
    sent = 0
    for names in list(census.names("select name from entries where state = 'incomplete'")):
        for name in names:
            try:
                result = remote.lookup(Digest(name), soon())
                groups = grouped(result, named_by(result, near)) if result is not None else []
                for group in groups:
                    with made([group], near, time.time) as (packs, path_of):
                        lacking = [pack.digest for pack in packs if census.lacks(pack.digest)]
                        remote.send(lacking, path_of, soon())
                        census.has_come(lacking)
                        sent += len(lacking)
            except CapsulaError:
                continue  # then the entry goes
    return sent


def _is_whole(near: DiskStore, digest: Digest) -> bool:
    try:
        with open(blob_path(near.root, digest.hash), "rb") as file:
            return file_digest(file, "sha256").hexdigest() == digest.hash
    except OSError:
        return False


def _known(root: str) -> Iterator[list[tuple[str, int, float]]]:
    """The keys of the results on this machine, as a remote would list them."""
    page: list[tuple[str, int, float]] = []
    for file in scan(root, ENTRIES):
        page.append((file.name, file.size, file.mtime))
        if len(page) == 1000:
            yield page
            page = []
    yield page


def _size(root: str, name: str) -> int:
    """Of an action on this machine, 0 where that isn't known."""
    try:
        return os.lstat(blob_path(root, name)).st_size
    except OSError:
        pass
    try:
        entry = load_entry(entry_path(root, name), name)
    except OSError:
        return 0
    return size_of_action(entry) if entry is not None else 0


def _first(lists: Iterator[list[str]]) -> list[str]:
    return next(lists, [])
