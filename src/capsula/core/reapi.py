"""The messages of the Remote Execution API v2 that Capsula keeps: values, each with its table for the codec.

Numbers and meaning are those of build/bazel/remote/execution/v2/remote_execution.proto (bazelbuild/remote-apis, REAPI
2.3) and of protobuf's well-known types; tests hold the tables against the official descriptors. Every attribute has a
default: a repeated field is a tuple, a message field that isn't set is None. Messages are equal by value, and nobody
changes one. The order that the API asks for (names in a directory, variables of a command) is the maker's business.
"""

from capsula.core.digest import Digest
from capsula.core.wire import (
    BOOL,
    BYTES,
    INT32,
    INT64,
    MESSAGE,
    MESSAGES,
    STRING,
    STRINGS,
    UINT32_VALUE,
    Message,
    attributes,
)


class Timestamp(Message):
    """A point in time since 1970 in UTC; `nanos` counts forward, also before 1970."""

    FIELDS = ((1, "seconds", INT64), (2, "nanos", INT32))
    __slots__ = attributes(FIELDS)

    def __init__(self, seconds: int = 0, nanos: int = 0) -> None:
        self.seconds = seconds
        self.nanos = nanos


class Duration(Message):
    """A span of time; `seconds` and `nanos` have the same sign."""

    FIELDS = ((1, "seconds", INT64), (2, "nanos", INT32))
    __slots__ = attributes(FIELDS)

    def __init__(self, seconds: int = 0, nanos: int = 0) -> None:
        self.seconds = seconds
        self.nanos = nanos


class Any(Message):
    """Encoded bytes of some message and the name of its type."""

    FIELDS = ((1, "type_url", STRING), (2, "value", BYTES))
    __slots__ = attributes(FIELDS)

    def __init__(self, type_url: str = "", value: bytes = b"") -> None:
        self.type_url = type_url
        self.value = value


class NodeProperty(Message):
    """One named property of a node."""

    FIELDS = ((1, "name", STRING), (2, "value", STRING))
    __slots__ = attributes(FIELDS)

    def __init__(self, name: str = "", value: str = "") -> None:
        self.name = name
        self.value = value


class NodeProperties(Message):
    """What a node has besides its content; `unix_mode` has the permission bits, None where they aren't told."""

    FIELDS = (
        (1, "properties", MESSAGES, NodeProperty),
        (2, "mtime", MESSAGE, Timestamp),
        (3, "unix_mode", UINT32_VALUE),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self,
        properties: "tuple[NodeProperty, ...]" = (),
        mtime: "Timestamp | None" = None,
        unix_mode: "int | None" = None,
    ) -> None:
        self.properties = properties
        self.mtime = mtime
        self.unix_mode = unix_mode


class FileNode(Message):
    """A file in a directory."""

    FIELDS = (
        (1, "name", STRING),
        (2, "digest", MESSAGE, Digest),
        (4, "is_executable", BOOL),
        (6, "node_properties", MESSAGE, NodeProperties),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self,
        name: str = "",
        digest: "Digest | None" = None,
        is_executable: bool = False,
        node_properties: "NodeProperties | None" = None,
    ) -> None:
        self.name = name
        self.digest = digest
        self.is_executable = is_executable
        self.node_properties = node_properties


class DirectoryNode(Message):
    """A directory in a directory: `digest` is that of the encoded Directory."""

    FIELDS = ((1, "name", STRING), (2, "digest", MESSAGE, Digest))
    __slots__ = attributes(FIELDS)

    def __init__(self, name: str = "", digest: "Digest | None" = None) -> None:
        self.name = name
        self.digest = digest


class SymlinkNode(Message):
    """A link in a directory."""

    FIELDS = (
        (1, "name", STRING),
        (2, "target", STRING),
        (4, "node_properties", MESSAGE, NodeProperties),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self, name: str = "", target: str = "", node_properties: "NodeProperties | None" = None
    ) -> None:
        self.name = name
        self.target = target
        self.node_properties = node_properties


class Directory(Message):
    """One level of a Merkle tree; each list is sorted by the names' UTF-8 bytes."""

    FIELDS = (
        (1, "files", MESSAGES, FileNode),
        (2, "directories", MESSAGES, DirectoryNode),
        (3, "symlinks", MESSAGES, SymlinkNode),
        (5, "node_properties", MESSAGE, NodeProperties),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self,
        files: "tuple[FileNode, ...]" = (),
        directories: "tuple[DirectoryNode, ...]" = (),
        symlinks: "tuple[SymlinkNode, ...]" = (),
        node_properties: "NodeProperties | None" = None,
    ) -> None:
        self.files = files
        self.directories = directories
        self.symlinks = symlinks
        self.node_properties = node_properties


class Tree(Message):
    """A whole Merkle tree: the root, then every directory below it."""

    FIELDS = ((1, "root", MESSAGE, Directory), (2, "children", MESSAGES, Directory))
    __slots__ = attributes(FIELDS)

    def __init__(self, root: "Directory | None" = None, children: "tuple[Directory, ...]" = ()) -> None:
        self.root = root
        self.children = children


class EnvironmentVariable(Message):
    """A variable of a command; in a command they are sorted by name."""

    FIELDS = ((1, "name", STRING), (2, "value", STRING))
    __slots__ = attributes(FIELDS)

    def __init__(self, name: str = "", value: str = "") -> None:
        self.name = name
        self.value = value


class Property(Message):
    """One thing that a platform must have."""

    FIELDS = ((1, "name", STRING), (2, "value", STRING))
    __slots__ = attributes(FIELDS)

    def __init__(self, name: str = "", value: str = "") -> None:
        self.name = name
        self.value = value


class Platform(Message):
    """What a worker must have; sorted by name, then by value."""

    FIELDS = ((1, "properties", MESSAGES, Property),)
    __slots__ = attributes(FIELDS)

    def __init__(self, properties: "tuple[Property, ...]" = ()) -> None:
        self.properties = properties


class Command(Message):
    """What is executed. `output_files` and `output_directories` are the old form of `output_paths`."""

    FIELDS = (
        (1, "arguments", STRINGS),
        (2, "environment_variables", MESSAGES, EnvironmentVariable),
        (3, "output_files", STRINGS),
        (4, "output_directories", STRINGS),
        (5, "platform", MESSAGE, Platform),
        (6, "working_directory", STRING),
        (7, "output_paths", STRINGS),
        (8, "output_node_properties", STRINGS),
        (9, "output_directory_format", INT32),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self,
        arguments: "tuple[str, ...]" = (),
        environment_variables: "tuple[EnvironmentVariable, ...]" = (),
        output_files: "tuple[str, ...]" = (),
        output_directories: "tuple[str, ...]" = (),
        platform: "Platform | None" = None,
        working_directory: str = "",
        output_paths: "tuple[str, ...]" = (),
        output_node_properties: "tuple[str, ...]" = (),
        output_directory_format: int = 0,
    ) -> None:
        self.arguments = arguments
        self.environment_variables = environment_variables
        self.output_files = output_files
        self.output_directories = output_directories
        self.platform = platform
        self.working_directory = working_directory
        self.output_paths = output_paths
        self.output_node_properties = output_node_properties
        self.output_directory_format = output_directory_format


class Action(Message):
    """What is keyed: the digest of its encoding is the cache key."""

    FIELDS = (
        (1, "command_digest", MESSAGE, Digest),
        (2, "input_root_digest", MESSAGE, Digest),
        (6, "timeout", MESSAGE, Duration),
        (7, "do_not_cache", BOOL),
        (9, "salt", BYTES),
        (10, "platform", MESSAGE, Platform),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self,
        command_digest: "Digest | None" = None,
        input_root_digest: "Digest | None" = None,
        timeout: "Duration | None" = None,
        do_not_cache: bool = False,
        salt: bytes = b"",
        platform: "Platform | None" = None,
    ) -> None:
        self.command_digest = command_digest
        self.input_root_digest = input_root_digest
        self.timeout = timeout
        self.do_not_cache = do_not_cache
        self.salt = salt
        self.platform = platform


class OutputFile(Message):
    """A file that came out; `path` is relative to the working directory."""

    FIELDS = (
        (1, "path", STRING),
        (2, "digest", MESSAGE, Digest),
        (4, "is_executable", BOOL),
        (5, "contents", BYTES),
        (7, "node_properties", MESSAGE, NodeProperties),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self,
        path: str = "",
        digest: "Digest | None" = None,
        is_executable: bool = False,
        contents: bytes = b"",
        node_properties: "NodeProperties | None" = None,
    ) -> None:
        self.path = path
        self.digest = digest
        self.is_executable = is_executable
        self.contents = contents
        self.node_properties = node_properties


class OutputSymlink(Message):
    """A link that came out."""

    FIELDS = (
        (1, "path", STRING),
        (2, "target", STRING),
        (4, "node_properties", MESSAGE, NodeProperties),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self, path: str = "", target: str = "", node_properties: "NodeProperties | None" = None
    ) -> None:
        self.path = path
        self.target = target
        self.node_properties = node_properties


class OutputDirectory(Message):
    """A directory that came out: `tree_digest` is that of its encoded Tree."""

    FIELDS = (
        (1, "path", STRING),
        (3, "tree_digest", MESSAGE, Digest),
        (4, "is_topologically_sorted", BOOL),
        (5, "root_directory_digest", MESSAGE, Digest),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self,
        path: str = "",
        tree_digest: "Digest | None" = None,
        is_topologically_sorted: bool = False,
        root_directory_digest: "Digest | None" = None,
    ) -> None:
        self.path = path
        self.tree_digest = tree_digest
        self.is_topologically_sorted = is_topologically_sorted
        self.root_directory_digest = root_directory_digest


class ExecutedActionMetadata(Message):
    """Who made a result, and when."""

    FIELDS = (
        (1, "worker", STRING),
        (2, "queued_timestamp", MESSAGE, Timestamp),
        (3, "worker_start_timestamp", MESSAGE, Timestamp),
        (4, "worker_completed_timestamp", MESSAGE, Timestamp),
        (5, "input_fetch_start_timestamp", MESSAGE, Timestamp),
        (6, "input_fetch_completed_timestamp", MESSAGE, Timestamp),
        (7, "execution_start_timestamp", MESSAGE, Timestamp),
        (8, "execution_completed_timestamp", MESSAGE, Timestamp),
        (9, "output_upload_start_timestamp", MESSAGE, Timestamp),
        (10, "output_upload_completed_timestamp", MESSAGE, Timestamp),
        (11, "auxiliary_metadata", MESSAGES, Any),
        (12, "virtual_execution_duration", MESSAGE, Duration),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self,
        worker: str = "",
        queued_timestamp: "Timestamp | None" = None,
        worker_start_timestamp: "Timestamp | None" = None,
        worker_completed_timestamp: "Timestamp | None" = None,
        input_fetch_start_timestamp: "Timestamp | None" = None,
        input_fetch_completed_timestamp: "Timestamp | None" = None,
        execution_start_timestamp: "Timestamp | None" = None,
        execution_completed_timestamp: "Timestamp | None" = None,
        output_upload_start_timestamp: "Timestamp | None" = None,
        output_upload_completed_timestamp: "Timestamp | None" = None,
        auxiliary_metadata: "tuple[Any, ...]" = (),
        virtual_execution_duration: "Duration | None" = None,
    ) -> None:
        self.worker = worker
        self.queued_timestamp = queued_timestamp
        self.worker_start_timestamp = worker_start_timestamp
        self.worker_completed_timestamp = worker_completed_timestamp
        self.input_fetch_start_timestamp = input_fetch_start_timestamp
        self.input_fetch_completed_timestamp = input_fetch_completed_timestamp
        self.execution_start_timestamp = execution_start_timestamp
        self.execution_completed_timestamp = execution_completed_timestamp
        self.output_upload_start_timestamp = output_upload_start_timestamp
        self.output_upload_completed_timestamp = output_upload_completed_timestamp
        self.auxiliary_metadata = auxiliary_metadata
        self.virtual_execution_duration = virtual_execution_duration


class ActionResult(Message):
    """What came out of an action. Since REAPI 2.1 the links are in `output_symlinks`, and not in the other two."""

    FIELDS = (
        (2, "output_files", MESSAGES, OutputFile),
        (3, "output_directories", MESSAGES, OutputDirectory),
        (4, "exit_code", INT32),
        (5, "stdout_raw", BYTES),
        (6, "stdout_digest", MESSAGE, Digest),
        (7, "stderr_raw", BYTES),
        (8, "stderr_digest", MESSAGE, Digest),
        (9, "execution_metadata", MESSAGE, ExecutedActionMetadata),
        (10, "output_file_symlinks", MESSAGES, OutputSymlink),
        (11, "output_directory_symlinks", MESSAGES, OutputSymlink),
        (12, "output_symlinks", MESSAGES, OutputSymlink),
    )
    __slots__ = attributes(FIELDS)

    def __init__(
        self,
        output_files: "tuple[OutputFile, ...]" = (),
        output_directories: "tuple[OutputDirectory, ...]" = (),
        exit_code: int = 0,
        stdout_raw: bytes = b"",
        stdout_digest: "Digest | None" = None,
        stderr_raw: bytes = b"",
        stderr_digest: "Digest | None" = None,
        execution_metadata: "ExecutedActionMetadata | None" = None,
        output_file_symlinks: "tuple[OutputSymlink, ...]" = (),
        output_directory_symlinks: "tuple[OutputSymlink, ...]" = (),
        output_symlinks: "tuple[OutputSymlink, ...]" = (),
    ) -> None:
        self.output_files = output_files
        self.output_directories = output_directories
        self.exit_code = exit_code
        self.stdout_raw = stdout_raw
        self.stdout_digest = stdout_digest
        self.stderr_raw = stderr_raw
        self.stderr_digest = stderr_digest
        self.execution_metadata = execution_metadata
        self.output_file_symlinks = output_file_symlinks
        self.output_directory_symlinks = output_directory_symlinks
        self.output_symlinks = output_symlinks
