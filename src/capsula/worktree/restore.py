"""Restoring: make the declared outputs exactly what a result says, all or nothing, and lose nothing of the user's.

The order of things is the point of this module. Everything that has to be written is fetched and verified in a staging
directory on the same file system first; only then is the work tree touched, by renames, each of which can be
taken back.
What was there before is one of two kinds: what a run of this capsule made (it can be made again: it goes to the staging
directory and away with it), and everything else, which is the user's: it is buried in the trash before
anything else moves.

A process killed half-way leaves some outputs old and some new, and a staging directory; the next run compares looks and
contents, not a marker, so it sees exactly that and repairs it. A staging directory is in the store, or a link there
leads to it, so that the next who looks (a run, a sweep) finds those of dead processes, wherever they are.
"""

import errno
import os
import posix
from itertools import count
from stat import S_ISDIR, S_ISGID

from capsula.core.names import printable
from capsula.core.node import DIRECTORY, FILE, LINK, Node
from capsula.core.recipe import is_below
from capsula.errors import CapsulaError, OutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.core.digest import Digest
    from capsula.ports import BlobStore

    Fetch = tuple[Digest, str, int]  # what, where to, permission bits

STAGE = ".capsula-stage-"
# So many files are fetched by two processes. To make one costs as much as some twenty files.
MANY = 64


class Plan:
    """What has to happen; paths are full paths.

    `own` are the paths whose present content a run of this capsule made. Below each of `bases` nothing is written
    through a link, but for those in `through`, which the user's own patterns spell out.
    """

    __slots__ = ("bases", "chmods", "make", "own", "remove", "rmdirs", "through")

    def __init__(self) -> None:
        self.make: dict[str, Node] = {}
        self.chmods: dict[str, int] = {}
        self.remove: list[str] = []
        self.rmdirs: list[str] = []
        self.own: set[str] = set()
        self.bases: tuple[str, ...] = ()
        self.through: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self.make or self.chmods or self.remove or self.rmdirs)


def plan(wanted: dict[str, Node], found: dict[str, Node], own: "set[str]", kept_back: "set[str]") -> Plan:
    """Compare what a result wants with what is found. `kept_back` (declared inputs) is never removed. Pure."""
    steps = Plan()
    steps.own = own
    for path, node in wanted.items():
        have = found.get(path)
        if have == node:
            continue
        if have is not None and have.kind == node.kind and have.kind != LINK and have.digest == node.digest:
            steps.chmods[path] = node.mode
        else:
            steps.make[path] = node
            if have is not None and have.kind == DIRECTORY:
                steps.rmdirs.append(path)
            elif have is not None and node.kind != FILE:
                steps.remove.append(path)
    for path, node in found.items():
        if path not in wanted and path not in kept_back:
            (steps.rmdirs if node.kind == DIRECTORY else steps.remove).append(path)
    steps.rmdirs.sort(key=len, reverse=True)
    return steps


class Restored:
    """What a restore did: counts, bytes fetched, and the paths of the user's files that went to the trash."""

    __slots__ = ("bytes", "buried", "removed", "written")

    def __init__(self) -> None:
        self.written = 0
        self.removed = 0
        self.bytes = 0
        self.buried: list[str] = []


def restore(
    steps: Plan,
    store: "BlobStore",
    places: tuple[str, ...],
    bury: "Callable[[str], Callable[[], None]]",
) -> Restored:
    """Carry out the plan. `bury(path)` moves a file to the trash and answers how to take it back.

    `places` are directories to stage in, best first, as far as they are on the same file system as what is made.
    Raises OutputError or StoreError with the work tree as it was before.
    """
    try:
        return _carry_out(_Restore(steps, store, places, bury))
    except OSError as error:
        if error.errno == errno.EXDEV:
            # One device, and yet not one file system: a bind mount, or another project's quota. Stage beside it then.
            try:
                beside = _Restore(steps, store, (), bury)
                beside.noted_in = places[0]
                return _carry_out(beside)
            except OSError as again:
                error = again
        raise OutputError(
            f"can't restore {printable(os.fsdecode(error.filename or places[-1]))}: {error.strerror}",
            hint="the command runs instead; check the permissions and the space of the output directory",
        ) from error


def _carry_out(work: "_Restore") -> Restored:
    try:
        work.stage()
        work.apply()
    except BaseException:
        work.undo()
        raise
    finally:
        work.clean()
    return work.restored


class _Restore:
    def __init__(
        self,
        steps: Plan,
        store: "BlobStore",
        places: tuple[str, ...],
        bury: "Callable[[str], Callable[[], None]]",
    ) -> None:
        self.steps = steps
        self.store = store
        self.places = places
        self.bury = bury
        self.restored = Restored()
        self.stages: dict[int, str] = {}
        # Where links to the staging directories that are elsewhere are kept, and those that there are.
        self.noted_in = places[0] if places else ""
        self.notes: list[str] = []
        self.count = 0
        # (staged path, final path) of each subtree; directories that must be made; what takes each done step back.
        self.moves: list[tuple[str, str]] = []
        self.tops: dict[str, str] = {}
        self.missing: dict[str, bool] = {}
        self.made: set[str] = set()
        self.checked: set[str] = set()
        self.leaving = set(steps.remove)
        # The modes of directories that were made writable, until they are given back.
        self.opened: dict[str, int] = {}
        self.taken_back: list[Callable[[], None]] = []

    def stage(self) -> None:
        """Fetch and verify everything to the side. Nothing of the user's is touched."""
        fetches: list[Fetch] = []
        for path in sorted(self.steps.make):
            node = self.steps.make[path]
            self._check_parent(path.rpartition("/")[0])
            staged = self._staged(path)
            if node.kind == DIRECTORY:
                self._make_directories(staged)
            elif node.kind == LINK:
                self._make_directories(staged.rpartition("/")[0])
                posix.symlink(node.target, staged)
            elif node.digest is not None:
                self._make_directories(staged.rpartition("/")[0])
                fetches.append((node.digest, staged, node.mode))
                self.restored.bytes += node.digest.size_bytes
            self.restored.written += node.kind != DIRECTORY
        fetch_all(self.store, fetches)

    def apply(self) -> None:
        steps = self.steps
        self._open_directories()
        for path in steps.remove:
            self._put_away(path)
            self.restored.removed += 1
        for path in steps.rmdirs:
            self._rmdir(path)
        for staged, path in self.moves:
            self._move_in(staged, path)
        for path, mode in (*self.opened.items(), *steps.chmods.items()):
            self._chmod(path, mode)
        # Last and deepest first: a directory that is read-only in the result could not have been filled before.
        made = [path for path, node in steps.make.items() if node.kind == DIRECTORY]
        for path in sorted(made, key=len, reverse=True):
            self._chmod(path, steps.make[path].mode)

    def undo(self) -> None:
        for take_back in reversed(self.taken_back):
            try:
                take_back()
            except (OSError, CapsulaError):
                continue

    def clean(self) -> None:
        for stage in self.stages.values():
            remove_tree(stage)
        for note in self.notes:
            remove_tree(note)

    def _staged(self, path: str) -> str:
        """Where `path` is prepared: inside the staged copy of its topmost missing directory, else on its own."""
        top = path
        parent = path.rpartition("/")[0]
        while parent and self._is_missing(parent):
            top = parent
            parent = parent.rpartition("/")[0]
        if top not in self.tops:
            stage = self._stage_for(parent or "/")
            self.count += 1
            self.tops[top] = f"{stage}/{self.count}"
            self.moves.append((self.tops[top], top))
        return self.tops[top] + path[len(top) :]

    def _check_parent(self, parent: str) -> None:
        steps = self.steps
        base = max([base for base in steps.bases if is_below(parent, base)], key=len, default=parent)
        while parent not in self.checked and len(parent) > len(base):
            self.checked.add(parent)
            gone = parent in self.leaving or parent in steps.make
            if not gone and parent not in steps.through and os.path.islink(parent):
                raise OutputError(
                    f"can't restore below {printable(parent)}, which is a link",
                    hint="declare the path that it leads to, or name the link in the output pattern",
                )
            parent = parent.rpartition("/")[0]

    def _is_missing(self, path: str) -> bool:
        known = self.missing.get(path)
        if known is None:
            # A file or link that stands where a directory is wanted goes away first, so it counts as missing.
            node = self.steps.make.get(path)
            known = path in self.leaving or (node is not None and node.kind == DIRECTORY)
            known = known or not os.path.lexists(path)
            self.missing[path] = known
        return known

    def _stage_for(self, parent: str) -> str:
        look = posix.stat(parent)
        stage = self.stages.get(look.st_dev)
        if stage is None:
            stage = self._open_stage(parent, look)
            self.stages[look.st_dev] = stage
        return stage

    def _open_stage(self, parent: str, look: posix.stat_result) -> str:
        # What is made in a directory with the set-group-ID bit or a default ACL takes over its group or its rights:
        # then only what is staged right there becomes what the command itself would have made.
        if not look.st_mode & S_ISGID and not _has_default_rights(parent):
            for place in self.places:
                try:
                    if posix.stat(place).st_dev == look.st_dev:
                        return self._new_stage(place)
                except OSError:
                    continue
        return self._new_stage(parent)

    def _new_stage(self, parent: str) -> str:
        name = f"{STAGE}{posix.getpid()}-{next(_counter)}"
        path = f"{parent.rstrip('/')}/{name}"
        if parent != self.noted_in:
            try:
                # First: a kill in between leaves a link to nothing, not a directory that nobody knows of.
                posix.symlink(path, f"{self.noted_in}/{name}")
                self.notes.append(f"{self.noted_in}/{name}")
            except OSError:
                pass  # a store that can't be written to
        posix.mkdir(path, 0o700)
        return path

    def _make_directories(self, path: str) -> None:
        if path in self.made:
            return
        try:
            posix.mkdir(path)
        except FileExistsError:
            pass
        except FileNotFoundError:
            self._make_directories(path.rpartition("/")[0])
            posix.mkdir(path)
        self.made.add(path)

    def _open_directories(self) -> None:
        """Directories that we have to write in and may not are made writable; they get their modes back at the end."""
        touched = {path.rpartition("/")[0] for path in (*self.tops, *self.steps.remove, *self.steps.rmdirs)}
        for path in touched:
            try:
                mode = posix.stat(path or "/").st_mode & 0o7777
            except FileNotFoundError:
                continue
            if mode & 0o300 != 0o300:
                self._chmod(path, mode | 0o300)
                self.opened[path] = mode

    def _close(self, path: str) -> None:
        if path in self.opened:
            self._chmod(path, self.opened.pop(path))

    def _put_away(self, path: str) -> None:
        if path in self.steps.own:
            stage = self._stage_for(path.rpartition("/")[0] or "/")
            self.count += 1
            aside = f"{stage}/{self.count}"
            posix.rename(path, aside)
            self.taken_back.append(lambda: posix.rename(aside, path))
        else:
            self.taken_back.append(self.bury(path))
            self.restored.buried.append(path)

    def _rmdir(self, path: str) -> None:
        try:
            mode = posix.stat(path).st_mode & 0o7777
            posix.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                raise
            # Something undeclared or excluded lives in it, or another file system is mounted there: it stays.
            return
        self.opened.pop(path, None)

        def make_again() -> None:
            posix.mkdir(path)
            posix.chmod(path, mode)

        self.taken_back.append(make_again)

    def _move_in(self, staged: str, path: str) -> None:
        if os.path.lexists(path):
            for opened in [opened for opened in self.opened if is_below(opened, path)]:
                self._close(opened)
            self._put_away(path)
        posix.rename(staged, path)
        self.taken_back.append(lambda: remove_tree(path))

    def _chmod(self, path: str, mode: int) -> None:
        look = posix.stat(path)
        before = look.st_mode & 0o7777
        if S_ISDIR(look.st_mode):
            # Who inherits the group of a directory is its place's business and not the result's.
            mode |= before & 0o7000
        posix.chmod(path, mode)
        self.taken_back.append(lambda: posix.chmod(path, before))


def fetch_all(store: "BlobStore", fetches: "list[Fetch]") -> None:
    """Fetch many blobs; raises what the first of them that fails raises.

    Of very many, a process of its own makes one half. Making a file is waiting for the file system, and two that make
    them in different directories take 0.6 of the time of one (ext4; in the same directory 0.95). Threads would take
    turns under the interpreter's one lock. What is in memory only has to be written: that takes as long as the start of
    a process.
    """
    half = len(fetches) // 2 if len(fetches) >= MANY and not store.at_hand else 0
    pid = _fork_to_fetch(store, fetches[:half]) if half else 0
    try:
        for digest, path, mode in fetches[half:] if pid else fetches:
            store.fetch(digest, path, mode)
    finally:
        # Waited for also when we have failed: nobody may write any more into what is removed then.
        is_done = _has_done_it(pid) if pid else True
    if not is_done:
        # Whatever was the matter (killed, a bad blob, a full disk), it is done here again, or says why not.
        for digest, path, mode in fetches[:half]:
            remove_tree(path)
            store.fetch(digest, path, mode)


def _fork_to_fetch(store: "BlobStore", fetches: "list[Fetch]") -> int:
    """The process that fetches these, 0 if there is none."""
    parent = posix.getpid()
    try:
        pid = posix.fork()
    except OSError:
        return 0
    if pid:
        return pid
    try:
        for digest, path, mode in fetches:
            if posix.getppid() != parent:
                break  # nobody waits any more, and somebody may be removing this directory
            store.fetch(digest, path, mode)
        else:
            posix._exit(0)
    finally:
        posix._exit(1)


def _has_done_it(pid: int) -> bool:
    try:
        return posix.waitpid(pid, 0)[1] == 0
    except ChildProcessError:  # SIGCHLD is ignored: nobody tells how it ended
        return False


_counter = count()


def remove_abandoned(noted_in: str) -> None:
    """Remove staging directories of dead processes in this directory of ours, and those that links in it lead to."""
    try:
        names = posix.listdir(noted_in)
    except OSError:
        return
    for name in names:
        if name.startswith(STAGE) and _is_dead(name[len(STAGE) :].partition("-")[0]):
            try:
                target = posix.readlink(f"{noted_in}/{name}")
            except OSError:
                target = ""
            if target.endswith("/" + name):
                remove_tree(target)
            remove_tree(f"{noted_in}/{name}")


def _has_default_rights(directory: str) -> bool:
    try:
        posix.getxattr(directory, "system.posix_acl_default")
    except (OSError, AttributeError):
        return False
    return True


def _is_dead(pid: str) -> bool:
    try:
        posix.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False


def remove_tree(path: str) -> None:
    """Remove a file or a whole directory of ours as far as it can be done; read-only directories are opened first."""
    pending, directories = [path], []
    while pending:  # not by recursion: a tree may be deeper than the interpreter's stack
        path = pending.pop()
        try:
            posix.unlink(path)
            continue
        except (IsADirectoryError, PermissionError):
            pass
        except OSError:
            continue
        try:
            posix.chmod(path, 0o700)
            pending += [f"{path}/{name}" for name in posix.listdir(path)]
        except OSError:
            continue
        directories.append(path)
    for path in reversed(directories):
        try:
            posix.rmdir(path)
        except OSError:
            continue
