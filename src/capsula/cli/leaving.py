"""A signal that ends us before the command has begun: what others would wait for is let go first."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def let_go_first(let_go: Callable[[], None]) -> None:
    """From now on. For a process that is ours alone, and its main thread. Doing it twice is doing it once, and a signal
    that is ignored stays that."""
    for number in _ENDING:
        before = signal.getsignal(number)
        if before in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _handler(let_go, raises=before == signal.default_int_handler))


def _handler(let_go: Callable[[], None], *, raises: bool) -> Callable[[int, FrameType | None], None]:
    def come(number: int, frame: FrameType | None) -> None:
        try:
            let_go()
        finally:
            if raises:
                signal.default_int_handler(number, frame)
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
            os.kill(os.getpid(), number)

    return come
