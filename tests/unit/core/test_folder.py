"""The short way to read the files of a directory says what the long way says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.core import wire
from capsula.core.digest import Digest
from capsula.core.folder import files_of
from capsula.core.reapi import (
    Directory,
    DirectoryNode,
    FileNode,
    NodeProperties,
    NodeProperty,
    SymlinkNode,
    Timestamp,
    Tree,
)
from capsula.errors import WireError

names = st.text(min_size=1, max_size=8) | st.text("aé", min_size=50, max_size=150) | st.just("")
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
sizes = st.integers(0, 40_000) | st.integers(-(2**63), 2**63 - 1)
digests = st.builds(Digest, hashes | hashes | hashes | st.text(max_size=70), sizes)
properties = st.none() | st.builds(
    NodeProperties,
    st.sampled_from([(), (), (), (NodeProperty("x", "y"),)]),
    st.sampled_from([None, None, None, Timestamp(1, 2)]),
    st.none() | st.integers(0, 0o107777) | st.integers(0, 2**32 - 1),
)
usual = st.builds(
    FileNode,
    names,
    st.builds(Digest, hashes, st.integers(0, 2**40)),
    st.booleans(),
    st.builds(NodeProperties, unix_mode=st.integers(0, 0o107777)),
)
files = usual | usual | usual | st.builds(FileNode, names, st.none() | digests, st.booleans(), properties)
directories = st.builds(
    Directory,
    st.lists(files, max_size=5).map(tuple),
    st.lists(st.builds(DirectoryNode, names, digests), max_size=1).map(tuple),
    st.lists(st.builds(SymlinkNode, names, names), max_size=1).map(tuple),
    properties,
)


def long_way(data: bytes) -> Directory | None:
    try:
        return wire.decode(Directory, data)
    except WireError:
        return None


def short_way(data: bytes) -> Directory | None:
    """As files: `executable` isn't told, since the mode says more."""
    read, rest = files_of(data)
    found = long_way(rest)
    if found is None:
        return None
    nodes = tuple(
        FileNode(name, digest, False, NodeProperties(unix_mode=mode)) for name, digest, mode in read
    )
    return Directory(nodes + found.files, found.directories, found.symlinks, found.node_properties)


def same(one: Directory | None, other: Directory | None) -> bool:
    if one is None or other is None:
        return one is other
    for directory in (one, other):
        for file in directory.files:
            file.is_executable = False
    return one == other


@given(directories)
def test_a_directory_is_read_as_the_codec_reads_it(directory: Directory) -> None:
    data = wire.encode(directory)
    assert same(short_way(data), long_way(data))


def test_damaged_bytes_are_read_as_the_codec_reads_them() -> None:
    """Each byte but those of hashes is each other byte, in files of each form, and the end is anywhere."""
    forms = [
        FileNode("ab", Digest("cd" * 32, 300), True, NodeProperties(unix_mode=0o100755)),
        FileNode("é", Digest("ef" * 32, 7), False, NodeProperties(unix_mode=5)),
        FileNode("", Digest("01" * 32, 0), False, NodeProperties(unix_mode=0)),
    ]
    for form in forms:
        one = wire.encode(Directory(files=(form,)))
        whole = one + wire.encode(Directory(files=(FileNode("z", Digest("23" * 32, 1)),)))
        for end in range(len(whole)):
            assert same(short_way(whole[:end]), long_way(whole[:end]))
        for at, byte in enumerate(one):
            if byte in b"cdef0" and one[at - 1] in b"cdef01":
                continue
            for other in range(256):
                damaged = whole[:at] + bytes((other,)) + whole[at + 1 :]
                assert same(short_way(damaged), long_way(damaged)), damaged


@pytest.mark.parametrize("mode", [2**32 - 1, 2**32])
def test_a_mode_that_no_field_holds_is_left_to_the_codec(mode: int) -> None:
    number = wire.varint(mode)
    node = wire.field(1, b"a") + wire.field(2, wire.encode(Digest("ab" * 32, 1)))
    data = wire.field(1, node + wire.field(6, wire.field(3, b"\x08" + number)))
    assert (long_way(data) is None) == (mode >= 2**32)
    assert same(short_way(data), long_way(data))


def test_files_as_a_work_tree_has_them_are_all_read_the_short_way() -> None:
    nodes = [
        FileNode(name, Digest("ab" * 32, size), is_executable, NodeProperties(unix_mode=mode))
        for name, size, is_executable, mode in [
            ("a", 0, False, 0o644),
            ("b.o", 127, True, 0o755),
            ("ü" * 60, 128, False, 0o100644),
            ("x" * 100, 2**40, True, 0o100755),
        ]
    ]
    rest = Directory(
        directories=(DirectoryNode("d", Digest("cd" * 32, 1)),),
        node_properties=NodeProperties(unix_mode=0o755),
    )
    data = b"".join([wire.encode(Directory(files=(node,))) for node in nodes]) + wire.encode(rest)
    found = [
        (node.name, node.digest, node.node_properties.unix_mode) for node in nodes if node.node_properties
    ]
    assert files_of(data) == (found, wire.encode(rest))


def test_what_fields_hold_is_told_as_it_stands_there() -> None:
    inner = wire.encode(Directory(files=(FileNode("x", Digest("ab" * 32, 1)),)))
    unknown = b"\x7a\x01x"
    data = wire.field(2, inner) + unknown + wire.field(1, b"not a message") + wire.field(2, b"")
    assert wire.contents(Tree, data) == {2: [inner, b""], 1: [b"not a message"]}


def test_what_is_no_message_is_refused() -> None:
    for data in (b"\x12", b"\x12\x05ab", b"\x10\x05", b"\x00", b"\x12\xff", b"\x13"):
        with pytest.raises(WireError, match="no Tree"):
            wire.contents(Tree, data)
