"""Ids of capsules: they sort by time, also those that are made within a millisecond."""

import re
import time

from capsula.vault.identity import after, new_identity
from capsula.vault.removal import began_at


def test_ids_of_one_process_sort_as_they_were_made() -> None:
    made = [new_identity() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert len({each[:12] for each in made}) < len(made) // 4, "several were made within a millisecond"


def test_an_id_begins_with_its_moment() -> None:
    before = time.time_ns() // 1_000_000
    identity = new_identity()
    assert re.fullmatch("[0-9a-f]{18}", identity)
    # The ids of a test before may have run ahead of the clock by some parts of a millisecond.
    assert before <= int(identity[:12], 16) <= time.time_ns() // 1_000_000 + 5000
    assert began_at(identity) == int(identity[:12], 16) / 1000


def test_moments_within_a_millisecond_are_told_apart() -> None:
    first, second = after(0, 1_000_000_500_000), after(0, 1_000_000_500_300)
    assert first < second
    assert first >> 12 == second >> 12 == 1_000_000


def test_a_clock_that_goes_back_makes_no_smaller_id() -> None:
    last = after(0, 2_000_000_000)
    assert after(last, 1_000_000_000) == last + 1
    assert after(last, 2_000_000_000) == last + 1
