"""A pseudo-terminal that stands between the command and the terminal that it would write to.

The command sees a terminal of the same size and modes; we see exactly the bytes that it wrote, because this terminal
translates nothing: the real one does that, once. It isn't the command's controlling terminal (that is still the real
one, and so are stdin and /dev/tty), so it delivers no signals and has no job control.

A program may change the modes of the terminal that it writes to (curses does: no echo, no line editing). Those of ours
would change nothing, so what changed is done to the real one too.
"""

import os
import termios
from fcntl import ioctl

_IFLAG, _OFLAG, _LFLAG, _CC = 0, 1, 3, 6
# What of the output flags is the program's business here: whether there's post-processing at all. The flags that say
# what it does stay off in ours, else the translation would end up in the log.
_SHARED_OUTPUT_FLAGS = termios.OPOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any
else:
    import _signal


class Terminal:
    """`master` is our side (written bytes are read from it), `slave` the child's, `real` the terminal behind it."""

    __slots__ = ("real", "master", "slave", "_modes", "_size")

    def __init__(self, real: int) -> None:
        """Raises OSError or termios.error when there's no pseudo-terminal to be had."""
        self.real = real
        self.master, self.slave = os.openpty()
        try:
            modes = termios.tcgetattr(real)
            modes[_OFLAG] &= _SHARED_OUTPUT_FLAGS
            termios.tcsetattr(self.slave, termios.TCSANOW, modes)
            self._modes = termios.tcgetattr(self.master)
            self._size = b""
            self.copy_size()
        except BaseException:
            os.close(self.master)
            os.close(self.slave)
            raise

    def copy_size(self) -> bool:
        """Take over the real terminal's window size; whether it had changed."""
        try:
            size = ioctl(self.real, termios.TIOCGWINSZ, bytes(8))
            if size == self._size:
                return False
            ioctl(self.master, termios.TIOCSWINSZ, size)
        except OSError:
            return False
        self._size = size
        return True

    def mirror(self) -> None:
        """Do to the real terminal what the command has done to the modes of this one since the last look."""
        try:
            now = termios.tcgetattr(self.master)
            before = self._modes
            if now == before:
                return
            self._modes = now
            # The command may have put itself into the foreground, as a shell does with its jobs. Then this would stop
            # us, and nobody would bring us back.
            mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTTOU,))
            try:
                termios.tcsetattr(
                    self.real, termios.TCSADRAIN, _with_changes(termios.tcgetattr(self.real), before, now)
                )
            finally:
                _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        except (OSError, termios.error):  # hung up
            pass

    def close_slave(self) -> None:
        """Our hold on the child's side: kept until the child has ended, because without it the master would be at
        its end whenever the command closes its stdout for a moment."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1


def _with_changes(real: "list[Any]", before: "list[Any]", now: "list[Any]") -> "list[Any]":
    for which, mask in ((_IFLAG, ~0), (_OFLAG, _SHARED_OUTPUT_FLAGS), (_LFLAG, ~0)):
        changed = (before[which] ^ now[which]) & mask
        real[which] = real[which] & ~changed | now[which] & changed
    real[_CC] = [
        new if new != old else own for own, old, new in zip(real[_CC], before[_CC], now[_CC], strict=True)
    ]
    return real
