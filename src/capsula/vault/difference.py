"""How one recorded run differs from another, section by section: only what differs, what tells most first.

First how it ended; then what may be the cause (command, code, inputs, packages, Python, variables, tools, machine);
then what came of it (result, metrics, outputs, logs, cost). What differs between any two runs (times, process numbers,
the place of the capsule) is left out, and so is what can't be compared: hidden values are hashed with a salt of their
run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from capsula.vault.flat import Scalar, leaves

Facts = Mapping[str, Any]

# Of every shell, session or run another.
_RESTLESS_VARIABLES = re.compile(
    r"_|PWD|OLDPWD|SHLVL|CAPSULA_\w+|COLUMNS|LINES|WINDOWID|(XDG_SESSION|SSH|DBUS|GPG|TMUX|STY|TERM_SESSION)\w*"
    r"|INVOCATION_ID|JOURNAL_STREAM"
)
_RESTLESS_FACTS = re.compile(
    r"(.*\.)?(hz_actual(_friendly)?(\.\d+)?|available_bytes|uptime\w*|load\w*|boot_id)"
)
_OWN_FILES = {
    "capsule.json", "context.json", "pre-run-info.json", "post-run-info.json", "stdout.txt", "stderr.txt",
    "metrics.json", "samples.json", "packages.json", "pylock.toml", "requirements-installed.txt",
}  # fmt: skip
_KNOWN_SECTIONS = {
    "root_directory", "cwd", "timestamp", "probes", "platform", "host", "cpu", "environment_variables", "environment",
    "git", "files", "python", "commands",
}  # fmt: skip
_FILE_OF_PATCH = re.compile(rb'^diff --git (?:"?a/)(?P<old>.*?)"? (?:"?b/)(?P<new>.*?)"?$')
# Below these, a difference in cost is noise.
_NOTABLE_RATIO, _NOTABLE_SECONDS = 1.25, 0.5


@dataclass(frozen=True, slots=True)
class Difference:
    """`old` and `new` are JSON values, None where it isn't there; `how` says it in words where two values don't."""

    name: str
    old: Any = None
    new: Any = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """`name` is stable, for programs; `title` is for people."""

    name: str
    title: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What is compared of one capsule: its JSON files, and how to read its other ones. `lines` gives those of a log,
    `content` all of a file, b"" where there is none."""

    record: Facts
    context: Facts
    before: Facts
    after: Facts
    lines: Callable[[str], Iterator[bytes]]
    content: Callable[[str], bytes]
    packages: Mapping[str, str] = field(default_factory=dict)


def compare(old: Run, new: Run) -> tuple[Section, ...]:
    """The sections that differ. Raises what reading raises."""
    found = []
    for name, title, look in _SECTIONS:
        differences = tuple(look(old, new))
        if differences:
            found.append(Section(name, title, differences))
    return tuple(found)


def _outcome(old: Run, new: Run) -> Iterator[Difference]:
    yield from _pairs(_picked(old.record, "status"), _picked(new.record, "status"))
    yield from _pairs(_picked(old.after, "exit_code", "signal"), _picked(new.after, "exit_code", "signal"))
    yield from _pairs(_raised(old.after), _raised(new.after))


def _raised(after: Facts) -> Facts:
    error = after.get("exception_info")
    return (
        {"exception": f"{error.get('exc_type')}: {error.get('exc_value')}"} if isinstance(error, dict) else {}
    )


def _command(old: Run, new: Run) -> Iterator[Difference]:
    yield from _pairs(_picked(old.record, "kind"), _picked(new.record, "kind"))
    if "arguments" in old.before or "arguments" in new.before:
        names = ("module", "qualified_name")
        yield from _pairs(_picked(old.before, *names), _picked(new.before, *names))
        yield from _deep(old.before.get("arguments") or {}, new.before.get("arguments") or {}, "")
    else:
        was, now = old.before.get("args", []), new.before.get("args", [])
        if len(was) == len(now):
            yield from _pairs(dict(_numbered(was)), dict(_numbered(now)))
        else:
            yield Difference("command", " ".join(map(str, was)), " ".join(map(str, now)))
    yield from _pairs({"directory": _relative(old.before)}, {"directory": _relative(new.before)})


def _numbered(words: list[Any]) -> Iterator[tuple[str, Any]]:
    """An option's value is named by its option: `--lr`, not `[3]`."""
    for at, word in enumerate(words):
        before = str(words[at - 1]) if at else ""
        is_value = before.startswith("--") and "=" not in before and not str(word).startswith("-")
        yield (f"{before} [{at}]" if is_value else f"[{at}]"), word


def _relative(before: Facts) -> str | None:
    root, cwd = before.get("root_directory"), before.get("cwd")
    return os.path.relpath(cwd, root) if isinstance(root, str) and isinstance(cwd, str) else None


def _code(old: Run, new: Run) -> Iterator[Difference]:
    was, now = old.before.get("source_sha256"), new.before.get("source_sha256")
    if was and now and was != now:
        yield Difference("source of the function", was, now, "edited")
    repositories = old.context.get("git") or {}, new.context.get("git") or {}
    for name in _names(*repositories):
        before, after = (_table(each.get(name)) for each in repositories)
        if not before or not after:
            yield Difference(name, before.get("sha"), after.get("sha"))
            continue
        for key in ("sha", "branch"):
            if before.get(key) != after.get(key):
                yield Difference(f"{name} {key}", before.get(key), after.get(key))
        yield from _patches(name, _patch(old, before), _patch(new, after))


def _patch(run: Run, repository: Facts) -> Mapping[str, bytes]:
    """What isn't committed, by file."""
    name = _table(repository.get("snapshot")).get("patch")
    files: dict[str, bytes] = {}
    at = ""
    for line in run.content(name).splitlines(keepends=True) if isinstance(name, str) else ():
        if match := _FILE_OF_PATCH.match(line.rstrip(b"\n")):
            at = match["new"].decode("utf-8", "backslashreplace")
        if at:
            files[at] = files.get(at, b"") + line
    return files


def _patches(name: str, old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Iterator[Difference]:
    for path in _names(old, new):
        was, now = old.get(path), new.get(path)
        if was == now:
            continue
        words = {(True, False): "changed in the first only", (False, True): "changed in the second only"}
        how = words.get((was is not None, now is not None), "changed in both, otherwise")
        counts = (
            f"{_changed_lines(was)} / {_changed_lines(now)}" if was and now else _changed_lines(was or now)
        )
        yield Difference(f"{name} {path}", how=f"{how} ({counts})")


def _changed_lines(patch: bytes | None) -> str:
    rows = (patch or b"").split(b"\n")
    more = sum(row.startswith(b"+") and not row.startswith(b"+++ ") for row in rows)
    less = sum(row.startswith(b"-") and not row.startswith(b"--- ") for row in rows)
    return f"+{more} -{less}" if more or less else "binary, mode or name"


def _inputs(old: Run, new: Run) -> Iterator[Difference]:
    yield from _files({**_hashes(old.context), **_hashes(old.before, "inputs")},
                      {**_hashes(new.context), **_hashes(new.before, "inputs")})  # fmt: skip
    yield from _files(_kept(old), _kept(new))


def _kept(run: Run) -> Mapping[str, Any]:
    """Files that were copied or moved into the capsule, and aren't named with their hash elsewhere."""
    named = {os.path.basename(path) for path in (*_hashes(run.context), *_hashes(run.after))}
    rows = [row for row in run.record.get("files") or () if isinstance(row, dict)]
    return {
        str(row["name"]): row.get("sha256") or row.get("link")
        for row in rows
        if row.get("name") not in _OWN_FILES | named
        and not str(row.get("name")).endswith((".diff", ".files.json"))
    }


def _packages(old: Run, new: Run) -> Iterator[Difference]:
    for name in _names(old.packages, new.packages):
        was, now = old.packages.get(name), new.packages.get(name)
        if was != now:
            yield Difference(name, was, now)


def _python(old: Run, new: Run) -> Iterator[Difference]:
    skipped = ("distributions", "executable", "prefix", "base_prefix", "path", "check", "of")
    was, now = (
        {key: value for key, value in _table(run.context.get("python")).items() if key not in skipped}
        for run in (old, new)
    )
    yield from _deep(was, now, "")
    places = ("executable", "prefix")
    yield from _pairs(
        _picked(_table(old.context.get("python")), *places),
        _picked(_table(new.context.get("python")), *places),
    )


def _variables(old: Run, new: Run) -> Iterator[Difference]:
    named = [_table(run.context.get("environment_variables")) for run in (old, new)]
    yield from _pairs(named[0], named[1])
    others = [_table(_table(run.context.get("environment")).get("others")) for run in (old, new)]
    for name in _names(*others):
        was, now = others[0].get(name), others[1].get(name)
        if was == now or _RESTLESS_VARIABLES.fullmatch(name) or name in named[0] or name in named[1]:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            continue  # both hidden
        yield Difference(name, _hidden(was), _hidden(now))


def _hidden(value: Any) -> Any:
    return "(hidden)" if isinstance(value, dict) else value


def _tools(old: Run, new: Run) -> Iterator[Difference]:
    yield from _deep(_table(old.context.get("commands")), _table(new.context.get("commands")), "")


def _machine(old: Run, new: Run) -> Iterator[Difference]:
    for name in ("platform", "host", "cpu"):
        yield from _deep(_table(old.context.get(name)), _table(new.context.get(name)), f"{name}.")
    yield from _pairs(_picked(old.context, "root_directory"), _picked(new.context, "root_directory"))


def _context(old: Run, new: Run) -> Iterator[Difference]:
    """What probes found that we know nothing of."""
    was, now = (
        {key: value for key, value in run.context.items() if key not in _KNOWN_SECTIONS} for run in (old, new)
    )
    yield from _deep(was, now, "")


def _result(old: Run, new: Run) -> Iterator[Difference]:
    yield from _deep(
        {"return value": old.after.get("return_value")}, {"return value": new.after.get("return_value")}, ""
    )


def _metrics(old: Run, new: Run) -> Iterator[Difference]:
    was, now = _table(old.record.get("metrics")), _table(new.record.get("metrics"))
    for name in _names(was, now):
        left, right = was.get(name), now.get(name)
        if left == right or (left != left and right != right):
            continue
        yield Difference(name, left, right, _change(left, right))


def _change(left: Any, right: Any) -> str:
    if type(left) not in (int, float) or type(right) not in (int, float) or not left:
        return ""
    share = (right - left) / abs(left)
    return f"{share:+.1%}" if abs(share) < 10 else ""


def _outputs(old: Run, new: Run) -> Iterator[Difference]:
    yield from _files(_hashes(old.after), _hashes(new.after))


def _logs(old: Run, new: Run) -> Iterator[Difference]:
    for name in ("stdout", "stderr"):
        left, right = old.lines(name), new.lines(name)
        number = 0
        while True:
            number += 1
            was, now = next(left, None), next(right, None)
            if was is None and now is None:
                break
            if was != now:
                yield Difference(f"{name}, line {number}", _text(was), _text(now))
                break


def _cost(old: Run, new: Run) -> Iterator[Difference]:
    was, now = old.record.get("seconds"), new.record.get("seconds")
    if _is_notable(was, now, _NOTABLE_SECONDS):
        yield Difference("seconds", was, now, _change(was, now))
    was, now = old.record.get("peak_memory"), new.record.get("peak_memory")
    if _is_notable(was, now, 10 << 20):
        yield Difference("memory in bytes", was, now, _change(was, now))


def _is_notable(was: Any, now: Any, least: float) -> bool:
    if not isinstance(was, int | float) or not isinstance(now, int | float):
        return False
    low, high = sorted((was, now))
    return high - low > least and high > low * _NOTABLE_RATIO


# ------------------------------------------------------------------------------------------------ pieces


def _picked(facts: Facts, *names: str) -> dict[str, Any]:
    return {name: facts[name] for name in names if facts.get(name) is not None}


def _table(value: Any) -> Facts:
    return value if isinstance(value, dict) else {}


def _names(*tables: Mapping[str, Any]) -> list[str]:
    return sorted({name for table in tables for name in table})


def _pairs(old: Facts, new: Facts) -> Iterator[Difference]:
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield Difference(name, old.get(name), new.get(name))


def _deep(old: Any, new: Any, prefix: str) -> Iterator[Difference]:
    if old == new:
        return
    was: dict[str, Scalar] = dict(leaves("", old))
    now: dict[str, Scalar] = dict(leaves("", new))
    for name in dict.fromkeys((*was, *now)):
        if was.get(name) != now.get(name) and not _RESTLESS_FACTS.fullmatch(name):
            yield Difference(f"{prefix}{name}", was.get(name), now.get(name))


def _hashes(facts: Facts, name: str = "files") -> dict[str, Any]:
    return {path: _table(row).get("file_hash") for path, row in _table(facts.get(name)).items()}


def _files(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for path in _names(old, new):
        was, now = old.get(path), new.get(path)
        if path in old and path in new and was != now:
            how = (
                "edited"
                if was and now
                else "is there only in the first"
                if was
                else "is there only in the second"
            )
            yield Difference(path, was, now, how)
        elif path not in new:
            yield Difference(path, was, None, "in the first only")
        elif path not in old:
            yield Difference(path, None, now, "in the second only")


def _text(line: bytes | None) -> str | None:
    return None if line is None else line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")


_SECTIONS: tuple[tuple[str, str, Callable[[Run, Run], Iterator[Difference]]], ...] = (
    ("outcome", "How it ended", _outcome),
    ("command", "Command", _command),
    ("code", "Code", _code),
    ("inputs", "Inputs", _inputs),
    ("packages", "Packages", _packages),
    ("python", "Python", _python),
    ("variables", "Variables", _variables),
    ("tools", "Tools", _tools),
    ("context", "Other context", _context),
    ("machine", "Machine", _machine),
    ("result", "Result", _result),
    ("metrics", "Metrics", _metrics),
    ("outputs", "Outputs", _outputs),
    ("logs", "Logs", _logs),
    ("cost", "Cost", _cost),
)
