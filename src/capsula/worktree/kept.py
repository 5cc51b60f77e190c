"""What is remembered between runs of one capsule in one place, to save reading: deletable at any time, never
the truth."""

import _imp
import marshal
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.worktree.digests import Kept
    from capsula.worktree.listing import Look

_MAGIC = b"capsula-kept1\n"
_HEAD = len(_MAGIC) + 8
_CHECK = 0x6B657074


class Memory:
    """`inputs` and `outputs`: folders by area (inside, outside); `followed`: hash behind a link by its look;
    `made`: the look of each output that a run of this capsule made or restored, by full path; and its content, if the
    look was too fresh to prove anything.
    """

    __slots__ = ("_before", "followed", "inputs", "made", "outputs", "path")

    def __init__(self, path: str) -> None:
        """`path` is the file; "" remembers nothing. A file that can't be read or isn't ours is no memory."""
        self.path = path
        self._before = b""
        self.inputs: tuple[dict[str, Kept], dict[str, Kept]] = ({}, {})
        self.outputs: tuple[dict[str, Kept], dict[str, Kept]] = ({}, {})
        self.followed: dict[str, tuple[Look, str]] = {}
        self.made: dict[str, tuple[int | str, ...]] = {}
        try:
            with open(path, "rb", buffering=0) as file:
                content = file.read()
            rest = memoryview(content)[_HEAD:]
            # With a checksum: what a disk has spoilt would be hashes of other contents.
            if content[:_HEAD] == _MAGIC + _imp.source_hash(_CHECK, rest):
                values = marshal.loads(rest)
                self.inputs, self.outputs, self.followed, self.made = values
                self._before = content
        except (OSError, ValueError, EOFError, TypeError):
            return

    def save(self) -> None:
        """Write it back if it changed; failing to is no failure. The last writer of two wins."""
        if not self.path:
            return
        values = marshal.dumps((self.inputs, self.outputs, self.followed, self.made), 2)
        content = _MAGIC + _imp.source_hash(_CHECK, values) + values
        if content != self._before and write_whole(self.path, content):
            self._before = content

    def reload_made(self) -> None:
        """What another process of this capsule made meanwhile counts as well."""
        self.made = {**self.made, **Memory(self.path).made}


class alone:  # noqa: N801 - reads as what it does: `with alone(path):`
    """Holds a lock of the kernel beside the memory's file, so that two runs of a capsule in one checkout don't put its
    outputs back at once. A holder that dies lets go; where no lock can be had, nobody waits.
    """

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> None:
        if not self._path:
            return
        flags = posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC
        try:
            try:
                self._fd = posix.open(self._path + ".lock", flags, 0o600)
            except FileNotFoundError:
                _make_parents(self._path.rpartition("/")[0])
                self._fd = posix.open(self._path + ".lock", flags, 0o600)
            posix.lockf(self._fd, posix.F_LOCK, 0)
        except OSError:
            return

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            posix.close(self._fd)


def write_whole(path: str, content: bytes) -> bool:
    """Replace a file of our own in one step; False when that can't be done. Made for records that may be lost."""
    aside = f"{path}.{posix.getpid()}"
    try:
        try:
            fd = posix.open(aside, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            _make_parents(path.rpartition("/")[0])
            fd = posix.open(aside, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[posix.write(fd, view) :]
        finally:
            posix.close(fd)
        posix.rename(aside, path)
    except OSError:
        try:
            posix.unlink(aside)
        except OSError:
            return False
        return False
    return True


def _make_parents(path: str) -> None:
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_parents(path.rpartition("/")[0])
        posix.mkdir(path, 0o700)
