"""BuildGrid's cache: a Remote Execution API server in Python, stricter than most, here without execution."""

from pathlib import Path

from servers.certificates import Pair
from servers.installed import installed
from servers.ports import free_port
from servers.process import Server

_CONFIG = """
server:
  - !channel {{address: "127.0.0.1:{port}", {channel}}}
{authorization}
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
    """`target` is host:port. `tls` is its certificate: then it wants one of each client that `clients` vouches for.

    `secret`: then each call needs a token that is signed with it. `program` may be that of another version.
    """

    def __init__(
        self,
        base: Path,
        instance: str = "",
        *,
        tls: Pair | None = None,
        clients: Path | None = None,
        secret: str = "",
        program: Path | None = None,
    ) -> None:
        base.mkdir(parents=True)
        port = free_port()
        self.data = base / "data"
        self.target = f"127.0.0.1:{port}"
        channel = "insecure-mode: true"
        if tls is not None:
            files = {"tls-server-cert": tls.cert, "tls-server-key": tls.key, "tls-client-certs": clients}
            told = ", ".join(f"{name}: '{path}'" for name, path in files.items() if path is not None)
            channel = f"insecure-mode: false, credentials: {{{told}}}"
        authorization = ""
        if secret:
            (base / "secret").write_text(secret)
            authorization = f"authorization: {{method: jwt, secret: '{base}/secret', algorithm: hs256}}"
        config = base / "config.yml"
        config.write_text(
            _CONFIG.format(
                port=port, data=self.data, instance=instance, channel=channel, authorization=authorization
            )
        )
        super().__init__([program or installed("bin/bgd"), "server", "start", config], port, base / "log")

    def forget(self) -> None:
        """All blobs go, and with them all entries: a second server would take seconds to start. The directories stay:
        some versions make them once."""
        for path in (self.data / "cas/objects").glob("*/*"):
            path.unlink()

    def path(self, name: str) -> Path:
        """Where the blob with this hash is."""
        return self.data / "cas/objects" / name[:2] / name[2:]
