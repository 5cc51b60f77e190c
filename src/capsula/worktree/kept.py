"""What is remembered between runs of one capsule in one place, to save reading: deletable at any time, never
the truth."""

import _imp
import marshal
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.worktree.digests import Kept
    from capsula.worktree.listing import Look

    Areas = tuple[dict[str, Kept], dict[str, Kept]]
    Values = tuple[Areas, Areas, dict[str, tuple[Look, str]], dict[str, tuple[int | str, ...]]]

_MAGIC = b"capsula-kept1\n"
_HEAD = len(_MAGIC) + 8
_CHECK = 0x6B657074


class Memory:
    """`inputs` and `outputs`: folders by area (inside, outside); `followed`: hash behind a link by its look;
    `made`: the look of each output that a run of this capsule made or restored, by full path; and its content, if the
    look was too fresh to prove anything.
    """

    __slots__ = ("_before", "_saved", "followed", "inputs", "made", "outputs", "path")

    def __init__(self, path: str) -> None:
        """`path` is the file; "" remembers nothing. A file that can't be read or isn't ours is no memory."""
        self.path = path
        self._before = b""
        # What that held, as it was then: nothing of it is changed, it is only replaced.
        self._saved: tuple[object, ...] = (None,) * 4
        self.inputs: Areas = ({}, {})
        self.outputs: Areas = ({}, {})
        self.followed: dict[str, tuple[Look, str]] = {}
        self.made: dict[str, tuple[int | str, ...]] = {}
        content = _read(path)
        values = _values(content)
        if values is not None:
            self.inputs, self.outputs, self.followed, self.made = self._saved = values
            self._before = content

    def save(self) -> None:
        """Write it back if it changed; failing to is no failure. The last writer of two wins."""
        values = self.inputs, self.outputs, self.followed, self.made
        if not self.path or all([one is saved for one, saved in zip(values, self._saved, strict=True)]):
            return
        packed = marshal.dumps(values, 2)
        content = _MAGIC + _imp.source_hash(_CHECK, packed) + packed
        if content == self._before or write_whole(self.path, content):
            self._before, self._saved = content, values

    def reload_made(self) -> None:
        """What another process of this capsule made meanwhile counts as well."""
        content = _read(self.path)
        values = _values(content) if content != self._before else None
        if values is not None:
            self.made = {**self.made, **values[3]}


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (OSError, ValueError):
        return b""


def _values(content: bytes) -> "Values | None":
    """None if it isn't ours, or spoilt: what a disk has spoilt would be hashes of other contents."""
    rest = memoryview(content)[_HEAD:]
    try:
        if content[:_HEAD] != _MAGIC + _imp.source_hash(_CHECK, rest):
            return None
        inputs, outputs, followed, made = marshal.loads(rest)
    except (ValueError, EOFError, TypeError):
        return None
    return inputs, outputs, followed, made


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
