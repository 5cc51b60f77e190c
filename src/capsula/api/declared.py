"""What a recorded run says that its result depends on, for a run that is a cached action as well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from capsula.config.project import FileRule, Item, Project


@dataclass(frozen=True, slots=True)
class Declared:
    """What the result depends on and what comes out: patterns as for `capsule`, names of variables, and of sections of
    the captured context."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    context: tuple[str, ...] = ()

    def to_json(self) -> dict[str, list[str]]:
        return {
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "environment": list(self.environment),
            "context": list(self.context),
        }


def is_wanted(asked: bool | None, project: Project, items: Iterable[Item]) -> bool:
    """As asked for, else as one of the items says, else as the project says."""
    said = [asked, *[item.cache for item in items], project.monitor.cache]
    return next((answer for answer in said if answer is not None), False)


def declare(given: Declared, project: Project, items: Iterable[Item]) -> Declared:
    """What is given; where nothing is, what the items name."""
    items = list(items)
    return Declared(
        given.inputs or tuple([_pattern(rule) for item in items for rule in item.inputs]),
        given.outputs or tuple([_pattern(rule) for item in items for rule in item.files]),
        given.environment or tuple([name for item in items for name in item.environment_variables]),
        given.context or project.monitor.cache_context,
    )


def _pattern(rule: FileRule) -> str:
    """The path of a rule, which has no wildcards and starts at the root, as a pattern."""
    path = "".join([f"[{c}]" if c in "*?[" else c for c in rule.path])
    return path if path.startswith("/") else f"//{path}"
