"""An HTTP cache that a test has answer as it likes, also to what it is asked ahead."""

import socket
import struct
import threading
from collections.abc import Callable, Iterable

from capsula.testing import Desk

MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"
RESET = b"it breaks"


class Cache:
    """A server with a thread for each connection, which takes what it is asked one after the other. `answer` makes the
    answer to a GET, by the hash of what is asked for, or the pieces of it; None closes the connection, RESET breaks it.
    `drops`: of what comes at once, all but the first is lost."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answer: Callable[[str], bytes | Iterable[bytes] | None] = self.found
        self.ends_after: set[str] = set()
        self.drops = False
        # What was asked, as soon as it has come, what of it came behind another when it came last, and the most that
        # waited for an answer at once.
        self.asked: list[str] = []
        self.asked_ahead: set[str] = set()
        self.most = 0
        # What came at once, in the order in which it came.
        self.at_once: list[list[str]] = []
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def content(self, name: str) -> bytes:
        return (self._desk.base / name).read_bytes()

    def found(self, name: str) -> bytes:
        return said(self.content(name))

    def _head(self, name: str) -> bytes:
        whole = self.found(name) if (self._desk.base / name).exists() else MISSING
        return whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(peer,), daemon=True))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        waiting: list[tuple[bool, str]] = []
        rest = b""
        with peer:
            while True:
                while not waiting:
                    try:
                        piece = peer.recv(65536)
                    except ConnectionResetError:
                        return
                    if not piece:
                        return
                    *asked, rest = (rest + piece).split(b"\r\n\r\n")
                    names = [one.split(b" ")[1].rpartition(b"/")[2].decode() for one in asked]
                    waiting += zip([one.startswith(b"HEAD ") for one in asked], names, strict=True)
                    self.asked += names
                    self.asked_ahead.difference_update(names[:1])
                    self.asked_ahead.update(names[1:])
                    self.most = max(self.most, len(waiting))
                    self.at_once += [names] if names else []
                    if self.drops:
                        del waiting[1:]
                is_head, name = waiting.pop(0)
                answer = self._head(name) if is_head else self.answer(name)
                if answer is None or not _say(peer, answer) or name in self.ends_after:
                    return

    def stop(self) -> None:
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a connection was left open"


def said(content: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (more, len(content), content)


def _say(peer: socket.socket, answer: bytes | Iterable[bytes]) -> bool:
    """Whether it goes on."""
    try:
        for piece in (answer,) if isinstance(answer, bytes) else answer:
            if piece is RESET:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            peer.sendall(piece)
    except OSError:
        return False
    return True
