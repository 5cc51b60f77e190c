"""What a run says of itself while it lives: lines that it and its processes add to files in the capsule.

Every process that speaks has a file of its own in `live/`, opened for appending, and each line is one write: so nothing
is torn or lost, whoever speaks at the same time and however they end. A line is JSON: `[name, value, step, time]` of a
metric, or an object of anything else. When the capsule is sealed, they become columns (engine.columns).
"""

from __future__ import annotations

import errno
import json
import os
import stat

FOLDER, ENDED = "live", "said"
SUFFIX = ".jsonl"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


class Pen:
    """Adds lines to the live capsule at `path`. OSError when there is none, or none any more, or the disk is full.

    Threads share it without a lock, which a fork could leave locked: what belongs to a file is in one tuple, and that
    two threads open a file each does no harm.
    """

    __slots__ = ("_file", "_folder", "_is_torn")

    def __init__(self, path: str) -> None:
        self._folder = os.path.join(path, FOLDER)
        # Process, descriptor, device and inode.
        self._file = (0, -1, 0, 0)
        self._is_torn = False

    def write(self, line: bytes) -> None:
        """`line` is whole and ends with a newline."""
        number = self._number()
        if self._is_torn:
            line = b"\n" + line
        written = os.write(number, line)
        self._is_torn = written < len(line)
        if self._is_torn:
            raise OSError("only a part of it could be written")

    def close(self) -> None:
        pid, number, *identity = self._file
        self._file = (0, -1, 0, 0)
        try:
            if pid == os.getpid() and _identity(number) == (*identity,):
                os.close(number)
        except OSError:
            return

    def _number(self) -> int:
        pid, number, *identity = self._file
        try:
            # Programs close descriptors that aren't theirs (daemons do); the next file that they open has this number.
            if pid == os.getpid() and _identity(number) == (*identity,):
                return number
        except OSError:
            pass
        name = f"{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
        number = os.open(os.path.join(self._folder, name), _FLAGS, 0o600)
        self._file = (os.getpid(), number, *_identity(number))
        return number


def _identity(number: int) -> tuple[int, int]:
    look = os.fstat(number)
    return look.st_dev, look.st_ino


def open_live(path: str) -> None:
    """From now on the capsule at `path` is spoken to."""
    os.mkdir(os.path.join(path, FOLDER), 0o700)


def is_live(path: str) -> bool:
    return bool(path) and os.path.isdir(os.path.join(path, FOLDER))


def close_live(path: str) -> str:
    """Nobody can begin to speak to the capsule at `path` any more; where what was said is now."""
    ended = os.path.join(path, ENDED)
    os.rename(os.path.join(path, FOLDER), ended)
    return ended


def file_sha256(path: str) -> str:
    """OSError for what can't be read, and for what would never end or is somebody else's to read, like a pipe."""
    import hashlib

    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def metric_line(name: str, value: object, step: object, seconds: float) -> bytes:
    """`value` is what JSON can hold; no number is lost that it can't."""
    if type(value) is float and value - value == 0.0:  # finite
        told = repr(value)
    elif type(value) is int:
        told = str(value) if value.bit_length() < 1000 else json.dumps(hex(value)[:300])
    else:
        told = json.dumps(_safe(value))
    shown_step = "null" if step is None else str(step) if type(step) is int else json.dumps(_safe(step))
    return f"[{_quoted(name)},{told},{shown_step},{seconds:.6f}]\n".encode("ascii")


def fact_line(fact: dict[str, object]) -> bytes:
    return (json.dumps(fact) + "\n").encode("ascii")


def _safe(value: object) -> object:
    """The three floats that JSON has no word for, by those of protobuf's JSON."""
    if type(value) is float:
        return value if value - value == 0.0 else WORDS[repr(value)]
    return value


WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_names: dict[str, str] = {}


def _quoted(name: str) -> str:
    found = _names.get(name)
    if found is None:
        found = json.dumps(name)
        if len(_names) < 1000:
            _names[name] = found
    return found
