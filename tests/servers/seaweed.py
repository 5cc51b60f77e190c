"""SeaweedFS: an S3 store that enforces signatures, checksums and conditional writes, from a wheel."""

import os
import sys
import urllib.request
from datetime import timedelta
from pathlib import Path

import obstore

from servers.ports import free_port
from servers.process import Server
from servers.s3 import KEY, SECRET, Owned, credentials

__all__ = ["KEY", "SECRET", "Seaweed"]


class Seaweed(Owned, Server):
    """`bucket` is there when it has started."""

    bucket, key = "test", KEY

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        others = [f"-{part}.port={free_port()}" for part in ("master", "volume", "filer", "admin")]
        others += [
            f"-{part}.port.grpc={free_port()}" for part in ("master", "volume", "filer", "s3", "admin")
        ]
        words = [
            Path(sys.executable).parent / "weed", "-logtostderr=true", "mini", f"-dir={base}", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false", "-webdav=false",
            f"-s3.port={port}", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-bucket={self.bucket}", *others,
        ]  # fmt: skip
        environ = {**os.environ, **credentials()}
        super().__init__(words, port, base.parent / f"{base.name}.log", environ=environ, is_ready=self._takes)

    def remove_bucket(self, name: str) -> None:
        """With all that is in it."""
        address = obstore.sign(self.store(name), "DELETE", "", timedelta(minutes=5))
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()

    def _takes(self) -> bool:
        # The port is open before it can store anything.
        try:
            obstore.put(self.store(), "ready", b"yes")
        except Exception:
            return False
        return True
