"""What the command writes: passed on at once, and given to its log in the order in which it came.

Each captured stream has a pipe of its own (a pseudo-terminal when our descriptor is a terminal), also when stdout and
stderr lead to the same place: a replay must reach the right descriptor. Two pipes have no common clock, so the order is
that in which bytes arrived here. Writes that are apart by more than a wake-up of this process come out in their order;
two at the very same moment may not.

One loop serves both streams and never waits for one of them alone. Memory is flat: a chunk per stream, the log up to a
limit (then in a file), and an order that loses resolution instead of growing.
"""

import os
import time

from capsula.execute.log import Log, Order
from capsula.execute.stdio import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable

    from capsula.execute.terminal import Terminal
else:
    import _signal

CHUNK = 65536
# A stream that brought so much within a tenth of a second is *busy*: then it is read in large pieces, from a wider
# pipe, after it was given a moment to fill. A writer of small pieces that is as quick as we are would else cost a turn
# of all this for every few kilobytes.
_BUSY, _SPAN = 4 << 20, 0.1
_WIDE, _MOMENT = 1 << 20, 0.0003
# How much more a stream may write when nobody reads ours any more: a build that is piped into `head` ends within it
# and its result is kept; `yes` doesn't, and gets the SIGPIPE that it would have had without us.
UNSEEN_LIMIT = 64 << 20
# How long after the command's end the output may take to end too. A process that it left behind may hold it for days.
GRACE = 0.05
# No pipe holds more than this; having read as much after the command's end, we have all that it wrote.
_PIPE_MOST = 1 << 20


class Stream:
    """One captured stream: `source` is read, `far` is the command's end of it, `sink` is ours, `log` keeps it."""

    __slots__ = (
        "number",
        "source",
        "far",
        "sink",
        "log",
        "terminal",
        "pending",
        "unseen",
        "cut",
        "since_end",
        "_busy",
        "_counted",
        "_since",
    )

    def __init__(self, number: int, log: Log) -> None:
        """Raises OSError when there's no pipe (or no pseudo-terminal) to be had."""
        self.number = number
        self.log = log
        self.terminal: Terminal | None = _terminal(number) if os.isatty(number) else None
        if self.terminal is not None:
            self.source, self.far = self.terminal.master, self.terminal.slave
        else:
            self.source, self.far = os.pipe()
        self.sink = Sink(number, patient=False)
        self.pending: memoryview | None = None
        self.unseen = 0
        self.cut = ""
        self.since_end = 0
        self._busy = False
        self._counted = 0
        self._since = time.monotonic()

    def started(self) -> None:
        """The command has its end now; ours of a pipe must go, else it never ends. (A terminal's: see there.)"""
        if self.terminal is None and self.far >= 0:
            os.close(self.far)
            self.far = -1

    def take(self) -> int:
        """Read what is there, pass it on, keep it; how much it was. The source is closed (-1) when it has ended."""
        if self._busy:
            time.sleep(_MOMENT)
        try:
            chunk = os.read(self.source, _WIDE if self._busy else CHUNK)
        except BlockingIOError:
            return 0
        except OSError:  # EIO: the last one who had this terminal open has closed it
            chunk = b""
        if not chunk:
            self.close()
            return 0
        if self.terminal is not None:
            self.terminal.mirror()
        self.since_end += len(chunk)
        # Pending from the first: an error of ours in here may cost the log, but not what was read and isn't passed on.
        self.pending = memoryview(chunk)
        self.pending = self.pending[self.sink.write(chunk) :] or None
        self.log.keep(chunk)
        if self.sink.error:
            self._is_it_worth_it(len(chunk))
        self._counted += len(chunk)
        if self._counted >= _BUSY or self._busy:
            self._judge()
        return len(chunk)

    def push(self) -> None:
        """Pass on more of what there was no room for."""
        if self.pending is not None:
            rest = self.pending[self.sink.write(self.pending) :]
            self.pending = rest or None

    def close(self) -> None:
        if self.source >= 0:
            if self.terminal is not None:
                self.terminal.close_slave()
            os.close(self.source)
            self.source = -1

    def _judge(self) -> None:
        """Whether it is busy, over the last moments."""
        now = time.monotonic()
        took = now - self._since
        if took < _SPAN and self._counted < _BUSY:
            return
        was, self._busy = self._busy, took < _SPAN * 2 and self._counted >= _BUSY
        self._counted, self._since = 0, now
        if self._busy and not was:
            _widen(self.source)
            _widen(self.sink.fd)

    def _is_it_worth_it(self, more: int) -> None:
        self.unseen += more
        if self.log.lost or self.unseen > UNSEEN_LIMIT:
            self.cut = f"nobody reads it any more ({os.strerror(self.sink.error)})"
            self.close()


def _widen(pipe: int) -> None:
    try:
        from fcntl import F_SETPIPE_SZ, fcntl

        fcntl(pipe, F_SETPIPE_SZ, _WIDE)
    except (ImportError, OSError):  # not Linux; no pipe; or the user has as much in pipes as is allowed
        return


class Relay:
    """Copies the streams until they end, or the command has ended and others hold them open."""

    __slots__ = ("streams", "order", "_poll", "_watched")

    def __init__(self, streams: "list[Stream]") -> None:
        self.streams = streams
        self.order = Order()

    def run(self, child: int, has_ended: "Callable[[], bool]", is_abandoned: "Callable[[], bool]") -> None:
        """`child` is a descriptor that is readable when the command has ended, or -1; `has_ended` tells, and reaps."""
        self._watch_all()
        if child >= 0:
            self._poll.register(child)
        ended, deadline = False, 0.0
        while not ended or self._live():
            ready = [fd for fd, _ in self._poll.poll(self._patience(child, ended, deadline))]
            quiet = self._quiet(ready)
            self._serve(ready)
            if not ended:
                if (child < 0 or child in ready) and has_ended():
                    ended, deadline = True, time.monotonic() + GRACE
                    if child >= 0:
                        self._poll.unregister(child)
                    self._end()
            elif is_abandoned() or (time.monotonic() >= deadline and self._is_settled(quiet)):
                return

    def run_to_the_end(self) -> None:
        """Copy until every stream has ended, however long that takes."""
        self._watch_all()
        while self._live():
            self._serve([fd for fd, _ in self._poll.poll()])

    def _watch_all(self) -> None:
        from select import poll

        self._poll = poll()
        self._watched: dict[int, Stream] = {}
        for stream in self._live():
            self._watch(stream)

    def _serve(self, ready: "list[int]") -> None:
        for fd in ready:
            stream = self._watched.get(fd)
            if stream is None:
                continue
            if stream.pending is not None:
                stream.push()
            elif count := stream.take():
                self.order.add(stream.number, count)
            if stream.source < 0 or (stream.pending is None) != (fd == stream.source):
                del self._watched[fd]
                self._poll.unregister(fd)
                self._watch(stream)

    def _watch(self, stream: Stream) -> None:
        """While it has something that there was no room for, wait for room; else for more."""
        from select import POLLIN, POLLOUT

        if stream.pending is not None:
            self._poll.register(stream.sink.fd, POLLOUT)
            self._watched[stream.sink.fd] = stream
        elif stream.source >= 0:
            self._poll.register(stream.source, POLLIN)
            self._watched[stream.source] = stream

    def _live(self) -> "list[Stream]":
        return [stream for stream in self.streams if stream.source >= 0 or stream.pending is not None]

    def _patience(self, child: int, ended: bool, deadline: float) -> int | None:
        """Milliseconds; None is for ever."""
        if not ended:
            return None if child >= 0 else 10
        left = int((deadline - time.monotonic()) * 1000) + 1
        if left > 0:
            return left
        return 100 if any(stream.pending is not None for stream in self.streams) else 0

    def _end(self) -> None:
        for stream in self.streams:
            stream.since_end = 0
            if stream.terminal is not None:
                stream.terminal.mirror()
                stream.terminal.close_slave()

    def _quiet(self, ready: "list[int]") -> "list[Stream]":
        """The streams that were looked at and had nothing. (One that waits for room wasn't looked at.)"""
        return [stream for fd, stream in self._watched.items() if fd == stream.source and fd not in ready]

    def _is_settled(self, quiet: "list[Stream]") -> bool:
        """All that the command itself wrote is here and passed on; what may come is from those it left behind."""
        return all(
            stream.pending is None and (stream in quiet or stream.since_end >= _PIPE_MOST)
            for stream in self._live()
        )


def leave_a_relay(streams: "list[Stream]", mask: "set[int]") -> None:
    """Leave a process behind that goes on copying these streams to our descriptors until they end.

    Somebody that the command has started still has them, and must neither die of SIGPIPE nor lose its output because
    we go: without us it would have written to our descriptors itself. This process has nothing else open (a lock, a
    log) and can't be interrupted: it ends when they do, or when nobody reads our output any more.
    """
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        return
    try:
        # Twice, so that nobody has to wait for it.
        if os.fork() == 0:
            _relay_alone(streams, mask)
    finally:
        os._exit(0)


def _relay_alone(streams: "list[Stream]", mask: "set[int]") -> None:
    for name in ("SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM"):
        _signal.signal(getattr(_signal, name), _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    _close_all_but({fd for stream in streams for fd in (stream.source, stream.sink.fd)})
    os.chdir("/")
    for stream in streams:
        stream.log = Log(0, None)
        stream.log.drop("what comes now isn't the command's")
    Relay(streams).run_to_the_end()


def _close_all_but(needed: "set[int]") -> None:
    try:
        names = os.listdir("/dev/fd")
    except OSError:  # no /proc: then whatever may be there
        names = [str(number) for number in range(4096)]
    for name in names:
        if int(name) not in needed:
            try:
                os.close(int(name))
            except OSError:
                pass


def _terminal(fd: int) -> "Terminal":
    from termios import error as termios_error

    from capsula.execute.terminal import Terminal

    try:
        return Terminal(fd)
    except termios_error as error:
        raise OSError(*error.args) from error
