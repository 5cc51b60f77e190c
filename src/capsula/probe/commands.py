"""What commands of the user's choice print: `nvidia-smi`, `module list`, whatever tells about the surroundings."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from capsula.core.found import Found
from capsula.core.secrets import mask, mask_log, telling_values

if TYPE_CHECKING:
    from capsula.core.found import Value

LIMIT_SECONDS = 60.0
LIMIT_TEXT = 1 << 20


class CommandsProbe:
    """`commands` are (name, shell command), run in `cwd` with nothing on their input. One that fails is a fact."""

    name = "commands"

    def __init__(self, commands: tuple[tuple[str, str], ...], cwd: str, environ: Mapping[str, str]) -> None:
        self._commands = commands
        self._cwd = cwd
        self._environ = environ
        self._left_out: list[str] = []
        self._masked: list[str] = []

    def read(self) -> Found:
        section: dict[str, Value] = {name: self._run(name, command) for name, command in self._commands}
        return Found({"commands": section}, left_out=tuple(self._left_out), masked=tuple(self._masked))

    def _run(self, name: str, command: str) -> Value:
        began = time.monotonic()
        code: int | None = None
        out = err = b""
        try:
            done = subprocess.run(
                command,
                shell=True,
                cwd=self._cwd,
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LIMIT_SECONDS,
                check=False,
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            self._left_out.append(f"{name}: it took more than {LIMIT_SECONDS:.0f} s")
        return {
            "command": mask(command),
            "exit_code": code,
            "stdout": self._text(name, out),
            "stderr": self._text(name, err),
            "seconds": round(time.monotonic() - began, 6),
        }

    def _text(self, name: str, content: bytes) -> str:
        if len(content) > LIMIT_TEXT:
            self._left_out.append(f"{name}: only the first MiB of {len(content)} bytes")
        text = content[:LIMIT_TEXT].decode("utf-8", "backslashreplace")
        shown, found = mask_log(text, telling_values(self._environ))
        if found:
            self._masked.append(name)
        return shown
