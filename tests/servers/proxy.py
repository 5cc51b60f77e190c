"""A proxy in front of a server that does what networks and servers do on bad days."""

import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from servers.ports import free_port

# What comes from the server in a piece of at least so many bytes is part of a blob, not of an answer about one.
A_BLOB = 2000
_PIECE = 1 << 16
_LINGER_NOT = struct.pack("ii", 1, 0)


class Proxy:
    """Listens at `port` and passes on to `to`, in threads of this process.

    `mode` holds for connections and pieces from now on:
    "" is as it should be. The others concern each piece of an answer that has at least `least` bytes: "reset", "hole"
    (it never comes), "slow" (a byte a second), "cut" (half of it, then the end), "spoil" (its last byte is another).
    `refuse` and `listen` close and open the port; `storm` answers HTTP requests itself, and `alter` changes their
    headers. `asked` counts requests while either does so, as "GET cas".
    """

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = free_port()
        self.mode = ""
        self.least = 0
        self.connections = 0
        self.faults = 0
        self._over = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self.asked: Counter[str] = Counter()
        self.alter: Callable[[http.client.HTTPMessage], None] | None = None
        self._storm: tuple[int, Callable[[str, str], bool]] | None = None
        self._left, self._body = 0, b"no"
        self._awaited: dict[bool, tuple[int, Callable[[], None]]] = {}
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.listen()

    def fail(self, mode: str, least: int = 0) -> None:
        self.mode, self.least = mode, least

    def heal(self) -> None:
        self.mode, self._storm, self.alter = "", None, None

    def storm(
        self,
        status: int,
        concerns: Callable[[str, str], bool] = lambda verb, path: True,
        times: int = 1 << 30,
        body: bytes = b"no",
    ) -> None:
        """The next so many requests (verb, path) that it concerns get this status; others get what the server says."""
        self._storm, self._left, self._body = (status, concerns), times, body

    @contextmanager
    def held(self) -> Iterator[None]:
        """Meanwhile nobody learns that the server is away: who comes waits, and nothing ends."""
        self._going.clear()
        yield
        self._going.set()

    def at_request_bytes(self, number: int, then: Callable[[], None]) -> None:
        """Once so many bytes have come from clients, and before they go on to the server, something happens."""
        self._awaited[True] = (number, then)

    def at_answer_bytes(self, number: int, then: Callable[[], None]) -> None:
        """The same, of bytes on their way back."""
        self._awaited[False] = (number, then)

    def listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._start(self._accept, self._listener)

    def refuse(self) -> None:
        """From now on nobody listens; what is open is reset."""
        # A thread in accept() holds the socket open beyond close().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """All that is open ends now."""
        with self._lock:
            taken, self._open = self._open, set()
        for one in taken:
            _reset(one)

    def stop(self) -> None:
        self._over.set()
        self._going.set()
        if self._listener.fileno() >= 0:
            self.refuse()
        for thread in self._threads:
            thread.join(30)

    # ------------------------------------------------------------------------------------------------ inside

    def _start(self, work: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._open.add(client)
            if self._over.is_set():
                _reset(client)
            elif self.mode == "reset" and not self.least:
                self.faults += 1
                _reset(client)
            elif self._storm is not None or self.alter is not None:
                self._start(self._weather, client)
            else:
                self._pass(client)

    def _pass(self, client: socket.socket) -> None:
        self._going.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.to), timeout=10)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        with self._lock:
            self._open.add(server)
        self._start(self._forth, client, server)
        self._start(self._back, server, client)

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while piece := client.recv(_PIECE):
                self._count(len(piece), is_request=True)
                server.sendall(piece)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(server)

    def _count(self, size: int, *, is_request: bool) -> None:
        with self._lock:
            left, then = self._awaited.pop(is_request, (0, None))
            if then is None:
                return
            if left > size:
                self._awaited[is_request] = (left - size, then)
                return
        then()

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while piece := server.recv(_PIECE):
                self._count(len(piece), is_request=False)
                if not self.mode or len(piece) < self.least:
                    client.sendall(piece)
                elif not self._fault(piece, client):
                    break
        except OSError:
            pass
        self._going.wait()
        _reset(server) if self.mode == "reset" else _end(server)
        _end(client)

    def _fault(self, piece: bytes, client: socket.socket) -> bool:
        """Whether it goes on."""
        self.faults += 1
        if self.mode == "reset":
            _reset(client)
            return False
        if self.mode == "cut":
            client.sendall(piece[: len(piece) // 2])
            return False
        if self.mode == "spoil":
            client.sendall(piece[:-1] + bytes([piece[-1] ^ 1]))
            return True
        for at in range(len(piece)):
            if self.mode == "slow":
                client.sendall(piece[at : at + 1])
            if self._over.wait(1) or self.mode not in ("slow", "hole"):
                return False
        return True

    def _weather(self, client: socket.socket) -> None:
        try:
            with client.makefile("rb") as asked:
                while line := asked.readline():
                    verb, path, _ = line.decode().split(" ", 2)
                    headers = http.client.parse_headers(asked)
                    body = asked.read(int(headers.get("Content-Length") or 0))
                    self.asked[f"{verb} {kind(path)}"] += 1
                    if self.alter is not None:
                        self.alter(headers)
                    storm = self._storm
                    if storm is not None and storm[1](verb, path) and self._left > 0:
                        self._left -= 1
                        self.faults += 1
                        client.sendall(_answer(storm[0], "", b"" if verb == "HEAD" else self._body))
                    else:
                        client.sendall(self._ask(verb, path, headers, body))
        except OSError:
            pass
        finally:
            _end(client)

    def _ask(self, verb: str, path: str, headers: http.client.HTTPMessage, body: bytes) -> bytes:
        server = http.client.HTTPConnection("127.0.0.1", self.to, timeout=30)
        try:
            server.request(verb, path, body, dict(headers.items()))
            answer = server.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _BY_HOP]
            told = "".join(f"{name}: {value}\r\n" for name, value in kept)
            content = answer.read()
            size = (
                int(answer.headers["Content-Length"])
                if verb == "HEAD" and answer.headers["Content-Length"]
                else None
            )
            return _answer(answer.status, told, content, size)
        finally:
            server.close()


def kind(path: str) -> str:
    """Of what a request is: "ac", "cas" or something else."""
    return next((part for part in path.split("/") if part in ("ac", "cas")), "else")


_BY_HOP = ("connection", "content-length", "transfer-encoding")


def _answer(status: int, headers: str, body: bytes, size: int | None = None) -> bytes:
    reason = http.client.responses.get(status, "")
    size = len(body) if size is None else size
    return f"HTTP/1.1 {status} {reason}\r\n{headers}Content-Length: {size}\r\n\r\n".encode() + body


def _reset(one: socket.socket) -> None:
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        # Wakes a thread that reads from it, which close() doesn't; the pending reset stays.
        one.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    one.close()


def _end(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()
