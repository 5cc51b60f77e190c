"""The installed commands, seen from outside: a directory to work in, a home and a cache of its own.

Nothing here imports the product. The commands are those beside the Python that runs the tests (`make test` puts them
there), and what is known of a run is what anybody could see.
"""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(sys.executable).parent


class Place:
    """`root` is where commands run. What `do` is given to `capsule` is a shell script that leaves a mark in a log that
    no capsule knows of, so that it shows how often it really ran."""

    def __init__(self, base: Path) -> None:
        assert (SCRIPTS / "capsule").exists(), "capsule isn't installed beside this Python: run `make test`"
        self.base = base
        self.root = base / "work"
        self.home = base / "home"
        self.cache = base / "cache"
        self.store = self.cache / "capsula"
        self.mark = base / "ran"
        for folder in (self.root, self.home):
            folder.mkdir(parents=True)
        self.environ = {
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.cache),
            "MARK": str(self.mark),
            "LC_ALL": "C.UTF-8",
        }
        self.prefix: tuple[str, ...] = ()
        self.started: list[subprocess.Popen[bytes]] = []

    def path(self, name: str) -> Path:
        return self.root / name

    def write(self, name: str, content: str | bytes = "", mode: int | None = None) -> Path:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if mode is not None:
            path.chmod(mode)
        return path

    def argv(self, options: tuple[str, ...], do: str | None, command: tuple[str, ...] = ()) -> list[str]:
        if do is not None:
            command = ("sh", "-c", f'echo ran >> "$MARK"; {do}')
        return [*options, "--", *command] if command else [*options]

    def marks(self) -> int:
        try:
            return self.mark.read_text().count("\n")
        except FileNotFoundError:
            return 0

    def entries(self) -> list[Path]:
        return sorted(path for path in self.store.glob("ac/*/*") if path.is_file())

    def close(self, patience: float) -> None:
        """Whatever was started has ended, and all can be removed."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(patience)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        # A sweep in the background is nobody's child, and writes until its end, which is when it lets go of its lock.
        try:
            with (self.store / "locks/sweep").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # there is no store, or what a test has put in its place
        for path, names, _ in os.walk(self.base):
            for name in names:
                if not os.path.islink(os.path.join(path, name)):
                    os.chmod(os.path.join(path, name), 0o700)


def text(content: bytes | None) -> str:
    return (content or b"").decode(errors="surrogateescape")
