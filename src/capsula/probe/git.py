"""A git repository: where it stands, and everything in its work tree that isn't committed, as one patch.

The patch is made by git itself, with an index and an object directory of our own: the user's index, refs, objects and
work tree are never touched (of an object that is there already, git renews the time, so that its own clean-up doesn't
take it away). All of the work tree is put into that index, written as a tree, and compared with that of
HEAD; so staged, unstaged, binary and untracked content, modes, links and deletions are in one patch that `git apply`
takes on a clean checkout. No configuration of the user's may change its form, so each that could is set.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

from capsula.core.found import Found
from capsula.core.hiding import is_secret_file
from capsula.core.names import printable
from capsula.core.secrets import mask
from capsula.errors import CapsulaError

if TYPE_CHECKING:
    from capsula.core.found import Value

FILE_LIMIT = 10 << 20
LIMIT_SECONDS = 60.0
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_PLAIN = (
    *(
        "-c",
        "core.quotePath=false",
        "-c",
        "core.autocrlf=false",
        "-c",
        "core.safecrlf=false",
        "-c",
        "core.fsmonitor=false",
    ),
    *("-c", "color.ui=false", "-c", "core.pager=cat", "-c", "gc.auto=0", "-c", "submodule.recurse=false"),
    *(
        "-c",
        "core.excludesFile=" + os.devnull,
        "-c",
        "advice.addEmbeddedRepo=false",
        "-c",
        "core.hooksPath=" + os.devnull,
    ),
)
_DIFF = (
    *(
        "--binary",
        "--full-index",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--no-renames",
        "--no-relative",
    ),
    *("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=dirty", "--unified=3"),
    *("--diff-algorithm=myers", "--no-indent-heuristic", "--inter-hunk-context=0"),
)


class GitProbe:
    """`path` is the full path of the repository or a directory in it, `shown` the same as it was configured. Raises
    CapsulaError where there is no repository or no git."""

    def __init__(
        self, name: str, path: str, shown: str, environ: Mapping[str, str], file_limit: int = FILE_LIMIT
    ) -> None:
        self.name = f"git:{name}"
        self._name = name
        self._path = path
        self._shown = shown
        # What names a repository in the environment (a hook is running) isn't about this one.
        self._environ = {key: value for key, value in environ.items() if not key.startswith("GIT_")}
        for kept in (
            "GIT_CONFIG_GLOBAL",
            "GIT_CONFIG_SYSTEM",
            "GIT_CONFIG_NOSYSTEM",
            "GIT_CEILING_DIRECTORIES",
        ):
            if kept in environ:
                self._environ[kept] = environ[kept]
        self._environ |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        self._file_limit = file_limit
        self._left_out: list[str] = []
        self._masked: list[str] = []

    def read(self) -> Found:
        top = self._text("rev-parse", "--show-toplevel")
        sha = self._try("rev-parse", "--verify", "--quiet", "HEAD^{commit}") or None
        branch = self._try("symbolic-ref", "--quiet", "--short", "HEAD") or None
        tree, patch, untracked = self._snapshot(top, sha)
        patch_name = f"{_safe(self._name)}.diff"
        section: dict[str, Value] = {
            "path": self._shown,
            "sha": sha,
            "branch": branch,
            "remotes": self._remotes(),
            "detached": branch is None,
            "root": top,
            "subdirectory": os.path.relpath(os.path.realpath(self._path), os.path.realpath(top)),
            "tags": list(self._try("tag", "--points-at", "HEAD").split()) if sha else [],
            "describe": self._try("describe", "--tags", "--always") if sha else None,
            "clean": not patch,
            **self._distance(),
            "snapshot": {
                "tree": tree,
                "patch": patch_name if patch else None,
                "untracked": [printable(name) for name in untracked],
                "left_out": [*self._left_out],
            },
        }
        return Found(
            {"git": {self._name: section}},
            keys=("git",),
            files={patch_name: patch} if patch else {},
            left_out=tuple(f"{self._name}: {text}" for text in self._left_out),
            masked=tuple(self._masked),
        )

    def _snapshot(self, top: str, sha: str | None) -> tuple[str, bytes, list[str]]:
        """The tree that the work tree is, the patch from HEAD to it, and the untracked files in it."""
        objects = os.path.join(top, self._text("rev-parse", "--git-path", "objects", cwd=top))
        with tempfile.TemporaryDirectory(prefix="capsula-git-") as scratch:
            ours = os.path.join(scratch, "objects")
            os.mkdir(ours)
            environ = {
                "GIT_INDEX_FILE": os.path.join(scratch, "index"),
                "GIT_OBJECT_DIRECTORY": ours,
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
            }
            # Only a starting point: with HEAD's entries, `add` needn't look at what hasn't changed.
            self._run("read-tree", sha or EMPTY_TREE if sha else "--empty", cwd=top, environ=environ)
            untracked = self._untracked(top, environ)
            kept = [name for name in untracked if self._is_wanted(top, name)]
            self._run("add", "-u", "--", ".", cwd=top, environ=environ)
            if kept:
                names = b"\0".join(map(os.fsencode, kept))
                options = ("--pathspec-from-file=-", "--pathspec-file-nul")
                self._run("--literal-pathspecs", "add", *options, cwd=top, environ=environ, given=names)
            tree = self._run("write-tree", cwd=top, environ=environ).decode().strip()
            # The tree of nothing isn't in every repository; git knows it all the same.
            patch = self._run("diff-tree", "-p", *_DIFF, sha or EMPTY_TREE, tree, cwd=top, environ=environ)
        if sha:
            patch = patch.removeprefix(f"{sha}\n".encode())
        return tree, patch, kept

    def _untracked(self, top: str, environ: Mapping[str, str]) -> list[str]:
        listed = self._run("ls-files", "--others", "--exclude-standard", "-z", cwd=top, environ=environ)
        return [os.fsdecode(name) for name in listed.split(b"\0") if name]

    def _is_wanted(self, top: str, name: str) -> bool:
        if name.endswith("/"):
            self._left_out.append(f"{printable(name)}: a repository of its own")
            return False
        if is_secret_file(name):
            self._left_out.append(f"{printable(name)}: its name says that it holds credentials")
            return False
        try:
            size = os.lstat(os.path.join(top, name)).st_size
        except OSError as error:
            self._left_out.append(f"{printable(name)}: {error.strerror}")
            return False
        if size > self._file_limit:
            self._left_out.append(f"{printable(name)}: larger than {self._file_limit >> 20} MiB")
            return False
        return True

    def _remotes(self) -> list[Value]:
        rows: list[Value] = []
        for name in self._try("remote").split("\n"):
            if name:
                url = self._try("remote", "get-url", name)
                shown = mask(url)
                if shown != url:
                    self._masked.append(f"url of the remote {name}")
                rows.append({"name": name, "url": shown})
        return rows

    def _distance(self) -> dict[str, Value]:
        counted = self._try("rev-list", "--left-right", "--count", "@{upstream}...HEAD").split()
        if len(counted) != 2:
            return {"upstream": None, "ahead": None, "behind": None}
        upstream = self._try("rev-parse", "--abbrev-ref", "@{upstream}")
        return {"upstream": upstream, "ahead": int(counted[1]), "behind": int(counted[0])}

    def _try(self, *words: str) -> str:
        """What git prints, "" when it refuses."""
        try:
            return self._text(*words)
        except CapsulaError:
            return ""

    def _text(self, *words: str, cwd: str | None = None) -> str:
        return os.fsdecode(self._run(*words, cwd=cwd)).removesuffix("\n")

    def _run(
        self,
        *words: str,
        cwd: str | None = None,
        environ: Mapping[str, str] | None = None,
        given: bytes = b"",
    ) -> bytes:
        try:
            done = subprocess.run(
                ["git", *_PLAIN, *words],
                cwd=cwd or self._path,
                env={**self._environ, **(environ or {})},
                input=given,
                capture_output=True,
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            what = (
                "git is not installed"
                if os.path.isdir(cwd or self._path)
                else f"there is no {printable(self._shown)}"
            )
            raise CapsulaError(what) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CapsulaError(f"git {words[0]}: {error}") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "backslashreplace").strip().split("\n")[-1]
            raise CapsulaError(f"git {words[0]}: {mask(said) or f'exit code {done.returncode}'}")
        return done.stdout


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "repository"
