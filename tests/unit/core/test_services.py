"""The messages of the services against the official definition: every number, name and type."""

import ast
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from capsula.core import services, wire
from capsula.core.digest import Digest, digest_of
from capsula.core.services import Call
from capsula.core.wire import decode, encode

API = "build/bazel/remote/execution/v2/remote_execution"
NAMES = {
    services.Status: ("google/rpc/status", "Status"),
    services.FindMissingRequest: (API, "FindMissingBlobsRequest"),
    services.FindMissingResponse: (API, "FindMissingBlobsResponse"),
    services.Update: (API, "BatchUpdateBlobsRequest.Request"),
    services.BatchUpdateRequest: (API, "BatchUpdateBlobsRequest"),
    services.Updated: (API, "BatchUpdateBlobsResponse.Response"),
    services.BatchUpdateResponse: (API, "BatchUpdateBlobsResponse"),
    services.BatchReadRequest: (API, "BatchReadBlobsRequest"),
    services.Read: (API, "BatchReadBlobsResponse.Response"),
    services.BatchReadResponse: (API, "BatchReadBlobsResponse"),
    services.GetResultRequest: (API, "GetActionResultRequest"),
    services.UpdateResultRequest: (API, "UpdateActionResultRequest"),
    services.CapabilitiesRequest: (API, "GetCapabilitiesRequest"),
    services.UpdateCapabilities: (API, "ActionCacheUpdateCapabilities"),
    services.CacheCapabilities: (API, "CacheCapabilities"),
    services.ServerCapabilities: (API, "ServerCapabilities"),
    services.ReadRequest: ("google/bytestream/bytestream", "ReadRequest"),
    services.ReadResponse: ("google/bytestream/bytestream", "ReadResponse"),
    services.WriteRequest: ("google/bytestream/bytestream", "WriteRequest"),
    services.WriteResponse: ("google/bytestream/bytestream", "WriteResponse"),
    services.WriteStatusRequest: ("google/bytestream/bytestream", "QueryWriteStatusRequest"),
    services.WriteStatusResponse: ("google/bytestream/bytestream", "QueryWriteStatusResponse"),
    services.ToolDetails: (API, "ToolDetails"),
    services.RequestMetadata: (API, "RequestMetadata"),
}
FIELD = descriptor_pb2.FieldDescriptorProto
KINDS = {
    wire.BOOL: {FIELD.TYPE_BOOL},
    wire.INT32: {FIELD.TYPE_INT32, FIELD.TYPE_ENUM},
    wire.INT64: {FIELD.TYPE_INT64},
    wire.STRING: {FIELD.TYPE_STRING},
    wire.BYTES: {FIELD.TYPE_BYTES},
    wire.ENUMS: {FIELD.TYPE_ENUM},
    wire.MESSAGE: {FIELD.TYPE_MESSAGE},
    wire.MESSAGES: {FIELD.TYPE_MESSAGE},
}
SAMPLES: dict[int, Any] = {
    wire.BOOL: True, wire.INT32: 7, wire.INT64: 1 << 40, wire.STRING: "é", wire.BYTES: b"\x01\x02",
    wire.ENUMS: b"\x01\x02",
}  # fmt: skip


def official(path: str) -> descriptor_pb2.FileDescriptorProto:
    for package in ("buildstream", "buildgrid"):
        try:
            found = distribution(package).locate_file(f"{package}/_protos/{path}_pb2.py")
            tree = ast.parse(found.read_text())  # type: ignore[attr-defined]
        except (PackageNotFoundError, FileNotFoundError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
                return descriptor_pb2.FileDescriptorProto.FromString(ast.literal_eval(node.args[0]))
    raise AssertionError(f"the official {path} isn't installed")


def message(path: str, name: str) -> descriptor_pb2.DescriptorProto:
    below = list(official(path).message_type)
    for part in name.split("."):
        found = next(each for each in below if each.name == part)
        below = list(found.nested_type)
    return found


def calls() -> Iterator[type[Call]]:
    return (each for each in vars(services).values() if isinstance(each, type) and issubclass(each, Call))


def test_none_is_forgotten() -> None:
    assert {each for each in calls() if each is not Call} == set(NAMES)


@pytest.mark.parametrize("cls", NAMES, ids=lambda cls: cls.__name__)
def test_numbers_names_and_types_are_the_official_ones(cls: type[Call]) -> None:
    fields = {field.number: field for field in message(*NAMES[cls]).field}
    for number, name, kind, *of in cls.FIELDS:
        field = fields[number]
        assert field.name == name
        assert field.type in KINDS[kind]
        is_list = kind in (wire.MESSAGES, wire.ENUMS)
        assert (field.label == FIELD.LABEL_REPEATED) == is_list
        if of and of[0] in NAMES:
            assert field.type_name.endswith("." + NAMES[of[0]][1])


def sample(cls: Any) -> Any:
    if cls is Digest:
        return digest_of(b"sample")
    if not issubclass(cls, Call):
        return cls()
    given = {}
    for row in cls.FIELDS:
        made = SAMPLES.get(row[2])
        if row[2] in (wire.MESSAGE, wire.MESSAGES):
            made = sample(row[3])
            made = (made, made) if row[2] == wire.MESSAGES else made
        given[row[1]] = made
    return cls(**given)


@pytest.mark.parametrize("cls", NAMES, ids=lambda cls: cls.__name__)
def test_what_is_written_is_read(cls: type[Call]) -> None:
    value = sample(cls)
    assert decode(cls, encode(value)) == value
    assert encode(cls()) == b""


def test_enums_are_read_packed_or_not() -> None:
    for content in (b"\x0a\x02\x01\x09", b"\x08\x01\x08\x09", b"\x0a\x01\x01\x08\x09"):
        assert decode(services.CacheCapabilities, content).digest_functions == b"\x01\x09"
    assert encode(services.CacheCapabilities(digest_functions=b"\x01\x09")) == b"\x0a\x02\x01\x09"
