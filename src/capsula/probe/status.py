"""What `git status` and `git ls-files` say, as values. (Formats: git-status(1), "Porcelain Format Version 2", with -z;
git-ls-files(1).)"""

from __future__ import annotations

import os
from dataclasses import dataclass

STATUS = (
    *("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--ignored=no"),
    *("--no-renames", "--ignore-submodules=none", "--ahead-behind"),
)
FILES = ("ls-files", "-v", "-s", "-z", "--full-name")
LINK, MODULE, NOTHING = "120000", "160000", "000000"


@dataclass(frozen=True, slots=True)
class Change:
    """A path at which index or work tree aren't what HEAD has. `old` is (mode, object) in HEAD, in a conflict that of
    our side; `staged` the object in the index, "" in a conflict. `module` is `S` and three letters for a submodule."""

    path: str
    old: tuple[str, str]
    staged: str
    mode: str
    module: str = ""

    @property
    def is_gone(self) -> bool:
        return self.mode == NOTHING


@dataclass(frozen=True, slots=True)
class Status:
    """`sha` None: no commit yet. `branch` None: detached. `ahead` and `behind` None: no upstream, or it is gone."""

    sha: str | None
    branch: str | None
    upstream: str | None
    ahead: int | None
    behind: int | None
    changes: tuple[Change, ...]
    untracked: tuple[str, ...]
    conflicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Files:
    """Of the index: `modules` (path, commit), and `hidden`, which git has been told not to look at."""

    modules: tuple[tuple[str, str], ...]
    hidden: tuple[str, ...]
    has_attributes: bool


def read_status(told: bytes) -> Status:
    heads: dict[str, str] = {}
    changes: list[Change] = []
    untracked: list[str] = []
    conflicts: list[str] = []
    for line in os.fsdecode(told).split("\0"):
        kind = line[:2]
        if kind == "# ":
            name, _, value = line[2:].partition(" ")
            heads[name] = value
        elif kind == "? ":
            untracked.append(line[2:])
        elif kind == "1 ":
            _, _, module, head, _, tree, old, staged, path = line.split(" ", 8)
            changes.append(Change(path, (head, old), staged, tree, module if module[0] == "S" else ""))
        elif kind == "u ":
            _, _, module, _, ours, _, tree, _, old, _, path = line.split(" ", 10)
            changes.append(Change(path, (ours, old), "", tree, module if module[0] == "S" else ""))
            conflicts.append(path)
    sha, branch = heads.get("branch.oid", "(initial)"), heads.get("branch.head", "(detached)")
    counts = heads.get("branch.ab", "").split()
    ahead, behind = (abs(int(counts[0])), abs(int(counts[1]))) if len(counts) == 2 else (None, None)
    return Status(
        sha=None if sha == "(initial)" else sha,
        branch=None if branch == "(detached)" else branch,
        upstream=heads.get("branch.upstream"),
        ahead=ahead,
        behind=behind,
        changes=tuple(changes),
        untracked=tuple(untracked),
        conflicts=tuple(conflicts),
    )


def read_files(told: bytes) -> Files:
    modules: list[tuple[str, str]] = []
    hidden: list[str] = []
    has_attributes = False
    for line in told.split(b"\0"):
        head, _, name = line.partition(b"\t")
        if head[:1] != b"H" and head[:1] != b"M" and head:
            hidden.append(os.fsdecode(name))
        if head[2:8] == b"160000" and head[-1:] in (b"0", b"2"):
            modules.append((os.fsdecode(name), head[9:-2].decode()))
        if name.endswith(b".gitattributes"):
            has_attributes = True
    return Files(tuple(modules), tuple(hidden), has_attributes)


def read_settings(told: bytes) -> dict[str, str]:
    """Of `git config --list -z`; the last of several values, and of addresses the first."""
    found: dict[str, str] = {}
    for line in os.fsdecode(told).split("\0"):
        name, _, value = line.partition("\n")
        if not (name.endswith(".url") and name in found):
            found[name] = value
    return found


def read_raw(told: bytes) -> list[tuple[str, str, str]]:
    """Of `git diff-tree -r -z --raw`: (new mode, new object, path)."""
    parts = os.fsdecode(told).split("\0")
    # For one tree and a commit, the commit stands before.
    start = 0 if parts[0].startswith(":") else 1
    rows = []
    for at in range(start, len(parts) - 1, 2):
        _, mode, _, oid, _ = parts[at].split(" ")
        rows.append((mode, oid, parts[at + 1]))
    return rows
