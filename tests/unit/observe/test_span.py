"""Where a run is in a trace, as the header `traceparent` says it (https://www.w3.org/TR/trace-context/)."""

import pytest

from capsula.observe.span import place

TRACE, PARENT = "ab" * 16, "cd" * 8


def test_a_run_is_below_the_span_that_the_header_names() -> None:
    found = place(f"00-{TRACE}-{PARENT}-01")
    assert (found.trace_id, found.parent_id, found.is_sampled) == (TRACE, PARENT, True)
    assert found.span_id not in (PARENT, place(f"00-{TRACE}-{PARENT}-01").span_id)
    assert found.traceparent == f"00-{TRACE}-{found.span_id}-01"


@pytest.mark.parametrize(("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("03", True)])
def test_whether_it_is_recorded_is_for_who_began_the_trace_to_say(flags: str, is_sampled: bool) -> None:
    found = place(f"00-{TRACE}-{PARENT}-{flags}")
    assert found.is_sampled is is_sampled
    assert found.traceparent.endswith("-01" if is_sampled else "-00")


def test_a_later_version_may_say_more() -> None:
    assert place(f"cc-{TRACE}-{PARENT}-01-more").trace_id == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}x-01",
        f"00-{TRACE}-{PARENT}",
    ],
)
def test_what_names_no_span_begins_a_trace(header: str) -> None:
    found = place(header)
    assert found.parent_id == ""
    assert found.is_sampled
    assert found.trace_id != TRACE
    assert len(found.trace_id) == 32
