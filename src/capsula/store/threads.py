"""Threads that take no signals, and so do those that libraries start in them.

While a command runs, the signals that are sent to us are taken by a thread that passes them on (execute.signals). They
are blocked in all that it knows of; but the kernel gives a signal to any thread that doesn't block it, and libraries
that speak to stores keep threads of their own from their first call on.
"""

from __future__ import annotations

from _thread import start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
else:
    import _signal


def start(work: Callable[[], None]) -> None:
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    try:
        start_new_thread(work, ())
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
