"""The clock of file systems, which ticks some hundred times a second: two changes in one tick have the same times."""

import time


def next_tick() -> None:
    """Return when what changes from now on has another time than what has changed until now."""
    clock = getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME)
    before = time.clock_gettime_ns(clock)
    while time.clock_gettime_ns(clock) == before:
        time.sleep(0.0005)
