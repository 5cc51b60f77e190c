"""What a call of a Python function is made of, as JSON: its source, its arguments, its result or exception.

Nothing here changes what the function gets or gives: an iterator isn't consumed, an object isn't copied, and no value
is too strange to be told of, at worst by its type alone.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import traceback
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from capsula.core.secrets import is_secret, mask

# Beyond these, a value is summed up.
DEPTH = 6
ITEMS = 1000
TEXT = 10_000


def describe(function: Callable[..., Any]) -> dict[str, Any]:
    """Where the function comes from: the seed's source_file, source_line and function_name, and ours."""
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    facts: dict[str, Any] = {"source_file": None, "source_line": None, "function_name": _name(inner)}
    try:
        lines, first = inspect.getsourcelines(inner)
        facts["source_file"] = inspect.getsourcefile(inner)
        facts["source_line"] = first
        facts["source_sha256"] = hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    except (OSError, TypeError):  # typed into a prompt, made by exec, compiled
        code = getattr(inner, "__code__", None)
        facts["source_file"] = getattr(code, "co_filename", None)
        facts["source_line"] = getattr(code, "co_firstlineno", None)
    facts["module"] = getattr(inner, "__module__", None)
    facts["qualified_name"] = getattr(inner, "__qualname__", facts["function_name"])
    return facts


def describe_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments as they were given (`args`, `kwargs`, as in the seed) and by name, with the defaults."""
    return {
        "args": [
            _argument(name, value) for name, value in zip(_positions(function, args), args, strict=True)
        ],
        "kwargs": {str(name): _argument(name, value) for name, value in kwargs.items()},
        "arguments": _bound(function, args, kwargs),
    }


def _positions(function: Callable[..., Any], args: tuple[Any, ...]) -> list[str]:
    """The name of the parameter that each positional argument is for, "" where there is none."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    names = [
        each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return [names[at] if at < len(names) else "" for at in range(len(args))]


def _bound(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return None  # the call itself will say what is wrong with it
    bound.apply_defaults()
    return {name: _argument(name, value) for name, value in bound.arguments.items()}


def _argument(name: object, value: object, depth: int = 0) -> Any:
    return "***" if is_secret(str(name)) and isinstance(value, str | bytes) else represent(value, depth)


def represent(value: Any, depth: int = 0) -> Any:
    """JSON where the value is JSON; else a summary with its type, and shape, dtype and digest where it has them."""
    try:
        return _represent(value, depth)
    except Exception as error:
        return {"type": _type(value), "error": f"{type(error).__name__} while it was looked at"}


def _represent(value: Any, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"type": "float", "repr": repr(value)}
    if kind is str:
        shown = mask(value)
        return (
            shown
            if len(shown) <= TEXT
            else {**_whole(value.encode("utf-8", "surrogatepass")), "type": "str", "start": _cut(shown, 200)}
        )
    if depth < DEPTH and kind in (list, tuple) and len(value) <= ITEMS:
        return [represent(item, depth + 1) for item in value]
    if depth < DEPTH and kind is dict and len(value) <= ITEMS and all(type(key) is str for key in value):
        return {key: _argument(key, item, depth + 1) for key, item in value.items()}
    if kind in (bytes, bytearray):
        return {"type": kind.__name__, **_whole(bytes(value))}
    if isinstance(value, PurePath):
        return {"type": _type(value), "repr": mask(str(value))}
    return _summary(value)


def _summary(value: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"type": _type(value)}
    for name in ("shape", "dtype"):
        with_name = getattr(value, name, None)
        if with_name is not None and not callable(with_name):
            facts[name] = list(with_name) if isinstance(with_name, tuple) else str(with_name)
    if isinstance(value, list | tuple | dict | set | frozenset):
        facts["length"] = len(value)
    contents = getattr(value, "tobytes", None)
    if callable(contents) and "dtype" in facts and facts["dtype"] != "object":
        facts.update(_whole(contents()))
    elif inspect.isgenerator(value) or inspect.isasyncgen(value) or inspect.iscoroutine(value):
        facts["name"] = getattr(value, "__qualname__", "")
    elif isinstance(value, list | tuple | dict | set | frozenset) and len(value) > ITEMS:
        pass
    elif not _is_lazy(value):
        facts["repr"] = _cut(mask(repr(value)))
    return facts


def _cut(text: str, most: int = TEXT) -> str:
    """Without the word that the end falls into: half of a credential isn't recognised any more."""
    if len(text) <= most:
        return text
    head = text[:most]
    return head[: max(head.rfind(" "), head.rfind("\n"), most - 200)]


def _is_lazy(value: Any) -> bool:
    """Iterators whose repr is an address, and files: nothing to be told but the type."""
    return hasattr(value, "__next__")


def _whole(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def describe_exception(error: BaseException, hide: Callable[[str], str]) -> dict[str, Any]:
    """Type, text and traceback; `hide` leaves credentials out of texts."""
    try:
        text = str(error)
    except Exception:
        text = "?"
    lines = traceback.format_exception(error)
    # The frame that called the function is ours.
    return {"exc_type": _type(error), "exc_value": hide(text), "traceback": hide("".join(lines))}


def _type(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _name(function: object) -> str:
    return getattr(function, "__name__", None) or type(function).__name__
