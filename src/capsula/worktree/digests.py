"""The contents behind a survey: digests of files, targets of links; files that look the same as last time
aren't read again."""

import posix
import time
from stat import S_ISLNK, S_ISREG

from capsula.core.digest import Digest, sha256
from capsula.core.names import printable
from capsula.core.tree import Leaves, leaves
from capsula.errors import InputError
from capsula.worktree.listing import is_fresh
from capsula.worktree.survey import join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.worktree.listing import Look
    from capsula.worktree.survey import Folder, Survey

    # What is kept of a folder between runs: listing (without looks that are too fresh to trust), names taken,
    # hash by name, and the bytes of its files and links in a Directory message.
    Kept = tuple[dict[str, Look], set[str] | None, dict[str, str], bytes, bytes]
    Job = tuple[dict[str, str], str, str, Look]

CHUNK = 1 << 18
_FLAGS = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
_BIG = 1 << 19


class Contents:
    """`hashes[folder][name]` is the content's hash (a link has none), `leaves[folder]` its part of the tree.

    `fresh` lists (full path, hash) of files that changed too shortly before they were read for their look to prove
    anything: whoever wants to know later whether one is still the same has to read it again.
    """

    __slots__ = ("fresh", "hashes", "kept", "leaves", "read_bytes", "read_files")

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, str]] = {}
        self.leaves: dict[str, Leaves] = {}
        self.fresh: list[tuple[str, str]] = []
        self.kept: dict[str, Kept] = {}
        self.read_files = 0
        self.read_bytes = 0


def read_contents(survey: "Survey", kept: "dict[str, Kept]", now_ns: int) -> Contents:
    """Digest everything that the survey declared. `now_ns` is the wall clock from before the survey was taken.

    Raises InputError for a file that can't be read; sockets, pipes and devices are left out with a note.
    """
    contents = Contents()
    jobs: list[Job] = []
    changed: list[Folder] = []
    for path, folder in survey.folders.items():
        old = kept.get(path)
        if old is not None and old[0] == folder.listing and old[1] == folder.taken:
            contents.hashes[path] = old[2]
            contents.leaves[path] = Leaves(old[3], old[4], declared=folder.declared)
            contents.kept[path] = old
            continue
        changed.append(folder)
        contents.hashes[path] = _known_hashes(survey, folder, old, jobs)
    _hash_all(jobs)
    for hashes, name, full, seen in jobs:
        if is_fresh(seen, now_ns):
            contents.fresh.append((full, hashes[name]))
        contents.read_bytes += seen[0]
    contents.read_files = len(jobs)
    for folder in changed:
        _assemble(survey, folder, contents, now_ns)
    return contents


def _known_hashes(
    survey: "Survey", folder: "Folder", old: "Kept | None", jobs: "list[Job]"
) -> dict[str, str]:
    """The hashes that the last look still vouches for; what has to be read is added to `jobs`."""
    hashes: dict[str, str] = {}
    looks, known = (old[0], old[2]) if old is not None else ({}, {})
    full = survey.full(folder.path)
    for name, seen in folder.entries():
        if S_ISREG(seen[4]):
            if looks.get(name) == seen and name in known:
                hashes[name] = known[name]
            else:
                jobs.append((hashes, name, full + "/" + name, seen))
        elif not S_ISLNK(seen[4]):
            survey.notes.append(
                f"{printable(join(folder.path, name))} is no file, link or directory: left out"
            )
    return hashes


def _assemble(survey: "Survey", folder: "Folder", contents: Contents, now_ns: int) -> None:
    hashes = contents.hashes[folder.path]
    files: list[tuple[str, Digest, bool]] = []
    links: list[tuple[str, str]] = []
    for name, seen in folder.entries():
        if name in hashes:
            files.append((name, Digest(hashes[name], seen[0]), seen[4] & 0o100 != 0))
        elif S_ISLNK(seen[4]):
            links.append((name, _target(survey.full(join(folder.path, name)))))
    leaf = leaves(files, links, declared=folder.declared)
    contents.leaves[folder.path] = leaf
    listing = folder.listing
    fresh = [name for name, seen in listing.items() if is_fresh(seen, now_ns)]
    if fresh:
        listing = {name: seen for name, seen in listing.items() if name not in fresh}
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
            content = posix.read(fd, CHUNK)
            if len(content) < CHUNK:
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
    big = [job for job in jobs if job[3][0] >= _BIG]
    for job in jobs if len(big) < 2 else [job for job in jobs if job[3][0] < _BIG]:
        _hash_one(job)
    if len(big) >= 2:
        _in_threads(big)


def _hash_one(job: "Job") -> None:
    hashes, name, full, seen = job
    try:
        hashes[name], size = hash_file(full, seen[0])
    except FileNotFoundError:
        raise InputError(f"{printable(full)} vanished before it was read") from None
    except OSError as error:
        raise InputError(
            f"can't read {printable(full)}: {error.strerror}", hint="exclude it with -i '!…'"
        ) from error
    if size != seen[0]:
        raise InputError(f"{printable(full)} changed its size while it was read")


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

    for _ in range(
        min(len(jobs), len(posix.sched_getaffinity(0)) if hasattr(posix, "sched_getaffinity") else 2)
    ):
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
            if hash_file(path)[0] != known:
                return path
        except OSError:
            return path
    return ""


def wall_ns() -> int:
    return time.time_ns()
