"""The filters of the verbs that find capsules: times as people write them, and names that nothing has."""

import time
from datetime import datetime

import pytest

from capsula.cli.finding import Filters, moment
from capsula.errors import UsageError


@pytest.mark.parametrize(
    ("text", "ago"), [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604800), ("60", 60)]
)
def test_how_long_ago_is_a_time(text: str, ago: float) -> None:
    before = time.time()
    said = datetime.fromisoformat(moment(text)).timestamp()
    assert before - ago - 0.001 <= said <= time.time() - ago + 0.001


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-01-31", datetime(2026, 1, 31)),  # noqa: DTZ001, what people write is local
        ("20260131", datetime(2026, 1, 31)),  # noqa: DTZ001
        ("2026-01-31T12:30", datetime(2026, 1, 31, 12, 30)),  # noqa: DTZ001
        ("2026-01-31 12:30:01", datetime(2026, 1, 31, 12, 30, 1)),  # noqa: DTZ001
        ("2026-01-31T12:00Z", datetime.fromisoformat("2026-01-31T12:00+00:00")),
    ],
)
def test_a_date_is_local_unless_it_says_otherwise(text: str, said: datetime) -> None:
    assert datetime.fromisoformat(moment(text)) == said.astimezone()


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "2h ago", "-1h", "nan", "9" * 40 + "d", "0001-01-01x"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a time like"):
        moment(text)


def test_filters_hold_together() -> None:
    assert Filters().condition() is None
    condition = Filters(
        ("loss < 1",), ("a", "b"), ("failed",), ("t",), "2026-01-01T00:00:00+00:00"
    ).condition()
    assert condition is not None
    assert condition.names == {"loss", "items", "status", "tags", "started"}
    facts = {
        "loss": 0.5,
        "items": ("b",),
        "status": "failed",
        "tags": ("t",),
        "started": "2026-02-01T00:00:00+00:00",
    }
    assert condition.matches(facts)
    for name, other in (
        ("loss", 2),
        ("items", ("c",)),
        ("status", "finished"),
        ("tags", ()),
        ("started", "2025-01-01"),
    ):
        assert not condition.matches({**facts, name: other})
