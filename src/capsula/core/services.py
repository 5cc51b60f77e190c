"""The messages of the services that hold caches: REAPI's content store, action cache and capabilities, and ByteStream.

Numbers are those of build/bazel/remote/execution/v2/remote_execution.proto, google/bytestream/bytestream.proto and
google/rpc/status.proto; tests hold the tables against the official descriptors.
"""

from capsula.core.digest import Digest
from capsula.core.reapi import ActionResult
from capsula.core.wire import BOOL, BYTES, ENUMS, INT32, INT64, MESSAGE, MESSAGES, STRING, Message, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.core.wire import Row

SHA256_FUNCTION = 1
IDENTITY, ZSTD = 0, 1


class Call(Message):
    """What a request or an answer inherits: it is made by names, and what isn't given has its default."""

    __slots__ = ()

    def __init__(self, **given: object) -> None:
        for row in self.FIELDS:
            setattr(self, row[1], given.get(row[1], _DEFAULTS[row[2]]))


_DEFAULTS = {BOOL: False, BYTES: b"", ENUMS: b"", INT32: 0, INT64: 0, MESSAGE: None, MESSAGES: (), STRING: ""}


class Status(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "code", INT32), (2, "message", STRING))
    __slots__ = attributes(FIELDS)
    code: int
    message: str


class FindMissingRequest(Call):
    FIELDS: "tuple[Row, ...]" = (
        (1, "instance_name", STRING),
        (2, "blob_digests", MESSAGES, Digest),
        (3, "digest_function", INT32),
    )
    __slots__ = attributes(FIELDS)


class FindMissingResponse(Call):
    FIELDS: "tuple[Row, ...]" = ((2, "missing_blob_digests", MESSAGES, Digest),)
    __slots__ = attributes(FIELDS)
    missing_blob_digests: tuple[Digest, ...]


class Update(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "digest", MESSAGE, Digest), (2, "data", BYTES), (3, "compressor", INT32))
    __slots__ = attributes(FIELDS)


class BatchUpdateRequest(Call):
    FIELDS: "tuple[Row, ...]" = (
        (1, "instance_name", STRING),
        (2, "requests", MESSAGES, Update),
        (5, "digest_function", INT32),
    )
    __slots__ = attributes(FIELDS)


class Updated(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "digest", MESSAGE, Digest), (2, "status", MESSAGE, Status))
    __slots__ = attributes(FIELDS)
    digest: "Digest | None"
    status: "Status | None"


class BatchUpdateResponse(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "responses", MESSAGES, Updated),)
    __slots__ = attributes(FIELDS)
    responses: tuple[Updated, ...]


class BatchReadRequest(Call):
    FIELDS: "tuple[Row, ...]" = (
        (1, "instance_name", STRING),
        (2, "digests", MESSAGES, Digest),
        (3, "acceptable_compressors", ENUMS),
        (4, "digest_function", INT32),
    )
    __slots__ = attributes(FIELDS)


class Read(Call):
    FIELDS: "tuple[Row, ...]" = (
        (1, "digest", MESSAGE, Digest),
        (2, "data", BYTES),
        (3, "status", MESSAGE, Status),
        (4, "compressor", INT32),
    )
    __slots__ = attributes(FIELDS)
    digest: "Digest | None"
    data: bytes
    status: "Status | None"
    compressor: int


class BatchReadResponse(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "responses", MESSAGES, Read),)
    __slots__ = attributes(FIELDS)
    responses: tuple[Read, ...]


class GetResultRequest(Call):
    FIELDS: "tuple[Row, ...]" = (
        (1, "instance_name", STRING),
        (2, "action_digest", MESSAGE, Digest),
        (6, "digest_function", INT32),
    )
    __slots__ = attributes(FIELDS)


class UpdateResultRequest(Call):
    FIELDS: "tuple[Row, ...]" = (
        (1, "instance_name", STRING),
        (2, "action_digest", MESSAGE, Digest),
        (3, "action_result", MESSAGE, ActionResult),
        (5, "digest_function", INT32),
    )
    __slots__ = attributes(FIELDS)


class CapabilitiesRequest(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "instance_name", STRING),)
    __slots__ = attributes(FIELDS)


class UpdateCapabilities(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "update_enabled", BOOL),)
    __slots__ = attributes(FIELDS)
    update_enabled: bool


class CacheCapabilities(Call):
    FIELDS: "tuple[Row, ...]" = (
        (1, "digest_functions", ENUMS),
        (2, "action_cache_update_capabilities", MESSAGE, UpdateCapabilities),
        (4, "max_batch_total_size_bytes", INT64),
        (6, "supported_compressors", ENUMS),
    )
    __slots__ = attributes(FIELDS)
    digest_functions: bytes
    action_cache_update_capabilities: "UpdateCapabilities | None"
    max_batch_total_size_bytes: int
    supported_compressors: bytes


class ServerCapabilities(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "cache_capabilities", MESSAGE, CacheCapabilities),)
    __slots__ = attributes(FIELDS)
    cache_capabilities: "CacheCapabilities | None"


class ReadRequest(Call):
    FIELDS: "tuple[Row, ...]" = (
        (1, "resource_name", STRING),
        (2, "read_offset", INT64),
        (3, "read_limit", INT64),
    )
    __slots__ = attributes(FIELDS)


class ReadResponse(Call):
    FIELDS: "tuple[Row, ...]" = ((10, "data", BYTES),)
    __slots__ = attributes(FIELDS)
    data: bytes


class WriteRequest(Call):
    FIELDS: "tuple[Row, ...]" = (
        (1, "resource_name", STRING),
        (2, "write_offset", INT64),
        (3, "finish_write", BOOL),
        (10, "data", BYTES),
    )
    __slots__ = attributes(FIELDS)


class WriteResponse(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "committed_size", INT64),)
    __slots__ = attributes(FIELDS)
    committed_size: int


class WriteStatusRequest(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "resource_name", STRING),)
    __slots__ = attributes(FIELDS)


class WriteStatusResponse(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "committed_size", INT64),)
    __slots__ = attributes(FIELDS)
    committed_size: int


class ToolDetails(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "tool_name", STRING), (2, "tool_version", STRING))
    __slots__ = attributes(FIELDS)


class RequestMetadata(Call):
    FIELDS: "tuple[Row, ...]" = ((1, "tool_details", MESSAGE, ToolDetails), (3, "tool_invocation_id", STRING))
    __slots__ = attributes(FIELDS)
