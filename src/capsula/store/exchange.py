"""Exchanges by HTTP/1.1 over one connection: a request, and its answer, as far as a cache has need of it.

Not http.client: to import it takes as long as a bare start of the interpreter (it reads headers as a mail program
does), and a result of two hundred files is two hundred exchanges. What is here is what RFC 9112 wants of a client that
follows no redirection and keeps no cookies.
"""

from __future__ import annotations

import _socket
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from typing import IO, Protocol

    from capsula.store.proxies import Proxy

    class Socket(Protocol):
        def settimeout(self, seconds: float | None, /) -> None: ...
        def recv(self, size: int, /) -> bytes: ...
        def sendall(self, data: bytes, /) -> None: ...
        def close(self) -> None: ...


_LARGEST_HEAD = 1 << 17
_PIECE = 1 << 17
_CHUNK = 1 << 18
_FOREVER = -1
_NO_DEADLINE = float("inf")
# Of lines that are remembered.
_MOST_LINES, _LONGEST_LINE = 100, 500
_MOST_HEADS = 20
# No blob is as long as a number of more digits says.
_MOST_DIGITS = 18
_SPACE, _IN_NO_NAME = frozenset(" "), frozenset(" :")


class Unintelligible(Exception):
    """What came is no answer, or not all of one."""


class Connection:
    """Opened by the first request. OSError is what the network does; `is_open` that there was an exchange before.

    `context`: with TLS. `proxy`: by way of that. Every wait ends after `seconds`, and all of them at `deadline` (of
    time.monotonic); both may be set anew before each request.
    """

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext | None = None, proxy: Proxy | None = None
    ) -> None:
        self.seconds = 60.0
        self.deadline = _NO_DEADLINE
        # In ASCII, so that the codec of international names is loaded only for these.
        self._host = host if host.isascii() else host.encode("idna").decode()
        self._port = port
        self._context = context
        self._proxy = proxy
        self._line: Line | None = None
        self._incoming: Incoming | None = None
        # What all requests say after their first line, for the headers that were given last.
        self._said: tuple[Mapping[str, str] | None, str] = (None, "")

    @property
    def is_open(self) -> bool:
        return self._line is not None

    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody asked for, and would be taken for the next answer, and not the end."""
        return self._line is not None and self._line.is_quiet()

    def ask(
        self, verb: str, target: str, headers: Mapping[str, str], body: IO[bytes] | bytes | None
    ) -> Answer:
        """`headers` have to tell the length of the body; they may be given again, and are the same then."""
        asked = self._request(verb, target, headers)
        if isinstance(body, bytes):
            asked += body
        line = self._send(asked, 1)
        if body is not None and not isinstance(body, bytes):
            while piece := body.read(_CHUNK):
                line.sendall(piece)
        return self.answer(verb)

    def ask_ahead(self, targets: Sequence[str], headers: Mapping[str, str]) -> None:
        """A GET for each of them, without waiting for answers. These come in order, each to be read to its end."""
        self._send(b"".join([self._request("GET", target, headers) for target in targets]), len(targets))

    def answer(self, verb: str) -> Answer:
        """To the first request that has none yet."""
        if self._incoming is None:
            raise ConnectionResetError("nothing has been asked")
        return Answer(self._incoming, has_body=verb != "HEAD")

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = self._incoming = None

    def _request(self, verb: str, target: str, headers: Mapping[str, str]) -> bytes:
        if self._proxy is not None and self._context is None:
            target = f"http://{self._name()}{target}"
        if headers is not self._said[0]:
            self._said = headers, self._told(headers)
        return f"{verb} {_plain(target, _SPACE)} HTTP/1.1\r\n{self._said[1]}".encode("latin-1")

    def _send(self, asked: bytes, count: int) -> Line:
        line, incoming = self._opened()
        line.seconds, line.deadline = self.seconds, self.deadline
        line.sendall(asked)
        incoming.due += count
        return line

    def _opened(self) -> tuple[Line, Incoming]:
        if self._line is None or self._incoming is None:
            self._line = Line(self._open())
            self._incoming = Incoming(self._line)
        return self._line, self._incoming

    def _told(self, headers: Mapping[str, str]) -> str:
        if self._proxy is not None and self._context is None:
            headers = {**headers, **self._proxy.headers}
        lines = [f"{_plain(name, _IN_NO_NAME)}: {_plain(value)}\r\n" for name, value in headers.items()]
        return f"Host: {self._name()}\r\nAccept-Encoding: identity\r\n{''.join(lines)}\r\n"

    def _name(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return host if self._port == (443 if self._context is not None else 80) else f"{host}:{self._port}"

    def _open(self) -> Socket:
        if self._context is None:
            return self._reach()
        import socket

        # What a context takes is a socket of the library's.
        made = socket.socket(fileno=self._reach().detach())
        try:
            if self._proxy is not None:
                self._ask_for_a_tunnel(made, self._proxy)
            made.settimeout(_left(self.seconds, self.deadline))
            return self._context.wrap_socket(made, server_hostname=self._host)
        except BaseException:
            made.close()
            raise

    def _reach(self) -> _socket.socket:
        """The server, or the proxy that leads to it."""
        host, port = (self._host, self._port) if self._proxy is None else (self._proxy.host, self._proxy.port)
        failed: OSError = OSError(f"no address of {host}")
        for family, kind, protocol, _, address in _socket.getaddrinfo(
            host.encode(), port, 0, _socket.SOCK_STREAM
        ):
            plain = _socket.socket(family, kind, protocol)
            try:
                plain.settimeout(_left(self.seconds, self.deadline))
                plain.connect(address)
                plain.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                return plain
            except OSError as error:
                plain.close()
                failed = error
        raise failed

    def _ask_for_a_tunnel(self, made: Socket, proxy: Proxy) -> None:
        host = f"[{self._host}]" if ":" in self._host else self._host
        asked = [f"CONNECT {host}:{self._port} HTTP/1.1", f"Host: {host}:{self._port}"]
        asked += [f"{name}: {_plain(value)}" for name, value in proxy.headers.items()]
        line = Line(made)
        line.seconds, line.deadline = self.seconds, self.deadline
        line.sendall("\r\n".join([*asked, "", ""]).encode("latin-1"))
        answer = Answer(Incoming(line), has_body=False)
        if not 200 <= answer.status < 300:
            raise Unintelligible(
                f"the proxy {proxy.host}:{proxy.port} says {answer.status} {answer.reason}".rstrip()
            )


class Line:
    """A socket that waits for nothing longer than `seconds`, and for nothing beyond `deadline`: TimeoutError."""

    def __init__(self, socket: Socket) -> None:
        self.seconds = 60.0
        self.deadline = _NO_DEADLINE
        self._socket = socket
        # As the socket knows it; to tell it is a call of the kernel.
        self._waits = -1.0

    def recv(self, size: int) -> bytes:
        self._wait_at_most(_left(self.seconds, self.deadline))
        return self._socket.recv(size)

    def sendall(self, content: bytes) -> None:
        self._wait_at_most(_left(self.seconds, self.deadline))
        self._socket.sendall(content)

    def is_quiet(self) -> bool:
        """Whether nothing can be read, not even the end."""
        self._wait_at_most(0.0)
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return True
        except OSError as error:
            # As TLS says it.
            return type(error).__name__ == "SSLWantReadError"
        return False

    def close(self) -> None:
        self._socket.close()

    def _wait_at_most(self, seconds: float) -> None:
        if seconds != self._waits:
            self._socket.settimeout(seconds)
            self._waits = seconds


class Incoming:
    """What comes on a connection. `due`: so many answers have been asked for that haven't begun to be read."""

    def __init__(self, line: Line) -> None:
        self.due = 0
        self._line = line
        self._came = b""
        self._at = 0
        # Lines of heads: of one server's answers, most are the same. A name without a colon is no header's.
        self._lines: dict[str, tuple[str, str, str]] = {}

    @property
    def is_read(self) -> bool:
        """Whether nothing has come that wasn't read."""
        return self._at == len(self._came)

    def read(self, size: int) -> bytes:
        """What comes next, at most so many bytes; b"" when the other side has closed."""
        if self._at == len(self._came):
            if self.due <= 0:
                return self._line.recv(size)
            # With what follows it.
            self._came, self._at = self._line.recv(_PIECE), 0
        piece = self._came[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def until(self, mark: bytes) -> bytes:
        """All that comes before it; the mark is read as well."""
        looked = self._at
        while (end := self._came.find(mark, looked)) < 0:
            if len(self._came) - self._at > _LARGEST_HEAD:
                raise Unintelligible("an answer that has no end")
            piece = self._line.recv(_PIECE)
            if not piece:
                # As when it is reset: a connection that was kept may have been closed meanwhile.
                raise ConnectionResetError("the connection was closed before the answer had come")
            # Looked for where it can be in what is new.
            looked = max(len(self._came) - self._at - len(mark) + 1, 0)
            self._came, self._at = self._came[self._at :] + piece, 0
        found = self._came[self._at : end]
        self._at = end + len(mark)
        return found

    def header(self, line: str) -> tuple[str, str, str]:
        """Its name, the colon if there is one, and its value."""
        known = self._lines.get(line)
        if known is None:
            name, colon, value = line.partition(":")
            known = name.strip().lower(), colon, value.strip()
            if len(line) <= _LONGEST_LINE and len(self._lines) < _MOST_LINES:
                self._lines[line] = known
        return known


class Answer:
    """Its head has come. `read` until it gives nothing: only then the connection can be used again.

    Raises Unintelligible for an answer that is none and for one that ends too early, OSError for what the network does.
    """

    def __init__(self, incoming: Incoming, *, has_body: bool) -> None:
        incoming.due -= 1
        self._incoming = incoming
        # What is left of the body or of the present chunk.
        self._left = 0
        self._is_chunked = False
        for _ in range(_MOST_HEADS):
            version, self.status, self.reason, self.headers = self._head()
            if not 100 <= self.status < 200:
                break
        else:
            raise Unintelligible("an answer that is always still to come")
        connection = self.headers.get("connection", "").lower()
        self._stays_open = "close" not in connection and (version != "HTTP/1.0" or "keep-alive" in connection)
        if not has_body or self.status in (204, 304):
            return
        if "transfer-encoding" in self.headers:
            if self.headers["transfer-encoding"].strip().lower() != "chunked":
                raise Unintelligible("a transfer encoding that isn't known")
            self._is_chunked = True
            self._next_chunk()
        elif "content-length" in self.headers:
            length = self.headers["content-length"].strip()
            if not (length.isascii() and length.isdigit() and len(length) <= _MOST_DIGITS):
                raise Unintelligible("a length that is no number")
            self._left = int(length)
        else:
            # All that comes, until the other side closes.
            self._left, self._stays_open = _FOREVER, False

    @property
    def stays_open(self) -> bool:
        """Whether another answer or request may follow, now that all was read. What came beyond the end, and wasn't
        asked for, would be taken for the next answer."""
        return self._stays_open and not self._left and (self._incoming.due > 0 or self._incoming.is_read)

    def skip(self, most: int) -> None:
        """Read what nobody wants, of what is longer than that only so much: it does not stay open then."""
        while most > 0 and (piece := self.read(most)):
            most -= len(piece)

    def read(self, size: int) -> bytes:
        """At most so many bytes, b"" at the end."""
        if not self._left:
            return b""
        wanted = size if self._left == _FOREVER else min(size, self._left)
        piece = self._incoming.read(wanted)
        if self._left == _FOREVER:
            self._left = _FOREVER if piece else 0
            return piece
        if not piece:
            raise Unintelligible(f"the answer ended {self._left} bytes too early")
        self._left -= len(piece)
        if not self._left and self._is_chunked:
            if self._incoming.until(b"\r\n"):
                raise Unintelligible("a chunk that doesn't end where it should")
            self._next_chunk()
        return piece

    def _head(self) -> tuple[str, int, str, dict[str, str]]:
        first, *lines = self._incoming.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        status, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not (
            len(status) == 3 and status.isascii() and status.isdigit()
        ):
            raise Unintelligible("what answers doesn't speak HTTP")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = self._incoming.header(line)
            if not colon:
                raise Unintelligible("a header without a name")
            if name in headers:  # the first counts
                if name == "content-length" and headers[name] != value:
                    raise Unintelligible("two lengths")
                continue
            headers[name] = value
        return version, int(status), reason.strip(), headers

    def _next_chunk(self) -> None:
        size = self._incoming.until(b"\r\n").partition(b";")[0].strip()
        if not size or len(size) > 15 or size.lower().strip(b"0123456789abcdef"):
            raise Unintelligible("a chunk without a size")
        self._left = int(size, 16)
        if not self._left:
            self._is_chunked = False
            for _ in range(_MOST_LINES):
                if not self._incoming.until(b"\r\n"):
                    return
            raise Unintelligible("an answer that has no end")


def _plain(text: str, unwanted: frozenset[str] = frozenset()) -> str:
    """ValueError for what would begin a line, or another word, of its own."""
    if not text.isprintable() or not unwanted.isdisjoint(text):
        raise ValueError(f"{text[:20]!a}… can't be sent in the head of a request")
    return text


def _left(seconds: float, deadline: float) -> float:
    """So many of these seconds; TimeoutError when there are none."""
    left = min(seconds, deadline - monotonic())
    if left <= 0:
        raise TimeoutError("no time is left")
    return left
