"""Whether a git repository is as it was when it was looked at last: one call of git instead of a dozen.

For a process that records run after run. What `git status` says, the look (size, times, inode) of each file that it
names, and that of the few files in which git keeps branches, tags and settings are the state; as long as it is equal,
so is what the probe would find. What changed too recently for its times to tell has no state, and is looked at anew.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping

from capsula.probe.repository import OPTIONS

# A file can change twice within the tick of a clock, and with the same size nothing shows it: so long we wait. Where
# times are kept in whole seconds, that is two of them (FAT).
_FRESH_NS, _FRESH_COARSE_NS = 50_000_000, 2_100_000_000
_MOST = 1000
_STATUS = (
    *("--no-optional-locks", "-c", "status.renames=false", "-c", f"core.excludesFile={os.devnull}"),
    *("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--ignore-submodules=none"),
)
# Of `git ls-files -v`: neither assumed to be unchanged nor left out of the work tree, which status doesn't look at.
_SEEN = b"HMRCK"

Look = tuple[int, ...]


class Watch:
    """One repository of this process: `path` is in it. `state()` is None where nothing can be promised."""

    def __init__(
        self, path: str, environ: Mapping[str, str], now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._path = path
        self._now_ns = now_ns
        self._environ = {
            **{name: value for name, value in environ.items() if not name.startswith("GIT_")},
            **{name: value for name, value in environ.items() if name.startswith("GIT_CONFIG_")},
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
        }
        self._places: tuple[str, str, str] | None = None
        self._all_seen: tuple[Look, bool] | None = None

    def state(self) -> tuple[object, ...] | None:
        """Raises nothing."""
        try:
            return self._state()
        except (OSError, ValueError, subprocess.SubprocessError):
            return None

    def _state(self) -> tuple[object, ...] | None:
        if self._places is None:
            asked = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir")
            top, own, common = os.fsdecode(self._run("rev-parse", *asked)).splitlines()
            self._places = top, own, os.path.join(self._path, common)
        top, own, common = self._places
        said = self._run(*_STATUS)
        paths = list(_paths(said, top))
        if len(paths) > _MOST or not self._is_all_seen(os.path.join(own, "index")):
            return None
        kept = [os.path.join(own, name) for name in ("HEAD", "index", "config.worktree")]
        kept += [os.path.join(common, name) for name in ("config", "packed-refs", "info/exclude")]
        kept += [folder for folder, _, _ in os.walk(os.path.join(common, "refs"))]
        now = self._now_ns()
        looks = [_look(path) for path in (*paths, *kept)]
        return None if any(_is_fresh(look, now) for look in looks) else (said, *looks)

    def _is_all_seen(self, index: str) -> bool:
        look = _look(index)
        if self._all_seen is None or self._all_seen[0] != look:
            rows = self._run("ls-files", "-v", "-z", cwd=self._places[0] if self._places else None)
            self._all_seen = look, all(row[:1] in _SEEN for row in rows.split(b"\0") if row)
        return self._all_seen[1]

    def _run(self, *words: str, cwd: str | None = None) -> bytes:
        return subprocess.run(
            ["git", *OPTIONS, *words],
            cwd=cwd or self._path,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        ).stdout


def _paths(said: bytes, top: str) -> Iterator[str]:
    """The files that status names. ValueError for a submodule: what is in it isn't told."""
    for row in said.split(b"\0"):
        kind = row[:2]
        if kind == b"? ":
            yield os.path.join(top, os.fsdecode(row[2:]))
        elif kind in (b"1 ", b"u "):
            fields = row.split(b" ", 8 if kind == b"1 " else 10)
            if fields[2] != b"N...":
                raise ValueError("a submodule")
            yield os.path.join(top, os.fsdecode(fields[-1]))
        elif kind not in (b"# ", b""):
            raise ValueError("a row of a kind that isn't known")


def _look(path: str) -> Look:
    """() where there is nothing."""
    try:
        seen = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino, seen.st_mode


def _is_fresh(look: Look, now_ns: int) -> bool:
    for moment in look[:2]:
        limit = _FRESH_COARSE_NS if moment % 1_000_000_000 == 0 else _FRESH_NS
        if moment > now_ns - limit:
            return True
    return False
