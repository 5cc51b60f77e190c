"""A git repository: where it stands, and everything in its work tree that isn't committed, in it and its submodules."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from capsula.core.found import Found, at, pointer
from capsula.core.names import printable
from capsula.core.secrets import mask
from capsula.errors import CapsulaError
from capsula.probe import snapshot
from capsula.probe.repository import Repository
from capsula.probe.snapshot import Limits, Place, Snapshot
from capsula.probe.status import FILES, STATUS, Files, Status, read_files, read_settings, read_status

if TYPE_CHECKING:
    from capsula.core.found import Value
    from capsula.ports import Contents

LIMIT_SECONDS = 60.0
DEFAULT = Limits()
# Looking for the nearest tag may mean to walk through all of a long history.
_DESCRIBE_SECONDS = 1.0
_DEEPEST = 8
_NO_SNAPSHOT: dict[str, Value] = {
    "tree": None,
    "patch": None,
    "files": None,
    "untracked": [],
    "left_out": [],
}


class GitProbe:
    """`path` is the full path of the repository or a directory in it, `shown` the same as it was configured. What
    differs from HEAD is kept in `contents`, if that is given. Raises CapsulaError where there is no repository or no
    git."""

    def __init__(
        self,
        name: str,
        path: str,
        shown: str,
        environ: Mapping[str, str],
        *,
        limits: Limits = DEFAULT,
        contents: Contents | None = None,
        seconds: float = LIMIT_SECONDS,
        stem: str = "",
    ) -> None:
        self.name = f"git:{name}"
        self._name = name
        self._stem = stem or _safe(name)
        self._path = path
        self._shown = shown
        self._environ = environ
        self._limits = limits
        self._contents = contents
        self._seconds = seconds
        self._files: dict[str, bytes] = {}
        self._left_out: list[str] = []
        self._masked: list[str] = []

    def read(self) -> Found:
        repository = Repository(self._path, self._shown, self._environ, self._seconds)
        section = self._section(repository, self._stem, 0)
        here = ("git", self._name)
        keys = [pointer(*here, "sha"), pointer(*here, "snapshot", "tree"), pointer(*here, "submodules")]
        return Found(
            {"git": {self._name: {"path": self._shown, **section}}},
            keys=tuple(keys),
            files=self._files,
            left_out=tuple(f"{self._name}: {text}" for text in self._left_out),
            masked=tuple(self._masked),
        )

    def _section(self, repository: Repository, stem: str, depth: int) -> dict[str, Value]:
        asked = (["--is-inside-work-tree"], ["--show-object-format"])
        inside, form = repository.texts(("rev-parse",), *asked)
        settings = read_settings(repository.run("config", "--list", "-z"))
        if inside != "true":
            return self._without_work_tree(repository, settings)
        place = self._place(repository, form)
        # From the top: below it, git tells and takes paths relative to where it is.
        top = repository.inside(place.top)
        status = read_status(top.run(*STATUS))
        files = read_files(top.run(*FILES))
        made = self._snapshot(top, place, (status, files, settings))
        # Git asks itself in a submodule, and there the user's settings hold.
        is_shown = settings.get("status.showuntrackedfiles", "normal") != "no"
        modules = self._modules(top, (status, files), (stem, depth), all_of_them=not is_shown)
        patch = f"{stem}.diff" if made.patch else None
        listed = f"{stem}.files.json" if made.files else None
        for name, content in ((patch, made.patch), (listed, made.files)):
            if name is not None:
                self._files[name] = content
        return {
            "sha": status.sha,
            "branch": status.branch,
            "remotes": self._remotes(settings),
            "detached": status.branch is None,
            "bare": False,
            "root": place.top,
            "subdirectory": os.path.relpath(os.path.realpath(repository.path), os.path.realpath(place.top)),
            **_labels(top, status.sha),
            "clean": not (status.changes or status.untracked or made.patch),
            "upstream": status.upstream,
            "ahead": status.ahead,
            "behind": status.behind,
            "conflicts": [printable(path) for path in status.conflicts],
            "submodules": modules,
            "snapshot": {
                "tree": made.tree,
                "patch": patch,
                "files": listed,
                "untracked": [printable(name) for name in made.untracked],
                "left_out": list(made.left_out),
            },
        }

    def _place(self, repository: Repository, form: str) -> Place:
        asked = (["--show-toplevel"], ["--git-path", "index"], ["--git-path", "objects"])
        top, index, objects = repository.texts(("rev-parse",), *asked)
        return Place(
            top,
            os.path.join(repository.path, index),
            os.path.abspath(os.path.join(repository.path, objects)),
            form,
        )

    def _snapshot(
        self, top: Repository, place: Place, seen: tuple[Status, Files, Mapping[str, str]]
    ) -> Snapshot:
        """What can't be had is said: where the repository stands is known all the same."""
        try:
            made = snapshot.take(top, place, seen, self._limits, self._contents)
        except (CapsulaError, OSError) as error:
            what = error.what if isinstance(error, CapsulaError) else str(error)
            made = Snapshot(left_out=[f"the changes in the work tree: {what}"])
        self._left_out += made.left_out
        return made

    def _modules(
        self, top: Repository, seen: tuple[Status, Files], where: tuple[str, int], *, all_of_them: bool
    ) -> list[Value]:
        """Every submodule, and of one in which something is changed all that is known of a repository."""
        (status, files), (stem, depth) = seen, where
        states = {change.path: change.module for change in status.changes if change.module}
        rows: list[Value] = []
        for path, commit in files.modules:
            full = os.path.join(top.path, path)
            state = states.get(path, "S...")
            row: dict[str, Value] = {
                "path": printable(path),
                "commit": commit,
                "initialized": os.path.lexists(os.path.join(full, ".git")),
                "other_commit": state[1] == "C",
                "modified": state[2] == "M",
                "untracked": state[3] == "U",
            }
            if row["initialized"] and (all_of_them or state != "S...") and depth < _DEEPEST:
                try:
                    inner = self._section(top.inside(path), f"{stem}.{_safe(path)}", depth + 1)
                    untracked = at(inner, "/snapshot/untracked")
                    row |= {**inner, "untracked": row["untracked"] or bool(untracked)}
                except CapsulaError as error:
                    self._left_out.append(f"the submodule {printable(path)}: {error.what}")
            rows.append(row)
        return rows

    def _without_work_tree(self, repository: Repository, settings: Mapping[str, str]) -> dict[str, Value]:
        """A bare repository, or the inside of one."""
        sha = repository.try_text("rev-parse", "--verify", "--quiet", "HEAD^{commit}") or None
        branch = repository.try_text("symbolic-ref", "--quiet", "--short", "HEAD") or None
        self._left_out.append("it has no work tree, so there is nothing to take a snapshot of")
        return {
            "sha": sha,
            "branch": branch,
            "remotes": self._remotes(settings),
            "detached": branch is None,
            "bare": repository.text("rev-parse", "--is-bare-repository") == "true",
            "root": None,
            "subdirectory": None,
            **_labels(repository, sha),
            "clean": None,
            "upstream": None,
            "ahead": None,
            "behind": None,
            "conflicts": [],
            "submodules": [],
            "snapshot": {**_NO_SNAPSHOT, "tree": repository.try_text("rev-parse", "HEAD^{tree}") or None},
        }

    def _remotes(self, settings: Mapping[str, str]) -> list[Value]:
        rows: list[Value] = []
        for setting, url in settings.items():
            if setting.startswith("remote.") and setting.endswith(".url"):
                name = setting.removeprefix("remote.").removesuffix(".url")
                shown = mask(url)
                if shown != url:
                    self._masked.append(f"url of the remote {name}")
                rows.append({"name": name, "url": shown})
        return rows


def _labels(repository: Repository, sha: str | None) -> dict[str, Value]:
    if sha is None:
        return {"tags": [], "describe": None}
    tags = repository.try_text("tag", "--points-at", "HEAD")
    described = repository.try_text("describe", "--tags", "--always", seconds=_DESCRIBE_SECONDS)
    return {"tags": [*tags.split()], "describe": described or None}


def free_stem(name: str, taken: set[str]) -> str:
    """What its files are called by; no two repositories are called the same. It is added to those that are taken."""
    stem = wanted = _safe(name)
    number = 1
    while stem in taken:
        number += 1
        stem = f"{wanted}-{number}"
    taken.add(stem)
    return stem


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "repository"
