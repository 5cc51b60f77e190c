"""What values share: a return value with itself or with what the caller has, and the arguments of a call.

After `rows = [[0] * 2] * 2` a change of one row is a change of the other, and a function that returns its argument
gives the caller two names for one list. A value that comes from a store is all new objects, so the same program would
go on otherwise after a hit.

And `f(rows, rows)` isn't `f(rows, copy(rows))`: what it does to one it sees in the other.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from capsula.execute.canonical import shown_type

_CHANGING = (list, dict, set, bytearray)
_FRAMES = ("pandas.DataFrame", "pandas.Series", "pandas.core.frame.DataFrame", "pandas.core.series.Series")
_MANY = 100
_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes))


def why_no_copy(result: Any, others: Iterable[Any]) -> str:
    """A sentence if a copy of the result wouldn't do; "" if it does. `others` are the arguments and the values that the
    function reads."""
    found: dict[int, list[Any]] = {}
    for value in _parts(result, {}, again=True):
        mine = found.setdefault(id(_owner(value)), [])
        if _meets(value, mine):
            return f"it holds the same {shown_type(value)} in two places, and a copy would hold two"
        mine.append(value)
    if not found:
        return ""
    seen: dict[int, Any] = {}
    for other in others:
        for value in _parts(other, seen):
            if _meets(value, found.get(id(_owner(value)), [])):
                return f"it is or holds a {shown_type(value)} that the program has already, and a copy is another"
    return ""


def pattern(values: Mapping[str, Any], is_named: Callable[[Any], bool]) -> list[tuple[Any, ...]]:
    """Which of the objects that can be changed is met more than once in these named values, counted in the order in
    which they are looked through: the same list for values that are equal and share the same. Empty where nothing is
    shared. `is_named`: whether an object stands for itself by its name, so that it isn't looked into."""
    first: dict[int, tuple[int, Any]] = {}
    found: list[tuple[Any, ...]] = []
    seen: dict[int, Any] = {}
    count = 0
    for name, value in values.items():
        for each in _parts(value, seen, again=True, is_named=is_named):
            count += 1
            at, other = first.setdefault(id(each if type(each) in _CHANGING else _owner(each)), (count, each))
            if at != count and (each is other or _meets(each, [other])):
                # Of two parts of one array also how they lie to each other.
                found.append((name, count, at, _offset(each, other), each is other))
    return found


def _offset(one: Any, other: Any) -> int:
    if not (_is_array(one) and _is_array(other)):
        return 0
    places = [each.__array_interface__["data"][0] for each in (one, other)]
    return int(places[0] - places[1])


def _meets(value: Any, others: list[Any]) -> bool:
    """Whether a change of it could be one of them. The halves of an array are no concern of each other."""
    if not others or not _is_array(value) or len(others) > _MANY:
        return bool(others)
    numpy = sys.modules["numpy"]
    return any([not _is_array(other) or numpy.may_share_memory(value, other) for other in others])


def _parts(
    value: Any,
    seen: dict[int, Any],
    *,
    again: bool = False,
    is_named: Callable[[Any], bool] | None = None,
) -> Iterator[Any]:
    """The objects in it that can be changed. One that was seen isn't looked into twice; with `again` it is given each
    time it is met. With `is_named` those of the program's classes as well, but for the named ones."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind in _ATOMS:
            continue
        can_change = kind in _CHANGING or _can_change(value)
        if is_named is not None and not can_change and _has_attributes(value):
            if is_named(value):
                continue
            can_change = True
        if id(value) in seen:
            if can_change and again:
                yield value
            continue
        seen[id(value)] = value
        if can_change:
            yield value
        waiting += [each for each in _members(value) if type(each) not in _ATOMS]


def _members(value: Any) -> Iterable[Any]:
    if type(value) in (list, tuple):
        return value  # type: ignore[no-any-return]
    # As the type has them, not as a class of the program says.
    if isinstance(value, dict):
        return [*dict.keys(value), *dict.values(value), *_attributes(value)]
    if isinstance(value, list):
        return [*list.__iter__(value), *_attributes(value)]
    if isinstance(value, tuple):
        return [*tuple.__iter__(value), *_attributes(value)]
    return _attributes(value)  # what is in a set can't change


def _attributes(value: Any) -> list[Any]:
    """Of an object of the program; a class and a module have what they have for everybody."""
    if isinstance(value, type) or type(value).__module__ == "builtins":
        return []
    found = []
    try:
        found += object.__getattribute__(value, "__dict__").values()
    except AttributeError:
        pass
    if dataclasses.is_dataclass(value):  # it may have slots
        found += [getattr(value, each.name, None) for each in dataclasses.fields(value)]
    return found


def _has_attributes(value: Any) -> bool:
    if isinstance(value, type) or type(value).__module__ == "builtins":
        return False
    try:
        object.__getattribute__(value, "__dict__")
    except AttributeError:
        return False
    return True


def _can_change(value: Any) -> bool:
    if isinstance(value, _CHANGING) or _is_array(value) or shown_type(value) in _FRAMES:
        return True
    parameters: Any = getattr(type(value), "__dataclass_params__", None)
    return parameters is not None and not parameters.frozen


def _is_array(value: Any) -> bool:
    return type(value).__name__ == "ndarray"


def _owner(value: Any) -> Any:
    """Of an array that is a part of another one, that one."""
    while _is_array(value) and value.base is not None:
        value = value.base
    return value
