"""Facts that cost a system call: the declared variables, the operating system and architecture, a file on
standard input."""

import posix
from stat import S_ISREG

from capsula.core.digest import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CHUNK = 1 << 18
_SEEK_CUR = 1


def variables(names: tuple[str, ...], environ: "Mapping[bytes, bytes]") -> tuple[tuple[str, str | None], ...]:
    """(name, value) of each declared variable, None when it is unset: unset and empty are different things."""
    rows = []
    for name in names:
        value = environ.get(name.encode("utf-8", "surrogateescape"))
        rows.append((name, None if value is None else value.decode("utf-8", "surrogateescape")))
    return tuple(rows)


def system() -> tuple[str, str]:
    """Operating system and architecture, as `uname` says them in lower case: ("linux", "x86_64")."""
    seen = posix.uname()
    return seen.sysname.lower(), seen.machine


def standard_input() -> str:
    """The hash of what a regular file on standard input has left to read; "" for a terminal, a pipe or /dev/null.

    `command < file` reads a file that no pattern declares; what is on a pipe can't be known before the command
    takes it.
    """
    try:
        s = posix.fstat(0)
        if not S_ISREG(s.st_mode):
            return ""
        at = posix.lseek(0, 0, _SEEK_CUR)
        state = sha256()
        # Positional reads: the offset of the descriptor belongs to the command.
        while chunk := posix.pread(0, CHUNK, at):
            state.update(chunk)
            at += len(chunk)
    except OSError:
        return ""
    return state.hexdigest()
