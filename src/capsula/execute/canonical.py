"""Python values as bytes for a key: equal bytes mean the same type and the same content, on every machine.

Only values whose whole content is known are taken; for anything else `other` is asked, which raises Unkeyable. Each
value is a letter, a length and its content, so that no two values have the same bytes. A dictionary keeps its order,
which a function may see. The data of an array stands as its digest.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import hashlib
import pathlib
import struct
import sys
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from typing import Any

from capsula.errors import CapsulaError
from capsula.execute import frames

Other = Callable[[Any], bytes]
PATHS = (
    pathlib.PurePath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    pathlib.PosixPath,
    pathlib.WindowsPath,
)
# Their repr is all that they are.
_PLAIN = (
    type(Ellipsis),
    type(NotImplemented),
    range,
    datetime.date,
    datetime.timedelta,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
)
_ZONES = (type(None), datetime.timezone, zoneinfo.ZoneInfo)


class Unkeyable(CapsulaError):
    """A value, or a piece of code, that no key can stand for."""


def canonical(value: Any, other: Other) -> bytes:
    """Raises Unkeyable for what can't be known, and for what holds itself."""
    try:
        return _bytes(value, other)
    except RecursionError:
        raise Unkeyable("it is nested too deeply, or holds itself") from None


def item(letter: bytes, content: bytes) -> bytes:
    return b"%b%d:%b" % (letter, len(content), content)


def scalar(value: Any) -> bytes | None:
    """The bytes of a value that has no parts; None for any other. No subclass counts as the type itself."""
    write = _SCALARS.get(type(value))
    return None if write is None else item(*write(value))


_SCALARS: dict[type, Callable[[Any], tuple[bytes, bytes]]] = {
    type(None): lambda value: (b"n", str(value).encode()),
    bool: lambda value: (b"n", str(value).encode()),
    int: lambda value: (b"i", b"%x" % value),  # in hexadecimal, as the decimals of a long number are limited
    float: lambda value: (b"f", struct.pack(">d", value)),
    complex: lambda value: (b"c", struct.pack(">dd", value.real, value.imag)),
    str: lambda value: (b"s", value.encode("utf-8", "surrogatepass")),
    bytes: lambda value: (b"b", value),
    bytearray: lambda value: (b"B", bytes(value)),
}


def _bytes(value: Any, other: Other) -> bytes:
    kind = type(value)
    if (plain := scalar(value)) is not None:
        return plain
    if kind in (list, tuple):
        return item(b"l" if kind is list else b"t", _joined(value, other))
    if kind is dict:
        return item(b"d", _joined([part for pair in value.items() for part in pair], other))
    if kind in (set, frozenset):
        members = b"".join(sorted(_bytes(member, other) for member in value))
        return item(b"e" if kind is set else b"E", members)
    if kind in PATHS:
        return item(b"p", _joined((kind.__name__, str(value)), other))
    if kind in _PLAIN or (kind in (datetime.datetime, datetime.time) and type(value.tzinfo) in _ZONES):
        return item(b"r", repr(value).encode())
    if is_array(value):
        return item(b"a", _array(value, other))
    if (frame := plain_frame(value)) is not None:
        return item(b"D", _bytes(frame, other))
    return other(value)


def _joined(values: Iterable[Any], other: Other) -> bytes:
    return b"".join([_bytes(value, other) for value in values])


def plain_frame(value: Any) -> frames.Plain | None:
    """The plain form of what pandas has made; None for anything else. Raises Unkeyable for what has none."""
    try:
        return frames.to_plain(value)
    except CapsulaError as error:
        raise Unkeyable(error.what) from None


def is_array(value: Any) -> bool:
    """An array or a scalar of numpy whose elements are no Python objects; numpy is never loaded for it."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not (type(value) is numpy.ndarray or isinstance(value, numpy.generic)):
        return False
    return not value.dtype.hasobject


def _array(value: Any, other: Other) -> bytes:
    """With its layout in memory: a sum along the other axis may round differently."""
    flags = value.flags
    layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else ""
    numpy = sys.modules["numpy"]
    # As bytes without a copy of them, where they lie together.
    whole = numpy.ascontiguousarray(value.T if layout == "F" else value).reshape(-1).view(numpy.uint8)
    facts = (
        type(value).__name__,
        repr(value.dtype.descr),
        str(value.dtype),
        list(value.shape),
        layout,
        bool(flags.writeable),
        hashlib.sha256(whole.data).digest(),
    )
    return _joined(facts, other)


def refuse(value: Any) -> bytes:
    raise Unkeyable(what_it_is(value))


def what_it_is(value: Any) -> str:
    return f"it is or holds a {shown_type(value)}, whose content can't be known"


def shown_type(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
