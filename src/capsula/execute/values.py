"""Any Python value as JSON: what is JSON as it is, anything else as a summary with its type.

Nothing here changes a value: an iterator isn't consumed, nothing is kept, and no value is too strange to be told of, at
worst by its type alone.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import hashlib
import inspect
import math
import types
import uuid
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from capsula.core.secrets import is_secret, mask
from capsula.execute import arrays

# Beyond these, a value is summed up.
DEPTH = 6
ITEMS = 1000
TEXT = 10_000
# So many values in all (a list of lists of lists would have ITEMS cubed), and so many characters of texts.
VALUES, TEXTS = 20_000, 1 << 20
# So much is hashed: more would delay the program.
HASHED = 1 << 28

Hide = Callable[[str], str]
_TOLD_BY_TEXT = PurePath | datetime.date | datetime.time | datetime.timedelta | decimal.Decimal | uuid.UUID


def represent(value: Any, hide: Hide = mask) -> Any:
    """JSON where the value is JSON; else a summary with its type, and shape, dtype and digest where it has them. `hide`
    leaves credentials out of a text."""
    return Teller(hide).tell(value)


class Teller:
    """Tells of several values together: what it still has room for is shared by them."""

    def __init__(self, hide: Hide = mask) -> None:
        self._hide = hide
        self._left = VALUES
        self._room = TEXTS

    def argument(self, name: object, value: Any, depth: int = 0) -> Any:
        """A value that has a name: one that says that it is secret is enough."""
        return "***" if is_secret(str(name)) and isinstance(value, str | bytes) else self.tell(value, depth)

    def tell(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        try:
            return self._tell(value, depth)
        except Exception as error:
            return {"type": type_name(value), "error": f"{type(error).__name__} while it was looked at"}

    def _tell(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            # What no reader of JSON takes as it is, and Python itself refuses to write in decimals.
            return value if value.bit_length() < 1000 else {"type": "int", "hex": hex(value)[:TEXT]}
        if kind is float:
            return value if math.isfinite(value) else {"type": "float", "repr": repr(value)}
        if kind is str:
            return self._text(value)
        if kind in (list, tuple, dict) and depth < DEPTH and len(value) <= min(ITEMS, self._left):
            if kind is not dict:
                return [self.tell(item, depth + 1) for item in value]
            if all(type(key) is str for key in value):
                return {self._hide(key): self.argument(key, item, depth + 1) for key, item in value.items()}
        if kind in (bytes, bytearray, memoryview):
            return {"type": kind.__name__, **digest(value)}
        return self._summary(value, depth)

    def _text(self, value: str) -> Any:
        """Of a long one only the start is told, and so only that is looked through for what is to be hidden."""
        if len(value) <= min(TEXT, self._room):
            self._room -= len(value)
            return self._hide(value)
        told = {"type": "str", **digest(value.encode("utf-8", "surrogatepass"))}
        if self._room >= 2 * TEXT:
            self._room -= 2 * TEXT
            told["start"] = cut(self._hide(value[: 2 * TEXT]), 200)
        return told

    def _summary(self, value: Any, depth: int) -> dict[str, Any]:
        kind = type(value)
        facts: dict[str, Any] = {"type": type_name(value)}
        if isinstance(value, enum.Enum):
            return {**facts, "name": value.name, "value": self.tell(value.value, depth + 1)}
        if isinstance(value, _TOLD_BY_TEXT):
            return {**facts, "repr": self._hide(str(value))}
        if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
            return {**facts, "name": getattr(value, "__qualname__", None) or value.__name__}
        if inspect.isgenerator(value) or inspect.isasyncgen(value) or inspect.iscoroutine(value):
            return {**facts, "name": value.__qualname__}
        if (told := arrays.describe(value)) is not None:
            for name in {"value", "values"} & told.keys():
                told[name] = self.tell(told[name], depth + 1)
            return facts | told
        if (fields := self._fields(value, kind, depth)) is not None:
            return {**facts, "fields": fields}
        if isinstance(value, list | tuple | dict | set | frozenset):
            return facts | self._collection(value, depth)
        if not hasattr(kind, "__next__") and _has_own_repr(kind):
            facts["repr"] = cut(self._hide(repr(value)[: 2 * TEXT]))
        return facts

    def _fields(self, value: Any, kind: type, depth: int) -> dict[str, Any] | None:
        """Of a dataclass, a class of attrs, or a named tuple."""
        names: list[str]
        if dataclasses.is_dataclass(kind):
            names = [field.name for field in dataclasses.fields(kind)]
        elif isinstance(attributes := getattr(kind, "__attrs_attrs__", None), tuple):
            names = [attribute.name for attribute in attributes]
        elif isinstance(value, tuple) and isinstance(listed := getattr(kind, "_fields", None), tuple):
            names = list(listed)
        else:
            return None
        if depth >= DEPTH or len(names) > min(ITEMS, self._left):
            return {}
        return {name: self.argument(name, getattr(value, name, None), depth + 1) for name in names}

    def _collection(self, value: Any, depth: int) -> dict[str, Any]:
        """One that isn't JSON: a set, a dictionary with other keys, one of a class of its own, or too much."""
        told: dict[str, Any] = {"length": len(value)}
        if depth >= DEPTH or len(value) > min(ITEMS, self._left):
            return told
        if isinstance(value, dict):
            told["items"] = [
                [self.tell(key, depth + 1), self.argument(key, item, depth + 1)]
                for key, item in dict.items(value)
            ]
        elif isinstance(value, set | frozenset):
            # In an order that is the same in the next run, as far as there is one.
            told["items"] = sorted((self.tell(item, depth + 1) for item in value), key=repr)
        else:
            told["items"] = [self.tell(item, depth + 1) for item in value]
        return told


def cut(text: str, most: int = TEXT) -> str:
    """Without the word that the end falls into: half of a credential isn't recognised any more."""
    if len(text) <= most:
        return text
    head = text[:most]
    return head[: max(head.rfind(" "), head.rfind("\n"), most - 200)]


def digest(content: Any) -> dict[str, Any]:
    """Size and SHA-256 of bytes, or of what gives its bytes; of too many the size alone."""
    view = memoryview(content)
    if view.nbytes > HASHED:
        return {"size": view.nbytes, "sha256": None}
    return {"size": view.nbytes, "sha256": hashlib.sha256(view).hexdigest()}


def type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _has_own_repr(kind: type) -> bool:
    """The one that all objects have is an address: another one each time, and it tells nothing."""
    own: object = kind.__repr__
    return own is not object.__repr__
