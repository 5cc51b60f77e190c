"""The project of a recorded run: what its capsula.toml asks for, as frozen values.

The keys are in `KEYS`: their section, type and default. Hyphens and underscores are the same in them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from capsula.config.toml import Document, read_file
from capsula.config.values import nearest, size
from capsula.core.names import printable
from capsula.errors import ConfigError, UsageError

FILE = "capsula.toml"
MIB = 1 << 20
# What Capsula looks through by itself; `git` is all repositories.
PROBES = ("host", "environment", "git", "files", "python", "commands")
ALGORITHMS = tuple(sorted(hashlib.algorithms_guaranteed))


@dataclass(frozen=True, slots=True)
class FileRule:
    """`path` is as written, relative to the root; `hash` the name of an algorithm of hashlib, None: not hashed."""

    path: str
    hash: str | None = None
    copy: bool = False
    move: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """What belongs to one thing that is monitored: `inputs` before it runs, `files` after. `cache` None: as for all."""

    name: str
    files: tuple[FileRule, ...] = ()
    inputs: tuple[FileRule, ...] = ()
    cache: bool | None = None
    environment_variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbeRule:
    """A probe from elsewhere. `module` is `package.module`, `package.module:factory` or the path of a file, relative to
    the root; None: an installed package provides it under this name. `options` are what it is given. `time_limit` in
    seconds, None: as all others."""

    name: str
    module: str | None
    options: Mapping[str, object]
    required: bool = False
    time_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Capture:
    """`file_limit` and `snapshot_limit` are bytes, `time_limit` and `check_seconds` seconds; `required` are names of
    probes."""

    include_cpu: bool = True
    pre_capture_commands: tuple[str, ...] = ()
    environment_variables: tuple[str, ...] = ()
    files: tuple[FileRule, ...] = ()
    repositories: tuple[tuple[str, str], ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    keep: tuple[str, ...] = ()
    others: bool = True
    probes: tuple[ProbeRule, ...] = ()
    required: tuple[str, ...] = ()
    time_limit: float = 60.0
    check_seconds: float = 0.05
    file_limit: int = 10 << 20
    snapshot_limit: int = 32 << 20


@dataclass(frozen=True, slots=True)
class Monitor:
    capture: bool = True
    cache: bool = False
    cache_context: tuple[str, ...] = ()
    log_limit: int = 64 << 20
    items: Mapping[str, Item] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Project:
    """`root` and `vault` are full paths; `file` is the capsula.toml that was read, None without one."""

    root: str
    file: str | None
    vault: str
    capsule_template: str
    capture: Capture
    monitor: Monitor


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


def find_project(directory: str | None, cwd: str) -> Project:
    """The project that `-C` names, or the nearest parent with a capsula.toml, then with .git, then `cwd` itself.

    Raises UsageError for a directory that is none, ConfigError for what is wrong in the file.
    """
    if directory is not None:
        root = os.path.normpath(os.path.join(cwd, directory))
        if not os.path.isdir(root):
            raise UsageError(
                f"there is no directory {printable(directory)}", hint="-C names the project's root"
            )
        return read_project(root)
    for mark in (FILE, ".git"):
        for place in (Path(cwd), *Path(cwd).parents):
            if (place / mark).exists():
                return read_project(str(place))
    return read_project(cwd)


def read_project(root: str) -> Project:
    path = os.path.join(root, FILE)
    if not os.path.isfile(path):
        return _project(_Table(Document(path, {}, {}), ()), root, None)
    return _project(_Table(read_file(path, path), ()), root, path)


def keeping(project: Project, names: Iterable[str]) -> Project:
    """The same, with these variables stored though they look like credentials."""
    capture = replace(project.capture, keep=(*project.capture.keep, *names))
    return replace(project, capture=capture)


def _project(top: _Table, root: str, file: str | None) -> Project:
    capture, monitor = top.table("capture"), top.table("monitor")
    vault = os.path.expanduser(top.text("vault-directory"))
    return Project(
        root=root,
        file=file,
        vault=os.path.normpath(os.path.join(root, vault)),
        capsule_template=_template(top),
        capture=_capture(capture, root),
        monitor=Monitor(
            capture=monitor.switch("capture"),
            cache=monitor.switch("cache"),
            cache_context=monitor.texts("cache-context"),
            log_limit=_size(monitor, "log-limit"),
            items={name: _item(name, item) for name, item in monitor.table("item", free=True).tables()},
        ),
    )


def _size(table: _Table, name: str) -> int:
    try:
        return size(table.text(name))
    except UsageError as error:
        raise table.refused(name, error.what, hint=error.hint) from error


def _capture(table: _Table, root: str) -> Capture:
    git = table.table("git")
    rules = table.table("probes", free=True)
    probes = tuple(_probe(rules, name, value) for name, value in rules.values.items())
    required = _required(table, probes)
    repositories: tuple[tuple[str, str], ...] = git.pairs("repositories")
    # Where one is required, that there is none is a failure, too.
    if not git.has("repositories") and (_is_in_repository(root) or "git" in required):
        repositories = ((os.path.basename(root) or "root", "."),)
    return Capture(
        include_cpu=table.switch("include-cpu"),
        pre_capture_commands=table.texts("pre-capture-commands"),
        environment_variables=table.texts("environment-variables"),
        files=_rules(table.table("files", free=True)),
        repositories=repositories,
        commands=table.pairs("commands"),
        keep=table.texts("keep"),
        others=table.switch("other-variables"),
        probes=probes,
        required=required,
        time_limit=table.number("time-limit"),
        check_seconds=table.number("package-check"),
        file_limit=round(git.number("file-limit-mib") * MIB),
        snapshot_limit=round(git.number("snapshot-limit-mib") * MIB),
    )


def _probe(table: _Table, name: str, value: object) -> ProbeRule:
    if name in PROBES or not name.strip():
        raise table.refused(name, "a probe of Capsula has this name", hint="give yours another")
    if not isinstance(value, dict):
        raise table.refused(name, "expected a table", hint="for example { module = 'package.module' }")
    options = dict(value)
    module, required, limit = (options.pop(key, None) for key in ("module", "required", "time-limit"))
    if module is not None and (not isinstance(module, str) or not module.strip(": ")):
        raise table.refused(name, "module: expected 'package.module', 'package.module:factory' or a file")
    if required is not None and not isinstance(required, bool):
        raise table.refused(name, "required: expected true or false")
    if limit is not None and not _is_number(limit):
        raise table.refused(name, "time-limit: expected a number of seconds")
    return ProbeRule(name, module, options, bool(required), limit)


def _required(table: _Table, probes: tuple[ProbeRule, ...]) -> tuple[str, ...]:
    names = table.texts("required")
    known = (*PROBES, *(probe.name for probe in probes))
    for name in names:
        if name not in known:
            meant = nearest(name, known)
            hint = f"did you mean {meant}?" if meant else f"one of: {', '.join(known)}"
            raise table.refused("required", f"there is no probe {printable(name)}", hint=hint)
    return names + tuple(probe.name for probe in probes if probe.required)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _item(name: str, table: _Table) -> Item:
    return Item(
        name,
        files=_rules(table.table("files", free=True)),
        inputs=_rules(table.table("inputs", free=True)),
        cache=table.switch("cache") if table.has("cache") else None,
        environment_variables=table.texts("environment-variables"),
    )


def _is_in_repository(root: str) -> bool:
    return any((place / ".git").exists() for place in (Path(root), *Path(root).parents))


def _template(top: _Table) -> str:
    text = top.text("capsule-template")
    if not text or "\0" in text or "/" in text or text in (".", ".."):
        raise top.refused(
            "capsule-template", "not a name for a directory", hint="for example '%Y%m%d_%H%M%S'"
        )
    return text


def _rules(table: _Table) -> tuple[FileRule, ...]:
    return tuple(_rule(table, path, value) for path, value in table.values.items())


def _rule(table: _Table, path: str, value: object) -> FileRule:
    if not path or "\0" in path:
        raise table.refused(path, "an empty path")
    asked: Mapping[str, Any] = {"hash": value} if isinstance(value, str) else value  # type: ignore[assignment]
    if not isinstance(asked, dict):
        raise table.refused(path, "expected { hash, copy, move } or the name of a hash algorithm")
    for key, given in asked.items():
        if key not in ("hash", "copy", "move"):
            meant = nearest(key, ("hash", "copy", "move"))
            hint = f"{f'did you mean {meant}? ' if meant else ''}known are hash, copy or move"
            raise table.refused(path, f"there is no {printable(key)} of a file", hint=hint)
        if not isinstance(given, str if key == "hash" else bool):
            raise table.refused(path, f"{key}: expected {'a string' if key == 'hash' else 'true or false'}")
    rule = FileRule(
        path, _algorithm(table, path, asked.get("hash")), asked.get("copy", False), asked.get("move", False)
    )
    if rule.copy and rule.move:
        raise table.refused(
            path, "copy and move together", hint="a file that is moved is in the capsule as well"
        )
    if rule.move and (os.path.isabs(path) or ".." in path.split("/")):
        raise table.refused(path, "only what is below the root can be moved", hint="copy = true")
    return rule


def _algorithm(table: _Table, path: str, name: str | None) -> str | None:
    if name is None:
        return None
    known = name.lower().replace("-", "_")
    for candidate in (known, known.replace("_", "")):
        if candidate in ALGORITHMS:
            return candidate
    raise table.refused(path, f"there is no hash {printable(name)}", hint=f"one of: {', '.join(ALGORITHMS)}")


class _Table:
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
        if not _is_number(value):
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

    def table(self, name: str, *, free: bool = False) -> _Table:
        if not self.has(name):
            return _Table(Document(self.document.shown, {}, {}), (), free=True)._as((*self.path, name))
        return _Table(self.document, (*self.path, self._spelled[name]), free=free)

    def tables(self) -> list[tuple[str, _Table]]:
        found = []
        for name, value in self.values.items():
            if not isinstance(value, dict) or not name:
                raise self.refused(name, "expected a table")
            found.append((name, _Table(self.document, (*self.path, self._spelled[name]))))
        return found

    def refused(self, name: str, what: str, hint: str = "") -> ConfigError:
        where = self.document.at(*self.path, self._spelled.get(name, name))
        return ConfigError(f"{where}: {printable(name)}: {what}", hint=hint)

    def _as(self, path: tuple[str, ...]) -> _Table:
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
