"""Running the command as if we weren't there: its process, the signals on their way to it, its end and its output."""

import os
import time

from capsula.execute.log import Captured, Log
from capsula.execute.relay import Relay, Stream, leave_a_relay
from capsula.execute.signals import Signals
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
    from collections.abc import Callable

    from capsula.execute.watch import Watch

_NOWHERE = -1


class Outcome:
    """How the run of a command went.

    `exit_code` is the child's own, 128 + n when signal n ended it, 126 or 127 when no process could be made (then
    `started` is False and stderr has been told why). `stdout` and `stderr` are None when they weren't captured or the
    log was lost. `order` has pairs (1 or 2, bytes) in the order of arrival. `start_ns` and `end_ns` are wall-clock
    times; `seconds` is measured with a clock that is never set. `cut`: a log that should be whole isn't, `reason` says
    which and why. `left_open`: the child left a process behind that still has its stdout or stderr; what that one
    writes is passed on but isn't in the log. `write_error`: the errno (not that of a reader that left) with which our
    own stdout or stderr refused what the command wrote, so that somebody hasn't got all of its output.
    `interrupted_by`: the number of a signal (INT, TERM, HUP, QUIT) that came to end it while it ran, 0 for none.
    """

    __slots__ = (
        "exit_code",
        "signal",
        "pid",
        "started",
        "ended",
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
        "interrupted_by",
    )

    def __init__(self) -> None:
        self.exit_code = 0
        self.signal: int | None = None
        self.pid = 0
        self.started = False
        self.ended = False
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
        self.interrupted_by = 0


# The commands that this process has started. Whoever runs the command when all else has failed looks here first.
RAN: "list[Outcome]" = []


def run_command(
    argv: "tuple[str, ...]",
    environ: "dict[bytes, bytes]",
    *,
    spool_dir: str | None,
    capture: "tuple[bool, bool]" = (True, True),
    memory_limit: int = 262144,
    log_limit: int | None = None,
    last: bool = False,
    meanwhile: "Callable[[], None] | None" = None,
    watch: "Watch | None" = None,
    late: "Callable[[Outcome], None] | None" = None,
) -> Outcome:
    """Run the command to its end and pass on what it writes while it writes it.

    For the main thread, and with no other thread running that hasn't blocked its signals. Raises only before a process
    was made; afterwards every trouble of ours costs at most the log. `last`: this process has nothing to do
    afterwards but to record the run, so a signal (INT, TERM, HUP, QUIT) that comes after the command's end ends it at
    once, with the command's exit code. Otherwise such a signal does then what it did before. `meanwhile` is called
    while the command is starting: something short that will be needed after its end. `log_limit`: the log is for a
    record (execute.ends): of a longer one only beginning and end are kept, so many bytes in all (0: all of it).
    """
    hold_standard_fds()
    outcome = Outcome()
    signals = Signals()
    streams: list[Stream] = []
    try:
        _open_streams(streams, outcome, capture, lambda: _log(memory_limit, log_limit, spool_dir))
        child = _start(argv, environ, streams, signals, outcome, watch)
        if child is not None:
            relay = Relay(streams)
            if meanwhile is not None:
                _do_meanwhile(meanwhile)
            _copy(relay, child, signals)
            signals.stop()
            if watch is not None:
                watch.stop()
            outcome.interrupted_by = signals.interrupted_by
            _close(relay, outcome, signals)
        _release(streams, signals, outcome, late or (_leave if last else None))
    except BaseException as error:
        # Once the command runs, an error of ours mustn't get out: whoever catches it would run the command again.
        if watch is not None:
            watch.stop()
        if outcome.started:
            _rescue(streams, signals, outcome, error)
        _release(streams, signals, outcome, late or (_leave if last else None))
        if not outcome.started:
            raise
    return outcome


def _do_meanwhile(task: "Callable[[], None]") -> None:
    try:
        task()
    except Exception:  # whatever it was to prepare shows again when it is needed; the command is running
        return


class Child:
    """The process, until it has been waited for; from then on its number may be another's, so nobody may signal it."""

    __slots__ = ("pid", "fd", "outcome", "_began", "_watch")

    def __init__(self, outcome: Outcome, began: float, watch: "Watch | None" = None) -> None:
        self.pid = pid = outcome.pid
        self._watch = watch
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
        ended, end_ns = time.monotonic(), time.time_ns()
        try:
            if self._watch is not None and not self._watch.ended:
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                    return False
                self._watch.end()
            if _TELLS_USAGE:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            else:
                (pid, status), usage = os.waitpid(self.pid, os.WNOHANG), None
        except ChildProcessError:  # somebody else in this process has waited for it
            outcome.exit_code, outcome.ended = 255, True
            outcome.cut, outcome.reason = (
                True,
                "the exit code isn't known: the process was taken away from us",
            )
            return True
        if pid == 0:
            return False
        outcome.ended = True
        outcome.seconds = ended - self._began
        outcome.end_ns = end_ns
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


def _log(memory_limit: int, log_limit: int | None, spool_dir: str | None) -> Log:
    if log_limit is None:
        return Log(memory_limit, spool_dir)
    from capsula.execute.ends import EndsLog

    return EndsLog(memory_limit, spool_dir, log_limit)


def _open_streams(
    streams: "list[Stream]",
    outcome: Outcome,
    capture: "tuple[bool, bool]",
    make_log: "Callable[[], Log]",
) -> None:
    for number, wanted in zip((1, 2), capture, strict=True):
        if wanted and was_open(number):
            try:
                streams.append(Stream(number, make_log()))
            except OSError as error:
                # The command has our own descriptor then: it runs as well, only its log isn't kept.
                _note(outcome, number, f"it can't be captured: {error}")


def _start(
    argv: "tuple[str, ...]",
    environ: "dict[bytes, bytes]",
    streams: "list[Stream]",
    signals: Signals,
    outcome: Outcome,
    watch: "Watch | None",
) -> Child | None:
    child = None
    try:
        outcome.start_ns = time.time_ns()
        began = time.monotonic()
        descriptors = [(stream.far, stream.number) for stream in streams]
        outcome.pid = spawn(argv, environ, descriptors=descriptors, mask=signals.mask)
        outcome.started = True
        RAN.append(outcome)
        child = Child(outcome, began, watch)
        if watch is not None:
            watch.begin(outcome.pid)
    except CannotRun as refusal:
        say(refusal.text)
        outcome.exit_code = refusal.exit_code
        outcome.end_ns = time.time_ns()
    finally:
        signals.child_is(child, streams)
        for stream in streams:
            stream.started()
    return child


def _copy(relay: Relay, child: Child, signals: Signals) -> None:
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


def _rescue(streams: "list[Stream]", signals: Signals, outcome: Outcome, error: BaseException) -> None:
    """An error of ours while the command was running, or after: let it come to its end as if nothing was, without a
    log. What had been done before the error is done already and isn't done again."""
    for stream in streams:
        stream.log.drop(f"its log is lost: {error!r}")
        stream.started()
    outcome.stdout = outcome.stderr = None
    _note(outcome, 1, f"its log is lost: {error!r}")
    if not outcome.ended:
        child = Child(outcome, time.monotonic())
        signals.child_is(child, streams)
        _copy(Relay(streams), child, signals)


def _leave(outcome: Outcome) -> None:
    os._exit(outcome.exit_code)


def _release(
    streams: "list[Stream]", signals: Signals, outcome: Outcome, late: "Callable[[Outcome], None] | None"
) -> None:
    for stream in streams:
        stream.close()
        stream.sink.close()
    signals.release((lambda: late(outcome)) if late is not None and outcome.started else None)


def _close(relay: Relay, outcome: Outcome, signals: Signals) -> None:
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
        if loss := stream.sink.loss():
            outcome.write_error = loss
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
