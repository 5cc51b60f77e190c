"""File names as text: there and back, one to one, and always valid Unicode."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.core.names import from_text, printable, to_text

# Bytes around everything that matters: the private characters themselves (F4 8F B8 80 to F4 8F BB BF), parts of
# them, bytes that are no UTF-8, and plain text.
TRICKY = st.sampled_from(
    [
        b"\xf4\x8f\xb8\x80",
        b"\xf4\x8f\xbb\xbf",
        b"\xf4\x8f\xb8",
        b"\xf4",
        b"\x8f",
        b"\x80",
        b"\xff",
        b"\xed\xb2\x80",
    ]
    + [b"a", b" ", b"\n", b"\\", "é".encode(), "🙂".encode(), "\U0010fdff".encode(), "\U0010ff00".encode()]
)
RAW = st.one_of(st.binary(max_size=12), st.lists(TRICKY, max_size=8).map(b"".join))
NAMES = RAW.map(os.fsdecode)


@settings(max_examples=150, deadline=None)
@given(NAMES)
def test_every_name_comes_back(name: str) -> None:
    text = to_text(name)
    assert text.encode().decode() == text
    assert from_text(text) == name


@settings(max_examples=150, deadline=None)
@given(NAMES, NAMES)
def test_two_names_are_two_texts(left: str, right: str) -> None:
    assert (to_text(left) == to_text(right)) == (left == right)


@settings(max_examples=80, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=10))
def test_any_text_from_outside_is_some_name(text: str) -> None:
    assert os.fsdecode(os.fsencode(from_text(text))) == from_text(text)


@pytest.mark.parametrize("name", ["", "a.c", "naïve", "日本語", "🙂", "a\nb", "\U0010fdff", "\U0010ff00"])
def test_an_ordinary_name_is_its_own_text(name: str) -> None:
    assert to_text(name) == name
    assert from_text(name) == name


def test_a_byte_that_is_no_text_becomes_one_private_character() -> None:
    assert to_text("a\udcff") == "a\U0010feff"
    assert to_text("\udc80") == "\U0010fe80"


def test_a_name_that_holds_a_private_character_is_written_byte_by_byte() -> None:
    """Else it would be the text of a name that isn't UTF-8."""
    assert to_text("\U0010feff") == "\U0010fef4\U0010fe8f\U0010febb\U0010febf"
    assert to_text("\U0010feff") != to_text("\udcff")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain.txt", "plain.txt"),
        ("mit Umläuten 🙂", "mit Umläuten 🙂"),
        ("new\nline", "new\\nline"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("back\\slash", "back\\\\slash"),
        ("byte\udcff", "byte\\xff"),
        ("\u202eevil", "\\u202eevil"),
        ("", ""),
    ],
)
def test_a_name_for_people_has_nothing_that_a_terminal_obeys(name: str, shown: str) -> None:
    assert printable(name) == shown


@settings(max_examples=80, deadline=None)
@given(NAMES)
def test_any_name_can_be_shown(name: str) -> None:
    assert printable(name).isprintable()
