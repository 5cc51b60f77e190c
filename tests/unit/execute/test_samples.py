"""What a command used over time: short however long the run, and right between any two rows."""

import json

from hypothesis import given
from hypothesis import strategies as st

from capsula.execute.samples import MOST_ROWS, Row, Series


def row(seconds: float, *, cpu: float = 0.0, rss: int = 0, read: int = 0) -> Row:
    return Row(seconds, cpu, rss, 1, 1, read, 0)


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 1000)), min_size=1, max_size=300),
    st.integers(4, 50),
)
def test_there_are_never_too_many_rows_and_the_largest_and_the_last_stay(
    steps: list[tuple[float, int]], most: int
) -> None:
    series, seconds, read = Series(most), 0.0, 0
    for step, rss in steps:
        seconds += step
        read += rss
        series.add(row(seconds, rss=rss, read=read))
    assert len(series.rows) <= most
    assert max(each.rss for each in series.rows) == max(rss for _, rss in steps)
    assert (series.rows[-1].seconds, series.rows[-1].read) == (seconds, read)
    times = [each.seconds for each in series.rows]
    assert times == sorted(set(times))


def test_a_week_is_some_hundred_kilobytes() -> None:
    series, second = Series(), 0.0
    while second < 7 * 86400:
        second += max(0.02, min(second / 100, 1.0)) * 5
        series.add(row(second, cpu=second * 1.9, rss=12_345_678_901, read=int(second * 1e9)))
    assert MOST_ROWS / 4 < len(series.rows) <= MOST_ROWS
    assert len(json.dumps(series.columns())) < 200_000


def test_a_short_run_keeps_every_sample() -> None:
    series = Series()
    for at in range(100):
        series.add(row(at / 50, cpu=at / 100))
    assert series.columns()["seconds"][:3] == [0.0, 0.02, 0.04]
    assert series.columns()["cpu"][-1] == 0.99
    assert {len(column) for column in series.columns().values()} == {100}
