"""A server of HTTP in a thread of the test's own process, for doubles."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from servers.certificates import Pair


class Threaded:
    """`url` is its address. Each connection has a thread of its own; nothing is written on stderr. `tls`: who it is."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], tls: Pair | None = None) -> None:
        class Quiet(handler):  # type: ignore[valid-type, misc]
            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        self._server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert, tls.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
