"""A receiver of traces and events that writes down what it gets, and answers as it is told to."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: Any


class Receiver:
    """`received` in order of arrival. `answer` is the status of the next answers; None: it hangs until it is told
    something else or stops."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer: int | None = 200
        self.go = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if owner.answer is None:
                    owner.go.wait(200)
                    return
                if owner.answer < 300:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    owner.received.append(Received(self.path, headers, json.loads(content)))
                self.send_response(owner.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
