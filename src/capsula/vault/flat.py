"""JSON as one flat mapping: dotted name → scalar, for conditions, comparisons and the index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Scalar = str | int | float | bool | None


def leaves(prefix: str, value: Any) -> Iterator[tuple[str, Scalar]]:
    """What is at the ends, in order; an element of a list is named by its index."""
    # A stack of our own: a file that somebody sent may be nested as deep as it likes.
    todo: list[tuple[str, Any]] = [(prefix, value)]
    while todo:
        name, value = todo.pop()
        if isinstance(value, dict):
            below = [(str(key), each) for key, each in value.items()]
        elif isinstance(value, list | tuple):
            below = [(str(at), each) for at, each in enumerate(value)]
        else:
            yield name, value if value is None or isinstance(value, str | int | float) else str(value)
            continue
        todo += [(f"{name}.{key}" if name else key, each) for key, each in reversed(below)]
