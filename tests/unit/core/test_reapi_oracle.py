"""The codec against the official protobuf messages: the same bytes from a value, the same value from any bytes."""

from collections.abc import Sequence
from typing import Any as Anything

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from capsula.core import reapi, wire
from capsula.core.digest import Digest
from capsula.errors import WireError
from official import FIELD, MESSAGES, NEWS, Official

KINDS = {  # our kind -> the official type, and whether it is repeated
    wire.BOOL: (FIELD.TYPE_BOOL, False),
    wire.INT32: (FIELD.TYPE_INT32, False),
    wire.INT64: (FIELD.TYPE_INT64, False),
    wire.STRING: (FIELD.TYPE_STRING, False),
    wire.BYTES: (FIELD.TYPE_BYTES, False),
    wire.MESSAGE: (FIELD.TYPE_MESSAGE, False),
    wire.UINT32_VALUE: (FIELD.TYPE_MESSAGE, False),
    wire.STRINGS: (FIELD.TYPE_STRING, True),
    wire.MESSAGES: (FIELD.TYPE_MESSAGE, True),
}
DIGEST_ROWS = ((1, "hash", wire.STRING), (2, "size_bytes", wire.INT64))

every_message = pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
thorough = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def rows(cls: type) -> Anything:
    return DIGEST_ROWS if cls is Digest else cls.FIELDS


@pytest.fixture(scope="session")
def official() -> Official:
    return Official()


@pytest.fixture(scope="session")
def newer() -> Official:
    return Official(newer=True)


def to_official(message: Anything, official: Official) -> Anything:
    theirs = official.classes[type(message)]()
    for row in rows(type(message)):
        value, kind = getattr(message, row[1]), row[2]
        if kind in (wire.STRINGS, wire.MESSAGES):
            getattr(theirs, row[1]).extend(
                value if kind == wire.STRINGS else [to_official(item, official) for item in value]
            )
        elif kind in (wire.MESSAGE, wire.UINT32_VALUE):
            if value is not None:
                inner = getattr(theirs, row[1])
                inner.SetInParent()
                if kind == wire.MESSAGE:
                    inner.MergeFrom(to_official(value, official))
                else:
                    inner.value = value
        else:
            setattr(theirs, row[1], value)
    return theirs


def from_official(cls: type, theirs: Anything) -> Anything:
    values: dict[str, object] = {}
    for row in rows(cls):
        name, kind = row[1], row[2]
        value = getattr(theirs, name)
        if kind in (wire.STRINGS, wire.MESSAGES):
            values[name] = tuple(value if kind == wire.STRINGS else [from_official(row[3], i) for i in value])
        elif kind in (wire.MESSAGE, wire.UINT32_VALUE):
            if theirs.HasField(name):
                values[name] = from_official(row[3], value) if kind == wire.MESSAGE else value.value
        else:
            values[name] = value
    return cls(**values)


# ---------------------------------------------------------------- generated values

texts = st.one_of(st.text(max_size=8), st.builds(str.__mul__, st.text(max_size=3), st.integers(0, 200)))
scalars: dict[int, st.SearchStrategy[Anything]] = {
    wire.BOOL: st.booleans(),
    wire.INT32: st.integers(-(2**31), 2**31 - 1),
    wire.INT64: st.integers(-(2**63), 2**63 - 1),
    wire.STRING: texts,
    wire.BYTES: st.one_of(st.binary(max_size=8), st.binary(min_size=120, max_size=140)),
    wire.UINT32_VALUE: st.none() | st.integers(0, 2**32 - 1),
    wire.STRINGS: st.lists(texts, max_size=3).map(tuple),
}
generated: dict[type, st.SearchStrategy[Anything]] = {}


def messages(cls: type) -> st.SearchStrategy[Anything]:
    if cls not in generated:
        generated[cls] = st.builds(cls, **{row[1]: attribute_values(row) for row in rows(cls)})
    return generated[cls]


def attribute_values(row: Anything) -> st.SearchStrategy[Anything]:
    if row[2] == wire.MESSAGE:
        return st.none() | messages(row[3])
    if row[2] == wire.MESSAGES:
        return st.lists(messages(row[3]), max_size=3).map(tuple)
    return scalars[row[2]]


# ---------------------------------------------------------------- the tests


def test_every_message_of_ours_is_held_against_the_official_one() -> None:
    ours = {
        cls for cls in vars(reapi).values() if isinstance(cls, type) and cls not in (Digest, wire.Message)
    }
    assert ours == MESSAGES.keys() - {Digest}


@every_message
def test_the_table_is_the_official_one(cls: type, official: Official) -> None:
    told = []
    for number, name, kind, *inner in rows(cls):
        types = [MESSAGES[cls] for cls in inner] or (
            ["google.protobuf.UInt32Value"] * (kind == wire.UINT32_VALUE)
        )
        told.append((number, name, *KINDS[kind], "".join(types)))
    proto = descriptor_pb2.DescriptorProto()
    official.pool.FindMessageTypeByName(MESSAGES[cls]).CopyToProto(proto)
    expected = []
    for field in sorted(proto.field, key=lambda field: field.number):
        type_ = FIELD.TYPE_INT32 if field.type == FIELD.TYPE_ENUM else field.type
        inner_type = field.type_name.removeprefix(".") if field.type == FIELD.TYPE_MESSAGE else ""
        expected.append((field.number, field.name, type_, field.label == FIELD.LABEL_REPEATED, inner_type))
    assert told == expected


@every_message
@thorough
@given(data=st.data())
def test_both_write_the_same_bytes_and_read_each_others(
    cls: type, data: st.DataObject, official: Official
) -> None:
    message = data.draw(messages(cls))
    ours, theirs = wire.encode(message), to_official(message, official)
    assert ours == theirs.SerializeToString(deterministic=True)
    assert type(theirs).FromString(ours) == theirs
    assert wire.decode(cls, ours) == message
    assert from_official(cls, theirs) == message


@every_message
@thorough
@given(data=st.data())
def test_what_a_newer_api_adds_is_skipped_at_every_level(
    cls: type, data: st.DataObject, newer: Official
) -> None:
    message = data.draw(messages(cls))
    theirs = to_official(message, newer)
    plain = theirs.ByteSize()
    _fill_news(theirs, data.draw(st.randoms(use_true_random=False)))
    content = theirs.SerializeToString(deterministic=True)
    assert len(content) > plain
    assert wire.decode(cls, content) == message
    # In any place: an unknown field in front of everything counts as little as one behind.
    assert wire.decode(cls, b"\xf8\x7f\x80\x80\x01" + content) == message


def _fill_news(theirs: Anything, random: Anything) -> None:
    for field, value in theirs.ListFields():
        if field.type == FIELD.TYPE_MESSAGE:
            for inner in value if isinstance(value, Sequence) else [value]:
                _fill_news(inner, random)
    for number, (_, values) in NEWS.items():
        if number == 14 or random.random() < 0.5:
            getattr(theirs, f"news_{number}").extend(values)


@every_message
@thorough
@given(data=st.data())
def test_a_message_in_two_parts_is_merged(cls: type, data: st.DataObject, official: Official) -> None:
    content = wire.encode(data.draw(messages(cls))) + wire.encode(data.draw(messages(cls)))
    theirs = official.classes[cls].FromString(content)
    assert wire.decode(cls, content) == from_official(cls, theirs)


@every_message
@settings(thorough, max_examples=150)
@given(data=st.data())
@example(data=None)
def test_bytes_are_read_as_the_official_reader_does_or_refused(
    cls: type, data: "st.DataObject | None", official: Official
) -> None:
    content = b"" if data is None else data.draw(st.binary(max_size=40) | damaged(cls))
    try:
        message = wire.decode(cls, content)
    except WireError:
        return
    try:
        theirs = official.classes[cls].FromString(content)
    except DecodeError:
        pytest.fail(f"{content!r} is no {cls.__name__}, but was read as {message!r}")
    assert message == from_official(cls, theirs)


@st.composite
def damaged(draw: st.DrawFn, cls: type) -> bytes:
    """A message with a few bytes changed, inserted, removed, or everything behind some place cut off."""
    content = bytearray(wire.encode(draw(messages(cls))))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        how = draw(st.sampled_from(("change", "insert", "remove", "cut")))
        if how == "cut":
            del content[place:]
        elif how == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=3))
        elif how == "remove":
            del content[place : place + 1]
        elif place < len(content):
            content[place] = draw(st.integers(0, 255))
    return bytes(content)
