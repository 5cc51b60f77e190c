"""A part of a bucket, of its own for a test, on a real server of objects."""

import time
from typing import Any

import obstore

from servers.azurite import Azurite


class Prefix:
    def __init__(self, ws, server: Any) -> None:
        self.direct = server.store()
        self.prefix = f"of-its-own/{time.time_ns()}"
        self.url = f"{'az' if isinstance(server, Azurite) else 's3'}://{server.bucket}/{self.prefix}"
        ws.environ |= {**server.credentials(), "AWS_ENDPOINT_URL": server.url}
        ws.write("capsula.toml")

    def names(self, kind: str) -> list[str]:
        listed = obstore.list(self.direct, f"{self.prefix}/{kind}").collect()
        return sorted(each["path"] for each in listed)

    def remove(self, name: str) -> None:
        obstore.delete(self.direct, name)
