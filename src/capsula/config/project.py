"""The project of a recorded run: what its capsula.toml asks for, as frozen values."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from capsula.config.tables import Table, is_number
from capsula.config.toml import Document, read_file
from capsula.config.values import nearest, size
from capsula.core.names import printable
from capsula.errors import UsageError

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
        return _project(Table(Document(path, {}, {}), ()), root, None)
    return _project(Table(read_file(path, path), ()), root, path)


def keeping(project: Project, names: Iterable[str]) -> Project:
    """The same, with these variables stored though they look like credentials."""
    capture = replace(project.capture, keep=(*project.capture.keep, *names))
    return replace(project, capture=capture)


def _project(top: Table, root: str, file: str | None) -> Project:
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


def _size(table: Table, name: str) -> int:
    try:
        return size(table.text(name))
    except UsageError as error:
        raise table.refused(name, error.what, hint=error.hint) from error


def _capture(table: Table, root: str) -> Capture:
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


def _probe(table: Table, name: str, value: object) -> ProbeRule:
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
    if limit is not None and not is_number(limit):
        raise table.refused(name, "time-limit: expected a number of seconds")
    return ProbeRule(name, module, options, bool(required), limit)


def _required(table: Table, probes: tuple[ProbeRule, ...]) -> tuple[str, ...]:
    names = table.texts("required")
    known = (*PROBES, *(probe.name for probe in probes))
    for name in names:
        if name not in known:
            meant = nearest(name, known)
            hint = f"did you mean {meant}?" if meant else f"one of: {', '.join(known)}"
            raise table.refused("required", f"there is no probe {printable(name)}", hint=hint)
    return names + tuple(probe.name for probe in probes if probe.required)


def _item(name: str, table: Table) -> Item:
    return Item(
        name,
        files=_rules(table.table("files", free=True)),
        inputs=_rules(table.table("inputs", free=True)),
        cache=table.switch("cache") if table.has("cache") else None,
        environment_variables=table.texts("environment-variables"),
    )


def _is_in_repository(root: str) -> bool:
    return any((place / ".git").exists() for place in (Path(root), *Path(root).parents))


def _template(top: Table) -> str:
    text = top.text("capsule-template")
    if not text or "\0" in text or "/" in text or text in (".", ".."):
        raise top.refused(
            "capsule-template", "not a name for a directory", hint="for example '%Y%m%d_%H%M%S'"
        )
    return text


def _rules(table: Table) -> tuple[FileRule, ...]:
    return tuple(_rule(table, path, value) for path, value in table.values.items())


def _rule(table: Table, path: str, value: object) -> FileRule:
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


def _algorithm(table: Table, path: str, name: str | None) -> str | None:
    if name is None:
        return None
    known = name.lower().replace("-", "_")
    for candidate in (known, known.replace("_", "")):
        if candidate in ALGORITHMS:
            return candidate
    raise table.refused(path, f"there is no hash {printable(name)}", hint=f"one of: {', '.join(ALGORITHMS)}")
