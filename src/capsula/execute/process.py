"""Running the command as if we weren't there: its process, the signals on their way to it, its end and its output."""

import errno
import os
import time

from capsula.execute.relay import GRACE, Captured, Log, Relay, Stream, leave_a_relay
from capsula.execute.spawn import CannotRun, say, spawn
from capsula.execute.stdio import hold_standard_fds, was_open

try:
    # os.wait4 loads it when the child has been waited for already. If it couldn't be loaded then (no descriptor is
    # left, say), the exit code would be lost.
    import resource  # noqa: F401
except ImportError:
    _TELLS_USAGE = False
else:
    _TELLS_USAGE = True

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _thread
    import signal as _signal
    from collections.abc import Callable

    from capsula.execute.terminal import Terminal
else:
    import _signal
    import _thread

# Sent to us, they are meant for the command. Stops (TSTP, TTIN, TTOU) and CONT aren't here: a terminal sends them to
# the whole process group, and taking them would make us unstoppable.
_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH")
_ENDING = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT)
# What the kernel sends of its own accord to every process in the foreground of a terminal.
_FROM_TERMINALS = (_signal.SIGINT, _signal.SIGQUIT, _signal.SIGHUP, _signal.SIGWINCH)
# Ends the thread that takes the others. Ignored by default, so that a stray one is harmless.
_STOP = _signal.SIGURG
_NOWHERE = -1


class Outcome:
    """How the run of a command went.

    `exit_code` is the child's own, 128 + n when signal n ended it, 126 or 127 when no process could be made (then
    `started` is False and stderr has been told why). `stdout` and `stderr` are None when they weren't captured or the
    log was lost. `order` has pairs (1 or 2, bytes) in the order of arrival. `start_ns` and `end_ns` are wall-clock
    times; `seconds` is measured with a clock that is never set. `cut`: a log that should be whole isn't, `reason` says
    which and why. `left_open`: the child left a process behind that still has its stdout or stderr; what that one
    writes is passed on but isn't in the log. `write_error`: the errno, other than EPIPE, with which our own stdout or
    stderr refused what the command wrote, so that somebody hasn't got all of its output.
    """

    __slots__ = (
        "exit_code",
        "signal",
        "started",
        "stdout",
        "stderr",
        "order",
        "start_ns",
        "end_ns",
        "seconds",
        "user_seconds",
        "system_seconds",
        "max_rss_kb",
        "left_open",
        "cut",
        "reason",
        "write_error",
    )

    def __init__(self) -> None:
        self.exit_code = 0
        self.signal: int | None = None
        self.started = False
        self.stdout: Captured | None = None
        self.stderr: Captured | None = None
        self.order: tuple[tuple[int, int], ...] = ()
        self.start_ns = self.end_ns = time.time_ns()
        self.seconds = 0.0
        self.user_seconds = 0.0
        self.system_seconds = 0.0
        self.max_rss_kb = 0
        self.left_open = False
        self.cut = False
        self.reason = ""
        self.write_error: int | None = None


def run_command(
    argv: "tuple[str, ...]",
    environ: "dict[bytes, bytes]",
    *,
    spool_dir: str | None,
    capture: "tuple[bool, bool]" = (True, True),
    memory_limit: int = 262144,
    last: bool = False,
    meanwhile: "Callable[[], None] | None" = None,
) -> Outcome:
    """Run the command to its end and pass on what it writes while it writes it.

    For the main thread, and with no other thread running that hasn't blocked its signals. Raises only before a process
    was made; afterwards every trouble of ours costs at most the log. `last`: this process has nothing to do
    afterwards but to record the run, so a signal (INT, TERM, HUP, QUIT) that comes after the command's end ends it at
    once, with the command's exit code. Otherwise such a signal does then what it did before. `meanwhile` is called
    while the command is starting: something short that will be needed after its end.
    """
    hold_standard_fds()
    outcome = Outcome()
    signals = _Signals()
    streams: tuple[Stream, ...] = ()
    try:
        streams = _open_streams(outcome, capture, memory_limit, spool_dir)
        child = _start(argv, environ, streams, signals, outcome)
        if child is not None:
            relay = Relay(streams)
            if meanwhile is not None:
                _do_meanwhile(meanwhile)
            _copy(relay, child, signals)
            signals.stop()
            try:
                _close(relay, outcome, signals)
            except (
                Exception
            ) as error:  # the command has run: its exit code is the answer, whatever became of its log
                outcome.stdout = outcome.stderr = None
                for stream in streams:
                    _note(outcome, stream.number, f"its log is lost: {error!r}")
    finally:
        for stream in streams:
            stream.close()
            stream.sink.close()
        signals.release(outcome.exit_code if last and outcome.started else None)
    return outcome


def _do_meanwhile(task: "Callable[[], None]") -> None:
    try:
        task()
    except Exception:  # whatever it was to prepare shows again when it is needed; the command is running
        return


class _Child:
    """The process, until it has been waited for; from then on its number may be another's, so nobody may signal it."""

    __slots__ = ("pid", "fd", "outcome", "_began")

    def __init__(self, pid: int, outcome: Outcome, began: float) -> None:
        self.pid = pid
        self.outcome = outcome
        self._began = began
        try:
            self.fd = os.pidfd_open(pid)
        except (
            AttributeError,
            OSError,
        ):  # macOS, an old kernel, a container that forbids it, no descriptor left
            self.fd = _NOWHERE

    def reap(self) -> bool:
        """Whether it has ended; then the outcome knows how."""
        outcome = self.outcome
        try:
            if _TELLS_USAGE:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            else:
                (pid, status), usage = os.waitpid(self.pid, os.WNOHANG), None
        except ChildProcessError:  # somebody else in this process has waited for it
            outcome.exit_code = 255
            outcome.cut, outcome.reason = (
                True,
                "the exit code isn't known: the process was taken away from us",
            )
            return True
        if pid == 0:
            return False
        outcome.seconds = time.monotonic() - self._began
        outcome.end_ns = time.time_ns()
        if os.WIFSIGNALED(status):
            outcome.signal = os.WTERMSIG(status)
            outcome.exit_code = 128 + outcome.signal
        else:
            outcome.exit_code = os.WEXITSTATUS(status)
        if usage is not None:
            outcome.user_seconds = usage.ru_utime
            outcome.system_seconds = usage.ru_stime
            outcome.max_rss_kb = usage.ru_maxrss
        if self.fd != _NOWHERE:
            os.close(self.fd)
        return True


class _Signals:
    """Takes the signals that are sent to us, from before the child is made until after its end, and passes them on.

    They are blocked, and a thread waits for them: unlike a handler it learns who sent each. What the terminal sends
    (Ctrl-C) goes to the whole foreground process group, so the child has got it already, and a second one would make
    many programs give up their orderly end. A signal that somebody sends to the whole group with kill(2) looks like one
    that was sent to us alone: the child gets that twice.

    What was ignored when we started (nohup, a background job's SIGINT) isn't taken: it stays ignored here and there.
    """

    __slots__ = (
        "mask",
        "abandoned_by",
        "_taken",
        "_terminals",
        "_child",
        "_ended_at",
        "_lock",
        "_done",
        "_thread",
        "_stopping",
    )

    def __init__(self) -> None:
        self.abandoned_by = 0
        self._terminals: list[Terminal] = []
        self._taken = {
            number
            for number in (getattr(_signal, name) for name in _PASSED_ON)
            if _signal.getsignal(number) != _signal.SIG_IGN
        } | {_STOP}
        self._child: _Child | None = None
        self._ended_at = 0.0
        self._stopping = False
        # Held while the child is being made: what comes meanwhile waits for it.
        self._lock = _thread.allocate_lock()
        self._lock.acquire()
        self._done = _thread.allocate_lock()
        self._done.acquire()
        if _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN:
            # Inherited from a careless parent; with it the kernel would throw the child's exit code away.
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        self.mask: set[int] = set(_signal.pthread_sigmask(_signal.SIG_BLOCK, self._taken))
        try:
            self._thread = _thread.start_new_thread(self._take, ())
        except BaseException:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, self.mask)
            raise

    def child_is(self, child: "_Child | None", streams: "tuple[Stream, ...]") -> None:
        """From now on signals reach the child, or, when there is none, us."""
        self._child = child
        self._terminals = [stream.terminal for stream in streams if stream.terminal is not None]
        self._lock.release()

    def has_ended(self) -> bool:
        """Whether the child has ended; it is waited for in here, where no signal is on its way to it."""
        with self._lock:
            if self._child is not None and self._child.reap():
                self._child = None
                self._ended_at = time.monotonic()
            return self._child is None

    def is_abandoned(self) -> bool:
        """Whether a signal came to end us after the child had ended, while its output was still being passed on."""
        return self.abandoned_by != 0

    def stop(self) -> None:
        """End the thread, so that nothing of ours runs beside the caller. Doing it twice is doing it once."""
        if not self._stopping:
            self._stopping = True
            _signal.pthread_kill(self._thread, _STOP)
            self._done.acquire()

    def release(self, exit_with: int | None) -> None:
        """As it was before, or (`exit_with`) so that an ending signal ends us with this code."""
        self.stop()
        if hasattr(_signal, "sigtimedwait"):
            while time.monotonic() - self._ended_at < GRACE and _signal.sigtimedwait(self._taken, 0):
                pass  # sent while the child still ran
        if exit_with is not None:
            for number in self._taken.intersection(_ENDING):
                _signal.signal(number, lambda *_: os._exit(exit_with))
        if self.abandoned_by:
            os.kill(os.getpid(), self.abandoned_by)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.mask)

    def _take(self) -> None:
        try:
            while not self._stopping:
                number, from_terminal, sender = _next_signal(self._taken)
                with self._lock:
                    if self._child is None:
                        self._too_late(number)
                    elif number == _signal.SIGWINCH and self._resize(sender):
                        pass
                    elif not from_terminal:
                        os.kill(self._child.pid, number)
        finally:
            self._done.release()

    def _resize(self, sender: int) -> bool:
        """Whether this SIGWINCH was about our pseudo-terminals."""
        if any([terminal.copy_size() for terminal in self._terminals]):
            # The terminal has told the whole group already; those who were quicker than we saw the old size.
            os.kill(0, _signal.SIGWINCH)
            return True
        return sender == os.getpid()

    def _too_late(self, number: int) -> None:
        # The same Ctrl-C that ended the child may reach this thread only now.
        if number in _ENDING and time.monotonic() - self._ended_at > GRACE:
            self.abandoned_by = number


def _next_signal(taken: "set[int]") -> "tuple[int, bool, int]":
    """The next signal, whether it came from the terminal (so the child has it too), and the process that sent it."""
    if not hasattr(_signal, "sigwaitinfo"):  # macOS doesn't say who sent it
        number = int(_signal.sigwait(taken))
        return number, number in _FROM_TERMINALS and _is_foreground(), 0
    signal = _signal.sigwaitinfo(taken)
    number = signal.si_signo
    from_terminal = number in _FROM_TERMINALS and signal.si_code > 0  # the kernel's own
    if number == _signal.SIGHUP and os.getsid(0) == os.getpid():
        # A terminal that hangs up tells only the leader of the session, which the child would be without us.
        from_terminal = False
    return number, from_terminal, signal.si_pid


def _is_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _open_streams(
    outcome: Outcome, capture: "tuple[bool, bool]", memory_limit: int, spool_dir: str | None
) -> "tuple[Stream, ...]":
    streams = []
    for number, wanted in zip((1, 2), capture, strict=True):
        if wanted and was_open(number):
            try:
                streams.append(Stream(number, Log(memory_limit, spool_dir)))
            except OSError as error:
                # The command has our own descriptor then: it runs as well, only its log isn't kept.
                _note(outcome, number, f"it can't be captured: {error}")
    return tuple(streams)


def _start(
    argv: "tuple[str, ...]",
    environ: "dict[bytes, bytes]",
    streams: "tuple[Stream, ...]",
    signals: _Signals,
    outcome: Outcome,
) -> _Child | None:
    child = None
    try:
        outcome.start_ns = time.time_ns()
        began = time.monotonic()
        descriptors = [(stream.far, stream.number) for stream in streams]
        pid = spawn(argv, environ, descriptors=descriptors, mask=signals.mask)
        outcome.started = True
        child = _Child(pid, outcome, began)
    except CannotRun as refusal:
        say(refusal.text)
        outcome.exit_code = refusal.exit_code
        outcome.end_ns = time.time_ns()
    finally:
        signals.child_is(child, streams)
        for stream in streams:
            stream.started()
    return child


def _copy(relay: Relay, child: _Child, signals: _Signals) -> None:
    """Until the child has ended. It is running: a bug of ours may cost the log, then the output, but never its end."""
    for _ in range(2):
        try:
            relay.run(child.fd, signals.has_ended, signals.is_abandoned)
            return
        except Exception as error:
            for stream in relay.streams:
                stream.log.drop(f"its log is lost: {error!r}")
    for stream in relay.streams:
        stream.close()
    while not signals.has_ended():
        time.sleep(0.01)


def _close(relay: Relay, outcome: Outcome, signals: _Signals) -> None:
    held = []
    for stream in relay.streams:
        if stream.pending is not None:
            _note(outcome, stream.number, "it wasn't read to its end")
        elif stream.source != _NOWHERE:
            held.append(stream)
        for why in (stream.cut, stream.log.lost):
            if why:
                _note(outcome, stream.number, why)
        if stream.number == 1:
            outcome.stdout = stream.log.close()
        else:
            outcome.stderr = stream.log.close()
        if stream.sink.error not in (0, errno.EPIPE):
            outcome.write_error = stream.sink.error
    outcome.order = relay.order.turns()
    if held and not signals.is_abandoned():
        outcome.left_open = True
        try:
            leave_a_relay(held, signals.mask)
        except OSError as error:
            _note(outcome, held[0].number, f"its end can't be waited for: {error}")


def _note(outcome: Outcome, number: int, why: str) -> None:
    outcome.cut = True
    outcome.reason += f"{'; ' if outcome.reason else ''}{('stdout', 'stderr')[number - 1]}: {why}"
