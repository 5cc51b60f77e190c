"""The output of tool commands (`cc --version`): what they print, and how they exit, is part of the key."""

import posix
from os import waitstatus_to_exitcode

from capsula.core.digest import sha256
from capsula.core.names import printable
from capsula.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT_SIGNALS = (13, 25)  # SIGPIPE and SIGXFSZ, which Python ignores and its children must not


def tool_output(command: str, environ: "Mapping[bytes, bytes]") -> tuple[str, int, str]:
    """Run `command` by /bin/sh with nothing on its input: (command, exit code, hash of stdout and stderr together).

    Raises InputError when there is no shell to run it, or no such program: a misspelled name would print the same for
    every version of the tool that was meant. A tool that fails is a fact as well, not an error.
    """
    reading, writing = posix.pipe()
    try:
        actions = [
            (posix.POSIX_SPAWN_OPEN, 0, "/dev/null", posix.O_RDONLY, 0),
            (posix.POSIX_SPAWN_DUP2, writing, 1),
            (posix.POSIX_SPAWN_DUP2, writing, 2),
        ]
        try:
            pid = posix.posix_spawn(
                "/bin/sh",
                ["sh", "-c", command],
                dict(environ),
                file_actions=actions,
                setsigdef=_DEFAULT_SIGNALS,
            )
        except OSError as error:
            raise InputError(f"can't run the tool command {command!r}: {error.strerror}") from error
        finally:
            posix.close(writing)
        state = sha256()
        while chunk := posix.read(reading, 65536):
            state.update(chunk)
        try:
            _, status = posix.waitpid(pid, 0)
        except ChildProcessError:  # SIGCHLD is ignored, and so the kernel keeps no exit codes
            status = 0
    finally:
        posix.close(reading)
    code = waitstatus_to_exitcode(status)
    if code in (126, 127):
        raise InputError(
            f"the tool command {printable(command)!r} can't be run (exit code {code})",
            hint="its output would be the same whatever the tool's version is; correct it",
        )
    return command, code, state.hexdigest()
