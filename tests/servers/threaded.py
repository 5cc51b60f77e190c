"""A server of HTTP in a thread of the test's own process, for doubles."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Threaded:
    """`url` is its address. Each connection has a thread of its own; nothing is written on stderr."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        class Quiet(handler):  # type: ignore[valid-type, misc]
            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
