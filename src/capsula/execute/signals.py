"""Signals on their way to the command: taken in its stead while it runs, and passed on."""

import os
import time

from capsula.execute.relay import GRACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _thread
    import signal as _signal
    from collections.abc import Callable

    from capsula.execute.process import Child
    from capsula.execute.relay import Stream
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


class Signals:
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
        "interrupted_by",
        "_taken",
        "_terminals",
        "_child",
        "_ended_at",
        "_lock",
        "_done",
        "_thread",
        "_making",
        "_stopping",
    )

    def __init__(self) -> None:
        self.abandoned_by = 0
        # The last signal that came to end the command while it ran; it may have ended in good order all the same.
        self.interrupted_by = 0
        self._terminals: list[Terminal] = []
        self._taken = {
            number
            for number in (getattr(_signal, name) for name in _PASSED_ON)
            if _signal.getsignal(number) != _signal.SIG_IGN
        } | {_STOP}
        self._child: Child | None = None
        self._ended_at = 0.0
        self._stopping = False
        # Held while the child is being made: what comes meanwhile waits for it.
        self._making = True
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

    def child_is(self, child: "Child | None", streams: "list[Stream]") -> None:
        """From now on signals reach the child, or, when there is none, us."""
        self._child = child
        self._terminals = [stream.terminal for stream in streams if stream.terminal is not None]
        self._made()

    def _made(self) -> None:
        if self._making:
            self._making = False
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
            self._made()  # the thread would wait for that for ever, if an error of ours has come before it
            _signal.pthread_kill(self._thread, _STOP)
            self._done.acquire()
            if time.monotonic() - self._ended_at < GRACE:
                # Sent while the child still ran, and it ended before the thread got to it.
                for number in _signal.sigpending() & self._taken.intersection(_ENDING):
                    self.interrupted_by = number

    def release(self, late: "Callable[[], None] | None") -> None:
        """As it was before, or so that an ending signal calls `late`."""
        self.stop()
        if hasattr(_signal, "sigtimedwait"):
            while time.monotonic() - self._ended_at < GRACE and _signal.sigtimedwait(self._taken, 0):
                pass  # sent while the child still ran
        if late is not None:
            for number in self._taken.intersection(_ENDING):
                _signal.signal(number, lambda *_: late())
        if self.abandoned_by:
            os.kill(os.getpid(), self.abandoned_by)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.mask)

    def _take(self) -> None:
        try:
            while not self._stopping:
                number, from_terminal, sender = _next_signal(self._taken)
                with self._lock:
                    if self._child is not None and number in _ENDING:
                        self.interrupted_by = number
                    if self._child is None:
                        self._too_late(number)
                    elif number == _signal.SIGWINCH and self._resize(sender):
                        pass
                    elif not from_terminal:
                        _send(self._child.pid, number)
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
        if number not in _ENDING:
            return
        if time.monotonic() - self._ended_at > GRACE:
            self.abandoned_by = number
        else:  # the same Ctrl-C that ended the child, which reaches this thread only now
            self.interrupted_by = number


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:  # the command has become another user's (sudo): it is out of our reach, and we go on
        return


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
