"""What a class of the program and its instances consist of: all of it, or nothing where something is hidden."""

from __future__ import annotations

import dataclasses
import enum
import functools
import struct
import sys
import types
from typing import Any

from capsula.execute.origin import origin_of

# Of a class, what says nothing that its other parts don't, or is about the text.
_BESIDE = frozenset(
    (
        *("__slots__", "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "_abc_impl"),
        *("__annotate__", "__annotate_func__"),
    )
)
_POINTER = struct.calcsize("P")


def found(module: str | None, qualname: str) -> Any:
    """What is there under this name; None if nothing is."""
    found: Any = sys.modules.get(module or "")
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found


def is_pinned_class(kind: type) -> bool:
    """Not by its module's name alone: `dataclasses.make_dataclass` says that its classes are of `types`."""
    if not origin_of(kind.__module__).is_pinned:
        return False
    is_compiled = not any([isinstance(value, types.FunctionType) for value in vars(kind).values()])
    return kind.__module__ == "builtins" or is_compiled or found(kind.__module__, kind.__qualname__) is kind


def is_followed(value: Any) -> bool:
    return isinstance(
        value,
        types.FunctionType
        | type
        | types.BuiltinFunctionType
        | types.MethodType
        | functools.partial
        | staticmethod
        | classmethod
        | property
        | functools.cached_property
        | functools._lru_cache_wrapper,
    ) and not isinstance(value, types.GenericAlias)


def attributes_of(value: Any, kind: type) -> dict[str, Any] | None:
    """All that an instance holds; None when something compiled holds more than its attributes tell."""
    slots = {
        name: member
        for base in kind.__mro__
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType)
    }
    pointers = len(slots) + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    if kind.__itemsize__ or kind.__basicsize__ != object.__basicsize__ + pointers * _POINTER:
        return None
    found = {}
    for name, member in slots.items():
        try:
            found[name] = member.__get__(value, kind)
        except AttributeError:  # not set
            continue
    try:
        found.update(object.__getattribute__(value, "__dict__"))
    except AttributeError:  # it has slots only
        pass
    return found


def members_of(kind: Any) -> list[tuple[str, Any]]:
    """What the program has put into a class, by name; what was generated stands as what it was generated from."""
    is_enum = issubclass(kind, enum.Enum)
    is_named_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")
    takes = _is_method_of_the_program if is_enum or is_named_tuple else _is_told
    rows = {
        name: value
        for name, value in vars(kind).items()
        if name not in _BESIDE and not _is_generated(value) and takes(name, value)
    }
    if is_enum:
        rows["members"] = {name: member.value for name, member in kind.__members__.items()}
    if is_named_tuple:
        rows["fields"] = (kind._fields, kind._field_defaults)
    if "__dataclass_params__" in vars(kind):
        rows["dataclass"] = [repr(kind.__dataclass_params__), *map(_field, dataclasses.fields(kind))]
    return sorted(rows.items())


def _is_generated(value: Any) -> bool:
    code = getattr(getattr(value, "__func__", value), "__code__", None)
    return code is not None and code.co_filename.startswith("<string>")


def _is_told(name: str, value: Any) -> bool:
    """Not the places of its slots; of the names with double underscores, methods only."""
    if isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
        return False
    return is_followed(value) or not (name.startswith("__") and name.endswith("__"))


def _is_method_of_the_program(name: str, value: Any) -> bool:  # noqa: ARG001 - as _is_told
    """The machinery of enumerations and named tuples is the interpreter's."""
    if not isinstance(value, types.FunctionType | property | classmethod | staticmethod):
        return False
    function = getattr(value, "__func__", value)
    return not origin_of(getattr(function, "__globals__", {}).get("__name__")).is_pinned


def _field(field: dataclasses.Field[Any]) -> tuple[Any, ...]:
    given = [
        None if value is dataclasses.MISSING else (value,) for value in (field.default, field.default_factory)
    ]
    return (field.name, *given, field.init, field.repr, field.compare, field.hash, bool(field.kw_only))
