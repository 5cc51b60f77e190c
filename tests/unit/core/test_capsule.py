"""The origin of a result: who made it, as it travels with the result."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.core.capsule import Origin, origin_from
from capsula.core.facts import pack
from capsula.errors import WireError


def fields(origin: Origin) -> dict[str, object]:
    return {name: getattr(origin, name) for name in Origin.__slots__}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Origin,
        run=TEXT,
        capsule_id=TEXT,
        argv=TEXT,
        host=TEXT,
        job=TEXT,
        commit=TEXT,
        started_ns=st.integers(0, 1 << 62),
        seconds=st.integers(0, 10**9).map(lambda micros: micros / 1e6),
        order=st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 1 << 40)), max_size=4).map(tuple),
        verdict=st.sampled_from(["", "same", "differs"]),
    )
)
def test_it_comes_back(origin: Origin) -> None:
    found = fields(origin_from(origin.to_bytes()))
    assert found.pop("seconds") == pytest.approx(origin.seconds, abs=1e-6)
    assert found == {name: value for name, value in fields(origin).items() if name != "seconds"}


def test_a_job_that_is_no_utf8_comes_back() -> None:
    assert origin_from(Origin(job="\udcff").to_bytes()).job == "\udcff"


def test_what_is_unknown_is_passed_over() -> None:
    content = pack([("run", "r"), ("new", "thing"), ("host",), ("job", "a", "b"), ()])
    assert fields(origin_from(content)) == fields(Origin(run="r"))


@pytest.mark.parametrize(
    "fact", [("order", "1:x"), ("order", "1"), ("started", "soon"), ("seconds", ""), ("seconds", "fast")]
)
def test_values_that_cannot_be_read_are_left_empty(fact: tuple[str, str]) -> None:
    origin = origin_from(pack([("run", "r"), fact]))
    assert (origin.run, origin.order, origin.started_ns, origin.seconds) == ("r", (), 0, 0.0)


def test_bytes_that_are_no_facts_are_refused() -> None:
    with pytest.raises(WireError):
        origin_from(b"no facts")
