"""A forward proxy, as companies have it before the internet: every name leads to one server of the test."""

import base64
import select
import socket
import threading


class Forward:
    """`asked` are the first lines of what came, and of those that weren't let through. `word`: a password is wanted."""

    def __init__(self, to: int, word: str = "") -> None:
        self._to = to
        self._allowed = f"Basic {base64.b64encode(word.encode()).decode()}" if word else ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.asked: list[str] = []
        self.refused: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client:
            came = b""
            while b"\r\n\r\n" not in came:
                piece = client.recv(65536)
                if not piece:
                    return
                came += piece
            head = came.partition(b"\r\n\r\n")[0].decode()
            first = head.partition("\r\n")[0]
            if self._allowed and f"Proxy-Authorization: {self._allowed}" not in head:
                self.refused.append(first)
                client.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            self.asked.append(first)
            with socket.create_connection(("127.0.0.1", self._to), timeout=60) as server:
                if first.startswith("CONNECT "):
                    client.sendall(b"HTTP/1.1 200 here it is\r\n\r\n")
                    came = came.partition(b"\r\n\r\n")[2]
                # nginx takes whole addresses, as a server has to.
                server.sendall(came)
                both = [client, server]
                while True:
                    for ready in select.select(both, [], [], 60)[0]:
                        piece = ready.recv(65536)
                        if not piece:
                            return
                        both[1 - both.index(ready)].sendall(piece)
