"""Python: the interpreter that will run, what is installed for it, and whether that is what was installed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capsula.core.found import Found, pointer
from capsula.core.secrets import mask
from capsula.probe.distributions import distributions, row
from capsula.probe.indexes import indexes
from capsula.probe.installed import Checker
from capsula.probe.interpreter import Interpreter, find_interpreter, this
from capsula.probe.lock import PYLOCK, REQUIREMENTS, pylock, requirements

if TYPE_CHECKING:
    from capsula.core.found import Value

# How many threads and which kernels numeric libraries use: both change the last bits of results.
_NUMERIC = re.compile(
    r".*_NUM_THREADS|OPENBLAS_CORETYPE|OPENBLAS_.*|MKL_.*|BLIS_.*|GOTO_.*|OMP_.*|KMP_.*|CUBLAS_WORKSPACE_CONFIG"
    r"|NPY_.*|TF_DETERMINISTIC_OPS|XLA_FLAGS|PYTHONHASHSEED"
)
_KEYS = ("version", "implementation", "cache_tag", "platform", "abiflags", "flags", "distributions")


@dataclass(frozen=True, slots=True)
class Memory:
    """`directory` is where is kept which files were right, "" for nowhere; `seconds` how long they may be read."""

    directory: str = ""
    seconds: float = 0.0


class PythonProbe:
    """Of the Python that `command` starts in `cwd`, or of this one; `path` is where it imports from, if that isn't to
    be asked."""

    name = "python"

    def __init__(
        self,
        environ: Mapping[str, str],
        path: Sequence[str] | None = None,
        *,
        command: Sequence[str] = (),
        cwd: str = ".",
        memory: Memory = Memory(),
    ) -> None:
        self._environ = environ
        self._path = path
        self._command = tuple(command)
        self._cwd = cwd
        self._memory = memory

    def read(self) -> Found:
        python = (
            find_interpreter(self._command, self._environ, self._cwd)
            if self._path is None
            else this("program")
        )
        left_out = [python.problem] if python.problem else []
        path = python.path if self._path is None else tuple(self._path)
        installed = distributions(path, left_out)
        rows, masked = indexes(self._environ, str(python.facts["prefix"]))
        numeric = {
            name: mask(value) for name, value in sorted(self._environ.items()) if _NUMERIC.fullmatch(name)
        }
        section: dict[str, Value] = {
            "of": python.whose,
            **python.facts,
            "path": [*path],
            "numeric": {**numeric},
            "threadpools": _threadpools(python, left_out),
            "indexes": rows,
            "distributions": [row(each) for each in installed],
        }
        if self._memory.seconds:
            checked = Checker(self._file(python), self._memory.seconds).check(installed)
            section["modified"] = {name: [*files] for name, files in checked.differing.items()}
            section["check"] = checked.told()
        texts = {PYLOCK: pylock(installed, python.short), REQUIREMENTS: requirements(installed)}
        return Found(
            {"python": section},
            keys=tuple(pointer("python", name) for name in (*_KEYS, "numeric")),
            files={name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()},
            left_out=tuple(left_out),
            masked=tuple(masked),
        )

    def _file(self, python: Interpreter) -> str:
        if not self._memory.directory:
            return ""
        whole = os.fsencode(str(python.facts["prefix"]))
        return os.path.join(self._memory.directory, f"packages-{hashlib.sha256(whole).hexdigest()[:32]}.json")


def _threadpools(python: Interpreter, left_out: list[str]) -> Value:
    """What the numeric libraries in this process use. Only if the program has loaded threadpoolctl: importing it here
    would change the program."""
    controller = sys.modules.get("threadpoolctl")
    if controller is None or not python.is_this:
        return None
    try:
        told: Value = json.loads(json.dumps(controller.threadpool_info(), default=str))
    except Exception as error:
        left_out.append(f"threadpoolctl: {type(error).__name__}")
        return None
    return told
