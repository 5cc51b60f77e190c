"""`@capsula.monitor`: every call of a function in a capsule of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from capsula.api.call import Plan
from capsula.api.wrap import wrap

F = TypeVar("F", bound=Callable[..., Any])


def monitor(
    function: Any = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    items: Iterable[str] = (),
    include_return_value: bool = True,
) -> Any:
    """Record every call of a function in a capsule of its own.

    `directory` is the project's root; by default the nearest parent of the function's file that holds capsula.toml or
    .git. `items` are names of `[monitor.item.NAME]` in capsula.toml, whose files are recorded when the call has ended.
    Works on functions, methods, coroutines and generators; arguments, result, exceptions and speed of the function stay
    what they are. What goes wrong in recording is a warning on stderr. Raises only while decorating, for an item that
    isn't configured.
    """
    if function is not None:
        return monitor(directory=directory, items=items, include_return_value=include_return_value)(function)

    def decorate(wrapped: F) -> F:
        wrapper: F = wrap(wrapped, Plan(wrapped, directory, tuple(items), include_return_value))
        return wrapper

    return decorate
