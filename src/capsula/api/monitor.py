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
    cache: bool | None = None,
    inputs: Iterable[str] = (),
    outputs: Iterable[str] = (),
    env: Iterable[str] = (),
    cache_context: Iterable[str] = (),
) -> Callable[[F], F]: ...


def monitor(
    function: Any = None,
    /,
    *,
    directory: str | os.PathLike[str] | None = None,
    items: Iterable[str] = (),
    include_return_value: bool = True,
    cache: bool | None = None,
    inputs: Iterable[str] = (),
    outputs: Iterable[str] = (),
    env: Iterable[str] = (),
    cache_context: Iterable[str] = (),
) -> Any:
    """Record every call of a function in a capsule of its own.

    `directory` is the project's root; by default the nearest parent of the function's file that holds capsula.toml or
    .git. `items` are names of `[monitor.item.NAME]` in capsula.toml, whose files are recorded when the call has ended.
    Works on functions, methods, coroutines, generators and objects that can be called; arguments, result and exceptions
    of the function stay what they are. What goes wrong in recording is a warning on stderr. Raises UsageError for what
    can't be called, and only while decorating.

    With `cache`, a call is a cached action as well: when its code, its arguments and the `inputs` (patterns, from the
    project's root) are as they were, the function isn't called; its result comes from the store, the `outputs` are put
    back, and the capsule says which run made them. `env` names variables, `cache_context` sections of the context that
    its result depends on. What can't be keyed safely isn't cached, and the reason is said.
    """
    names = _words(items)
    declared = (_words(inputs), _words(outputs), _words(env), _words(cache_context))

    def decorate(wrapped: Any) -> Any:
        if isinstance(wrapped, classmethod | staticmethod):
            return type(wrapped)(decorate(wrapped.__func__))
        if isinstance(wrapped, type) or not callable(wrapped):
            raise UsageError(
                f"@capsula.monitor can't record {_named(wrapped)}",
                hint="it goes before a function or a method",
            )
        return wrap(wrapped, Plan(wrapped, directory, names, include_return_value, cache, declared))

    return decorate if function is None else decorate(function)


def _words(given: Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _named(thing: object) -> str:
    return f"the class {thing.__qualname__}" if isinstance(thing, type) else f"a {type(thing).__qualname__}"
