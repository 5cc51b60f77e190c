"""`@capsula.monitor`: every call of a function in a capsule of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from capsula.api.call import Plan
from capsula.api.wrap import wrap
from capsula.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


@overload
def monitor(function: F, /) -> F: ...


@overload
def monitor(
    *,
    directory: str | os.PathLike[str] | None = None,
    items: Iterable[str] = (),
    include_return_value: bool = True,
) -> Callable[[F], F]: ...


def monitor(
    function: Any = None,
    /,
    *,
    directory: str | os.PathLike[str] | None = None,
    items: Iterable[str] = (),
    include_return_value: bool = True,
) -> Any:
    """Record every call of a function in a capsule of its own.

    `directory` is the project's root; by default the nearest parent of the function's file that holds capsula.toml or
    .git. `items` are names of `[monitor.item.NAME]` in capsula.toml, whose files are recorded when the call has ended.
    Works on functions, methods, coroutines, generators and objects that can be called; arguments, result and exceptions
    of the function stay what they are. What goes wrong in recording is a warning on stderr. Raises UsageError for what
    can't be called, and only while decorating.
    """
    names = (items,) if isinstance(items, str) else tuple(items)

    def decorate(wrapped: Any) -> Any:
        if isinstance(wrapped, classmethod | staticmethod):
            return type(wrapped)(decorate(wrapped.__func__))
        if isinstance(wrapped, type) or not callable(wrapped):
            raise UsageError(
                f"@capsula.monitor can't record {_named(wrapped)}",
                hint="it goes before a function or a method",
            )
        return wrap(wrapped, Plan(wrapped, directory, names, include_return_value))

    return decorate if function is None else decorate(function)


def _named(thing: object) -> str:
    return f"the class {thing.__qualname__}" if isinstance(thing, type) else f"a {type(thing).__qualname__}"
