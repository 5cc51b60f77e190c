"""The HTTP cache of Bazel and its kin: entries below /ac/, blobs below /cas/, by GET, HEAD and PUT.

Spoken by bazel-remote, nginx with WebDAV, Artifactory and many others. The protocol has no batches, so small blobs are
asked for ahead of their answers, and several connections are kept open and used at once where a server is far.
https://bazel.build/remote/caching#http-caching
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from itertools import islice

from capsula.core.names import printable
from capsula.core.reapi import ActionResult
from capsula.core.wire import decode, encode
from capsula.errors import BlobCorrupt, BlobMissing, StoreError, StoreUnreachable, UsageError
from capsula.store.address import parts_of, unquoted
from capsula.store.exchange import Connection, Unintelligible
from capsula.store.guard import SILENCE_SECONDS, in_time
from capsula.store.handshake import refusal
from capsula.store.parallel import each, share
from capsula.store.proxies import proxy_for
from capsula.store.receive import check_name, receiving

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO

    from capsula.core.digest import Digest
    from capsula.ports import Receiver
    from capsula.store.exchange import Answer

CONNECTIONS = 12
CHUNK = 1 << 18
# How many blobs a connection is asked for at most before their answers have come (RFC 9112, 9.3.2: pipelining). Small
# ones only: what isn't read for long is broken off by a server.
_AHEAD = 16
# For how long nothing may come of those. Some servers drop what they are asked ahead.
_AHEAD_SECONDS = 3.0
# Of what a server says besides, it is read so much to be able to ask again on this connection.
_LARGEST_REST = 1 << 16
# An entry is a few kilobytes for each hundred outputs; beyond this it is none.
_LARGEST_ENTRY = 64 << 20
_IN_CLEAR = "what is sent can be read on the way: https:// can't"
_LARGEST_PAGE = 4096
_HINTS = {
    407: "user and password in the address of the proxy, http_proxy=http://me:word@HOST:PORT",
    401: "the credentials in the address, or --remote_header",
    403: "the credentials in the address, or --remote_header",
    405: "it doesn't take PUT (nginx: dav_methods PUT); --remote_mode r only reads",
    413: "it limits the size of what it takes (nginx: client_max_body_size)",
    507: "its disk is full",
}
# Not now, but perhaps in a moment.
_LATER = (408, 425, 429, 500, 502, 503, 504)


class HttpStore:
    """`url` is the place above /ac/ and /cas/; user and password in it, or `headers`, are the credentials. `environ`
    has the variables that name a proxy."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        parts = parts_of(url)
        self._is_secure = parts.scheme == "https"
        try:
            given, self._host = parts.port, parts.hostname or ""
        except ValueError as error:
            raise UsageError(f"the address of the store has no good port: {error}") from error
        self._port = given or (443 if self._is_secure else 80)
        self._path = parts.path.rstrip("/")
        self._proxy = proxy_for(parts.scheme, self._host, self._port, environ or {})
        self._context = context if context is not None or not self._is_secure else _trusting_the_system()
        self._headers = {"User-Agent": "capsula", **(headers or {})}
        if parts.username is not None:
            import base64

            pair = f"{unquoted(parts.username)}:{unquoted(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        port = f":{given}" if given else ""
        self.name = f"{parts.scheme}://{self._host}{port}{self._path}"
        self.packs = False
        self._idle: list[Connection] = []
        self._is_closed = False
        # What is known of the server.
        self._keeps, self._asks_ahead = False, True
        self._lock = allocate_lock()

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        with self._ask("GET", f"/ac/{action.hash}", deadline) as answer:
            if answer.status == 404:
                return None
            self._expect(answer, (200,))
            content = _all(answer, _LARGEST_ENTRY)
        return decode(ActionResult, content)

    def store(self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False) -> None:
        """The protocol has no conditions."""
        del if_none
        with self._ask("PUT", f"/ac/{action.hash}", deadline, encode(result)) as answer:
            self._expect(answer, (200, 201, 202, 204))

    def missing(self, digests: Sequence[Digest], deadline: float) -> list[Digest]:
        absent: list[Digest] = []

        def look(digest: Digest) -> None:
            with self._ask("HEAD", f"/cas/{digest.hash}", deadline) as answer:
                if answer.status == 404:
                    absent.append(digest)
                else:
                    self._expect(answer, (200, 204))

        each(digests, look, CONNECTIONS, at_first=1)
        return absent

    def fetch(
        self, digests: Sequence[Digest], receive: Callable[[Digest], Receiver], deadline: float
    ) -> None:
        def take(answer: Answer, digest: Digest) -> None:
            with receiving(receive, digest) as receiver:
                while piece := answer.read(CHUNK):
                    receiver.write(piece)

        def get(digest: Digest) -> None:
            with self._ask("GET", f"/cas/{digest.hash}", deadline) as answer:
                if answer.status == 404:
                    raise BlobMissing(f"{self.name} doesn't have the blob {digest!r}")
                self._expect(answer, (200,))
                take(answer, digest)

        for digest in digests:
            check_name(digest)
        small = [digest for digest in digests if digest.size_bytes <= CHUNK]
        # Each connection gets its share of them, where there are to be many.
        most = min(_AHEAD, len(small) // CONNECTIONS)

        def get_many(mine: Iterator[Digest]) -> None:
            while True:
                self._each_alone(self._ahead(mine, take, most, deadline), get)
                digest = next(mine, None)
                if digest is None:
                    return
                # Alone, where it isn't known yet that connections are kept, or where one has ended.
                get(digest)

        share(small, get_many, CONNECTIONS, at_first=1)
        each([digest for digest in digests if digest.size_bytes > CHUNK], get, CONNECTIONS, at_first=1)

    def send(self, digests: Sequence[Digest], path_of: Callable[[Digest], str], deadline: float) -> None:
        def put(digest: Digest) -> None:
            with (
                open(path_of(digest), "rb") as file,
                self._ask("PUT", f"/cas/{digest.hash}", deadline, file) as answer,
            ):
                self._expect(answer, (200, 201, 202, 204))

        each(digests, put, CONNECTIONS, at_first=1)

    def examine(self, deadline: float) -> list[tuple[str, str]]:
        with self._ask("HEAD", f"/cas/{'0' * 64}", deadline) as answer:
            server, date = answer.headers.get("server", ""), answer.headers.get("date", "")
        from capsula.store import clock

        found = [("ok", f"the server is {server}")] if server else []
        return (
            found + clock.read(date) + ([] if self._is_secure or self._is_here() else [("note", _IN_CLEAR)])
        )

    def holdings(self) -> None:
        """The protocol lists nothing and removes nothing."""
        return

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
            self._is_closed = True
        for connection in idle:
            connection.close()

    def _ahead(
        self,
        digests: Iterator[Digest],
        take: Callable[[Answer, Digest], None],
        most: int,
        deadline: float,
    ) -> list[Digest]:
        """Get what is left of them on one connection, the next ones asked for while one is read, if the server is known
        to keep connections. Gives those that were asked for in vain, of which something may be wrong, or with asking
        ahead."""
        # So that there is time to ask for them alone.
        silence = min(_AHEAD_SECONDS, in_time(self.name, deadline) / 3)
        if most <= 1 or not (self._keeps and self._asks_ahead):
            return []
        connection = self._connection()
        connection.seconds, connection.deadline = silence, deadline
        asked: list[Digest] = []
        failed: list[Digest] = []
        is_whole = False
        try:
            while True:
                room = most - len(asked) if len(asked) <= most // 2 and not failed else 0
                if more := list(islice(digests, room)):
                    asked += more
                    connection.ask_ahead([f"{self._path}/cas/{each.hash}" for each in more], self._headers)
                if not asked:
                    is_whole = True
                    return failed
                answer = connection.answer("GET")
                if answer.status == 200:
                    take(answer, asked[0])
                    asked.pop(0)
                else:
                    failed.append(asked.pop(0))
                answer.skip(_LARGEST_REST)
                if not answer.stays_open:
                    return failed + asked
        except (OSError, Unintelligible, BlobCorrupt):
            # It may have mixed them up, or dropped them: whoever asks for one alone finds out what is wrong.
            self._asks_ahead = False
            return failed + asked
        finally:
            if is_whole:
                self._keep(connection)
            else:
                connection.close()

    def _each_alone(self, digests: Sequence[Digest], get: Callable[[Digest], None]) -> None:
        """That of one nothing can be had keeps none of the others."""
        failed: StoreError | None = None
        for digest in digests:
            try:
                get(digest)
            except StoreUnreachable:
                raise
            except StoreError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _ask(
        self,
        verb: str,
        path: str,
        deadline: float,
        body: IO[bytes] | bytes | None = None,
    ) -> _Exchange:
        return _Exchange(self.name, *self._answer(verb, path, deadline, body), self._keep)

    def _connection(self, *, for_blob: bool = False) -> Connection:
        """The one that was used last, or a new one. What was said on it since then would be taken for an answer, and
        shows only when it is held against the digest of a blob."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return Connection(self._host, self._port, self._context, self._proxy)
            if for_blob or connection.is_quiet():
                return connection
            connection.close()

    def _keep(self, connection: Connection) -> None:
        self._keeps = True
        with self._lock:
            if not self._is_closed:
                self._idle.append(connection)
                return
        # By a call that nobody waits for any more.
        connection.close()

    def _answer(
        self,
        verb: str,
        path: str,
        deadline: float,
        body: IO[bytes] | bytes | None,
    ) -> tuple[Connection, Answer]:
        """Its head. A connection that was kept may have been closed meanwhile (servers do so after a minute): that is
        no failure, and the next is used, in the end a new one."""
        headers = self._headers
        for_blob = verb == "GET" and path.startswith("/cas/")
        if body is not None:
            size = len(body) if isinstance(body, bytes) else os.fstat(body.fileno()).st_size
            headers = {**headers, "Content-Type": "application/octet-stream", "Content-Length": str(size)}
        while True:
            in_time(self.name, deadline)
            connection = self._connection(for_blob=for_blob)
            connection.seconds, connection.deadline = SILENCE_SECONDS, deadline
            was_open = connection.is_open
            try:
                if body is not None and not isinstance(body, bytes):
                    body.seek(0)
                return connection, connection.ask(verb, self._path + path, headers, body)
            except (OSError, Unintelligible) as error:
                connection.close()
                if self._is_secure and (refused := refusal(self.name, str(error))):
                    raise refused from error
                if not (was_open and isinstance(error, ConnectionError)):
                    raise StoreUnreachable(f"{self.name}: {_told(error)}") from error
            except BaseException:
                connection.close()
                raise

    def _is_here(self) -> bool:
        return self._host in ("localhost", "::1") or self._host.startswith("127.")

    def _expect(self, answer: Answer, good: tuple[int, ...]) -> None:
        if answer.status in good:
            return
        what = f"{self.name}: {answer.status} {_title(answer) or answer.reason}".rstrip()
        if answer.status in _LATER:
            raise StoreUnreachable(what)
        hint = _HINTS.get(answer.status, "")
        if 300 <= answer.status < 400:
            from capsula.core.secrets import mask

            hint = f"it is at {mask(answer.headers.get('location', 'another place'))} now"
        if "certificate" in what:
            hint = "--remote_cert, --remote_key"
        raise StoreError(what, hint=hint)


class _Exchange:
    """In a `with`: one answer. The connection is kept if all went well; what the network does is StoreUnreachable."""

    __slots__ = ("_answer", "_connection", "_keep", "_name")

    def __init__(
        self, name: str, connection: Connection, answer: Answer, keep: Callable[[Connection], None]
    ) -> None:
        self._name = name
        self._connection = connection
        self._answer = answer
        self._keep = keep

    def __enter__(self) -> Answer:
        return self._answer

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._answer.skip(_LARGEST_REST)
        except BaseException as late:
            error = late
            if not isinstance(late, (OSError, Unintelligible)):
                self._connection.close()
                raise
        if error is None and self._answer.stays_open:
            self._keep(self._connection)
            return
        self._connection.close()
        if isinstance(error, (OSError, Unintelligible)):
            raise StoreUnreachable(f"{self._name}: {_told(error)}") from error


def _title(answer: Answer) -> str:
    """Of the page that people get to see: that nginx wants a certificate is said nowhere else."""
    page = answer.read(_LARGEST_PAGE).decode("utf-8", "replace") if answer.status == 400 else ""
    title = page.partition("<title>")[2].partition("</title>")[0]
    return printable(" ".join(title.removeprefix(str(answer.status)).split()))[:100]


def _all(answer: Answer, limit: int) -> bytes:
    pieces, size = [], 0
    while piece := answer.read(CHUNK):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise StoreError(f"an entry of more than {limit >> 20} MiB")
    return b"".join(pieces)


def _trusting_the_system() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
