"""Return values in a store: what comes back is equal and of the same type, and hostile bytes do nothing."""

import dataclasses
import enum
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.errors import EntryCorrupt
from capsula.execute.canonical import Unkeyable, canonical, item, refuse
from capsula.execute.stored_value import MAGIC, decode, encode

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
)
KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS | st.frozensets(KEYS) | st.sets(KEYS),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.binary().map(bytearray)
    ),
    max_leaves=20,
)


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    return one == other or one != one


@given(VALUES)
def test_a_value_comes_back_as_it_was(value):
    assert same(decode(encode(value)), value)


@given(VALUES, VALUES)
def test_only_equal_values_have_equal_keys(one, other):
    equal = canonical(one, refuse) == canonical(other, refuse)
    if equal:
        assert same(one, other)
    assert canonical(one, refuse) == canonical(decode(encode(one)), refuse)


@given(VALUES, st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_bytes_that_were_spoilt_are_refused_or_another_plain_value(value, at, noise):
    content = bytearray(encode(value))
    at = len(MAGIC) + at % (len(content) - len(MAGIC))
    content[at : at + len(noise)] = noise
    try:
        decode(bytes(content))
    except EntryCorrupt:
        return


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Made:
    x: int

    def __post_init__(self):
        raise AssertionError("reading a value ran code of its class")


@pytest.mark.parametrize(
    "value",
    [object(), print, len, Color, [iter(())], Exception("x"), lambda: 1, sys, type("Local", (), {})()],
    ids=lambda value: type(value).__name__,
)
def test_what_could_not_be_given_back_is_refused(value):
    with pytest.raises(Unkeyable):
        encode(value)


def test_what_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(Unkeyable):
        encode(value)


def test_reading_runs_no_code_of_a_class_and_loads_no_module(monkeypatch):
    module = types.ModuleType("classes_of_the_test")
    module.Made = Made
    monkeypatch.setitem(sys.modules, "classes_of_the_test", module)
    monkeypatch.setattr(Made, "__module__", "classes_of_the_test")
    made = object.__new__(Made)
    made.x = 3
    content = encode([made])
    assert decode(content)[0].x == 3
    monkeypatch.delitem(sys.modules, "classes_of_the_test")
    with pytest.raises(EntryCorrupt) as refused:
        decode(content)
    assert "isn't here" in refused.value.what


@pytest.mark.parametrize(
    "name", [("os", "system"), ("subprocess", "Popen"), ("this", "c"), ("builtins", "object")]
)
@pytest.mark.parametrize("letter", [b"o", b"m"])
def test_what_is_no_data_class_is_not_made(name, letter):
    content = {b"o": {"args": "true"}, b"m": "args"}[letter]
    parts = encode(name)[len(MAGIC) :] + encode(content)[len(MAGIC) :]
    with pytest.raises(EntryCorrupt) as refused:
        decode(MAGIC + item(letter, parts))
    assert "which isn't here" in refused.value.what
    assert "this" not in sys.modules


def test_a_data_class_with_other_fields_is_refused():
    made = object.__new__(Made)
    made.x = 1
    content = encode(made).replace(b"s1:x", b"s1:y")
    with pytest.raises(EntryCorrupt) as refused:
        decode(content)
    assert "other fields" in refused.value.what
