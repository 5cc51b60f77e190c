"""The contents behind a survey: digests of files, targets of links; files that look the same as last time
aren't read again."""

import marshal
import posix
import time
from stat import S_IFREG, S_ISLNK

from capsula.core.digest import fastest, sha256
from capsula.core.names import printable
from capsula.core.tree import Leaves, leaves
from capsula.errors import InputError
from capsula.worktree.listing import COARSE_TICK_NS, OPEN_DIRECTORY, is_fresh
from capsula.worktree.survey import join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from capsula.worktree.listing import Listing, Look
    from capsula.worktree.survey import Folder, Survey

    # What is kept of a folder between runs: listing (without looks that are too fresh to trust), names taken,
    # hash by name, and the bytes of its files and links in a Directory message.
    Kept = tuple[Listing, set[str] | None, dict[str, str], bytes, bytes]
    # The hashes of a folder, a name in it, the folder's full path, the file's look, and the listing that it is in,
    # where that of an unseen one is put.
    Job = tuple[dict[str, str], str, str, Look, Listing]
    Work = tuple[Folder, list[Job]]

CHUNK = 1 << 18
_FLAGS = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
# By its name in its directory: what has become a link since it was listed isn't read.
_FLAGS_HERE = _FLAGS | posix.O_NOFOLLOW
_BIG = 1 << 19
_SMALL = 1 << 16
# From so many small files on, a second process is worth the millisecond that it takes to make one.
_MANY = 3000
_TYPE = 0o170000
# Of the number before what the other process says: how many bytes that is.
_LENGTH = 8

# What is kept in place of a look that proves nothing. No look is like it, so the file is read again; and its name
# stays: without it, the folder with the file gone would look like the folder that had it.
_NO_LOOK = (-1,)


class Contents:
    """`hashes[folder][name]` is the content's hash (a link has none), `leaves[folder]` its part of the tree.

    `fresh` lists (full path, hash) of files that changed too shortly before they were read for their look to prove
    anything: whoever wants to know later whether one is still the same has to read it again. Of a link, "->" and its
    target stand for the hash.
    """

    __slots__ = ("fresh", "hashes", "kept", "leaves")

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, str]] = {}
        self.leaves: dict[str, Leaves] = {}
        self.fresh: list[tuple[str, str]] = []
        self.kept: dict[str, Kept] = {}


def read_contents(survey: "Survey", kept: "dict[str, Kept]", now_ns: int) -> Contents:
    """Digest everything that the survey declared. `now_ns` is the wall clock from before the survey was taken. What is
    unseen in the survey's listings is seen afterwards.

    Raises InputError for a file that can't be read; sockets, pipes and devices are left out with a note.
    """
    contents = Contents()
    work: list[Work] = []
    for path, folder in survey.folders.items():
        old = kept.get(path)
        if old is not None and old[0] == folder.listing and old[1] == folder.taken:
            _put(contents, folder, old)
            continue
        jobs: list[Job] = []
        contents.hashes[path] = _known_hashes(survey, folder, old, jobs)
        work.append((folder, jobs))
    if (
        sum([len(jobs) for _, jobs in work]) < _MANY
        or _processors() < 2
        or not _read_in_halves(survey, work, contents, now_ns)
    ):
        _read(survey, work, contents, now_ns)
    return contents


def _put(contents: Contents, folder: "Folder", kept: "Kept") -> None:
    contents.hashes[folder.path] = kept[2]
    contents.leaves[folder.path] = Leaves(kept[3], kept[4], declared=folder.declared)
    contents.kept[folder.path] = kept


def _read(survey: "Survey", work: "list[Work]", contents: Contents, now_ns: int) -> None:
    """Hash what is to be hashed, and put the folders together."""
    jobs = [job for _, jobs in work for job in jobs]
    _hash_all(jobs)
    _note_fresh(jobs, contents, now_ns)
    for folder, _ in work:
        _assemble(survey, folder, contents, now_ns)


def _note_fresh(jobs: "list[Job]", contents: Contents, now_ns: int) -> None:
    settled = now_ns - COARSE_TICK_NS
    for hashes, name, folder_path, _, listing in jobs:
        seen = listing[name]
        if (seen[2] > settled or seen[1] > settled) and is_fresh(seen, now_ns):
            contents.fresh.append((folder_path + "/" + name, hashes[name]))


def _read_in_halves(survey: "Survey", work: "list[Work]", contents: Contents, now_ns: int) -> bool:
    """Thousands of files: half of them in a process of its own. False when that couldn't be done.

    Threads don't help here: what takes the time is the interpreter between the system calls, under its one lock. Raises
    what reading our own half raises; the other half is done again if its process failed, and then says why itself.
    """
    ours, (folder, here, there), theirs = _halves(work)
    try:
        answer = posix.memfd_create("capsula")
    except (AttributeError, OSError):  # no Linux, or none that has it
        return False
    try:
        try:
            pid = posix.fork()
        except OSError:
            return False
        if pid == 0:
            _be_the_other_half(survey, contents, there, theirs, now_ns, answer)
        try:
            _read(survey, ours, contents, now_ns)
            _hash_all(here)
        finally:
            _wait_for(pid)
        content = posix.pread(answer, posix.fstat(answer).st_size, 0)
    finally:
        posix.close(answer)
    # A process that was killed has left out the length, which is written last.
    if int.from_bytes(content[:_LENGTH], "little") != len(content) - _LENGTH:
        _hash_all(there)
        _read(survey, theirs, contents, now_ns)
    else:
        found, folders, fresh = marshal.loads(memoryview(content)[_LENGTH:])
        for (hashes, name, _, _, listing), (known, seen) in zip(there, found, strict=True):
            hashes[name], listing[name] = known, seen
        for (other, _), (listing, kept) in zip(theirs, folders, strict=True):
            other.listing = listing or kept[0]
            _put(contents, other, kept)
        contents.fresh += fresh
    _note_fresh(here + there, contents, now_ns)
    _assemble(survey, folder, contents, now_ns)
    return True


def _wait_for(pid: int) -> None:
    try:
        posix.waitpid(pid, 0)
    except ChildProcessError:  # SIGCHLD is ignored: it has ended, but nobody tells how
        return


def _halves(work: "list[Work]") -> "tuple[list[Work], tuple[Folder, list[Job], list[Job]], list[Work]]":
    """What is done here, the folder in the middle with its part here and its part there, what is done there."""
    # Not quite the middle: the other process has to be started, and to say what it found.
    left = sum([len(jobs) for _, jobs in work]) * 13 // 25
    at = 0
    while left >= len(work[at][1]):
        left -= len(work[at][1])
        at += 1
    folder, jobs = work[at]
    return work[:at], (folder, jobs[:left], jobs[left:]), work[at + 1 :]


def _be_the_other_half(
    survey: "Survey",
    contents: Contents,
    jobs: "list[Job]",
    work: "list[Work]",
    now_ns: int,
    answer: int,
) -> "NoReturn":
    try:
        contents.fresh = []
        _hash_all(jobs)
        _read(survey, work, contents, now_ns)
        found = [(hashes[name], listing[name]) for hashes, name, _, _, listing in jobs]
        folders = []
        for folder, _ in work:
            kept = contents.kept[folder.path]
            folders.append((None if kept[0] is folder.listing else folder.listing, kept))
        told = marshal.dumps((found, folders, contents.fresh), 2)
        rest, at = memoryview(told), _LENGTH
        while rest:
            wrote = posix.pwrite(answer, rest, at)
            rest, at = rest[wrote:], at + wrote
        posix.pwrite(answer, len(told).to_bytes(_LENGTH, "little"), 0)
    finally:
        posix._exit(0)


def _known_hashes(
    survey: "Survey", folder: "Folder", old: "Kept | None", jobs: "list[Job]"
) -> dict[str, str]:
    """The hashes that the last look still vouches for; what has to be read is added to `jobs`."""
    hashes: dict[str, str] = {}
    looks, known = (old[0], old[2]) if old is not None else ({}, {})
    full = survey.full(folder.path)
    for name, seen in folder.entries():
        if seen[4] & _TYPE == S_IFREG:
            if looks and looks.get(name) == seen and name in known:
                hashes[name] = known[name]
            else:
                jobs.append((hashes, name, full, seen, folder.listing))
        elif not S_ISLNK(seen[4]):
            survey.notes.append(
                f"{printable(join(folder.path, name))} is no file, link or directory: left out"
            )
    return hashes


def _assemble(survey: "Survey", folder: "Folder", contents: Contents, now_ns: int) -> None:
    hashes = contents.hashes[folder.path]
    files: list[tuple[str, str, int, bool]] = []
    links: list[tuple[str, str]] = []
    for name, seen in folder.entries():
        if name in hashes:
            files.append((name, hashes[name], seen[0], seen[4] & 0o100 != 0))
        elif S_ISLNK(seen[4]):
            full = survey.full(join(folder.path, name))
            links.append((name, _target(full)))
            if is_fresh(seen, now_ns):
                # Turned within the tick, it may well get the same inode, and so the same look.
                contents.fresh.append((full, "->" + links[-1][1]))
    leaf = leaves(files, links, declared=folder.declared)
    contents.leaves[folder.path] = leaf
    listing = folder.listing
    settled = now_ns - COARSE_TICK_NS
    young = [item for item in listing.items() if item[1] and (item[1][2] > settled or item[1][1] > settled)]
    fresh = {name for name, seen in young if is_fresh(seen, now_ns)}
    if fresh:
        listing = {name: _NO_LOOK if name in fresh else seen for name, seen in listing.items()}
    contents.kept[folder.path] = (listing, folder.taken, hashes, leaf.files, leaf.links)


def _target(path: str) -> str:
    try:
        return posix.readlink(path)
    except OSError as error:
        raise InputError(f"{printable(path)} stopped being a link while it was looked at") from error


def hash_file(path: str, size: int = 0) -> tuple[str, int]:
    """The SHA-256 (hex) and length of what the file holds. `size` is only a guess. OSError when it can't be read."""
    fd = posix.open(path, _FLAGS)
    try:
        if size < CHUNK:
            # One byte more than is there: to get just the size is the end of the file. Anything else is read on.
            content = posix.read(fd, size + 1)
            if len(content) == size:
                return sha256(content).hexdigest(), len(content)
            state, length = sha256(content), len(content)
        else:
            state, length = sha256(), 0
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        while got := posix.readv(fd, [buffer]):
            state.update(view[:got])
            length += got
        return state.hexdigest(), length
    finally:
        posix.close(fd)


def _hash_all(jobs: "list[Job]") -> None:
    """Fill in the hash of each job; big files in threads, as hashing and reading release the interpreter lock."""
    # One that is unseen may be of any size: it stays without a hash if it is seen to be larger.
    small = [job for job in jobs if job[3][0] < _SMALL]
    _hash_small(small)
    if all([job[1] in job[0] for job in jobs]):
        return
    larger = [(*job[:3], job[4][job[1]], job[4]) for job in jobs if job[1] not in job[0]]
    rest = [job for job in larger if job[3][0] < _BIG]
    big = [job for job in larger if job[3][0] >= _BIG]
    for job in rest if len(big) > 1 else rest + big:
        _hash_one(job)
    if len(big) > 1:
        _in_threads(big)


def _processors() -> int:
    if hasattr(posix, "sched_getaffinity"):
        return len(posix.sched_getaffinity(0))
    return posix.cpu_count() or 1


def _hash_small(jobs: "list[Job]") -> None:
    """Files that one read takes whole: a lean loop, since ten thousand of them are what most projects are made of."""
    open_, fstat, read, close, new = posix.open, posix.fstat, posix.read, posix.close, fastest(len(jobs))
    current, directory = "", -1
    try:
        for job in jobs:
            hashes, name, folder, seen, listing = job
            size = seen[0]
            try:
                if folder != current:
                    if directory >= 0:
                        close(directory)
                        directory = -1
                    directory, current = open_(folder, OPEN_DIRECTORY), folder
                fd = open_(name, _FLAGS_HERE, dir_fd=directory)
                try:
                    if size < 0:
                        s = fstat(fd)
                        size = s.st_size
                        seen = listing[name] = (size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode)
                        if s.st_mode & _TYPE != S_IFREG:
                            raise InputError(f"{printable(folder + '/' + name)} stopped being a file")
                        if size >= _SMALL:
                            continue
                    content = read(fd, size + 1)
                finally:
                    close(fd)
            except OSError as error:
                raise _unreadable(folder + "/" + name, error) from error
            if len(content) != size:
                # It may only be that a read was short, which a network file system is free to do.
                _hash_one((hashes, name, folder, seen, listing))
            else:
                hashes[name] = new(content).hexdigest()
    finally:
        if directory >= 0:
            close(directory)


def _hash_one(job: "Job") -> None:
    hashes, name, folder, seen, _ = job
    full = folder + "/" + name
    try:
        hashes[name], size = hash_file(full, seen[0])
    except OSError as error:
        raise _unreadable(full, error) from error
    if size != seen[0]:
        raise InputError(f"{printable(full)} changed its size while it was read")


def _unreadable(full: str, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{printable(full)} vanished before it was read")
    return InputError(
        f"can't read {printable(full)}: {error.strerror}", hint="make it readable, or exclude it with '!…'"
    )


def _in_threads(jobs: "list[Job]") -> None:
    import _thread

    pending = iter(sorted(jobs, key=_size, reverse=True))
    errors: list[InputError] = []
    running = []

    def work(done: "_thread.LockType") -> None:
        try:
            while not errors and (job := next(pending, None)) is not None:
                _hash_one(job)
        except InputError as error:
            errors.append(error)
        except Exception as error:
            errors.append(InputError(f"can't hash: {error!r}"))
        finally:
            done.release()

    for _ in range(min(len(jobs), _processors())):
        done = _thread.allocate_lock()
        done.acquire()
        running.append(done)
        _thread.start_new_thread(work, (done,))
    for done in running:
        done.acquire()
    if errors:
        raise errors[0]


def _size(job: "Job") -> int:
    return job[3][0]


def still_same(fresh: "list[tuple[str, str]]") -> str:
    """The first of these files whose content isn't what it was; "" when all are."""
    for path, known in fresh:
        try:
            if (hash_file(path)[0] if known[:2] != "->" else "->" + posix.readlink(path)) != known:
                return path
        except OSError:
            return path
    return ""


def wall_ns() -> int:
    return time.time_ns()
