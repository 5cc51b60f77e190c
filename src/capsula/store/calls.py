"""Calls of a server by gRPC: our own messages on the wire, each call in its time, and what a refusal means."""

from __future__ import annotations

import os
from functools import partial

from capsula.core.services import RequestMetadata, Status, ToolDetails
from capsula.core.wire import decode, encode
from capsula.errors import BlobMissing, StoreError, StoreUnreachable, UsageError
from capsula.store.guard import in_time
from capsula.store.handshake import refusal

# It would tell of each handshake that fails on our standard error, which is the command's. It reads the variable when
# it is loaded, and no command gets to see it: this is not os.environ.
_is_silenced = not {"GRPC_VERBOSITY", "GRPC_TRACE"} & os.environ.keys()
if _is_silenced:
    os.putenv("GRPC_VERBOSITY", "NONE")
import grpc  # noqa: E402

if _is_silenced:
    os.unsetenv("GRPC_VERBOSITY")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeVar

    from capsula.core.wire import Message

    T = TypeVar("T", bound=Message)

_RETRY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
)
NOT_FOUND, _OK = 5, 0
OPTIONS = (
    # That a connection is dead shows by the deadline of each call. Pings are for long streams only, and rare: servers
    # in Go and C end a connection that is pinged more often than every five minutes while they have nothing to say (as
    # when a large blob is sent to them), or without a call. With pings, what is sent has to be acknowledged in this
    # time, too. https://github.com/grpc/grpc/blob/master/doc/keepalive.md, gRFC A8 and A18
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.enable_retries", 0),
    # How often it is tried is decided elsewhere; by default a channel that failed refuses all for a second.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5000),  # which is how long connecting may take
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 16 << 20),
)
_INSTANCE = "the path of the address is the name of the instance: grpc://HOST:PORT/INSTANCE"
_TOO_LARGE = "message larger than max"
# For a call with one answer, also where all together may take longer: a batch over a slow line takes no more.
_CALL_SECONDS = 120.0


class Certificates:
    """PEM files' contents: who is trusted instead of the system's, and who we are."""

    __slots__ = ("chain", "key", "trusted")

    def __init__(
        self, trusted: bytes | None = None, key: bytes | None = None, chain: bytes | None = None
    ) -> None:
        self.trusted = trusted
        self.key = key
        self.chain = chain


def new_uuid() -> str:
    """By chance (RFC 9562, version 4). The module of the standard library takes 4 ms to load."""
    chance = bytearray(os.urandom(16))
    chance[6], chance[8] = chance[6] & 0x0F | 0x40, chance[8] & 0x3F | 0x80
    text = chance.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _sendable(name: str, value: str) -> "str | bytes":
    """Headers of this ending hold bytes, which are written in base64."""
    if not name.endswith("-bin"):
        return value
    from base64 import b64decode

    try:
        return b64decode(value + "=" * (-len(value) % 4), validate=True)
    except ValueError as error:
        raise UsageError(f"the value of the header {name} isn't base64") from error


class Unimplemented(StoreError):
    """The server doesn't know this call."""


class Calls:
    """`name` is what people call the server at `target` (host:port); `certificates` None: without TLS."""

    def __init__(
        self,
        name: str,
        target: str,
        headers: Mapping[str, str] | None,
        certificates: Certificates | None,
    ) -> None:
        self.name = name
        self._is_secure = certificates is not None
        metadata = RequestMetadata(
            tool_details=ToolDetails(tool_name="capsula"), tool_invocation_id=new_uuid()
        )
        self._metadata: tuple[tuple[str, str | bytes], ...] = (
            *((key.lower(), _sendable(key.lower(), value)) for key, value in (headers or {}).items()),
            ("build.bazel.remote.execution.v2.requestmetadata-bin", encode(metadata)),
        )
        if certificates is None:
            self._channel = grpc.insecure_channel(target, options=OPTIONS)
        else:
            trust = grpc.ssl_channel_credentials(certificates.trusted, certificates.key, certificates.chain)
            self._channel = grpc.secure_channel(target, trust, options=OPTIONS)

    def ask(self, path: str, asked: Message, kind: type[T], deadline: float) -> T:
        call = self._channel.unary_unary(
            path, request_serializer=encode, response_deserializer=partial(decode, kind)
        )
        try:
            seconds = min(in_time(self.name, deadline), _CALL_SECONDS)
            return call(asked, timeout=seconds, metadata=self._metadata)  # type: ignore[no-any-return]
        except grpc.RpcError as error:
            raise self._failed(error) from error

    def stream(self, path: str, asked: Message, kind: type[T], deadline: float, missing: str) -> Iterator[T]:
        """Many answers to one question. BlobMissing, with these words, where the server doesn't have it."""
        call = self._channel.unary_stream(
            path, request_serializer=encode, response_deserializer=partial(decode, kind)
        )
        try:
            yield from call(asked, timeout=in_time(self.name, deadline), metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._failed(error, missing) from error

    def pour(self, path: str, pieces: Iterator[Message], kind: type[T], deadline: float) -> T | None:
        """One answer to many pieces; None when the server has it already."""
        call = self._channel.stream_unary(
            path, request_serializer=encode, response_deserializer=partial(decode, kind)
        )
        try:
            return call(pieces, timeout=in_time(self.name, deadline), metadata=self._metadata)  # type: ignore[no-any-return]
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.ALREADY_EXISTS:
                return None
            raise self._failed(error) from error

    def check(self, status: Status | None) -> None:
        if status is None or status.code == _OK:
            return
        known = {each.value[0]: each for each in grpc.StatusCode}
        raise self._refused(known.get(status.code, grpc.StatusCode.UNKNOWN), status.message)

    def close(self) -> None:
        self._channel.close()

    def _failed(self, error: grpc.RpcError, missing: str = "") -> StoreError:
        code, details = error.code(), error.details() or ""
        if code == grpc.StatusCode.NOT_FOUND:
            return BlobMissing(missing or f"{self.name}: {details}")
        return self._refused(code, details)

    def _refused(self, code: grpc.StatusCode, details: str) -> StoreError:
        said = " ".join(details.rpartition("last error: ")[2].split())
        if self._is_secure and code in _RETRY and (untrusting := refusal(self.name, said)):
            return untrusting
        what = f"{self.name}: {code.name}: {said.removeprefix(f'{code.name}: ')[:200]}".rstrip(": ")
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return Unimplemented(what)
        if _TOO_LARGE in said:
            # Of what we send, only an entry can be. An output directory is a row in it, each file of a pattern another.
            return StoreError(
                what, hint="name a directory as output (-o out) rather than its files (-o 'out/*')"
            )
        if code in _RETRY:
            # Whom the server doesn't let in is told no reason with TLS 1.3.
            is_shut = self._is_secure and said.endswith("Socket closed")
            return StoreUnreachable(
                what, hint="does it want a client certificate? --remote_cert" if is_shut else ""
            )
        refused = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        if code in refused:
            return StoreError(what, hint="--remote_header, --remote_cert")
        is_of_instance = code == grpc.StatusCode.INVALID_ARGUMENT and "instance" in said.lower()
        return StoreError(what, hint=_INSTANCE if is_of_instance else "")
