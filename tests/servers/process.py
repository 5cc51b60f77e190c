"""A server that a test started: it is there when its port answers, and gone when the test has ended."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# A busy machine is slow, not wrong.
PATIENCE = 150.0


def program(name: str) -> str:
    """Its path. A program that isn't there is a failure, not a reason to skip."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    assert path, f"{name} is not installed: `make test` or `make test-all` sees to that"
    return path


class Server:
    """`is_ready` is asked until it says yes; by default, whether somebody listens at the port."""

    def __init__(
        self,
        words: Sequence[str | Path],
        port: int,
        log: Path,
        *,
        environ: Mapping[str, str] | None = None,
        is_ready: Callable[[], bool] | None = None,
    ) -> None:
        self.port = port
        self.log = log
        self._words, self._environ, self._is_ready = words, environ, is_ready or self._listens
        self.start()

    def restart(self) -> None:
        """Killed in the middle of whatever it does, and started anew."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """With its workers, which would serve on without it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def start(self) -> None:
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self._environ,
                cwd=self.log.parent,
                process_group=0,
            )
        self._wait(self._is_ready)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def _wait(self, is_ready: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not is_ready():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > until:
                self.stop()
                what = f"ended with {ended}" if ended is not None else "is not ready"
                raise AssertionError(
                    f"{self.process.args!r} {what}:\n{self.log.read_text(errors='replace')[-4000:]}"
                )
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as tried:
            tried.settimeout(1)
            return tried.connect_ex(("127.0.0.1", self.port)) == 0
