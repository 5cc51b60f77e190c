"""The official messages of the Remote Execution API, as the oracle of our codec and of what we write.

They come from a package that carries the generated definition. Nothing of that package is run: the descriptors are read
out of its generated files into a pool of our own, so that any protobuf runtime will do, and so that a second pool can
hold a "newer" API, with fields that nobody has heard of yet.
"""

import ast
import importlib
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any as Anything

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from capsula.core import reapi
from capsula.core.digest import Digest

FIELD = descriptor_pb2.FieldDescriptorProto
API = "build.bazel.remote.execution.v2."
MESSAGES: dict[type, str] = {
    Digest: API + "Digest",
    reapi.Timestamp: "google.protobuf.Timestamp",
    reapi.Duration: "google.protobuf.Duration",
    reapi.Any: "google.protobuf.Any",
    reapi.NodeProperty: API + "NodeProperty",
    reapi.NodeProperties: API + "NodeProperties",
    reapi.FileNode: API + "FileNode",
    reapi.DirectoryNode: API + "DirectoryNode",
    reapi.SymlinkNode: API + "SymlinkNode",
    reapi.Directory: API + "Directory",
    reapi.Tree: API + "Tree",
    reapi.EnvironmentVariable: API + "Command.EnvironmentVariable",
    reapi.Property: API + "Platform.Property",
    reapi.Platform: API + "Platform",
    reapi.Command: API + "Command",
    reapi.Action: API + "Action",
    reapi.OutputFile: API + "OutputFile",
    reapi.OutputSymlink: API + "OutputSymlink",
    reapi.OutputDirectory: API + "OutputDirectory",
    reapi.ExecutedActionMetadata: API + "ExecutedActionMetadata",
    reapi.ActionResult: API + "ActionResult",
}
NEWS: dict[
    int, tuple[Anything, list[Anything]]
] = {  # number -> type and values of a field that we don't know
    14: (FIELD.TYPE_SINT64, [-1, 2**40]),
    15: (FIELD.TYPE_STRING, ["new", ""]),
    1000: (FIELD.TYPE_FIXED64, [2**64 - 1]),
    1001: (FIELD.TYPE_FLOAT, [0.5]),
    536870911: (FIELD.TYPE_BYTES, [b"\x0a\xff", b"\x08" * 200]),
}


class Official:
    """The official message classes, made from descriptors in a private pool."""

    SOURCES = (("buildstream", "buildstream/_protos"), ("buildgrid", "buildgrid/_protos"))

    def __init__(self, *, newer: bool = False) -> None:
        self.newer = newer
        self.root = self._root()
        self.pool = descriptor_pool.DescriptorPool()
        self.files: set[str] = set()
        self._add("build/bazel/remote/execution/v2/remote_execution.proto")
        self.classes = {
            cls: message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))
            for cls, name in MESSAGES.items()
        }

    def _root(self) -> Anything:
        for name, folder in self.SOURCES:
            try:
                return distribution(name).locate_file(folder)
            except PackageNotFoundError:
                continue
        raise AssertionError("the official messages aren't installed: pip install -e '.[dev]'")

    def _add(self, name: str) -> None:
        if name in self.files:
            return
        self.files.add(name)
        file = descriptor_pb2.FileDescriptorProto.FromString(self._serialized(name))
        for needed in file.dependency:
            self._add(needed)
        if self.newer:
            for message in file.message_type:
                self._add_news(message, file.package)
        self.pool.Add(file)

    def _serialized(self, name: str) -> bytes:
        stem = name.removesuffix(".proto") + "_pb2"
        if name.startswith("google/protobuf/"):
            return importlib.import_module(stem.replace("/", ".")).DESCRIPTOR.serialized_pb
        source = self.root.joinpath(stem + ".py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
                content = ast.literal_eval(node.args[0])
                assert isinstance(content, bytes)
                return content
        raise AssertionError(f"{stem}.py holds no descriptor")

    def _add_news(self, message: Anything, package: str) -> None:
        """Fields of every wire type, with short and long tags, as a later version of the API might bring."""
        name = f"{package}.{message.name}"
        for nested in message.nested_type:
            self._add_news(nested, name)
        if name in {*MESSAGES.values(), "google.protobuf.UInt32Value"}:
            for number, (type_, _) in NEWS.items():
                message.field.add(
                    name=f"news_{number}", number=number, type=type_, label=FIELD.LABEL_REPEATED
                )
