"""What people ask of the store as a whole: how much is there, is it sound, make it empty."""

import errno
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

from capsula.core.digest import Digest
from capsula.errors import CapsulaError, StoreError
from capsula.store import files, trash
from capsula.store.layout import (
    BLOBS,
    ENTRIES,
    HELD,
    IDS,
    JOURNAL,
    QUARANTINE,
    RECALL,
    STATE,
    TMP,
    UNOPENED,
    blob_path,
    discard,
    refusal,
    set_aside,
    unopened_path,
)
from capsula.store.reach import File, Incomplete, Reach, load_entry, scan, scan_unopened
from capsula.store.size import take_lock, write_size
from capsula.store.sweep import move_up_all, put_back_all, tidy
from capsula.store.unopened import members


@dataclass(frozen=True, slots=True)
class Usage:
    """Files (for the trash: items, whatever they hold) and the sum of their sizes in bytes."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Stats:
    entries: Usage
    blobs: Usage
    temporary: Usage
    quarantine: Usage
    trash: Usage
    records: Usage  # recall, state and ids: what makes a hit quick and a miss explained

    @property
    def bytes(self) -> int:
        """What the limit is about."""
        return self.entries.bytes + self.blobs.bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """`bad_blobs` and `bad_entries` (hashes and keys) were set aside; `incomplete` entries, which named blobs that are
    gone, were removed. The next run of each makes and stores it again. Unless `healed`, which is where the store can't
    be written to: then they were found and left."""

    blobs: int
    bytes: int
    entries: int
    bad_blobs: tuple[str, ...]
    bad_entries: tuple[str, ...]
    incomplete: tuple[str, ...]
    healed: bool = True

    @property
    def sound(self) -> bool:
        return not (self.bad_blobs or self.bad_entries or self.incomplete)


@dataclass(frozen=True, slots=True)
class Cleared:
    entries: int
    blobs: int
    bytes: int


def stats(root: str) -> Stats:
    """Nothing is locked: what others do meanwhile may or may not be counted. A store that doesn't exist is empty."""
    try:
        items = trash.items(root)
        return Stats(
            entries=_sum([file.size for file in scan(root, ENTRIES)]),
            blobs=_sum([file.size for file in scan(root, BLOBS)] + _sizes(root, UNOPENED)),
            temporary=_usage(root, TMP, HELD),
            quarantine=_usage(root, QUARANTINE),
            trash=_sum([item.size for item in items]),
            records=_usage(root, RECALL, STATE, IDS),
        )
    except OSError as error:
        raise refusal(error, root, "read") from error


def verify(
    root: str, *, now: Callable[[], float] = time.time, progress: Callable[[int], object] | None = None
) -> Verified:
    """Read everything and compare it with what it is stored under. `progress` is told the bytes of each blob read.

    Waits for a running sweep to end, then keeps others out. Runs may go on meanwhile. A store that can't be written to
    (another user's, or mounted so) is read as it is.
    """
    try:
        try:
            lock = take_lock(root, wait=True)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            return _verify(root, now, progress, heal=False)
        try:
            put_back_all(root)
            move_up_all(root)
            return _verify(root, now, progress, heal=True)
        finally:
            if lock is not None:
                os.close(lock)
    except OSError as error:
        raise refusal(error, root, "write") from error


def clear(
    root: str, *, now: Callable[[], float] = time.time, empty_trash: bool = False, journal: bool = False
) -> Cleared:
    """Remove all entries and blobs and what was remembered about them; the trash and the journal only if asked.

    Runs may go on meanwhile. One that stored its blobs before and its entry after we came by would leave an entry
    without blobs; so entries are looked at once more in the end, and one that comes even later is a miss.
    """
    try:
        lock = take_lock(root, wait=True)
        try:
            cleared = _clear(root)
            for kind in (HELD, QUARANTINE, RECALL, STATE, IDS, *([JOURNAL] if journal else [])):
                for path in _walk(root, kind):
                    discard(path)
            tidy(root, now())
            if empty_trash:
                trash.empty(root, now=now())
            _remove_incomplete(root, scan(root, ENTRIES), {})
            write_size(root, stats(root).bytes, now())
            return cleared
        finally:
            if lock is not None:
                os.close(lock)
    except OSError as error:
        raise refusal(error, root, "write") from error


def _verify(
    root: str, now: Callable[[], float], progress: Callable[[int], object] | None, *, heal: bool
) -> Verified:
    sizes: dict[str, int] = {}
    unopened: dict[str, int] = {}
    bad_blobs: list[str] = []
    for file, found, known in chain(
        ((file, _blob(file), sizes) for file in scan(root, BLOBS)),
        ((file, members(file.path), unopened) for file in scan_unopened(root)),
    ):
        known.update(found or {})
        if found is None:
            if heal:
                set_aside(root, file.path, now())
            bad_blobs.append(file.name)
        if progress is not None:
            progress(file.size)
    entries: list[File] = []
    bad_entries: list[str] = []
    for file in scan(root, ENTRIES):
        try:
            sound = load_entry(file.path, file.name) is not None
        except FileNotFoundError:
            continue
        except OSError:
            sound = False
        if sound:
            entries.append(file)
        else:
            if heal:
                set_aside(root, file.path, now())
            bad_entries.append(file.name)
    incomplete = _remove_incomplete(root, entries, sizes, heal=heal)
    return Verified(
        blobs=len(unopened | sizes),
        bytes=sum((unopened | sizes).values()),
        entries=len(entries) - len(incomplete),
        bad_blobs=tuple(sorted(bad_blobs)),
        bad_entries=tuple(sorted(bad_entries)),
        incomplete=tuple(sorted(incomplete)),
        healed=heal,
    )


def _blob(file: File) -> dict[str, int] | None:
    """Its size by its hash; None if it isn't what it is stored as, nothing when it is gone."""
    digest = _digest(file.path)
    if digest is None:
        return {}
    return {digest.hash: digest.size_bytes} if digest.hash == file.name else None


def _digest(path: str) -> Digest | None:
    """What a blob really holds: None if it is gone, a digest of nothing if it can't be read (a bad sector)."""

    def refused(error: OSError) -> CapsulaError:
        return StoreError(str(error))

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError:
        return Digest()
    try:
        return files.digest_file(fd, refused)
    except StoreError:
        return Digest()
    finally:
        os.close(fd)


def _remove_incomplete(
    root: str, entries: Iterable[File], sizes: dict[str, int], *, heal: bool = True
) -> list[str]:
    """Remove (with `heal`) the entries that name a blob that isn't there, and name them. `sizes` saves looking at the
    blobs that are known."""

    def size_of(name: str) -> int | None:
        if name in sizes:
            return sizes[name]
        try:
            sizes[name] = os.lstat(blob_path(root, name)).st_size
        except OSError:
            return None  # not remembered: it may be put at any moment
        return sizes[name]

    def with_own(own: dict[str, int]) -> Callable[[str], int | None]:
        return lambda name: own.get(name) or size_of(name)

    reach = Reach(root, size_of)
    removed = []
    for entry in entries:
        # Looked for before its blobs are: somebody may be opening it.
        has_just_come = os.path.lexists(unopened_path(root, entry.name))
        try:
            result = load_entry(entry.path, entry.name)
            if result is not None:
                try:
                    reach.of_result(result)
                except Incomplete:
                    if not has_just_come:
                        raise
                    # Its own alone: whoever asks for it doesn't look into what others have.
                    Reach(root, with_own(members(unopened_path(root, entry.name)) or {})).of_result(result)
            continue
        except FileNotFoundError:
            continue
        except Incomplete:
            pass
        try:
            # Only what we looked at: a run that found it incomplete may have healed it by now.
            if os.lstat(entry.path).st_ino == entry.inode:
                if heal:
                    os.unlink(entry.path)
                removed.append(entry.name)
        except FileNotFoundError:
            continue
    return removed


def _clear(root: str) -> Cleared:
    counts = {ENTRIES: 0, BLOBS: 0}
    size = 0
    # Entries first: nobody shall find one whose blobs are being removed.
    for kind, found in (
        (ENTRIES, scan(root, ENTRIES)),
        (BLOBS, scan(root, BLOBS)),
        (BLOBS, scan_unopened(root)),
    ):
        for file in found:
            try:
                os.unlink(file.path)
            except FileNotFoundError:
                continue
            counts[kind] += 1
            size += file.size
    return Cleared(entries=counts[ENTRIES], blobs=counts[BLOBS], bytes=size)


def _walk(root: str, kind: str) -> list[str]:
    return [f"{folder}/{name}" for folder, _, names in os.walk(f"{root}/{kind}") for name in names]


def _usage(root: str, *kinds: str) -> Usage:
    return _sum(_sizes(root, *kinds))


def _sizes(root: str, *kinds: str) -> list[int]:
    sizes = []
    for kind in kinds:
        for path in _walk(root, kind):
            try:
                sizes.append(os.lstat(path).st_size)
            except OSError:
                continue
    return sizes


def _sum(sizes: list[int]) -> Usage:
    return Usage(len(sizes), sum(sizes))
