"""A cache of the Remote Execution API that does what no server at hand does, as it is told to: compression, small
batches, sizes that mean something else, uploads that break off.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import zstandard

from capsula.core import services
from capsula.core.digest import EMPTY, Digest
from capsula.core.reapi import ActionResult
from capsula.core.services import SHA256_FUNCTION, ZSTD
from capsula.core.wire import decode, encode
from capsula.core.wire import field as wire_field
from servers.certificates import Pair
from servers.strict import refusals

_REAPI = "build.bazel.remote.execution.v2"
_PIECE = 1 << 16
_IN_BATCHES = 200  # bytes of a digest and of what is around it


@dataclass
class Habits:
    """`committed` is the size that a finished write tells: "size" of the blob, what was "sent", or "-1".

    `breaks_at`: that many bytes of a write are kept, and then it is UNAVAILABLE, once. `exhausted`: so many calls are
    answered with `storm`, with the words of `says`, before one is heard. `token`: what a bearer has to bring. `strict`:
    it takes what servers.strict takes. `capabilities`: "packed", "unpacked", or "" for a server without.
    """

    zstd: bool = False
    batch: int = 0
    committed: str = "size"
    ends_early: bool = True
    takes_results: bool = True
    breaks_at: int = 0
    exhausted: int = 0
    storm: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED
    says: str = "slow down"
    token: str = ""
    strict: bool = False
    capabilities: str = "packed"
    functions: bytes = bytes([SHA256_FUNCTION])


@dataclass
class Double:
    """`target` is host:port. `asked` counts calls by name, `sent` the bytes of writes, `offsets` where each began.
    What `before` has for a call happens, once, before it is answered.

    `tls` is its certificate: then it wants one of each client that `clients` vouches for.
    """

    habits: Habits = field(default_factory=Habits)
    blobs: dict[str, bytes] = field(default_factory=lambda: {EMPTY.hash: b""})
    entries: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    offsets: list[int] = field(default_factory=list)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    tls: Pair | None = None
    clients: Path | None = None

    def __post_init__(self) -> None:
        self._partial: dict[str, bytearray] = {}
        self._server = grpc.server(ThreadPoolExecutor(16))
        for service, methods in self._services().items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self.target = f"127.0.0.1:{self._open()}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _open(self) -> int:
        if self.tls is None:
            return self._server.add_insecure_port("127.0.0.1:0")
        own = (self.tls.key.read_bytes(), self.tls.cert.read_bytes())
        trusted = self.clients.read_bytes() if self.clients is not None else None
        credentials = grpc.ssl_server_credentials((own,), trusted, require_client_auth=trusted is not None)
        return self._server.add_secure_port("127.0.0.1:0", credentials)

    # ------------------------------------------------------------------------------------------------ services

    def _services(self) -> dict[str, dict[str, grpc.RpcMethodHandler]]:
        plain = grpc.unary_unary_rpc_method_handler
        return {
            f"{_REAPI}.Capabilities": {
                "GetCapabilities": self._method(plain, self._capabilities, services.CapabilitiesRequest)
            },
            f"{_REAPI}.ActionCache": {
                "GetActionResult": self._method(plain, self._get_result, services.GetResultRequest),
                "UpdateActionResult": self._method(plain, self._update_result, services.UpdateResultRequest),
            },
            f"{_REAPI}.ContentAddressableStorage": {
                "FindMissingBlobs": self._method(plain, self._missing, services.FindMissingRequest),
                "BatchReadBlobs": self._method(plain, self._batch_read, services.BatchReadRequest),
                "BatchUpdateBlobs": self._method(plain, self._batch_update, services.BatchUpdateRequest),
            },
            "google.bytestream.ByteStream": {
                "Read": self._method(grpc.unary_stream_rpc_method_handler, self._read, services.ReadRequest),
                "Write": self._method(
                    grpc.stream_unary_rpc_method_handler, self._write, services.WriteRequest
                ),
                "QueryWriteStatus": self._method(plain, self._status, services.WriteStatusRequest),
            },
        }

    def _method(self, kind: Any, answer: Callable[[Any, Any], Any], request: type) -> grpc.RpcMethodHandler:
        def counted(asked: Any, context: Any) -> Any:
            name = answer.__name__.strip("_")
            self.asked[name] += 1
            self.before.pop(name, lambda: None)()
            if self.habits.exhausted:
                self.habits.exhausted -= 1
                context.abort(self.habits.storm, self.habits.says)
            told = dict(context.invocation_metadata()).get("authorization", "")
            if self.habits.token and told != f"Bearer {self.habits.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")
            return answer(asked, context)

        return kind(
            counted,
            request_deserializer=partial(decode, request),
            response_serializer=lambda message: message if isinstance(message, bytes) else encode(message),
        )

    def _capabilities(self, asked: services.CapabilitiesRequest, context: Any) -> Any:
        habits = self.habits
        if not habits.capabilities:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "what?")
        compressors = bytes([0, ZSTD]) if habits.zstd else b""
        can = encode(
            services.CacheCapabilities(
                action_cache_update_capabilities=services.UpdateCapabilities(
                    update_enabled=habits.takes_results
                ),
                max_batch_total_size_bytes=habits.batch,
            )
        )
        for number, values in ((1, habits.functions), (6, compressors)):
            if habits.capabilities == "packed":
                can += wire_field(number, values) if values else b""
            else:
                can += b"".join(bytes([number << 3, value]) for value in values)
        return wire_field(1, can)

    def _get_result(self, asked: Any, context: Any) -> Any:
        content = self.entries.get(asked.action_digest.hash)
        if content is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such result")
        return content

    def _update_result(self, asked: Any, context: Any) -> ActionResult:
        if not self.habits.takes_results:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not from you")
        if self.habits.strict and (why := refusals(encode(asked.action_result), self.blobs.get)):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "; ".join(why))
        self.entries[asked.action_digest.hash] = encode(asked.action_result)
        result: ActionResult = asked.action_result
        return result

    def _missing(self, asked: Any, context: Any) -> services.FindMissingResponse:
        absent = [digest for digest in asked.blob_digests if digest.hash not in self.blobs]
        return services.FindMissingResponse(missing_blob_digests=tuple(absent))

    def _batch_read(self, asked: Any, context: Any) -> services.BatchReadResponse:
        self._expect_fits(sum(digest.size_bytes for digest in asked.digests), context)
        found = []
        for digest in asked.digests:
            content = self.blobs.get(digest.hash)
            status = services.Status(code=5, message="gone") if content is None else None
            found.append(services.Read(digest=digest, data=content or b"", status=status))
        return services.BatchReadResponse(responses=tuple(found))

    def _batch_update(self, asked: Any, context: Any) -> services.BatchUpdateResponse:
        self._expect_fits(sum(len(each.data) for each in asked.requests), context)
        done = []
        for each in asked.requests:
            is_right = self._keep(each.digest, each.data)
            status = None if is_right else services.Status(code=3, message="other bytes")
            done.append(services.Updated(digest=each.digest, status=status))
        return services.BatchUpdateResponse(responses=tuple(done))

    def _expect_fits(self, size: int, context: Any) -> None:
        if self.habits.batch and size > self.habits.batch:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{size} bytes are more than {self.habits.batch}")

    def _read(self, asked: Any, context: Any) -> Iterator[services.ReadResponse]:
        digest, is_packed = _named(asked.resource_name)
        content = self.blobs.get(digest.hash)
        if content is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        assert content is not None
        if is_packed:
            content = zstandard.ZstdCompressor().compress(content)
        for at in range(0, len(content), _PIECE):
            yield services.ReadResponse(data=content[at : at + _PIECE])

    def _write(self, asked: Iterator[Any], context: Any) -> services.WriteResponse:
        habits, name = self.habits, ""
        for piece in asked:
            if not name:
                name = piece.resource_name
                digest, is_packed = _named(name)
                self.offsets.append(piece.write_offset)
                if habits.ends_early and digest.hash in self.blobs:
                    return self._written(digest.size_bytes, len(piece.data), is_packed)
                kept = self._partial.setdefault(name, bytearray())
            if piece.write_offset != len(kept):
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, f"{len(kept)} are here, not {piece.write_offset}"
                )
            self.sent += len(piece.data)
            if 0 < habits.breaks_at <= len(kept) + len(piece.data):
                kept += piece.data[: habits.breaks_at - len(kept)]
                habits.breaks_at = 0
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            kept += piece.data
            if piece.finish_write:
                content = (
                    zstandard.ZstdDecompressor().decompressobj().decompress(kept)
                    if is_packed
                    else bytes(kept)
                )
                if not self._keep(digest, content):
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "other bytes")
                return self._written(digest.size_bytes, len(kept), is_packed)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "it never ended")
        raise AssertionError("abort returned")

    def _written(self, size: int, sent: int, is_packed: bool) -> services.WriteResponse:
        told = {"size": size, "sent": sent, "-1": -1}[self.habits.committed] if is_packed else size
        return services.WriteResponse(committed_size=told)

    def _status(self, asked: Any, context: Any) -> services.WriteStatusResponse:
        if asked.resource_name not in self._partial:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such write")
        return services.WriteStatusResponse(committed_size=len(self._partial[asked.resource_name]))

    def _keep(self, digest: Digest, content: bytes) -> bool:
        if (len(content), sha256(content).hexdigest()) != (digest.size_bytes, digest.hash):
            return False
        self.blobs[digest.hash] = content
        return True


def _named(name: str) -> tuple[Digest, bool]:
    """The blob that a resource name names, and whether it comes compressed."""
    parts = name.split("/")
    return Digest(parts[-2], int(parts[-1])), parts[-4:-2] == ["compressed-blobs", "zstd"]
