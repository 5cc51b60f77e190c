"""A server of S3 that treats writes on condition as some real ones do: not at all (Swift), or only with tags that have
no quotes (Ceph). It has what objects by name need, and nobody has to sign."""

import re
import threading
from dataclasses import dataclass
from hashlib import md5
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from servers.certificates import Pair
from servers.threaded import Threaded


@dataclass
class _Kept:
    content: bytes

    @property
    def tag(self) -> str:
        return md5(self.content, usedforsecurity=False).hexdigest()


class S3Double(Threaded):
    """`url` is the endpoint. `conditions`: "none" or "unquoted"."""

    def __init__(self, conditions: str, tls: Pair | None = None) -> None:
        kept: dict[str, _Kept] = {}
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                path = urlsplit(self.path).path
                content = self.rfile.read(int(self.headers["Content-Length"]))
                new, same = self.headers["If-None-Match"], self.headers["If-Match"]
                with lock:
                    if (new or same) and conditions == "none":
                        return self._answer(501, b"<Error><Code>NotImplemented</Code></Error>")
                    has = kept[path].tag if path in kept else None
                    if (new and has is not None) or (same and same != has):
                        return self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                    kept[path] = _Kept(content)
                return self._answer(200, b"", kept[path].tag)

            def do_GET(self) -> None:
                found = kept.get(urlsplit(self.path).path)
                if found is None:
                    return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                return self._answer(200, found.content, found.tag)

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_POST(self) -> None:
                """Several are removed."""
                asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
                bucket = urlsplit(self.path).path.rstrip("/")
                keys = re.findall("<Key>(.*?)</Key>", asked)
                for key in keys:
                    kept.pop(f"{bucket}/{key}", None)
                told = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
                self._answer(200, f"<DeleteResult>{told}</DeleteResult>".encode())

            def _answer(self, status: int, body: bytes, tag: str = "") -> None:
                self.send_response(status)
                if tag:
                    self.send_header("ETag", f'"{tag}"')
                    self.send_header("Last-Modified", self.date_time_string())
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        super().__init__(Handler, tls)
