"""Conditions: read once, asked of facts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.errors import UsageError
from capsula.vault.facts import Fact
from capsula.vault.query import named, parse

FACTS: dict[str, Fact] = {
    "id": "01a2",
    "status": "finished",
    "started": "2026-03-01T12:00:00.000000+00:00",
    "seconds": 12.5,
    "items": ("train", "eval"),
    "tags": (),
    "exit_code": 0,
    "metrics.loss": 0.05,
    "metrics.val.loss": 0.5,
    "command": "python3 train.py --rate 0.1",
    "context.git.work.sha": "3f2a" + "0" * 36,
    "context.git.work.clean": True,
    "context.git.work.upstream": None,
    "context.python.version": "3.11.7 (main, Jan 1) [GCC]",
    "context.python.distributions.numpy.version": "1.26.4",
    "context.python.distributions.torch.version": "2.10.0+cu118",
}


@pytest.mark.parametrize(
    "text",
    [
        "status = finished",
        "status == finished and seconds > 12",
        "status != failed",
        "not status = failed",
        "status = failed or seconds <= 12.5",
        "not (status = failed or status = crashed)",
        "status in (failed, finished)",
        "status not in (failed, crashed)",
        "metrics.loss < 0.1",
        "metrics.loss<0.1 and seconds>=12.5",
        "items = eval",
        "items != other",
        "tags != wrong",
        "not tags = wrong",
        "command ~ TRAIN.py",
        "command = 'python3 train.py --rate 0.1'",
        'command = "python3 train.py --rate 0.1"',
        "git.sha = 3f2a",
        "sha = 3F2A0",
        "clean = true",
        "upstream = null",
        "started >= 2026-03-01",
        "started < 2026-03-01T12:00:01Z",
        "numpy.version < 2",
        "numpy.version < 1.100",
        "torch.version > 2.9",
        "torch.version >= 2.10",
        "context.python.version >= 3.9",
        "exit_code = 0",
        "exit_code = 0.0",
        "not nothing = 1",
    ],
)
def test_these_hold(text: str) -> None:
    assert parse(text).matches(FACTS)


@pytest.mark.parametrize(
    "text",
    [
        "status = failed",
        "status = finished and seconds > 13",
        "status != finished",
        "metrics.loss >= 0.1",
        "items = trai",
        "items != eval",
        "tags = x",
        "tags ~ x",
        "git.sha = 3f2",
        "git.sha = 3f2b",
        "id = 01a",
        "clean = 1",
        "clean > 0",
        "upstream < 1",
        "started < 2026-03-01",
        "numpy.version >= 2",
        "seconds > many",
        "nothing = 1",
        "nothing != 1",
        "nothing < 1",
    ],
)
def test_these_do_not(text: str) -> None:
    assert not parse(text).matches(FACTS)


def test_of_names_that_fit_the_nearest_count() -> None:
    assert named(FACTS, "loss") == (0, ["metrics.loss", "metrics.val.loss"])
    assert named(FACTS, "metrics.loss") == (-1, ["metrics.loss"])
    assert named(FACTS, "git.sha") == (1, ["context.git.work.sha"])
    assert named(FACTS, "oss")[1] == named(FACTS, "git")[1] == named(FACTS, "sha.git")[1] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at character 1: expected a name, found the end"),
        ("status", "at character 7: expected an operator after status, found the end"),
        ("status =", "expected a value"),
        ("status = a b", "at character 12: expected `and` or `or`, found 'b'"),
        ("status = 'a", "the quote isn't closed"),
        ("(status = a", r"expected `\)`"),
        ("status in a", r"expected `\(`"),
        ("status in (a", "expected `,`"),
        ("status ! a", "`!` stands alone"),
        ("= 3", "expected a name"),
        ("a..b = 3", "a name is parts"),
        ("(" * 200 + "a = 1" + ")" * 200, "more than 50"),
    ],
)
def test_what_is_no_condition_is_refused_where_it_stops_making_sense(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(text)


@given(st.text(alphabet="ab.=!<>~(),'\" \\andornotin0123-", max_size=40))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        condition = parse(text)
    except UsageError:
        return
    condition.matches(FACTS)


@given(
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text()), st.text()
)
def test_any_value_can_be_compared_with_any_text(facts: dict[str, Fact], asked: str) -> None:
    quoted = asked.replace("\\", "\\\\").replace("'", "\\'")
    for operator in ("=", "!=", "<", "<=", ">", ">=", "~"):
        for name in facts:
            if name and "" not in name.split("."):
                word = name.replace("\\", "\\\\").replace("'", "\\'")
                parse(f"'{word}' {operator} '{quoted}'").matches(facts)
