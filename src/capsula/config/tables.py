"""The keys of capsula.toml, and its tables: values by their keys, and what is wrong with them said with the line.

`KEYS` has their section, type and default. Hyphens and underscores are the same in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from capsula.config.toml import Document
from capsula.config.values import nearest
from capsula.core.names import printable
from capsula.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Key:
    section: str
    name: str
    type: type | tuple[type, ...]
    default: object
    about: str


KEYS = (
    Key("", "vault-directory", str, "vault", "the directory that capsules are sealed in"),
    Key(
        "",
        "capsule-template",
        str,
        "%Y%m%d_%H%M%S",
        "strftime template of a capsule's name; an id follows it",
    ),
    Key("", "capture", dict, {}, "what a capture looks at"),
    Key("", "monitor", dict, {}, "what is recorded of a monitored run"),
    Key("capture", "include-cpu", bool, True, "whether the CPU is described"),
    Key("capture", "pre-capture-commands", list, [], "shell commands, run in the root before a capture"),
    Key("capture", "environment-variables", list, [], "names of variables whose values are recorded"),
    Key("capture", "other-variables", bool, True, "whether all other variables are recorded, too, as notes"),
    Key("capture", "keep", list, [], "names of variables that are stored though they look like credentials"),
    Key("capture", "files", dict, {}, "path = { hash, copy, move } of files that belong to the context"),
    Key("capture", "git", dict, {}, "holds `repositories`"),
    Key("capture", "commands", dict, {}, "name = command, whose output belongs to the context"),
    Key("capture", "probes", dict, {}, "name = { module, … } of probes from elsewhere"),
    Key("capture", "required", list, [], "names of probes without which nothing is run"),
    Key(
        "capture", "time-limit", (int, float), 60, "the seconds after which a probe isn't waited for; 0: none"
    ),
    Key(
        "capture",
        "package-check",
        (int, float),
        0.05,
        "the seconds in which files of packages may be read, to see whether they are what was installed; 0: none",
    ),
    Key("capture.git", "repositories", dict, None, "name = path of git repositories"),
    Key("capture.git", "file-limit-mib", int, 10, "larger files stay out of a snapshot"),
    Key("capture.git", "snapshot-limit-mib", int, 32, "what exceeds it together stays out of a snapshot"),
    Key("monitor", "capture", bool, True, "whether a monitored run captures the context first"),
    Key("monitor", "cache", bool, False, "whether a monitored run is a cached action as well"),
    Key(
        "monitor",
        "cache-context",
        list,
        [],
        "sections of the context (python, platform, …) that a cached result depends on",
    ),
    Key(
        "monitor",
        "log-limit",
        (str, int),
        "64MiB",
        "so much of what a command prints is kept, of each stream; of more, beginning and end. 0: all",
    ),
    Key("monitor", "item", dict, {}, "what belongs to one thing that is monitored, by its name"),
    Key("monitor.item", "files", dict, {}, "path = { hash, copy, move } of files that the run makes"),
    Key("monitor.item", "inputs", dict, {}, "path = { hash } of files that are hashed before the run"),
    Key("monitor.item", "cache", bool, None, "whether this one is a cached action as well"),
    Key(
        "monitor.item",
        "environment-variables",
        list,
        [],
        "names of variables that its cached result depends on",
    ),
)


class Table:
    """One table of the file: its values by their hyphened keys, and what is wrong with them said with the line."""

    def __init__(self, document: Document, path: tuple[str, ...], *, free: bool = False) -> None:
        self.document = document
        self.path = path
        values: Any = document.table
        for key in path:
            values = values[key]
        self._spelled = {key if free else key.replace("_", "-"): key for key in values}
        self.values: dict[str, Any] = {name: values[key] for name, key in self._spelled.items()}
        # All items are described by the same keys.
        self.section = ".".join(("monitor", "item") if path[:2] == ("monitor", "item") else path)
        self.keys = {key.name: key for key in KEYS if key.section == self.section}
        if not free:
            self._check()

    def has(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str:
        return str(self._get(name))

    def switch(self, name: str) -> bool:
        return bool(self._get(name))

    def number(self, name: str) -> float:
        value = self._get(name)
        if not is_number(value):
            raise self.refused(name, "expected a number, 0 or more")
        return float(value)

    def texts(self, name: str) -> tuple[str, ...]:
        items = self._get(name)
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self.refused(name, "expected an array of strings")
        return tuple(items)

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        values = self._get(name) or {}
        for key, value in values.items():
            if not isinstance(value, str) or not key:
                raise self.refused(name, f"{printable(key)}: expected a string")
        return tuple(values.items())

    def table(self, name: str, *, free: bool = False) -> Table:
        if not self.has(name):
            return Table(Document(self.document.shown, {}, {}), (), free=True)._as((*self.path, name))
        return Table(self.document, (*self.path, self._spelled[name]), free=free)

    def tables(self) -> list[tuple[str, Table]]:
        found = []
        for name, value in self.values.items():
            if not isinstance(value, dict) or not name:
                raise self.refused(name, "expected a table")
            found.append((name, Table(self.document, (*self.path, self._spelled[name]))))
        return found

    def refused(self, name: str, what: str, hint: str = "") -> ConfigError:
        where = self.document.at(*self.path, self._spelled.get(name, name))
        return ConfigError(f"{where}: {printable(name)}: {what}", hint=hint)

    def _as(self, path: tuple[str, ...]) -> Table:
        """An empty table in the place of one that isn't there: every key has its default."""
        self.path = path
        self.section = ".".join(path)
        self.keys = {key.name: key for key in KEYS if key.section == self.section}
        return self

    def _get(self, name: str) -> Any:
        return self.values[name] if name in self.values else self.keys[name].default

    def _check(self) -> None:
        for name, value in self.values.items():
            key = self.keys.get(name)
            if key is None:
                meant = nearest(name, self.keys)
                known = f"did you mean {meant}?" if meant else f"known here: {', '.join(self.keys)}"
                raise self.refused(name, "there is no such key", hint=known)
            if not isinstance(value, key.type):
                raise self.refused(name, f"expected {_NAMED[key.type]}")


_NAMED: dict[object, str] = {
    int: "a whole number",
    (int, float): "a number",
    (str, int): 'a size, like "64MiB"',
    str: "a string",
    bool: "true or false",
    list: "an array of strings",
    dict: "a table",
}


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
