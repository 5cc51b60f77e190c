"""A receiver of traces and events that writes down what it gets, and answers as it is told to."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from servers.threaded import Threaded


@dataclass(frozen=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: Any


class Receiver(Threaded):
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

        super().__init__(Handler)

    def stop(self) -> None:
        self.go.set()
        super().stop()
