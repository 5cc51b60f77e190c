"""Facts: rows of texts as bytes, one form for each, and nothing else read back."""

import os
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capsula.core.facts import pack, unpack
from capsula.errors import WireError

FIELDS = st.one_of(
    st.binary(max_size=8).map(os.fsdecode),
    st.text(st.sampled_from("()0123456789:,\0 é🙂\U0010fe80"), max_size=6),
)
ROWS = st.lists(st.lists(FIELDS, max_size=4).map(tuple), max_size=5)


@settings(max_examples=120, deadline=None)
@given(ROWS)
def test_rows_come_back(rows: list[tuple[str, ...]]) -> None:
    assert unpack(pack(rows)) == tuple(rows)


@settings(max_examples=120, deadline=None)
@given(ROWS, ROWS)
def test_different_rows_have_different_bytes(
    left: list[tuple[str, ...]], right: list[tuple[str, ...]]
) -> None:
    assert (pack(left) == pack(right)) == (left == right)


def test_the_bytes_are_those_of_the_format() -> None:
    assert pack([]) == b""
    assert pack([("tag", "v1"), ("a",), ()]) == b"2(3:tag,2:v1,)1(1:a,)0()"
    # The length is in bytes, and a byte that is no text is a private character.
    assert pack([("é\udcff",)]) == b"1(6:\xc3\xa9\xf4\x8f\xbb\xbf,)"


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"1",
        b"1(",
        b"1()",
        b"0(",
        b"1(1:a)",
        b"1(1:a,",
        b"1(2:a,)",
        b"1(1:\xff,)",
        b"2(1:a,)",
        b"0()x",
        b"(1:a,)",
    ],
)
def test_what_are_no_rows_is_refused(content: bytes) -> None:
    with pytest.raises(WireError):
        unpack(content)


@pytest.mark.parametrize(
    "content", [b"-1()", b"+1(1:a,)", b" 1(1:a,)", b"0_1(1:a,)", b"1(+1:a,)", b"1( 1:a,)", b"1(:,)"]
)
def test_numbers_are_digits_and_nothing_else(content: bytes) -> None:
    with pytest.raises(WireError):
        unpack(content)


@pytest.mark.parametrize("content", [b"01(1:a,)", b"1(01:a,)", b"00()", b"1(00:,)"])
def test_a_number_has_one_form(content: bytes) -> None:
    with pytest.raises(WireError):
        unpack(content)


def test_a_hostile_length_does_not_keep_us_busy() -> None:
    """A negative length once led back to the same field, for as many times as the row said it has fields."""
    began = time.monotonic()
    with pytest.raises(WireError):
        unpack(b"99999999999(0:,-4:")
    with pytest.raises(WireError):
        unpack(b"99999999999(" + b"0:," * 1000)
    assert time.monotonic() - began < 5


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=30), st.text("()0123456789:,-ab", max_size=30).map(str.encode)))
@example(b"1(1:a,)")
def test_any_bytes_are_rows_or_an_error(content: bytes) -> None:
    try:
        rows = unpack(content)
    except WireError:
        return
    assert unpack(pack(rows)) == rows


@settings(max_examples=100, deadline=None)
@given(ROWS, st.data())
def test_damaged_rows_are_other_rows_or_an_error(rows: list[tuple[str, ...]], data: st.DataObject) -> None:
    content = bytearray(pack(rows) or b"0()")
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    try:
        assert unpack(bytes(content)) != tuple(rows)
    except WireError:
        return
