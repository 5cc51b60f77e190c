"""BuildGrid's cache: a Remote Execution API server in Python, stricter than most, here without execution."""

import shutil
from pathlib import Path

from servers.installed import installed
from servers.process import Server, free_port

_CONFIG = """
server:
  - !channel {{address: "127.0.0.1:{port}", insecure-mode: true}}
storages:
  - !disk-storage &cas {{path: '{data}'}}
caches:
  - !lru-action-cache &ac
    {{storage: *cas, max-cached-refs: 1000, allow-updates: true, cache-failed-actions: true}}
instances:
  - name: '{instance}'
    services:
      - !cas {{storage: *cas}}
      - !bytestream {{storage: *cas}}
      - !action-cache {{cache: *ac}}
thread-pool-size: 20
"""


class BuildGrid(Server):
    """`target` is host:port."""

    def __init__(self, base: Path, instance: str = "") -> None:
        base.mkdir(parents=True)
        port = free_port()
        self.data = base / "data"
        self.target = f"127.0.0.1:{port}"
        config = base / "config.yml"
        config.write_text(_CONFIG.format(port=port, data=self.data, instance=instance))
        super().__init__([installed("bin/bgd"), "server", "start", config], port, base / "log")

    def forget(self) -> None:
        """All blobs go, and with them all entries: a second server would take seconds to start."""
        for each in (self.data / "cas/objects").iterdir():
            shutil.rmtree(each)

    def path(self, name: str) -> Path:
        """Where the blob with this hash is."""
        return self.data / "cas/objects" / name[:2] / name[2:]
