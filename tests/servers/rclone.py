"""rclone as a server of S3: a directory for a moment, which ignores what is written on condition."""

from pathlib import Path

from servers.installed import installed_for_all
from servers.ports import free_port
from servers.process import Server
from servers.s3 import KEY, SECRET, Owned


class Rclone(Owned, Server):
    """`bucket` is there when it has started: it is a directory below `data`."""

    bucket, key = "test", KEY

    def __init__(self, base: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.data = base / "data"
        (self.data / self.bucket).mkdir(parents=True)
        words = [
            installed_for_all("python/bin/rclone"), "serve", "s3", "--config", "/dev/null",
            "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", self.data,
        ]  # fmt: skip
        super().__init__(words, port, base / "log")
