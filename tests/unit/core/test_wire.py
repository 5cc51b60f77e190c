"""The codec by its bytes: golden messages, what it refuses, and the short cuts for the nodes of a tree."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.core import wire
from capsula.core.digest import EMPTY, Digest, digest_of
from capsula.core.reapi import (
    Action,
    ActionResult,
    Any,
    Command,
    Directory,
    DirectoryNode,
    Duration,
    EnvironmentVariable,
    ExecutedActionMetadata,
    FileNode,
    NodeProperties,
    OutputFile,
    Platform,
    SymlinkNode,
    Timestamp,
    Tree,
)
from capsula.errors import WireError

A = Digest("a" * 64, 300)
A_HEX = "0a40" + "61" * 64 + "10ac02"  # 69 bytes: 0x45

# Whoever changes these bytes changes every stored key and entry: that is a decision, never an accident.
GOLDEN = [
    (Digest(), ""),
    (A, A_HEX),
    (Timestamp(seconds=-1, nanos=999_999_999), "08ffffffffffffffffff01 10ff93ebdc03"),
    (Duration(seconds=60), "083c"),
    (Any(type_url="t", value=b"\x00\xff"), "0a0174 120200ff"),
    (FileNode(name="é", digest=A, is_executable=True), "0a02c3a9 1245" + A_HEX + "2001"),
    (NodeProperties(unix_mode=0o755), "1a03 08ed03"),
    (NodeProperties(unix_mode=0), "1a00"),
    (
        Directory(
            files=(FileNode(name="b", digest=A),),
            directories=(DirectoryNode(name="d", digest=A),),
            symlinks=(SymlinkNode(name="s", target="../t"),),
            node_properties=NodeProperties(),
        ),
        "0a4a 0a0162 1245" + A_HEX + "124a 0a0164 1245" + A_HEX + "1a09 0a0173 12042e2e2f74 2a00",
    ),
    (Tree(root=Directory(), children=(Directory(), Directory())), "0a00 1200 1200"),
    (
        Command(
            arguments=("cc", "", "-c"),
            environment_variables=(EnvironmentVariable(name="X", value="1"), EnvironmentVariable(name="Y")),
            platform=Platform(),
            working_directory="src",
            output_paths=("out", "a.o"),
            output_directory_format=2,
        ),
        "0a026363 0a00 0a022d63 1206 0a0158 120131 1203 0a0159 2a00 3203737263 3a036f7574 3a03612e6f 4802",
    ),
    (
        Action(command_digest=A, input_root_digest=Digest(), timeout=Duration(), do_not_cache=True, salt=b"salt"),
        "0a45" + A_HEX + "1200 3200 3801 4a0473616c74",
    ),
    (
        ActionResult(
            output_files=(OutputFile(path="o", digest=A),),
            exit_code=-1,
            stdout_raw=b"hi",
            stderr_digest=Digest(size_bytes=1),
            execution_metadata=ExecutedActionMetadata(worker="w", virtual_execution_duration=Duration(nanos=5)),
        ),
        "124a 0a016f 1245" + A_HEX + "20ffffffffffffffffff01 2a026869 42021001 4a07 0a0177 62021005",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("message", "content"), GOLDEN, ids=lambda value: type(value).__name__)
def test_the_bytes_of_a_message_are_these(message: Directory, content: str) -> None:
    assert wire.encode(message).hex() == content.replace(" ", "")
    assert wire.decode(type(message), bytes.fromhex(content)) == message


def test_an_empty_directory_has_the_digest_of_no_bytes() -> None:
    assert digest_of(wire.encode(Directory())) == EMPTY


# ---------------------------------------------------------------- what it refuses to write


@pytest.mark.parametrize(
    "message",
    [
        FileNode(name="\udcff"),
        Command(arguments=("ok", "a\ud800b")),
        ActionResult(output_files=(OutputFile(path="\udc80.txt"),)),
        ActionResult(exit_code=2**31),
        ActionResult(exit_code=-(2**31) - 1),
        Digest("", 2**63),
        Digest("", -(2**63) - 1),
        NodeProperties(unix_mode=-1),
        NodeProperties(unix_mode=2**32),
    ],
    ids=repr,
)
def test_a_value_that_no_message_can_hold_is_an_error(message: Directory) -> None:
    with pytest.raises(WireError) as caught:
        wire.encode(message)
    caught.value.what.encode()  # printable, whatever was in it


# ---------------------------------------------------------------- what it refuses to read

REFUSED = {
    "a tag without a value": "08",
    "a varint that doesn't end": "1080",
    "a string longer than its message": "0a0261",
    "a string far longer than its message": "0affffffff0f61",
    "a length of more bytes than there are": "0a80",
    "a digest cut off in the middle": A_HEX[:-4],
    "a number of eleven bytes": "10" + "80" * 10 + "00",
    "a number of 65 bits": "10" + "ff" * 9 + "02",
    "a tag of more than 32 bits": "8080808010" + "00",
    "a tag of six bytes": "8a8080808000" + "00",
    "a text that isn't UTF-8": "0a01ff",
    "a surrogate in UTF-8": "0a03eda080",
    "an overlong NUL in UTF-8": "0a02c080",
    "a text where a number is due": "120131",
    "a number where a text is due": "0801",
    "eight bytes where a number is due": "11" + "00" * 8,
    "field number 0": "0000",
    "the start of a group": "1b1c",
    "the end of a group": "1c",
    "wire type 6": "1e",
    "wire type 7": "1f",
    "an unknown varint cut off": "1880",
    "unknown bytes cut off": "1a0500",
    "unknown 64 bits cut off": "1900000000000000",
    "unknown 32 bits cut off": "1d000000",
    "an unknown length that doesn't end": "1a",
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_bytes_that_are_no_digest_are_refused(content: str) -> None:
    with pytest.raises(WireError, match=r"bytes are no Digest: "):
        wire.decode(Digest, bytes.fromhex(content))


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_nor_are_they_mended_by_what_follows_the_digest(content: str) -> None:
    data = wire.field(2, bytes.fromhex(content)) + wire.field(1, b"a" * 10) + b"\x20\x01"
    with pytest.raises(WireError, match=r"bytes are no FileNode: "):
        wire.decode(FileNode, data)


def test_what_is_wrong_within_an_inner_message_is_refused_too() -> None:
    with pytest.raises(WireError, match="bytes are no Tree: a text in them is not UTF-8"):
        wire.decode(Tree, bytes.fromhex("0a050a030a01ff"))
    with pytest.raises(WireError, match="bytes are no Tree: they end within a field"):
        wire.decode(Tree, bytes.fromhex("0a050a030a0561"))


@pytest.mark.parametrize("content", ["208080808008", "20ffffffff0f", "20ffffffff7f"])
def test_an_exit_code_that_is_no_int32_is_refused_not_cut(content: str) -> None:
    with pytest.raises(WireError, match="out of range for exit_code"):
        wire.decode(ActionResult, bytes.fromhex(content))


# ---------------------------------------------------------------- what it reads though it would not write it

TOLERATED = {
    "nothing at all": (Digest(), ""),
    "defaults spelled out": (Digest(), "0a00 1000"),
    "fields in another order": (A, "10ac02" + A_HEX[:-6]),
    "a number with zeros behind": (Digest("", 1), "10818000"),
    "a tag with zeros behind": (Digest("", 1), "90800001"),
    "the last of two numbers": (Digest("", 2), "1001 1002"),
    "the last of two, though it is the default": (Digest(), "1001 0a0161 1000 0a00"),
    "true as another number": (FileNode(is_executable=True), "2002"),
    "true in the highest bit alone": (FileNode(is_executable=True), "2080808080808080808001"),
    "a message in two parts": (FileNode(digest=Digest("b", 7)), "1205 0a0161 1007 1203 0a0162"),
    "a part that takes something back": (FileNode(digest=Digest("", 7)), "1205 0a0161 1007 1202 0a00"),
    "lists in two parts": (
        Tree(root=Directory(files=(FileNode("a"), FileNode("b")))),
        "0a05 0a03 0a0161 0a05 0a03 0a0162",
    ),
    "a mode, and nothing more": (NodeProperties(unix_mode=5), "1a020805 1a00"),
    "unknown fields of each wire type": (Digest("", 1), "1896d401 19" + "00" * 8 + "1001 2203ffffff 2d00000000"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "content"), TOLERATED.values(), ids=TOLERATED)
def test_what_other_writers_may_write_is_read(message: Directory, content: str) -> None:
    assert wire.decode(type(message), bytes.fromhex(content)) == message


def test_a_part_that_ends_within_a_field_is_not_mended_by_the_next() -> None:
    with pytest.raises(WireError, match="they end within a field"):
        wire.decode(FileNode, bytes.fromhex("12020a0212026162"))


def test_a_message_in_very_many_parts_takes_linear_time() -> None:
    big = wire.field(1, wire.encode(Directory(files=(FileNode(name="x" * 100),) * 10_000)))
    start = time.process_time()
    tree = wire.decode(Tree, big + wire.field(1, b"") * 100_000)
    assert time.process_time() - start < 20  # merging one by one takes minutes
    assert tree.root is not None
    assert len(tree.root.files) == 10_000


# ---------------------------------------------------------------- short cuts

names = st.one_of(st.text(max_size=10), st.text("aé", min_size=50, max_size=300))
hashes = st.one_of(st.text("0123456789abcdef", min_size=64, max_size=64), st.text(max_size=200))
digests = st.builds(Digest, hashes, st.integers(0, 2**63 - 1) | st.integers(-(2**63), 2**22))


@given(names, digests, st.booleans(), st.none() | st.integers(0, 0o7777) | st.integers(0, 2**32 - 1))
def test_a_file_node_is_what_the_codec_writes(
    name: str, digest: Digest, is_executable: bool, unix_mode: int | None
) -> None:
    properties = None if unix_mode is None else NodeProperties(unix_mode=unix_mode)
    node = FileNode(name=name, digest=digest, is_executable=is_executable, node_properties=properties)
    assert wire.file_node(name, digest, is_executable, unix_mode) == wire.encode(Directory(files=(node,)))


@given(names, digests)
def test_a_directory_node_is_what_the_codec_writes(name: str, digest: Digest) -> None:
    directory = Directory(directories=(DirectoryNode(name=name, digest=digest),))
    assert wire.directory_node(name, digest) == wire.encode(directory)


@given(names, names)
def test_a_symlink_node_is_what_the_codec_writes(name: str, target: str) -> None:
    assert wire.symlink_node(name, target) == wire.encode(
        Directory(symlinks=(SymlinkNode(name=name, target=target),))
    )


def test_a_node_is_refused_where_the_codec_refuses_it() -> None:
    for make in (
        lambda: wire.file_node("\udcff", A, False),
        lambda: wire.file_node("x", A, False, -1),
        lambda: wire.file_node("x", Digest("a" * 64, 2**63), False),
        lambda: wire.directory_node("x", Digest("\ud800")),
        lambda: wire.symlink_node("x", "\udcff"),
        lambda: wire.symlink_node("\udcff", "x"),
    ):
        with pytest.raises(WireError):
            make()


@given(st.integers(0, 2**64 - 1) | st.integers(0, 70).map(lambda bits: min(2**bits, 2**64 - 1)))
def test_a_varint_is_the_shortest_form_and_is_read_back(number: int) -> None:
    content = wire.varint(number)
    assert len(content) == max(1, -(-number.bit_length() // 7))
    assert sum((byte & 127) << 7 * place for place, byte in enumerate(content)) == number
    assert [byte < 128 for byte in content] == [False] * (len(content) - 1) + [True]


# ---------------------------------------------------------------- messages are values


def test_messages_are_equal_by_value_and_of_one_type_only() -> None:
    assert FileNode(name="a", digest=Digest("x", 1)) == FileNode(name="a", digest=Digest("x", 1))
    assert FileNode(name="a") != FileNode(name="b")
    assert DirectoryNode(name="a") != FileNode(name="a")
    assert len({Timestamp(1), Timestamp(1), Duration(1)}) == 2


def test_a_repr_shows_what_was_set() -> None:
    node = FileNode(name="a\n", digest=Digest("x", 1), node_properties=NodeProperties(unix_mode=0))
    assert repr(node) == r"FileNode(name='a\n', digest=x/1, node_properties=NodeProperties(unix_mode=0))"


def test_a_message_has_no_room_for_a_misspelt_attribute() -> None:
    with pytest.raises(AttributeError):
        ActionResult().exitcode = 1  # type: ignore[attr-defined]
