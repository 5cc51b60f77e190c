"""Exchanges by HTTP/1.1: what comes from a server, in whatever pieces, and what goes to it."""

import io
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from capsula.store.exchange import Answer, Connection, Incoming, Line, Unintelligible


class Scripted:
    """A server that says what it is told to say, one text for each request, and keeps what it was asked."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.asked: list[bytes] = []
        self.answers: list[bytes] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with peer:
                while self.answers:
                    asked = b""
                    # The head may come alone, and what has a body ends with it.
                    while not asked.endswith(b"END" if b"Content-Length" in asked else b"\r\n\r\n"):
                        piece = peer.recv(65536)
                        if not piece:
                            break
                        asked += piece
                    self.asked.append(asked)
                    peer.sendall(self.answers.pop(0))

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)


@pytest.fixture
def server() -> Iterator[Scripted]:
    one = Scripted()
    yield one
    one.stop()


@pytest.fixture
def connection(server: Scripted) -> Iterator[Connection]:
    one = Connection("127.0.0.1", server.port)
    yield one
    one.close()


def everything(answer: Answer, size: int = 1 << 18) -> bytes:
    return b"".join(iter(lambda: answer.read(size), b""))


class Pieces:
    """A socket from which a text comes so many bytes at a time."""

    def __init__(self, text: bytes, size: int) -> None:
        self._text = io.BytesIO(text)
        self._size = size

    def settimeout(self, seconds: float | None, /) -> None: ...

    def recv(self, size: int, /) -> bytes:
        return self._text.read(min(size, self._size))

    def sendall(self, data: bytes, /) -> None: ...

    def close(self) -> None: ...


@contextmanager
def without_certificates(ours: socket.socket, theirs: socket.socket) -> Iterator[tuple[Line, ssl.SSLSocket]]:
    """Both ends of a line with TLS."""
    client, server = [ssl.SSLContext(each) for each in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)]
    for context in (client, server):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("aNULL:@SECLEVEL=0")
    made: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: made.append(server.wrap_socket(theirs, server_side=True)))
    thread.start()
    with client.wrap_socket(ours) as wrapped:
        thread.join()
        with made[0]:
            yield Line(wrapped), made[0]


WELL = {
    "with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    "an empty one": (b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", b"", True),
    "without a reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "none, by its status": (b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", b"", True),
    "in chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;more=1\r\nlo\r\n0\r\nA: b\r\n\r\n",
        b"hello",
        True,
    ),
    "in no chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"", True),
    "until the end": (b"HTTP/1.1 200 OK\r\nServer: old\r\n\r\nhello", b"hello", False),
    "and is closed": (
        b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
        False,
    ),
    "of the old kind": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    "of the old kind, and stays": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
        True,
    ),
    "after one that asks to go on": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
        True,
    ),
    "with its length twice": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
        True,
    ),
}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("which", list(WELL))
def test_an_answer_is_what_was_said_however_it_comes(which: str, size: int) -> None:
    text, body, stays = WELL[which]
    answer = Answer(Incoming(Line(Pieces(text, size))), has_body=True)
    assert answer.status in (200, 204)
    assert everything(answer, 3) == body
    assert answer.stays_open == stays
    assert answer.read(10) == b""


def test_after_more_than_was_announced_nothing_is_asked_any_more() -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    answer = Answer(
        Incoming(Line(Pieces(text + b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 1000))),
        has_body=True,
    )
    assert everything(answer, 3) == b"hello"
    assert not answer.stays_open


BAD = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "no status": b"HTTP/1.1 fine\r\n\r\n",
    "a status of other digits": b"HTTP/1.1 2\xb2\xb2 OK\r\n\r\n",
    "a header without a name": b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "another encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    "cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
    "a chunk cut short": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello",
    "a chunk too long": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
    "a chunk without a size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello",
    "a chunk of a negative size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nhello",
    "no end of the chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000,
    "a length of too many digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 5000 + b"\r\n\r\n",
    "always still to come": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + b"HTTP/1.1 204 No Content\r\n\r\n",
    "chunks with an endless end": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 1000 + b"\r\n"
    ),
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "nothing": b"",
}


@pytest.mark.parametrize("size", [3, 100_000])
@pytest.mark.parametrize("which", list(BAD))
def test_what_is_no_whole_answer_is_never_taken_for_one(which: str, size: int) -> None:
    with pytest.raises((Unintelligible, ConnectionResetError)):
        everything(Answer(Incoming(Line(Pieces(BAD[which], size))), has_body=True))


@pytest.mark.parametrize(("most", "stays"), [(5, True), (100, True), (4, False)])
def test_of_what_nobody_wants_only_so_much_is_read(most: int, stays: bool) -> None:
    text = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello"
    answer = Answer(Incoming(Line(Pieces(text, 1000))), has_body=True)
    answer.skip(most)
    assert answer.stays_open == stays


def test_no_wait_goes_beyond_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much comes meanwhile: a byte a second, in a head or anywhere else, is no progress for ever."""
    now = 100.0
    told: list[float | None] = []

    class Slow(Pieces):
        def settimeout(self, seconds: float | None, /) -> None:
            told.append(seconds)

        def recv(self, size: int, /) -> bytes:
            nonlocal now
            now += 1
            return super().recv(size)

    monkeypatch.setattr("capsula.store.exchange.monotonic", lambda: now)
    line = Line(Slow(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000, 1))
    line.seconds, line.deadline = 3.0, 105.5
    with pytest.raises(TimeoutError):
        Answer(Incoming(line), has_body=True)
    assert told == [3.0, 2.5, 1.5, 0.5]


def test_what_was_said_meanwhile_shows() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Line(ours)
        assert line.is_quiet()
        theirs.sendall(b"xy")
        assert not line.is_quiet()
        assert line.recv(10) == b"y"
        assert line.is_quiet()
        theirs.close()
        assert not line.is_quiet()


def test_what_was_said_meanwhile_shows_with_tls() -> None:
    ours, theirs = socket.socketpair()
    with without_certificates(ours, theirs) as (line, server):
        assert line.is_quiet()
        server.sendall(b"xy")
        assert not line.is_quiet()
        assert line.recv(10) == b"y"
        server.close()
        assert not line.is_quiet()


def test_one_connection_does_for_many_requests(server: Scripted, connection: Connection) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"] * 2 + [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    ]
    for _ in range(2):
        assert everything(connection.ask("GET", "/ac/x", {"User-Agent": "u"}, None)) == b"hello"
    # What is told of a body doesn't come with HEAD.
    assert everything(connection.ask("HEAD", "/cas/x", {}, None)) == b""
    assert connection.ask("PUT", "/cas/x", {"Content-Length": "3"}, b"END").status == 201
    assert server.connections == 1
    host = f"Host: 127.0.0.1:{server.port}\r\nAccept-Encoding: identity\r\n".encode()
    assert server.asked[0] == b"GET /ac/x HTTP/1.1\r\n" + host + b"User-Agent: u\r\n\r\n"
    assert server.asked[3] == b"PUT /cas/x HTTP/1.1\r\n" + host + b"Content-Length: 3\r\n\r\nEND"


def test_a_file_is_sent_as_it_is(server: Scripted, connection: Connection) -> None:
    server.answers = [b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"]
    content = bytes(1 << 20) + b"END"
    answer = connection.ask("PUT", "/x", {"Content-Length": str(len(content))}, io.BytesIO(content))
    assert answer.status == 201
    assert server.asked[0].endswith(b"\r\n\r\n" + content)


def test_a_connection_that_was_closed_meanwhile_says_so(server: Scripted, connection: Connection) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
    assert not connection.is_open
    connection.ask("GET", "/", {}, None)
    assert connection.is_open
    with pytest.raises(ConnectionError):
        connection.ask("GET", "/", {}, None)


@pytest.mark.parametrize(
    "ask",
    [
        lambda one: one.ask("GET", "/ HTTP/1.1\r\nX: y", {}, None),
        lambda one: one.ask("GET", "/a b", {}, None),
        lambda one: one.ask("GET", "/", {"X": "y\r\nZ: z"}, None),
        lambda one: one.ask("GET", "/", {"X: y\r\nZ": "z"}, None),
    ],
)
def test_nothing_is_smuggled_into_a_request(
    server: Scripted, connection: Connection, ask: Callable[[Connection], Answer]
) -> None:
    with pytest.raises(ValueError, match="can't be sent"):
        ask(connection)
    assert server.asked == []


@pytest.mark.parametrize(
    ("host", "port", "name"),
    [
        ("cache.example", 80, "cache.example"),
        ("::1", 8080, "[::1]:8080"),
        ("bücher.example", 81, "xn--bcher-kva.example:81"),
    ],
)
def test_the_host_is_named_as_it_has_to_be(host: str, port: int, name: str) -> None:
    assert Connection(host, port)._name() == name
