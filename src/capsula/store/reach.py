"""What an entry reaches: the blobs that its result needs, and those that tell what its action was."""

import os

from capsula.core.digest import Digest
from capsula.core.reapi import Action, ActionResult, Command, Directory, Tree
from capsula.core.wire import decode
from capsula.errors import WireError
from capsula.store.layout import BLOBS, ENTRIES, UNOPENED, blob_path, entry_path, is_hash, unseal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    M = TypeVar("M", Action, Command, Directory, Tree)

    SizeOf = Callable[[str], "int | None"]


class Incomplete(Exception):
    """A result names a blob that isn't there."""


class File:
    """A blob or an entry as a scan found it; times in nanoseconds where they are compared, in seconds where weighed."""

    __slots__ = ("inode", "mtime", "mtime_ns", "name", "path", "size")

    def __init__(self, name: str, path: str, look: os.stat_result) -> None:
        self.name = name
        self.path = path
        self.size = look.st_size
        self.mtime = look.st_mtime
        self.mtime_ns = look.st_mtime_ns
        self.inode = look.st_ino


def scan(root: str, kind: str) -> "Iterator[File]":
    """Every blob or entry (`kind` is layout.BLOBS or ENTRIES). What vanishes meanwhile or is no hash isn't told."""
    assert kind in (BLOBS, ENTRIES)
    path_of = blob_path if kind == BLOBS else entry_path
    for folder in _entries(f"{root}/{kind}"):
        for found in _entries(folder.path):
            if not is_hash(found.name) or found.path != path_of(root, found.name):
                continue
            try:
                yield File(found.name, found.path, found.stat(follow_symlinks=False))
            except OSError:
                continue


def scan_unopened(root: str) -> "Iterator[File]":
    """What came from shared stores and is in one file for each result (unopened.py), by the hash of its action."""
    for found in _entries(f"{root}/{UNOPENED}"):
        try:
            if is_hash(found.name):
                yield File(found.name, found.path, found.stat(follow_symlinks=False))
        except OSError:
            continue


def load_entry(path: str, key: str) -> "ActionResult | None":
    """The result in an entry's file, None if it doesn't verify; OSError if it can't be read."""
    with open(path, "rb") as file:
        payload = unseal(key, file.read())
    try:
        return None if payload is None else decode(ActionResult, payload)
    except WireError:
        return None


class Reach:
    """Walks from entries to blobs. `size_of` tells the size of a blob by its hash, None if it isn't there."""

    def __init__(self, root: str, size_of: "SizeOf") -> None:
        self._root = root
        self._size_of = size_of
        # Successive entries of one task share most of their trees: what a tree names is kept, each name as one object.
        self._trees: dict[str, tuple[str, ...]] = {}
        self._names: dict[str, str] = {}

    def of_result(self, result: ActionResult) -> set[str]:
        """The hashes of all that a hit has to have; Incomplete if one of them isn't there with its size."""
        reached: set[str] = set()
        for file in result.output_files:
            if file.digest is not None or not file.contents:
                reached.add(self._there(file.digest))
        for digest in (result.stdout_digest, result.stderr_digest):
            if digest is not None:
                reached.add(self._there(digest))
        for directory in result.output_directories:
            if directory.tree_digest is None and directory.root_directory_digest is None:
                raise Incomplete
            if directory.tree_digest is not None:
                reached.add(self._there(directory.tree_digest))
                reached.update(self._of_tree(directory.tree_digest.hash))
            if directory.root_directory_digest is not None:
                self._of_output_directory(directory.root_directory_digest, reached)
        return reached

    def of_action(self, key: str, known: "Callable[[str], bool]") -> set[str]:
        """The hashes of the blobs that are there of an action, its command and its input directories.

        They serve to explain a miss, so that one is gone is no fault; the contents of inputs aren't stored at all.
        What is below a directory that is `known` isn't walked again.
        """
        reached: set[str] = set()
        action = self._load(Action, key)
        if action is None or known(key):
            return reached
        reached.add(key)
        if action.command_digest is not None and self._size_of(action.command_digest.hash) is not None:
            reached.add(action.command_digest.hash)
        pending = [action.input_root_digest]
        while pending:
            digest = pending.pop()
            if digest is None or digest.hash in reached or known(digest.hash):
                continue
            directory = self._load(Directory, digest.hash)
            if directory is not None:
                reached.add(digest.hash)
                pending += [node.digest for node in directory.directories]
        return reached

    def _there(self, digest: "Digest | None") -> str:
        if digest is None or self._size_of(digest.hash) != digest.size_bytes:
            raise Incomplete
        return self._names.setdefault(digest.hash, digest.hash)

    def _of_tree(self, name: str) -> tuple[str, ...]:
        named = self._trees.get(name)
        if named is None:
            tree = self._load(Tree, name)
            if tree is None or tree.root is None:
                raise Incomplete
            folders = (tree.root, *tree.children)
            named = tuple({self._there(node.digest) for folder in folders for node in folder.files})
            self._trees[name] = named
        return named

    def _of_output_directory(self, root: Digest, reached: set[str]) -> None:
        walked: set[str] = set()
        pending: list[Digest | None] = [root]
        while pending:
            digest = pending.pop()
            name = self._there(digest)
            if name in walked:
                continue
            walked.add(name)
            directory = self._load(Directory, name)
            if directory is None:
                raise Incomplete
            reached.update([self._there(node.digest) for node in directory.files])
            pending += [node.digest for node in directory.directories]
        reached |= walked

    def _load(self, kind: "type[M]", name: str) -> "M | None":
        """The message in a blob. Not verified: bytes that decode to something else only ever keep too much."""
        if not is_hash(name) or self._size_of(name) is None:
            return None
        try:
            with open(blob_path(self._root, name), "rb") as file:
                return decode(kind, file.read())
        except (OSError, WireError):
            return None


class ReachOfWhatCame(Reach):
    """The same for a result of which some blobs are unopened: all that it names, there or not, but for its trees."""

    def _there(self, digest: "Digest | None") -> str:
        if digest is None:
            raise Incomplete
        return digest.hash


def _entries(path: str) -> "list[os.DirEntry[str]]":
    """What is in a directory, nothing if it is gone. A list, so that what the caller does there can't disturb it."""
    try:
        with os.scandir(path) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []
