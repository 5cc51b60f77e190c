"""A home, a directory to work in, and the installed commands, as those who keep a store have them."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

from blackbox import SCRIPTS

Done = subprocess.CompletedProcess[str]


class Desk:
    """A home, a directory to work in, and the installed commands."""

    def __init__(self, path: Path) -> None:
        self.home, self.work = path / "home", path / "work"
        self.home.mkdir()
        (self.work / "src").mkdir(parents=True)
        (self.work / "src" / "a").write_text("one\n")
        self.store = self.home / ".cache" / "capsula"
        self.environ = {
            "HOME": str(self.home),
            "PATH": f"{SCRIPTS}:/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }

    def run(
        self, program: str, *words: str | Path | bytes, cwd: Path | None = None, **environ: str | None
    ) -> Done:
        assert (SCRIPTS / program).exists(), "install the package first: make .venv/capsula.stamp"
        known = {name: value for name, value in {**self.environ, **environ}.items() if value is not None}
        return subprocess.run(
            [SCRIPTS / program, *words],
            cwd=cwd or self.work,
            env=known,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
        )

    def tool(self, *words: str | Path, code: int = 0, **environ: str | None) -> str:
        """What `capsula` says on stdout."""
        done = self.run("capsula", *words, **environ)
        assert done.returncode == code, done
        return done.stdout

    def refused(self, *words: str | Path, code: int = 2, **environ: str | None) -> str:
        """What it says on stderr; nothing is on stdout."""
        done = self.run("capsula", *words, **environ)
        assert (done.returncode, done.stdout) == (code, ""), done
        return done.stderr

    def numbers(self, *words: str) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = json.loads(self.tool("cache", "stats", "--json", *words))
        return found

    def copy(self, *options: str | bytes) -> Done:
        """A capsule that makes dist/x of src/a."""
        script = "mkdir -p dist && cp src/a dist/x && echo copied"
        done = self.run("capsule", "-i", "src/**", "-o", "dist", *options, "--", "sh", "-c", script)
        assert (done.returncode, done.stdout) == (0, "copied\n"), done
        return done

    def edit(self, content: str) -> None:
        (self.work / "src" / "a").write_text(content)

    def journal(self, *rows: dict[str, object]) -> Path:
        """A store of its own that has a journal and nothing else."""
        store = self.home / "other"
        (store / "journal").mkdir(parents=True, exist_ok=True)
        with (store / "journal" / "journal.jsonl").open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        return store

    def files(self, kind: str) -> list[Path]:
        return sorted(path for path in (self.store / kind).rglob("*") if path.is_file())

    def bury(self, name: str = "mine", content: str = "mine\n") -> Path:
        """A file of the user's that a hit moves to the trash."""
        self.copy()
        buried = self.work / "dist" / name
        buried.write_text(content)
        assert "moved to the trash" in self.copy().stderr
        assert not buried.exists()
        return buried


def row(moment: float, outcome: str, **more: object) -> dict[str, object]:
    return {"time": moment, "id": "build", "outcome": outcome, "why": "", "seconds": 2.0, "bytes": 0, **more}


def on_terminal(
    desk: Desk, *words: str | Path, width: int = 80, typed: str = "", **environ: str
) -> tuple[str, int]:
    """What a terminal of that width shows, and the exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    if typed:
        os.write(ours, typed.encode())
    process = subprocess.Popen(
        [SCRIPTS / "capsula", *words],
        cwd=desk.work,
        env={**desk.environ, "TERM": "xterm", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return shown.decode().replace("\r\n", "\n"), process.wait(200)
