"""`capsule` and `placebo`: recall a hit if nothing has changed, else go the whole way, and in any case run the command.

This is the hit path's front door: it imports next to nothing. Whatever goes wrong behind it ends in `_last_resort`.
"""

import gc
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    import _signal


def main(argv0: str, argv: "list[str]") -> "NoReturn":
    """Never returns and never raises: the process ends with the exit code that the command has, or had."""
    program = "placebo" if argv0.rpartition("/")[2] == "placebo" else "capsule"
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        # Before the command runs, Ctrl-C ends us as it would have ended the command, without a traceback.
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    # A run makes values, not cycles; looking for some takes longer than what little garbage there is would matter.
    gc.disable()
    try:
        for fd in (0, 1, 2):
            _hold(fd)
        from capsula.cli.recall import recall

        code = recall(program, argv)
        if code is None:
            from capsula.cli import together

            together.use()
            from capsula.cli.wrapper import wrap

            code = wrap(program, argv)
    except BaseException as error:
        _last_resort(program, argv, error)
    # Nothing is left to tear down: every byte was written by a system call.
    posix._exit(code)


def _hold(fd: int) -> None:
    """A descriptor that the caller closed (`>&-`) stays closed for the command; no file of ours may land on it."""
    try:
        posix.fstat(fd)
    except OSError:
        from capsula.execute.stdio import hold_standard_fds

        hold_standard_fds()


def _last_resort(program: str, argv: "list[str]", error: BaseException) -> "NoReturn":
    """An error of ours that nobody caught. The command runs now, unless it has run: then its exit code stands."""
    if posix.environ.get(b"CAPSULA_DEBUG"):
        sys.excepthook(type(error), error, error.__traceback__)
    try:
        text = f"{program}: not cached: an error inside capsula: {type(error).__name__}: {error}\n"
        posix.write(2, text.encode("utf-8", "backslashreplace"))
    except Exception:
        text = ""
    if "capsula.execute.process" in sys.modules:
        from capsula.execute.process import RAN

        if RAN:
            posix._exit(RAN[-1].exit_code if RAN[-1].ended else _wait_for(RAN[-1].pid))
    command = argv[argv.index("--") + 1 :] if "--" in argv else []
    if not command or "--strict" in argv[: argv.index("--")]:
        posix._exit(125)
    try:
        from capsula.execute.spawn import exec_command

        exec_command(tuple(command), dict(posix.environ))
    except BaseException:
        for ignored in (_signal.SIGPIPE, _signal.SIGXFSZ):
            _signal.signal(ignored, _signal.SIG_DFL)
        import os

        try:
            os.execvp(command[0], command)
        except OSError as failed:
            posix._exit(127 if isinstance(failed, FileNotFoundError) else 126)


def _wait_for(pid: int) -> int:
    """The end of the command, after more errors than one. It may write into pipes that nobody reads any more."""
    posix.closerange(3, 1024)
    code = posix.waitstatus_to_exitcode(posix.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code
