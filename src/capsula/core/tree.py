"""The Merkle tree of directories: from the entries of each folder to `Directory` blobs and the digest of their root."""

from capsula.core.digest import Digest, digest_of
from capsula.core.names import to_text
from capsula.core.wire import directory_node, file_nodes, symlink_node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Leaves:
    """The files and links of one folder as the bytes that they have in its `Directory` message (fields 1 and 3).

    Kept per folder between runs: an unchanged folder costs one comparison, not a digest for each of its files.
    """

    __slots__ = ("declared", "files", "links")

    def __init__(self, files: bytes, links: bytes, *, declared: bool) -> None:
        self.files = files
        self.links = links
        self.declared = declared


def leaves(
    files: "list[tuple[str, str, int, bool]]", links: "list[tuple[str, str]]", *, declared: bool
) -> Leaves:
    """`files` are (name, hash, size, executable), `links` are (name, target); in any order."""
    named = sorted([(to_text(row[0]), *row[1:]) if not row[0].isascii() else row for row in files])
    pointing = sorted([(to_text(name), to_text(target)) for name, target in links])
    return Leaves(
        file_nodes(named),
        b"".join([symlink_node(name, target) for name, target in pointing]),
        declared=declared,
    )


def build(folders: "Mapping[str, Leaves]") -> tuple[Digest, dict[str, bytes]]:
    """The digest of the root and every `Directory` blob by its hash. Folders are keyed by path relative to the
    root ("").

    A folder that holds nothing and isn't declared itself isn't part of the tree. Missing parents are made.
    """
    blobs: dict[str, bytes] = {}
    children: dict[str, list[tuple[str, Digest]]] = {"": []}
    paths = set(folders)
    for path in folders:
        while path and (path := path.rpartition("/")[0]) not in paths:
            paths.add(path)
    paths.add("")
    root = Digest()
    # Deepest first: a directory's bytes hold its children's digests.
    for path in sorted(paths, key=_depth, reverse=True):
        leaf = folders.get(path)
        below = children.pop(path, [])
        if path and not below and (leaf is None or not (leaf.files or leaf.links or leaf.declared)):
            continue
        below.sort(key=_first)
        middle = b"".join([directory_node(name, digest) for name, digest in below])
        content = leaf.files + middle + leaf.links if leaf is not None else middle
        digest = digest_of(content)
        blobs[digest.hash] = content
        if path:
            parent, _, name = path.rpartition("/")
            children.setdefault(parent, []).append((to_text(name), digest))
        else:
            root = digest
    return root, blobs


def _first(row: "tuple[str, object] | tuple[str, object, object]") -> str:
    return row[0]


def _depth(path: str) -> int:
    return path.count("/") + 1 if path else 0
