"""Caches that speak the Remote Execution API: Buildbarn, BuildBuddy, BuildGrid, NativeLink, bazel-remote.

Small blobs travel in batches, large ones by ByteStream; grpcio takes our own codec, so no generated code is needed.
What servers do differently, and what is done about it: a batch limit of 0 is none, and gRPC's own of 4 MiB holds all
the same; the size that a finished write tells may be that of the content, of what was sent, or -1; a server may have
no compression, or only for streams; a write of what is there ends early.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread

from capsula.core.digest import digest_of
from capsula.core.reapi import ActionResult, Tree
from capsula.core.services import (
    IDENTITY,
    SHA256_FUNCTION,
    ZSTD,
    BatchReadRequest,
    BatchReadResponse,
    BatchUpdateRequest,
    BatchUpdateResponse,
    CacheCapabilities,
    CapabilitiesRequest,
    FindMissingRequest,
    FindMissingResponse,
    GetResultRequest,
    ReadRequest,
    ReadResponse,
    ServerCapabilities,
    Update,
    UpdateResultRequest,
    WriteRequest,
    WriteResponse,
    WriteStatusRequest,
    WriteStatusResponse,
)
from capsula.core.wire import decode, encode
from capsula.errors import BlobCorrupt, BlobMissing, NotAvailable, StoreError, StoreUnreachable, WireError
from capsula.store.calls import NOT_FOUND, Calls, Unimplemented, new_uuid
from capsula.store.guard import in_time
from capsula.store.packed import unpacked, zstd
from capsula.store.parallel import each
from capsula.store.receive import receiving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from capsula.core.digest import Digest
    from capsula.ports import Receiver
    from capsula.store.calls import Certificates

_REAPI = "/build.bazel.remote.execution.v2"
_BYTES = "/google.bytestream.ByteStream"
# What a message may be without asking for more, less room for names and digests around the data.
_LARGEST_MESSAGE = (4 << 20) - (64 << 10)
_CHUNK = 1 << 20
# So much is asked for, or sent, at once: while one batch is looked at, the next is on its way. In one message of 4 MiB
# 200 blobs take half as long again.
_BATCH = 1 << 20
_STREAMS = 4
_BATCHES = 4
_DIGESTS_A_CALL = 10_000
_WRITES = 3


class ReapiStore:
    """`target` is host:port, `instance` the server's instance name; `certificates` None: without TLS."""

    def __init__(
        self,
        name: str,
        target: str,
        instance: str,
        *,
        headers: Mapping[str, str] | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.name = name
        self.packs = False
        self._instance = instance
        self._calls = Calls(name, target, headers, certificates)
        self._known: CacheCapabilities | None = None
        self._gets_ready = False
        self._lock = allocate_lock()

    # ------------------------------------------------------------------------------------------------ the port

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        asked = GetResultRequest(
            instance_name=self._instance, action_digest=action, digest_function=SHA256_FUNCTION
        )
        if not self._gets_ready:
            # What the server can is needed next, to fetch what is in the result: it is asked meanwhile, once.
            self._gets_ready = True
            start_new_thread(self._get_ready, (deadline,))
        try:
            return self._calls.ask(f"{_REAPI}.ActionCache/GetActionResult", asked, ActionResult, deadline)
        except BlobMissing:
            return None

    def store(self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False) -> None:
        """The protocol has no conditions."""
        del if_none
        can = self.capabilities(deadline).action_cache_update_capabilities
        if can is not None and not can.update_enabled:
            raise StoreError(f"{self.name} doesn't take results from us", hint="--remote_mode r only reads")
        self._update(action, result, deadline)
        if result.output_directories and self.lookup(action, deadline) is None:
            # buildbox-casd holds an entry for incomplete while the directories of its trees aren't blobs themselves.
            self._send_directories(result, deadline)
            self._update(action, result, deadline)

    def missing(self, digests: Sequence[Digest], deadline: float) -> list[Digest]:
        in_time(self.name, deadline)
        absent: list[Digest] = []
        for at in range(0, len(digests), _DIGESTS_A_CALL):
            asked = FindMissingRequest(
                instance_name=self._instance,
                blob_digests=tuple(digests[at : at + _DIGESTS_A_CALL]),
                digest_function=SHA256_FUNCTION,
            )
            path = f"{_REAPI}.ContentAddressableStorage/FindMissingBlobs"
            absent += self._calls.ask(path, asked, FindMissingResponse, deadline).missing_blob_digests
        return absent

    def fetch(
        self, digests: Sequence[Digest], receive: Callable[[Digest], Receiver], deadline: float
    ) -> None:
        if not digests:
            return
        batches, large = self._batches(digests, deadline)
        each(batches, lambda batch: self._read_batch(batch, receive, deadline), _BATCHES, at_first=2)
        each(large, lambda digest: self._read_stream(digest, receive, deadline), _STREAMS)

    def send(self, digests: Sequence[Digest], path_of: Callable[[Digest], str], deadline: float) -> None:
        if not digests:
            return
        batches, large = self._batches(digests, deadline)
        each(batches, lambda batch: self._write_batch(batch, path_of, deadline), _BATCHES)
        each(large, lambda digest: self._write_stream(digest, path_of(digest), deadline), _STREAMS)

    def examine(self, deadline: float) -> list[tuple[str, str]]:
        can = self.capabilities(deadline)
        limit = can.max_batch_total_size_bytes
        packs = ZSTD in can.supported_compressors
        found = [("ok", f"batches of at most {limit} bytes" if limit else "batches of any size")]
        found.append(("ok", "compresses with zstd") if packs else ("ok", "doesn't compress"))
        if packs and not _has_zstd():
            found.append(("note", "zstd isn't used: the package zstandard is missing here"))
        update = can.action_cache_update_capabilities
        if update is not None and not update.update_enabled:
            found.append(("note", "takes no results from us: --remote_mode r only reads"))
        return found

    def holdings(self) -> None:
        """The protocol lists nothing and removes nothing."""
        return

    def close(self) -> None:
        self._calls.close()

    def capabilities(self, deadline: float) -> CacheCapabilities:
        """What the server says that it can; asked once. One that says nothing can what every server can."""
        with self._lock:
            if self._known is None:
                self._known = self._ask_capabilities(deadline)
            return self._known

    def _get_ready(self, deadline: float) -> None:
        try:
            self.capabilities(deadline)
        except Exception:
            return  # who needs it asks again, and is told

    def _ask_capabilities(self, deadline: float) -> CacheCapabilities:
        asked = CapabilitiesRequest(instance_name=self._instance)
        try:
            path = f"{_REAPI}.Capabilities/GetCapabilities"
            told = self._calls.ask(path, asked, ServerCapabilities, deadline).cache_capabilities
        except (WireError, Unimplemented):
            told = None
        if told is not None and told.digest_functions and SHA256_FUNCTION not in told.digest_functions:
            raise StoreError(f"{self.name} doesn't use SHA-256, and Capsula knows nothing else")
        return told or CacheCapabilities()

    # ------------------------------------------------------------------------------------------------ batches

    def _batches(self, digests: Sequence[Digest], deadline: float) -> tuple[list[list[Digest]], list[Digest]]:
        limit = self.capabilities(deadline).max_batch_total_size_bytes or _LARGEST_MESSAGE
        limit = min(limit, _LARGEST_MESSAGE)
        batches: list[list[Digest]] = []
        large: list[Digest] = []
        room = 0
        for digest in digests:
            # A digest and what is around it take some hundred bytes, too.
            size = digest.size_bytes + 200
            if size > limit:
                large.append(digest)
                continue
            if not batches or size > room:
                batches.append([])
                room = max(min(_BATCH, limit), size)
            batches[-1].append(digest)
            room -= size
        return batches, large

    def _read_batch(
        self, batch: Sequence[Digest], receive: Callable[[Digest], Receiver], deadline: float
    ) -> None:
        asked = BatchReadRequest(
            instance_name=self._instance, digests=tuple(batch), digest_function=SHA256_FUNCTION
        )
        path = f"{_REAPI}.ContentAddressableStorage/BatchReadBlobs"
        answers = {
            each.digest.hash: each
            for each in self._calls.ask(path, asked, BatchReadResponse, deadline).responses
            if each.digest is not None
        }
        for digest in batch:
            answer = answers.get(digest.hash)
            if answer is None or (answer.status is not None and answer.status.code == NOT_FOUND):
                raise BlobMissing(f"{self.name} doesn't have the blob {digest!r}")
            self._calls.check(answer.status)
            if answer.compressor != IDENTITY:
                raise StoreError(f"{self.name} compressed a blob, and wasn't asked to")
            with receiving(receive, digest) as receiver:
                receiver.write(answer.data)

    def _write_batch(
        self, batch: Sequence[Digest], path_of: Callable[[Digest], str], deadline: float
    ) -> None:
        updates = []
        for digest in batch:
            with open(path_of(digest), "rb") as file:
                updates.append(Update(digest=digest, data=file.read(digest.size_bytes)))
        asked = BatchUpdateRequest(
            instance_name=self._instance, requests=tuple(updates), digest_function=SHA256_FUNCTION
        )
        path = f"{_REAPI}.ContentAddressableStorage/BatchUpdateBlobs"
        for answer in self._calls.ask(path, asked, BatchUpdateResponse, deadline).responses:
            self._calls.check(answer.status)

    # ------------------------------------------------------------------------------------------------ streams

    def _read_stream(self, digest: Digest, receive: Callable[[Digest], Receiver], deadline: float) -> None:
        is_packed = self._packs(deadline)
        kind = "compressed-blobs/zstd" if is_packed else "blobs"
        asked = ReadRequest(resource_name=self._resource(f"{kind}/{digest.hash}/{digest.size_bytes}"))
        missing = f"{self.name} doesn't have the blob {digest!r}"
        with receiving(receive, digest) as receiver:
            pieces = self._calls.stream(f"{_BYTES}/Read", asked, ReadResponse, deadline, missing)
            datas = (piece.data for piece in pieces)
            for data in unpacked(datas, self.name) if is_packed else datas:
                receiver.write(data)

    def _write_stream(self, digest: Digest, path: str, deadline: float) -> None:
        is_packed = self._packs(deadline)
        kind = "compressed-blobs/zstd" if is_packed else "blobs"
        name = self._resource(f"uploads/{new_uuid()}/{kind}/{digest.hash}/{digest.size_bytes}")
        offset = 0
        for number in range(1, _WRITES + 1):
            try:
                told = self._write_from(name, path, offset, deadline, is_packed=is_packed)
                # Of a packed one the size may be that of the content, of what was sent, or -1.
                if is_packed or told in (digest.size_bytes, -1) or not self.missing([digest], deadline):
                    return
                raise StoreUnreachable(f"{self.name} took {told} of the {digest.size_bytes} bytes of a blob")
            except StoreUnreachable:
                if number == _WRITES:
                    raise
                # What came through needn't be sent again. A packed one starts anew: it has no place in the file.
                offset = 0 if is_packed else self._committed(name, deadline)
                if is_packed:
                    name = self._resource(f"uploads/{new_uuid()}/{kind}/{digest.hash}/{digest.size_bytes}")

    def _write_from(self, name: str, path: str, offset: int, deadline: float, *, is_packed: bool) -> int:
        """The size that the server says it has now."""
        pieces = _pieces(name, path, offset, is_packed=is_packed)
        told = self._calls.pour(f"{_BYTES}/Write", pieces, WriteResponse, deadline)
        return -1 if told is None else told.committed_size

    def _committed(self, name: str, deadline: float) -> int:
        try:
            told = self._calls.ask(
                f"{_BYTES}/QueryWriteStatus",
                WriteStatusRequest(resource_name=name),
                WriteStatusResponse,
                deadline,
            )
        except (StoreError, WireError):
            return 0
        return max(told.committed_size, 0)

    # ------------------------------------------------------------------------------------------------ results

    def _update(self, action: Digest, result: ActionResult, deadline: float) -> None:
        asked = UpdateResultRequest(
            instance_name=self._instance,
            action_digest=action,
            action_result=result,
            digest_function=SHA256_FUNCTION,
        )
        self._calls.ask(f"{_REAPI}.ActionCache/UpdateActionResult", asked, ActionResult, deadline)

    def _send_directories(self, result: ActionResult, deadline: float) -> None:
        from pathlib import Path
        from tempfile import TemporaryDirectory

        trees: list[_Kept] = []

        def keep(digest: Digest) -> _Kept:
            trees.append(_Kept(digest))
            return trees[-1]

        digests = [each.tree_digest for each in result.output_directories if each.tree_digest is not None]
        self.fetch(list(dict.fromkeys(digests)), keep, deadline)
        with TemporaryDirectory(prefix="capsula-") as folder:
            found = set()
            for kept in trees:
                tree = decode(Tree, bytes(kept.content))
                for directory in (tree.root, *tree.children):
                    content = encode(directory) if directory is not None else b""
                    digest = digest_of(content)
                    Path(folder, digest.hash).write_bytes(content)
                    found.add(digest)
            absent = self.missing(sorted(found, key=lambda digest: digest.hash), deadline)
            self.send(absent, lambda digest: f"{folder}/{digest.hash}", deadline)

    def _packs(self, deadline: float) -> bool:
        return ZSTD in self.capabilities(deadline).supported_compressors and _has_zstd()

    def _resource(self, name: str) -> str:
        return f"{self._instance}/{name}" if self._instance else name


class _Kept:
    """A Receiver of a tree that we have just sent ourselves."""

    def __init__(self, digest: Digest) -> None:
        self.content = bytearray()
        self._digest = digest

    def write(self, piece: bytes | memoryview) -> None:
        self.content += piece

    def finish(self) -> None:
        if digest_of(bytes(self.content)) != self._digest:
            raise BlobCorrupt(f"other bytes than those of the tree {self._digest!r} came")

    def abandon(self) -> None:
        self.content.clear()


def _pieces(name: str, path: str, offset: int, *, is_packed: bool) -> Iterator[WriteRequest]:
    """The name stands in the first only. The last one says so, and may be empty."""
    packing = zstd().ZstdCompressor(level=3).compressobj() if is_packed else None
    with open(path, "rb") as file:
        file.seek(offset)
        at, first = offset, True
        while piece := file.read(_CHUNK):
            data = packing.compress(piece) if packing is not None else piece
            if data:
                yield WriteRequest(resource_name=name if first else "", write_offset=at, data=data)
                at, first = at + len(data), False
        rest = packing.flush() if packing is not None else b""
        yield WriteRequest(resource_name=name if first else "", write_offset=at, finish_write=True, data=rest)


def _has_zstd() -> bool:
    try:
        zstd()
    except NotAvailable:
        return False
    return True
