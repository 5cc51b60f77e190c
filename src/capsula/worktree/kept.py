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
    # Of outputs, followed and made.
    Rest = tuple[Areas, dict[str, tuple[Look, str]], dict[str, tuple[int | str, ...]]]

_MAGIC = b"capsula-kept2\n"
_CHECKED = len(_MAGIC) + 8
_HEAD = _CHECKED + 8
_CHECK = 0x6B657074


class Memory:
    """`inputs` and `outputs`: folders by area (inside, outside); `followed`: hash behind a link by its look;
    `made`: the look of each output that a run of this capsule made or restored, by full path; and its content, if the
    look was too fresh to prove anything.

    The inputs are most of it. They are unpacked when they are asked for, which those who only put outputs back don't
    do, and packed again when they are others. What is in here is replaced, and never changed.
    """

    __slots__ = ("_before", "_inputs", "_known", "_packed", "followed", "made", "outputs", "path")

    def __init__(self, path: str) -> None:
        """`path` is the file; "" remembers nothing. A file that can't be read or isn't ours is no memory."""
        self.path = path
        self.outputs: Areas = ({}, {})
        self.followed: dict[str, tuple[Look, str]] = {}
        self.made: dict[str, tuple[int | str, ...]] = {}
        # What the file holds: all of it, the inputs' part, and the values that have been unpacked.
        self._before = b""
        self._packed = memoryview(b"")
        self._known: tuple[Areas | None, Rest | None] = (None, None)
        self._inputs: Areas | None = None
        content = _read(path)
        found = _parts(content)
        if found is not None:
            self._before, self._packed, rest = content, *found
            self.outputs, self.followed, self.made = rest
            self._known = (None, rest)

    @property
    def inputs(self) -> "Areas":
        if self._inputs is None:
            self._inputs = marshal.loads(self._packed) if self._packed else ({}, {})
            self._known = (self._inputs, self._known[1])
        return self._inputs

    @inputs.setter
    def inputs(self, inputs: "Areas") -> None:
        self._inputs = inputs

    def save(self) -> None:
        """Write it back if it changed; failing to is no failure. The last writer of two wins."""
        if not self.path:
            return
        rest = self.outputs, self.followed, self.made
        is_known = self._inputs is None or self._inputs == self._known[0]
        if is_known and rest == self._known[1]:
            return
        inputs = self._packed if is_known and self._packed else marshal.dumps(self.inputs, 2)
        packed = len(inputs).to_bytes(8, "big") + inputs + marshal.dumps(rest, 2)
        content = _MAGIC + _imp.source_hash(_CHECK, packed) + packed
        if content == self._before or write_whole(self.path, content):
            self._before, self._known = content, (self._inputs, rest)
            self._packed = memoryview(content)[_HEAD : _HEAD + len(inputs)]

    def reload_made(self) -> None:
        """What another process of this capsule made meanwhile counts as well."""
        content = _read(self.path)
        found = _parts(content) if content != self._before else None
        if found is not None:
            self.made = {**self.made, **found[1][2]}


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (OSError, ValueError):
        return b""


def _parts(content: bytes) -> "tuple[memoryview, Rest] | None":
    """The inputs, packed, and the rest. None if it isn't ours, or spoilt: what a disk has spoilt would be hashes of
    other contents."""
    view = memoryview(content)
    if content[:_CHECKED] != _MAGIC + _imp.source_hash(_CHECK, view[_CHECKED:]):
        return None
    end = _HEAD + int.from_bytes(view[_CHECKED:_HEAD], "big")
    try:
        outputs, followed, made = marshal.loads(view[end:])
    except (ValueError, EOFError, TypeError):
        return None
    return view[_HEAD:end], (outputs, followed, made)


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
