"""Regular files outside the store: read as they are at that moment, made new with exactly the wanted bytes and mode."""

import os
from stat import S_ISREG

from capsula.core.digest import Digest, sha256
from capsula.errors import CapsulaError, OutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHUNK = 1 << 20
SMALL = CHUNK  # up to here a content is held in memory, which saves a second look at it; beyond, memory stays flat
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_MOST_PIECES = 1024  # that one call takes on Linux (IOV_MAX)
_FICLONE = 0x40049409  # Linux, <linux/fs.h>; elsewhere it is no request that anything knows


def open_regular(path: str) -> int:
    """A descriptor to read the regular file at `path`; OutputError if it can't be read or is something else."""
    try:
        # Not following links and not blocking: a pipe put in the file's place would hang us for ever.
        fd = os.open(path, _READ)
    except OSError as error:
        raise unreadable(path, error) from error
    if S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OutputError(f"{_shown(path)} is not a regular file")


def read_head(fd: int, limit: int) -> bytes:
    """The first `limit` bytes, fewer if the file ends before."""
    size = min(os.fstat(fd).st_size, limit)  # only a hint: files of /proc say 0, and a file may grow
    content = os.read(fd, size + 1 if size < limit else limit)
    if not content or len(content) == limit:
        return content
    parts = [content]
    have = len(content)
    while have < limit and (content := os.read(fd, min(limit - have, CHUNK))):
        parts.append(content)
        have += len(content)
    return b"".join(parts) if len(parts) > 1 else parts[0]


def create(path: str) -> int:
    """A descriptor of the new, empty, private file at `path`; OutputError if something is there already."""
    try:
        return os.open(path, _CREATE, 0o600)
    except OSError as error:
        raise unwritable(path, error) from error


def write_new(path: str, content: bytes, mode: int) -> None:
    """A new file with these bytes and permission bits, whatever the umask; on failure there is none."""
    fd = create(path)
    try:
        try:
            write_all(fd, content)
            os.fchmod(fd, mode & 0o777)
        except OSError as error:
            raise unwritable(path, error) from error
        finally:
            os.close(fd)
    except BaseException:
        os.unlink(path)
        raise


def write_all(fd: int, content: "bytes | memoryview") -> None:
    written = os.write(fd, content)
    if written < len(content):  # a disk that fills up, or more than 2 GiB
        rest = memoryview(content)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def write_pieces(fd: int, pieces: "Sequence[bytes]") -> None:
    """One after the other, without putting them together first, which takes as long as writing them."""
    for start in range(0, len(pieces), _MOST_PIECES):
        some = pieces[start : start + _MOST_PIECES]
        written = os.writev(fd, some)
        if written < sum([len(piece) for piece in some]):
            write_all(fd, memoryview(b"".join(some))[written:])


def digest_file(fd: int, unreadable: "Callable[[OSError], CapsulaError]") -> Digest:
    """The digest of all that can be read from the start of a file; memory stays flat."""
    hashed, size = sha256(), 0
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        while chunk := os.read(fd, CHUNK):
            hashed.update(chunk)
            size += len(chunk)
    except OSError as error:
        raise unreadable(error) from error
    return Digest(hashed.hexdigest(), size)


def copy(
    source: int,
    target: int,
    unreadable: "Callable[[OSError], CapsulaError]",
    unwritable: "Callable[[OSError], CapsulaError]",
) -> Digest:
    """Copy a whole file into a new one; the digest is of what the new one holds, even if the source changes meanwhile.

    A clone (btrfs, XFS, bcachefs) shares the blocks, and the clone is what is digested. Where there is none, one
    pass reads, digests and writes each piece while it is in the processor's cache: copying in the kernel and reading
    the copy again to digest it took as long or longer. A piece of zeros becomes a hole, so a sparse file stays sparse.
    """
    if _clone(source, target):
        return digest_file(target, unreadable)
    zeros = bytes(CHUNK)
    hashed, size = sha256(), 0
    try:
        os.lseek(source, 0, os.SEEK_SET)
        chunk = os.read(source, CHUNK)
    except OSError as error:
        raise unreadable(error) from error
    while chunk:
        hashed.update(chunk)
        size += len(chunk)
        try:
            if chunk == zeros:
                os.lseek(target, size, os.SEEK_SET)
            else:
                write_all(target, chunk)
        except OSError as error:
            raise unwritable(error) from error
        try:
            chunk = os.read(source, CHUNK)
        except OSError as error:
            raise unreadable(error) from error
    try:
        os.ftruncate(target, size)  # a hole at the end isn't there before this
    except OSError as error:
        raise unwritable(error) from error
    return Digest(hashed.hexdigest(), size)


def unreadable(path: str, error: OSError) -> OutputError:
    return OutputError(f"can't read {_shown(path)}: {error.strerror or error}")


def unwritable(path: str, error: OSError) -> OutputError:
    return OutputError(f"can't write {_shown(path)}: {error.strerror or error}")


def _clone(source: int, target: int) -> bool:
    try:
        from fcntl import ioctl

        ioctl(target, _FICLONE, source)
    except (ImportError, OSError):
        return False
    return True


def _shown(path: str) -> str:
    from capsula.core.names import printable

    return printable(path)
