"""The files in an encoded `Directory`, read without an object for each of their parts.

A file there is four messages: its node, its digest, its properties and its mode. Nearly all are written in the same
way, and read here by where things stand; the others are left to core.wire.
"""

from capsula.core.digest import Digest
from capsula.core.wire import read_varint
from capsula.errors import WireError

# What stands before the parts of a FileNode, in the order in which they are written.
_FILE, _NAME, _DIGEST, _HASH, _SIZE, _EXECUTABLE, _PROPERTIES, _MODE, _VALUE = (
    b"\n\n\x12\n\x10\x20\x32\x1a\x08"
)
_LARGEST_SIZE, _LARGEST_MODE = (1 << 63) - 1, (1 << 32) - 1


def files_of(data: bytes) -> tuple[list[tuple[str, Digest, int]], bytes]:
    """(name, digest, mode) of the first files in a Directory, and the bytes of all the rest: a Directory, too."""
    files: list[tuple[str, Digest, int]] = []
    position, end = 0, len(data)
    try:
        while position < end:
            read = _file(data, position)
            if read is None:
                break
            file, position = read
            files.append(file)
    except (IndexError, UnicodeDecodeError, WireError):
        pass  # what is wrong with it, core.wire can tell
    return files, data[position:]


def _file(data: bytes, start: int) -> "tuple[tuple[str, Digest, int], int] | None":
    """The file that begins there, and where it ends. None if it isn't as most are."""
    if data[start] != _FILE:
        return None
    size, at = read_varint(data, start + 1)
    end = at + size
    length = data[at + 1]
    name = data[at + 2 : at + 2 + length]
    if data[at] != _NAME or length > 127:
        return None
    at += 2 + length
    inner = data[at + 1]
    if data[at] != _DIGEST or data[at + 2] != _HASH or data[at + 3] != 64:
        return None
    digits = data[at + 4 : at + 68]
    number, after = 0, at + 68
    if data[after] == _SIZE:
        number, after = read_varint(data, after + 1)
    if after != at + 2 + inner or number > _LARGEST_SIZE:
        return None
    if data[after] == _EXECUTABLE and data[after + 1] == 1:
        after += 2
    mode, stop = read_varint(data, after + 5)
    if (
        data[after] != _PROPERTIES
        or data[after + 1] != stop - after - 2
        or data[after + 2] != _MODE
        or data[after + 3] != stop - after - 4
        or data[after + 4] != _VALUE
        or mode > _LARGEST_MODE
        or stop != end
    ):
        return None
    return (name.decode(), Digest(digits.decode(), number), mode), end
