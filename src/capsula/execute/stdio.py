"""Our own descriptors 0, 1 and 2: held from the start, and written to as long as somebody listens."""

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK = 65536


def hold_standard_fds() -> None:
    """Put a placeholder on each of the descriptors 0, 1, 2 that we were started without; to be called first of all.

    So that no file or pipe of ours lands there and receives what somebody prints. The placeholder is close-on-exec:
    the child finds the descriptor closed, as we did.
    """
    for fd in (0, 1, 2):
        try:
            os.get_inheritable(fd)
        except OSError:
            try:
                os.open("/dev/null", os.O_RDWR)
            except OSError:
                os.open("/", os.O_RDONLY)


def was_open(fd: int) -> bool:
    """Whether we were started with this descriptor: what came through exec can't be close-on-exec, a placeholder is."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


class Sink:
    """One of our descriptors 1 and 2. `error` is 0, or the errno after which nothing more is written to it."""

    __slots__ = ("fd", "error", "_reopened")

    def __init__(self, fd: int, *, patient: bool = True) -> None:
        """Not `patient`: a full pipe takes a part, or nothing, instead of making us wait."""
        self.fd = fd
        self.error = 0 if was_open(fd) else errno.EBADF
        self._reopened = False
        if not patient and not self.error:
            self._reopen()

    def _reopen(self) -> None:
        # O_NONBLOCK belongs to the open file, which we share with whoever started us, so it can't be set on our
        # descriptor. Linux opens the same pipe a second time, and that one is ours alone. Where it doesn't (no /proc,
        # a pipe of another user, a socket), writing waits, as the command itself would have.
        try:
            if os.fstat(self.fd).st_mode & 0o170000 == 0o010000:
                self.fd = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK)
                self._reopened = True
        except OSError:
            pass

    def write(self, content: "bytes | memoryview") -> int:
        """How many bytes were taken: all, fewer when there's no room now, and all when nobody listens any more."""
        size = len(content)
        done = 0
        try:
            while done < size and not self.error:
                done += os.write(self.fd, memoryview(content)[done:] if done else content)
        except BlockingIOError:
            return done
        except OSError as error:
            self.error = error.errno or errno.EIO
        return size

    def loss(self) -> int:
        """The errno after which somebody who wanted the output hasn't got all of it, else 0. A reader that left, a
        stream that was closed from the start and a terminal that hung up want no more."""
        if self.error in (errno.EPIPE, errno.EBADF):
            return 0
        if self.error == errno.EIO and os.fstat(self.fd).st_mode & 0o170000 != 0o100000:
            return 0
        return self.error

    def close(self) -> None:
        if self._reopened:
            self._reopened = False
            os.close(self.fd)


def replay(chunks: "Iterable[tuple[int, bytes]]") -> int:
    """Write each (1 or 2, bytes) to our stdout or stderr, in this order; the errno with which one refused, if that is a
    loss (a full disk below it), else 0.

    A stream that nobody reads any more (`| head`) or that was closed is passed over in silence: what the command
    answered doesn't depend on it.
    """
    sinks = {1: Sink(1), 2: Sink(2)}
    for number, content in chunks:
        sink = sinks[number]
        rest = memoryview(content)
        while rest:
            rest = rest[sink.write(rest) :]
            if rest:
                _wait_for_room(sink.fd)
        if sinks[1].error and sinks[2].error:
            break
    return sinks[1].loss() or sinks[2].loss()


def in_order(
    stdout: "bytes | str", stderr: "bytes | str", order: "Iterable[tuple[int, int]]"
) -> "Iterator[tuple[int, bytes]]":
    """The chunks of two logs, each its content or the path of a file with it, in the order in which they came.

    `order` is Outcome.order. What it doesn't account for (it comes out of a store) follows at the end: no byte is
    left out and none is made up.
    """
    logs = {1: _Log(stdout), 2: _Log(stderr)}
    try:
        for number, count in (*order, (1, -1), (2, -1)):
            log = logs[number]
            while count:
                chunk = log.next(_CHUNK if count < 0 else min(count, _CHUNK))
                if not chunk:
                    break
                count -= len(chunk) if count > 0 else 0
                yield number, chunk
    finally:
        for log in logs.values():
            log.close()


class _Log:
    __slots__ = ("_source", "_at", "_fd")

    def __init__(self, source: "bytes | str") -> None:
        self._source = source
        self._at = 0
        self._fd = -1

    def next(self, most: int) -> bytes:
        if isinstance(self._source, str):
            if self._fd < 0:
                self._fd = os.open(self._source, os.O_RDONLY)
            return os.read(self._fd, most)
        chunk = self._source[self._at : self._at + most]
        self._at += len(chunk)
        return chunk

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _wait_for_room(fd: int) -> None:
    """Wait until a non-blocking descriptor (a stdout shared with node, say) takes bytes again."""
    from select import POLLOUT, poll

    poller = poll()
    poller.register(fd, POLLOUT)
    poller.poll()
