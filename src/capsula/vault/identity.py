"""The id of a capsule: 18 hexadecimal digits that sort by time, also within one millisecond.

Twelve digits are the milliseconds since 1970, three which of 4096 parts of that millisecond, three chance. Of two ids
that one process makes, one after the other, the later one is larger, whatever the clock does; those of several
processes on a machine sort as far as the clock can tell their moments apart. For capsules of different moments the part
of the millisecond is chance as well: the last six digits, by which people call a capsule, are as seldom the same as if
all of them were.
"""

from __future__ import annotations

import os
import time

_PARTS = 4096
_last = [0]


def new_identity() -> str:
    # Without a lock, which a fork at the wrong moment would leave closed in the child: of two threads that are here at
    # once neither is the later one.
    _last[0] = made = after(_last[0], time.time_ns())
    return f"{made:015x}{int.from_bytes(os.urandom(2)) % _PARTS:03x}"


def after(last: int, now_ns: int) -> int:
    """The moment, in parts of a millisecond, or the next one after `last` where that isn't later."""
    return max(now_ns * _PARTS // 1_000_000, last + 1)
