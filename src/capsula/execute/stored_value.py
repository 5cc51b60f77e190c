"""Return values as bytes in a store, and back: equal, and of the same type.

A store may be shared, and reading a pickle runs whatever its writer wants. So there is none: plain values are written
in a form of our own (docs/format.md), arrays as numpy's own `.npy` without objects, and of enumerations, data classes
and named tuples only the fields. A class is never imported for a value, it has to be there already.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import io
import pathlib
import struct
from collections.abc import Callable
from typing import Any

from capsula.errors import EntryCorrupt
from capsula.execute import frames
from capsula.execute.canonical import PATHS, Unkeyable, is_array, item, plain_frame, scalar, shown_type
from capsula.execute.classes import found

MAGIC = b"capsula-value1\n"
_DEEP = 200
_PATHS: dict[str, type[pathlib.PurePath]] = {kind.__name__: kind for kind in PATHS}


def encode(value: Any, home: str = "") -> bytes:
    """Raises Unkeyable, saying of which type it is, for a value that couldn't be given back as it is. `home` is the
    module of the function: it is the same one whether it is run or imported, and has no name here."""
    return MAGIC + _Writer(home).value(value, 0)


def decode(content: bytes, home: str = "") -> Any:
    """Raises EntryCorrupt for bytes that are no such value, or one of a class that isn't here."""
    if not content.startswith(MAGIC):
        raise EntryCorrupt("the stored return value is in another form than this version writes")
    try:
        reader = _Reader(content, len(MAGIC), home)
        value = reader.value(0)
        if reader.at != len(content):
            raise ValueError("bytes are left over")
    except EntryCorrupt:
        raise
    except Exception as error:  # whatever strange bytes lead to
        raise EntryCorrupt(
            f"the stored return value can't be read: {type(error).__name__}: {error}"
        ) from error
    return value


class _Writer:
    def __init__(self, home: str) -> None:
        self.home = home

    def value(self, value: Any, depth: int) -> bytes:
        kind = type(value)
        if depth > _DEEP:
            raise Unkeyable("it is nested too deeply, or holds itself")
        if (plain := scalar(value)) is not None:
            return plain
        if kind in _SEQUENCES:
            return item(_SEQUENCES[kind], b"".join([self.value(member, depth + 1) for member in value]))
        if kind is dict:
            parts = [part for pair in value.items() for part in pair]
            return item(b"d", b"".join([self.value(part, depth + 1) for part in parts]))
        if _PATHS.get(kind.__name__) is kind:
            return item(b"p", self.value((kind.__name__, str(value)), depth))
        if is_array(value):
            return item(b"a" if kind.__name__ == "ndarray" else b"g", _npy(value))
        if (frame := plain_frame(value)) is not None:
            content = self.value(frame, depth + 1)
            if not frames.comes_back(value, frame):
                raise Unkeyable(f"it is or holds a {kind.__name__} of pandas that would come back otherwise")
            return item(b"D", content)
        return item(*self._of_class(value, kind, depth + 1))

    def _of_class(self, value: Any, kind: type, depth: int) -> tuple[bytes, bytes]:
        is_home = kind.__module__ == self.home
        name = self.value(("" if is_home else kind.__module__, kind.__qualname__), depth)
        # Another program has another __main__.
        is_found = is_home or kind.__module__ != "__main__"
        if isinstance(value, enum.Enum) and is_found and found(kind.__module__, kind.__qualname__) is kind:
            if value.name in kind.__members__:
                return b"m", name + self.value(value.name, depth)
        elif is_found and _is_plain_class(kind):
            fields = {each: getattr(value, each) for each in _fields(kind) if hasattr(value, each)}
            if len(fields) == len(_fields(kind)) and set(getattr(value, "__dict__", fields)) <= set(fields):
                return b"o", name + self.value(fields, depth)
        raise Unkeyable(f"it is or holds a {shown_type(value)}, which can't be stored safely")


_SEQUENCES: dict[type, bytes] = {list: b"l", tuple: b"t", set: b"e", frozenset: b"E"}
_MAKES: dict[bytes, Callable[[list[Any]], Any]] = {b"l": list, b"t": tuple, b"e": set, b"E": frozenset}


def _is_plain_class(kind: type) -> bool:
    """A data class or named tuple that can be found again by its name."""
    is_plain = (dataclasses.is_dataclass(kind) and kind.__new__ is object.__new__) or (
        issubclass(kind, tuple) and hasattr(kind, "_fields")
    )
    return is_plain and found(kind.__module__, kind.__qualname__) is kind


def _fields(kind: Any) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(kind._fields)


def _npy(value: Any) -> bytes:
    target = io.BytesIO()
    numpy = importlib.import_module("numpy")
    numpy.lib.format.write_array(target, numpy.asarray(value), allow_pickle=False)
    return target.getvalue()


class _Reader:
    def __init__(self, content: bytes, at: int, home: str) -> None:
        self.content = content
        self.at = at
        self.home = home

    def value(self, depth: int) -> Any:
        if depth > _DEEP + 10:
            raise ValueError("nested too deeply")
        letter, start = self.content[self.at : self.at + 1], self.at + 1
        colon = self.content.index(b":", start, start + 20)
        digits = self.content[start:colon]
        end = colon + 1 + int(digits)
        if not digits.isdigit() or end > len(self.content):
            raise ValueError("a length is wrong")
        self.at = colon + 1
        try:
            return self._one(letter, end, depth + 1)
        finally:
            self.at = end

    def _one(self, letter: bytes, end: int, depth: int) -> Any:
        if letter in _MAKES:
            return _MAKES[letter](self._until(end, depth))
        if letter == b"d":
            parts = self._until(end, depth)
            return dict(zip(parts[::2], parts[1::2], strict=True))
        if letter == b"D":
            (plain,) = self._until(end, depth)
            return frames.from_plain(plain)
        if letter in (b"p", b"m", b"o"):
            return _made(letter, self._until(end, depth), self.home)
        return _SIMPLE[letter](self.content[self.at : end])

    def _until(self, end: int, depth: int) -> list[Any]:
        found = []
        while self.at < end:
            found.append(self.value(depth))
        if self.at != end:
            raise ValueError("a length is wrong")
        return found


def _made(letter: bytes, parts: list[Any], home: str) -> Any:
    if letter == b"p":
        name, text = parts[0]
        return _PATHS[name](text)
    (module, qualname), content = parts
    kind = found(module or home, qualname)
    if letter == b"m" and isinstance(kind, enum.EnumMeta):
        return kind[content]
    if letter == b"o" and isinstance(kind, type) and _is_plain_class(kind):
        if tuple(content) != _fields(kind):
            raise EntryCorrupt(f"the stored return value has other fields than {qualname}")
        if issubclass(kind, tuple):
            return tuple.__new__(kind, content.values())
        # As copying does: its fields are as they were, and no code of the class runs.
        made = object.__new__(kind)
        for name, value in content.items():
            object.__setattr__(made, name, value)
        return made
    raise EntryCorrupt(f"the stored return value is of the class {qualname}, which isn't here")


def _read_npy(content: bytes) -> Any:
    # The program's own, at a version that is part of the key; it has it loaded, or is about to.
    return importlib.import_module("numpy").lib.format.read_array(io.BytesIO(content), allow_pickle=False)


_SIMPLE: dict[bytes, Callable[[bytes], Any]] = {
    b"n": {b"None": None, b"True": True, b"False": False}.__getitem__,
    b"i": lambda content: int(content, 16),
    b"f": lambda content: struct.unpack(">d", content)[0],
    b"c": lambda content: complex(*struct.unpack(">dd", content)),
    b"s": lambda content: content.decode("utf-8", "surrogatepass"),
    b"b": bytes,
    b"B": bytearray,
    b"a": _read_npy,
    b"g": lambda content: _read_npy(content)[()],
}
