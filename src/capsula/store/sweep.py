"""Making room: the results that were used least recently go first, and no blob that a kept entry reaches ever goes.

Mark and sweep, while others put, store, look up and restore. The theory, with S the moment when a sweep starts:

* Entries are listed first, blobs after. An entry is stored after its blobs, so the list of blobs has all that any
  listed entry needs; one for which it hasn't is broken already and goes. But of a result that came from a shared store
  and is unopened, blobs may be in one file of its own, which stays and goes with the entry; these files are listed
  before the blobs, so that what is opened meanwhile is found there or here.
* An entry goes before its blobs. Who looked it up just before may then miss a blob in the middle of restoring, which
  counts as a miss; nobody finds an entry whose blobs this sweep took. One that was used or rewritten since it was
  listed is kept after all, with what it reaches.
* Entries that aren't in the list are being made while we work, and their blobs look unreachable. Therefore a blob goes
  only if its time stamp is older than S - GRACE, and putting a blob that exists already refreshes a stamp older than
  GRACE / 2. So a blob that goes was last put before S - GRACE / 2: its entry, written within GRACE / 2 of that (the
  contract of `store`), is in the list.
* Looking at the stamp and deleting are two steps, and a put may find the blob between them, refresh it and rely on it.
  No order of looking closes that gap, so the blob is first renamed to held/, then looked at again, then deleted or put
  back. A put that comes after the rename finds nothing and writes the blob anew; one that came before it left its stamp
  on the file, which moved along. In between, a hit may miss the blob for some microseconds: a miss, never a wrong hit.
  What a killed sweep left in held/ the next one puts back before it looks at anything. (Locks that every put shares
  were the alternative: a sweep would then stop all runs, or a stopped run all sweeps.)
* One sweep at a time, by a lock that dies with its process.

Stamps from the future (a clock was wrong and was set back) are pulled to now, else such blobs would stay for ever.
"""

import os
import time
from glob import escape, glob

from capsula.store.layout import (
    BLOBS,
    ENTRIES,
    GRACE,
    HELD,
    IDS,
    LOCKS,
    QUARANTINE,
    RECALL,
    STATE,
    TMP,
    blob_path,
    is_hash,
    make_directories,
    publish,
    refusal,
)
from capsula.store.reach import (
    File,
    Incomplete,
    Reach,
    ReachOfWhatCame,
    load_entry,
    scan,
    scan_unopened,
)
from capsula.store.size import SWEEP_LOCK, take_lock, write_size
from capsula.store.trash import remove_tree, trim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 10 << 30
DAY = 86400.0
# A temporary file whose process is gone; not at once, for it may live in another container.
_ABANDONED = 600.0
_STAGE = ".capsula-stage-"  # as worktree.restore calls them
_QUARANTINED, _UNUSED, _TRASHED, _TRASH_BYTES = 7 * DAY, 30 * DAY, 7 * DAY, 1 << 30


class Swept:
    """What a sweep did. `too_large` are entries that alone exceed what is kept, `damaged` those that weren't whole."""

    __slots__ = (
        "blobs",
        "blobs_deleted",
        "bytes",
        "bytes_deleted",
        "damaged",
        "entries",
        "entries_deleted",
        "too_large",
    )

    def __init__(self) -> None:
        self.entries = self.blobs = self.bytes = 0  # kept
        self.entries_deleted = self.blobs_deleted = self.bytes_deleted = 0
        self.damaged = self.too_large = 0


def sweep(
    root: str, limit: int = LIMIT, *, now: "Callable[[], float]" = time.time, grace: float = GRACE
) -> "Swept | None":
    """Bring the store down to 80 % of `limit` bytes if it has more (0: no limit), delete what nothing reaches, tidy up.

    None if another sweep is at work. StoreError if the directory can't be read or written.
    """
    try:
        lock = take_lock(root)
        if lock is None:
            return None
        try:
            return sweep_locked(root, limit, now(), grace)
        finally:
            os.close(lock)
    except OSError as error:
        raise refusal(error, root, "write") from error


def sweep_locked(root: str, limit: int, started: float, grace: float) -> Swept:
    """A sweep by someone who has the lock; raises OSError."""
    put_back_all(root)
    move_up_all(root)
    swept = Swept()
    entries = sorted(scan(root, ENTRIES), key=_newest_first)
    unopened = {file.name: file for file in scan_unopened(root)}
    blobs = {file.name: file for file in scan(root, BLOBS)}
    marks = Marks(root, entries, unopened, blobs, limit)
    marks.mark()
    marks.evict(swept)
    named = {entry.name for entry in entries}
    for file in unopened.values():
        if file.mtime > started + grace:
            _set_time(file.path, started)
        if file.name in named or file.mtime >= started - grace:
            swept.bytes += file.size
        else:
            _remove_if_same(file)
            swept.bytes_deleted += file.size
    for file in blobs.values():
        stale = file.mtime < started - grace
        if stale and not marks.keeps(file.name) and delete_blob(root, file, started - grace):
            swept.blobs_deleted += 1
            swept.bytes_deleted += file.size
        else:
            swept.blobs += 1
            swept.bytes += file.size
        if file.mtime > started + grace:
            _set_time(file.path, started)
    for file in entries:
        if file.mtime > started + grace:
            _set_time(file.path, started)
    tidy(root, started)
    write_size(root, swept.bytes, started)
    return swept


class Marks:
    """Which entries stay, and what they reach. `reached[hash]` is the place, newest first, of the first entry to do so.

    Entries are kept from the newest on until the next would exceed the low-water mark, but if the whole store is within
    the limit all are kept. An entry that exceeds the mark alone goes: to keep it, all others would have to.
    """

    def __init__(
        self, root: str, entries: list[File], unopened: dict[str, File], blobs: dict[str, File], limit: int
    ) -> None:
        self._root = root
        self._entries = entries
        self._blobs = blobs
        self._limit = limit
        self._low = limit * 4 // 5
        self._cut = len(entries)  # entries from here on go, and so do those in `_out`
        self._out: dict[int, str] = {}  # place -> why
        self._reached: dict[str, int] = {}
        self._reach = Reach(root, self._size_of)
        # By the hashes of their actions, the files of those results that nobody has asked for since they came.
        self._unopened = unopened
        self._reach_of_what_came = ReachOfWhatCame(root, self._size_of)

    def mark(self) -> None:
        # An entry between the mark and the limit stays if all others can too, else it goes before any other.
        if self._mark(self._limit) == "over the limit because of a large one":
            self._mark(self._low)

    def _mark(self, largest: int) -> str:
        self._out.clear()
        self._reached.clear()
        total = 0
        low: int | None = None
        large = False
        for place, entry in enumerate(self._entries):
            found = self._outputs(place, entry)
            if found is None:
                continue
            own = entry.size + (self._unopened[entry.name].size if entry.name in self._unopened else 0)
            size = own + sum([self._blobs[name].size for name in found])
            if self._limit and size > largest:
                self._out[place] = "too large"
                continue
            large = large or size > self._low
            found |= self._reach.of_action(entry.name, self._reached.__contains__)
            total += own
            for name in found:
                if name not in self._reached:
                    self._reached[name] = place
                    total += self._blobs[name].size
            if low is None and total > self._low:
                low = place
            if 0 < self._limit < total and low is not None:
                self._cut = low
                return "over the limit because of a large one" if large else "over the limit"
        return "within the limit"

    def evict(self, swept: Swept) -> None:
        """Delete the entries that go, least recently used first; those that somebody used meanwhile stay."""
        for place in range(len(self._entries) - 1, -1, -1):
            entry = self._entries[place]
            why = self._out.get(place, "")
            if why == "gone":
                continue
            if (place < self._cut and not why) or not self._delete_entry(entry):
                swept.entries += 1
                swept.bytes += entry.size
            else:
                if entry.name in self._unopened:
                    unopened = self._unopened.pop(entry.name)
                    _remove_if_same(unopened)
                    swept.bytes_deleted += unopened.size
                swept.entries_deleted += 1
                swept.bytes_deleted += entry.size
                swept.damaged += why == "damaged"
                swept.too_large += why == "too large"

    def keeps(self, name: str) -> bool:
        return self._reached.get(name, self._cut) < self._cut

    def _size_of(self, name: str) -> "int | None":
        file = self._blobs.get(name)
        return None if file is None else file.size

    def _outputs(self, place: int, entry: File) -> "set[str] | None":
        try:
            result = load_entry(entry.path, entry.name)
        except FileNotFoundError:
            self._out[place] = "gone"
            return None
        try:
            if result is not None and entry.name in self._unopened:
                # Of the others, some may be in their place by now.
                return self._blobs.keys() & self._reach_of_what_came.of_result(result)
            if result is not None:
                return self._reach.of_result(result)
        except Incomplete:
            pass
        self._out[place] = "damaged"
        return None

    def _delete_entry(self, entry: File) -> bool:
        try:
            look = os.lstat(entry.path)
            if (look.st_mtime_ns, look.st_ino) == (entry.mtime_ns, entry.inode):
                os.unlink(entry.path)
                return True
            result = load_entry(entry.path, entry.name)
        except FileNotFoundError:
            return True
        # Used or rewritten since it was listed. If it is incomplete by our list, what it needs was put meanwhile.
        try:
            named = self._reach_of_what_came.of_result(result) if result is not None else set()
        except Incomplete:
            named = set()
        found = self._blobs.keys() & named
        found |= self._reach.of_action(entry.name, self.keeps)
        self._reached.update(dict.fromkeys(found, -1))
        return False


def delete_blob(root: str, file: File, before: float) -> bool:
    """Delete a blob unless it has been put since; the story is told above."""
    held = f"{root}/{HELD}/{file.name}"
    try:
        if os.lstat(file.path).st_mtime >= before:
            return False
        try:
            os.rename(file.path, held)
        except FileNotFoundError:
            make_directories(f"{root}/{HELD}")
            os.rename(file.path, held)
        if os.lstat(held).st_mtime >= before:
            put_back(held, file.path)
            return False
        os.unlink(held)
    except FileNotFoundError:
        return False
    return True


def put_back(held: str, path: str) -> None:
    """Return a blob to its place, unless it was put there anew, whose bytes are then at least as good."""
    try:
        os.link(held, path, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:  # no links on this file system, or its directory was cleared away
        publish(held, path)
        return
    os.unlink(held)


def put_back_all(root: str) -> None:
    """What a sweep that was killed had in its hands."""
    try:
        names = os.listdir(f"{root}/{HELD}")
    except FileNotFoundError:
        return
    for name in filter(is_hash, names):
        put_back(f"{root}/{HELD}/{name}", blob_path(root, name))


def move_up_all(root: str) -> None:
    """Blobs as stores had them before the first release: in directories of two characters."""
    for folder in glob(f"{escape(root)}/{BLOBS}/[0-9a-f][0-9a-f]/"):
        try:
            for name in filter(is_hash, os.listdir(folder)):
                put_back(folder + name, blob_path(root, name))
            os.rmdir(folder)
        except OSError:
            continue  # a full disk: what goes now makes room for another time


def tidy(root: str, now: float) -> None:
    """Remove what was left behind or not used for long. What can't be removed is left for another day."""
    _tidy_temporary(f"{root}/{TMP}", now)
    for path, look in _files(f"{root}/{QUARANTINE}"):
        if now - look.st_mtime > _QUARANTINED:
            _remove(path)
    for kind in (RECALL, STATE, IDS):
        for path, look in _files(f"{root}/{kind}"):
            if now - max(look.st_mtime, look.st_atime) > _UNUSED:
                _remove(path)
    for path, look in _files(f"{root}/{LOCKS}"):
        # Who takes a run's lock writes to its file, so one that was written so long ago is held by nobody. The lock of
        # the sweeps is never written to, and is held right now.
        if now - look.st_mtime > _UNUSED and os.path.basename(path) != SWEEP_LOCK:
            _remove(path)
    try:
        trim(root, now=now, older_than=_TRASHED, larger_than=_TRASH_BYTES)
    except OSError:
        pass


def _tidy_temporary(folder: str, now: float) -> None:
    """Files that were being written, and staging directories of restores: those here, and those that a link notes."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = f"{folder}/{name}"
        pid = name.removeprefix(_STAGE).partition("-")[0]
        try:
            age = now - os.lstat(path).st_mtime
            if age > DAY or (age > _ABANDONED and not _is_running(pid)):
                if os.path.islink(path) and name.startswith(_STAGE):
                    staged = os.readlink(path)
                    if staged.endswith(f"/{name}"):
                        remove_tree(staged)
                remove_tree(path)
        except OSError:
            continue


def _newest_first(file: File) -> "tuple[int, str]":
    return -file.mtime_ns, file.name


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _files(folder: str) -> "list[tuple[str, os.stat_result]]":
    found = []
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                found.append((f"{path}/{name}", os.lstat(f"{path}/{name}")))
            except OSError:
                continue
    return found


def _set_time(path: str, moment: float) -> None:
    try:
        os.utime(path, (moment, moment), follow_symlinks=False)
    except OSError:
        pass


def _remove_if_same(file: File) -> None:
    """Unless another one has come in its place."""
    try:
        if os.lstat(file.path).st_ino == file.inode:
            os.unlink(file.path)
    except OSError:
        pass


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
