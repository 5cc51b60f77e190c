"""Whether this thread is recording at this moment: what the program is asked then, nobody called.

To tell of a value its `__repr__` is asked, and that may call a monitored function. Its arguments would be told of in
turn, and so on for ever. So what is called while we are at work runs unrecorded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Depth(threading.local):
    count = 0


_depth = _Depth()


def is_at_work() -> bool:
    return _depth.count > 0


@contextmanager
def at_work() -> Iterator[None]:
    _depth.count += 1
    try:
        yield
    finally:
        _depth.count -= 1
