"""What commands of the user's choice print: `nvidia-smi`, `module list`, whatever tells about the surroundings."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from capsula.core.found import Found
from capsula.core.names import printable
from capsula.core.secrets import mask, mask_log, telling_values

if TYPE_CHECKING:
    from capsula.core.found import Value

LIMIT_SECONDS = 60.0
LIMIT_TEXT = 1 << 20


class CommandsProbe:
    """`commands` are (name, shell command), run in `cwd` with nothing on their input, all together for at most
    `seconds` (0: no limit). How one exits is a fact; one that has to be ended has failed. What they print is a note: it
    may tell of the moment as well as of the machine."""

    name = "commands"

    def __init__(
        self,
        commands: tuple[tuple[str, str], ...],
        cwd: str,
        environ: Mapping[str, str],
        seconds: float = LIMIT_SECONDS,
    ) -> None:
        self._seconds = seconds
        self._commands = commands
        self._cwd = cwd
        self._environ = environ
        self._left_out: list[str] = []
        self._masked: list[str] = []
        self._failed: list[str] = []

    def read(self) -> Found:
        until = time.monotonic() + self._seconds if self._seconds else None
        section: dict[str, Value] = {
            name: self._run(name, command, until) for name, command in self._commands
        }
        return Found(
            {"commands": section},
            left_out=tuple(self._left_out),
            masked=tuple(self._masked),
            failed=tuple(self._failed),
        )

    def _run(self, name: str, command: str, until: float | None) -> Value:
        began = time.monotonic()
        code: int | None = None
        out = err = b""
        why = ""
        # In a session of its own: what it has started ends with it when it takes too long.
        with subprocess.Popen(
            command,
            shell=True,
            cwd=self._cwd,
            env=dict(self._environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=max(until - began, 0.01) if until else None)
                code = process.returncode
            except subprocess.TimeoutExpired as late:
                why = f"it was ended after {time.monotonic() - began:.1f} s, as time was up"
                self._failed.append(f"{printable(name)}: {why} (time-limit in [capture])")
                out, err = late.stdout or b"", late.stderr or b""
            finally:
                _end(process)
        return {
            "command": mask(command),
            "exit_code": code,
            "stdout": self._text(name, out),
            "stderr": self._text(name, err),
            "seconds": round(time.monotonic() - began, 6),
            **({"failed": why} if why else {}),
        }

    def _text(self, name: str, content: bytes) -> str:
        if len(content) > LIMIT_TEXT:
            self._left_out.append(f"{name}: only the first MiB of {len(content)} bytes")
        text = content[:LIMIT_TEXT].decode("utf-8", "backslashreplace")
        shown, found = mask_log(text, telling_values(self._environ))
        if found:
            self._masked.append(name)
        return shown


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started, unless it has ended."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            process.kill()
