"""Git, run so that it changes nothing of the user's: no lock is taken, no hook, pager or monitor is started."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence

from capsula.core.names import printable
from capsula.core.secrets import mask
from capsula.errors import CapsulaError

# How content is converted (autocrlf, filters) and what is ignored stay as the user has them: that is what git
# itself would take for changed. What only changes the form of an answer is set here, or by the options of each call.
_SETTINGS = (
    *("core.quotePath=false", "core.safecrlf=false", "core.fsmonitor=false", "core.untrackedCache=false"),
    *("color.ui=false", "core.pager=cat", "gc.auto=0", "maintenance.auto=false", "submodule.recurse=false"),
    *("advice.addEmbeddedRepo=false", f"core.hooksPath={os.devnull}", "core.splitIndex=false"),
    # What we write is thrown away at once.
    *("core.compression=0", "core.looseCompression=0", "core.fsync=none", "index.threads=1"),
    # git-lfs would put the contents into the user's own directory of large files; snapshot.py compares by itself.
    *("filter.lfs.clean=", "filter.lfs.process=", "filter.lfs.required=false"),
)
OPTIONS = tuple(word for setting in _SETTINGS for word in ("-c", setting))
# What names a repository in the environment (a hook is running) isn't about this one; these are about the user.
_KEPT = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CEILING_DIRECTORIES")


class GitRefused(CapsulaError):
    """Git ended with an error; `what` is what it said."""


class Repository:
    """`path` is a directory in it. `seconds` is how long all calls together may take (0: no limit)."""

    def __init__(self, path: str, shown: str, environ: Mapping[str, str], seconds: float) -> None:
        self.path = path
        self.shown = shown
        self._environ = environ
        self._until = time.monotonic() + seconds if seconds else None
        clean = {key: value for key, value in environ.items() if not key.startswith("GIT_")}
        clean |= {key: environ[key] for key in _KEPT if key in environ}
        self._clean = {
            **clean,
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "LC_ALL": "C",
        }

    def inside(self, path: str) -> Repository:
        """That of a directory in this one's work tree, within the same time."""
        found = Repository(os.path.join(self.path, path), path, self._environ, 0)
        found._until = self._until
        return found

    def text(self, *words: str) -> str:
        return os.fsdecode(self.run(*words)).removesuffix("\n")

    def try_text(self, *words: str, seconds: float | None = None) -> str:
        """What git prints, "" when it refuses or takes longer than that."""
        try:
            return os.fsdecode(self.run(*words, seconds=seconds)).removesuffix("\n")
        except CapsulaError:
            return ""

    def texts(self, words: Sequence[str], *asked: Sequence[str]) -> list[str]:
        """What git prints to each of these in one line; also where a path has a line feed in it."""
        told = self.text(*words, *(word for each in asked for word in each)).split("\n")
        return told if len(told) == len(asked) else [self.text(*words, *each) for each in asked]

    def run(
        self,
        *words: str,
        environ: Mapping[str, str] | None = None,
        given: bytes = b"",
        seconds: float | None = None,
    ) -> bytes:
        left = None if self._until is None else max(self._until - time.monotonic(), 0.01)
        if seconds is not None:
            left = seconds if left is None else min(left, seconds)
        try:
            done = subprocess.run(
                ["git", *OPTIONS, *words],
                cwd=self.path,
                env={**self._clean, **(environ or {})},
                input=given,
                capture_output=True,
                timeout=left,
                check=False,
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            is_there = os.path.isdir(self.path)
            raise CapsulaError(
                "git is not installed" if is_there else f"there is no {printable(self.shown)}"
            ) from error
        except subprocess.TimeoutExpired:
            raise CapsulaError(f"git {words[0]} took too long") from None
        except OSError as error:
            raise CapsulaError(f"git {words[0]}: {error.strerror}") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "backslashreplace").strip().split("\n")[-1]
            raise GitRefused(f"git {words[0]}: {mask(said) or f'exit code {done.returncode}'}")
        return done.stdout
