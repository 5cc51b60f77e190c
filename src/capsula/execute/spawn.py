"""Starting a command as execvp(3) would: look it up, start it, and when that can't be, say so as a shell does.

This module is also the last resort: when anything else of ours is broken, `exec_command` becomes the command. So it
needs nothing but the interpreter.
"""

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterable, Iterator
    from typing import NoReturn
else:
    import _signal

NOT_FOUND = 127
NOT_RUNNABLE = 126

# Where execvp looks when there is no PATH at all (confstr(_CS_PATH) of glibc).
_DEFAULT_PATH = b"/bin:/usr/bin"
# "Not in this directory, look on": the list of glibc's execvpe.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT)
# The interpreter ignores these from its start on; a child would inherit that, and `yes | head` would never end.
_IGNORED_BY_PYTHON = [
    number for number in (getattr(_signal, name, 0) for name in ("SIGPIPE", "SIGXFZ", "SIGXFSZ")) if number
]
# What PEP 538 puts into LC_CTYPE when it finds the C locale.
_COERCED_LOCALES = (b"C.UTF-8", b"C.utf8", b"UTF-8")


class CannotRun(Exception):
    """No process was made: `exit_code` is 127 (nothing of that name) or 126, `text` what a shell would have said."""

    def __init__(self, exit_code: int, text: bytes) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.text = text


def spawn(
    argv: "tuple[str, ...]",
    environ: "dict[bytes, bytes]",
    *,
    descriptors: "Iterable[tuple[int, int]]",
    mask: "Iterable[int]",
) -> int:
    """Make the process and return its id, or raise CannotRun.

    `descriptors` are pairs (one of ours, its number in the child); `mask` are the signals blocked in the child. Signals
    that are ignored in this process stay ignored in the child, but for those that Python itself ignores.
    """
    environ = _passable(environ)
    actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in descriptors]

    def start(path: bytes, arguments: "list[bytes]") -> int:
        return os.posix_spawn(
            path,
            arguments,
            environ,
            file_actions=actions,
            setsigmask=mask,
            setsigdef=_IGNORED_BY_PYTHON,
        )

    return _try_each(argv, environ, start)


def exec_command(argv: "tuple[str, ...]", environ: "dict[bytes, bytes]") -> "NoReturn":
    """Become the command; when that can't be, say why and exit 126 or 127. It never returns.

    Whoever calls it has no child running and no signals blocked that weren't blocked at the start.
    """
    environ = _passable(environ)
    for number in _IGNORED_BY_PYTHON:
        try:
            _signal.signal(number, _signal.SIG_DFL)
        except (ValueError, OSError):  # not the main thread
            pass

    def start(path: bytes, arguments: "list[bytes]") -> int:
        os.execve(path, arguments, environ)

    try:
        code = _try_each(argv, environ, start)
    except CannotRun as refusal:
        say(refusal.text)
        code = refusal.exit_code
    os._exit(code)


def child_environment(environ: "dict[bytes, bytes]") -> "dict[bytes, bytes]":
    """A copy, as we were started with it: without the LC_CTYPE that Python may have put into it (PEP 538)."""
    if environ.get(b"LC_CTYPE") not in _COERCED_LOCALES:
        return environ.copy()
    try:
        with open("/proc/self/environ", "rb") as started_with:
            kept = any(entry.startswith(b"LC_CTYPE=") for entry in started_with.read().split(b"\0"))
    except OSError:
        kept = True  # nothing to compare with (macOS): a user's own setting is the likelier
    if kept:
        return environ.copy()
    return {name: value for name, value in environ.items() if name != b"LC_CTYPE"}


def say(text: bytes) -> None:
    """One line on stderr, as a shell prints it, straight to the descriptor and without ever failing."""
    try:
        os.write(2, b"capsule: " + text + b"\n")
    except OSError:
        pass


def _passable(environ: "dict[bytes, bytes]") -> "dict[bytes, bytes]":
    """Without the entry of the empty name, which a caller in C can make and Python refuses to hand on."""
    return {name: value for name, value in environ.items() if name} if b"" in environ else environ


def _try_each(
    argv: "tuple[str, ...]", environ: "dict[bytes, bytes]", start: "Callable[[bytes, list[bytes]], int]"
) -> int:
    name = os.fsencode(argv[0])
    arguments = [os.fsencode(argument) for argument in argv]
    refusal: CannotRun | None = None
    for path in _candidates(name, environ):
        try:
            return _start_or_script(path, arguments, start)
        except OSError as error:
            code = error.errno
        if code == errno.EACCES:
            # Not this one, perhaps a later one; if there is none, this is the answer.
            refusal = CannotRun(NOT_RUNNABLE, name + b": Permission denied")
        elif code not in _ABSENT:
            raise CannotRun(NOT_RUNNABLE, name + b": " + os.strerror(code or 0).encode()) from None
        elif refusal is None and os.path.exists(path):
            refusal = CannotRun(NOT_FOUND, name + b": cannot run: the interpreter that it names isn't there")
    if refusal is None:
        text = b": No such file or directory" if b"/" in name else b": command not found"
        refusal = CannotRun(NOT_FOUND, name + text)
    raise refusal


def _start_or_script(
    path: bytes, arguments: "list[bytes]", start: "Callable[[bytes, list[bytes]], int]"
) -> int:
    try:
        return start(path, arguments)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without "#!": execvp and every shell hand it to sh.
    return start(b"/bin/sh", [b"/bin/sh", path, *arguments[1:]])


def _candidates(name: bytes, environ: "dict[bytes, bytes]") -> "Iterator[bytes]":
    if b"/" in name:
        yield name
        return
    if not name:
        return
    for folder in environ.get(b"PATH", _DEFAULT_PATH).split(b":"):
        path = folder + b"/" + name if folder else name
        # Looking is ten times cheaper than a process that can't start.
        if os.path.exists(path):
            yield path
