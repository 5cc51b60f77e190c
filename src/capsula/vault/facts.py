"""The facts of a capsule, as the index keeps them and conditions ask for them: dotted name → value or values.

Those of capsule.json have their own names, the others begin with `context.`, `pre.` and `post.`. A list of plain values
is one fact with several values (`items`); in a list of things that have a name, each is called by it
(`context.python.distributions.numpy.version`, `files.stdout.txt.size`); in any other list, by its index. What is meant
for reading and not for asking is left out or cut: logs, long rows of numbers, the tail of a long text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from capsula.vault.flat import Scalar
from capsula.vault.layout import VaultError
from capsula.vault.record import Capsule

Fact = Scalar | tuple[Scalar, ...]
Facts = dict[str, Fact]
Contents = Mapping[str, dict[str, Any] | None]

_FILES = {"context": "context.json", "pre": "pre-run-info.json", "post": "post-run-info.json"}
_LOGS = {"stdout", "stderr", "order"}
_LONGEST_TEXT = 4096
_MOST_VALUES, _MOST_THINGS, _MOST_FACTS = 1000, 5000, 20_000


def read_contents(capsule: Capsule) -> Contents:
    """Its other JSON files; {} for one that isn't there, None for one that can't be read."""
    found: dict[str, dict[str, Any] | None] = {}
    for name in _FILES.values():
        try:
            found[name] = capsule.json(name)
        except (VaultError, RecursionError):
            found[name] = None
    return found


def sections(capsule: Capsule, contents: Contents) -> Iterator[tuple[str, Any]]:
    """What its files say in pieces, with what the names of their facts begin with.

    A piece is as a rule the same in the next capsule (the packages, the CPU), so whoever keeps many keeps it once.
    """
    yield "", {key: value for key, value in capsule.record.items() if key != "files"}
    yield "files", capsule.record.get("files")
    for prefix, name in _FILES.items():
        value = contents[name] or {}
        if prefix == "context":
            yield from (
                (f"{prefix}.{key}", each) for key, each in value.items() if isinstance(each, list | dict)
            )
            value = {key: each for key, each in value.items() if not isinstance(each, list | dict)}
        yield prefix, {key: each for key, each in value.items() if key not in _LOGS}


def flatten(prefix: str, value: Any) -> Facts:
    found: Facts = {}
    # A stack of our own: a file that somebody sent may be nested as deep as it likes.
    todo: list[tuple[str, Any]] = [(prefix, value)]
    while todo and len(found) < _MOST_FACTS:
        name, value = todo.pop()
        below: Iterable[tuple[str, Any]]
        if value is None and name == prefix:
            continue
        if isinstance(value, dict):
            below = ((str(key), each) for key, each in value.items())
        elif isinstance(value, list):
            if not any(isinstance(each, list | dict) for each in value):
                if len(value) <= _MOST_VALUES:
                    found[name] = tuple(_scalar(each) for each in value)
                continue
            below = _things(value)
        else:
            found[name] = _scalar(value)
            continue
        todo += reversed([(f"{name}.{key}" if name else key, each) for key, each in below])
    return found


def _things(value: list[Any]) -> Iterator[tuple[str, Any]]:
    if len(value) > _MOST_THINGS:
        return
    names = [each.get("name") if isinstance(each, dict) else None for each in value]
    is_named = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    for at, (name, each) in enumerate(zip(names, value, strict=True)):
        if is_named:
            yield str(name), {key: member for key, member in each.items() if key != "name"}
        elif at < _MOST_VALUES:
            yield str(at), each


def _scalar(value: Any) -> Scalar:
    if isinstance(value, str):
        return value[:_LONGEST_TEXT]
    return value if value is None or isinstance(value, int | float) else str(value)
