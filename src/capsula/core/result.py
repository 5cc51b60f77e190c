"""The result: what came out of a run, as flat nodes for the work tree and as an ActionResult for the stores."""

from capsula.core.digest import Digest, digest_of
from capsula.core.folder import files_of
from capsula.core.names import from_text, to_text
from capsula.core.node import DIRECTORY, FILE, LINK, Node
from capsula.core.reapi import (
    ActionResult,
    Directory,
    DirectoryNode,
    FileNode,
    NodeProperties,
    OutputDirectory,
    OutputFile,
    OutputSymlink,
    SymlinkNode,
    Tree,
)
from capsula.core.wire import contents, decode, encode
from capsula.errors import EntryCorrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# More files than any work tree has; what is read from a store must come to an end.
MOST_NODES = 2_000_000
# No file can be made of a longer one (Linux: PATH_MAX); and of so many, so much is in the paths at most.
LONGEST_PATH = 4096
_MOST_LETTERS = MOST_NODES << 8


def to_result(nodes: dict[str, Node], exit_code: int) -> "tuple[ActionResult, dict[str, bytes]]":
    """An ActionResult for the nodes (path relative to the working directory -> node), and the Tree blobs that it names.

    The topmost directories among the nodes become OutputDirectory, everything that isn't below one stands for itself.
    """
    tops: dict[str, dict[str, Node]] = {}
    files: list[OutputFile] = []
    links: list[OutputSymlink] = []
    for path in sorted(nodes):
        node = nodes[path]
        top = _top_of(path, tops, nodes)
        if top is not None:
            tops[top][path[len(top) + 1 :] if top else path] = node
        elif node.kind == DIRECTORY:
            tops[path] = {"": node}
        elif node.kind == LINK:
            links.append(OutputSymlink(path=to_text(path), target=to_text(node.target)))
        else:
            files.append(
                OutputFile(
                    path=to_text(path),
                    digest=node.digest,
                    is_executable=node.mode & 0o100 != 0,
                    node_properties=NodeProperties(unix_mode=node.mode),
                )
            )
    blobs: dict[str, bytes] = {}
    directories = []
    for path, below in tops.items():
        content = encode(_tree(below))
        digest = digest_of(content)
        blobs[digest.hash] = content
        directories.append(OutputDirectory(path=to_text(path), tree_digest=digest))
    result = ActionResult(
        output_files=tuple(files),
        output_directories=tuple(directories),
        output_symlinks=tuple(links),
        exit_code=exit_code,
    )
    return result, blobs


def _top_of(path: str, tops: "dict[str, dict[str, Node]]", nodes: dict[str, Node]) -> "str | None":
    """The directory among `tops` in whose tree `path` belongs: all directories on the way there are outputs too."""
    top = path
    while top:
        top = top.rpartition("/")[0]
        if top not in nodes:
            return None
        rest = path[len(top) + 1 :] if top else path
        # What is absolute, or further up, isn't below it, though its name begins so: `../../lib` and `..`.
        if top in tops and rest != ".." and not rest.startswith(("/", "../")):
            return top
    return None


def _tree(nodes: dict[str, Node]) -> Tree:
    """The Tree of one output directory; `nodes` are relative to it, "" is the directory itself."""
    files: dict[str, list[FileNode]] = {"": []}
    links: dict[str, list[SymlinkNode]] = {"": []}
    children: dict[str, list[str]] = {"": []}
    for path, node in nodes.items():
        if not path:
            continue
        parent, _, name = path.rpartition("/")
        if node.kind == DIRECTORY:
            files[path], links[path], children[path] = [], [], []
            children[parent].append(path)
        elif node.kind == LINK:
            links[parent].append(SymlinkNode(name=to_text(name), target=to_text(node.target)))
        else:
            files[parent].append(
                FileNode(
                    name=to_text(name),
                    digest=node.digest,
                    is_executable=node.mode & 0o100 != 0,
                    node_properties=NodeProperties(unix_mode=node.mode),
                )
            )
    made: dict[str, Directory] = {}
    for path in sorted(children, key=_depth, reverse=True):
        below = [DirectoryNode(name=_name(p), digest=digest_of(encode(made[p]))) for p in children[path]]
        made[path] = Directory(
            files=tuple(sorted(files[path], key=_node_name)),
            directories=tuple(sorted(below, key=_node_name)),
            symlinks=tuple(sorted(links[path], key=_node_name)),
            node_properties=NodeProperties(unix_mode=nodes[path].mode),
        )
    root = made.pop("")
    # Equal directories are listed once, as the API asks; the order is by path, so that equal trees have equal bytes.
    unique = {digest_of(encode(made[path])).hash: made[path] for path in sorted(made)}
    return Tree(root=root, children=tuple(unique.values()))


def from_result(result: ActionResult, read: "Callable[[Digest], bytes]") -> dict[str, Node]:
    """The nodes of a stored result; `read` gives the bytes of Tree blobs.

    Names from a store are hostile: one that isn't a plain relative path raises EntryCorrupt. Whether a path is one that
    this capsule declared is for the caller to check.
    """
    nodes: dict[str, Node] = {}
    for file in result.output_files:
        _add(nodes, checked_path(file.path), _file(file))
    # Some engines list a link twice, in the old place and in the new one.
    for link in (*result.output_symlinks, *result.output_file_symlinks, *result.output_directory_symlinks):
        _add(nodes, checked_path(link.path), Node(LINK, target=from_text(link.target)))
    for directory in result.output_directories:
        path = checked_path(directory.path)
        if directory.tree_digest is None:
            raise EntryCorrupt(f"the entry's directory {path!r} has no tree")
        fields = contents(Tree, read(directory.tree_digest))
        by_hash = {digest_of(child).hash: child for child in fields.get(2, ())}
        # What comes in parts is one message with all of them.
        _flatten(path, b"".join(fields.get(1, ())), by_hash, nodes)
    _check_parents(nodes)
    return nodes


def _check_parents(nodes: dict[str, Node]) -> None:
    """Nothing may lie below a file or a link: writing it would go wherever the link leads."""
    for path in nodes:
        parent = path.rpartition("/")[0]
        # What is above a node is looked at when it is that one's turn.
        while parent and parent not in nodes:
            parent = parent.rpartition("/")[0]
        if parent and nodes[parent].kind != DIRECTORY:
            raise EntryCorrupt(f"the entry holds {path!r} below {parent!r}, which is no directory")


def _flatten(path: str, root: bytes, by_hash: dict[str, bytes], nodes: dict[str, Node]) -> None:
    """Each directory is read once, however often it occurs."""
    read: dict[bytes, tuple[list[tuple[str, Digest, int]], Directory]] = {}
    pending = [(path, root)]
    letters = 0
    while pending:
        path, content = pending.pop()
        _expect_short(path)
        if content not in read:
            usual, rest = files_of(content)
            read[content] = usual, decode(Directory, rest)
        files, directory = read[content]
        mode = directory.node_properties.unix_mode if directory.node_properties else None
        _add(nodes, path, Node(DIRECTORY, mode=0o755 if mode is None else mode))
        lead = path + "/" if path else ""
        below = len(files) + len(directory.files) + len(directory.symlinks) + len(directory.directories)
        letters += len(lead) * below
        if len(nodes) + len(pending) + below > MOST_NODES or letters > _MOST_LETTERS:
            # A directory is written once however often it occurs: a kilobyte can hold a billion paths.
            raise EntryCorrupt(f"the entry has more than {MOST_NODES} outputs")
        for text, digest, mode in files:
            _add(nodes, lead + checked_name(text), Node(FILE, mode=mode, digest=digest))
        for file in directory.files:
            _add(nodes, lead + checked_name(file.name), _file(file))
        for link in directory.symlinks:
            _add(nodes, lead + checked_name(link.name), Node(LINK, target=from_text(link.target)))
        for child in directory.directories:
            name = checked_name(child.name)
            found = by_hash.get(child.digest.hash) if child.digest else None
            if found is None:
                raise EntryCorrupt(f"the entry's tree lacks its directory {lead + name!r}")
            pending.append((lead + name, found))


def _add(nodes: dict[str, Node], path: str, node: Node) -> None:
    known = nodes.setdefault(path, node)
    if known is not node and (known != node or node.kind == DIRECTORY):
        raise EntryCorrupt(f"the entry holds {path!r} twice")


def _file(file: "OutputFile | FileNode") -> Node:
    if file.digest is None:
        raise EntryCorrupt("the entry has a file without a digest")
    mode = file.node_properties.unix_mode if file.node_properties else None
    if mode is None:
        mode = 0o755 if file.is_executable else 0o644
    return Node(FILE, mode=mode, digest=file.digest)


def checked_name(text: str) -> str:
    name = from_text(text)
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise EntryCorrupt(f"the entry holds the impossible file name {name!r}")
    return name


def _expect_short(path: str) -> None:
    if len(path) > LONGEST_PATH:
        raise EntryCorrupt(
            f"the entry holds a path of {len(path)} characters, which is longer than any can be"
        )


def checked_path(text: str) -> str:
    path = from_text(text)
    _expect_short(path)
    # Leading ".." are possible (an output above the working directory) and absolute ones too (declared so); both are
    # let through only to be matched against the patterns that the user declared.
    absolute = path.startswith("/")
    rest = path[1:] if absolute else path
    while rest.startswith("../") and not absolute:
        rest = rest[3:]
    if not path or (rest == ".." and not absolute):
        return path
    if "\0" in path or any([part in ("", ".", "..") for part in rest.split("/")]):
        raise EntryCorrupt(f"the entry holds the impossible path {path!r}")
    return path


def _node_name(node: "FileNode | DirectoryNode | SymlinkNode") -> str:
    return node.name


def _name(path: str) -> str:
    return to_text(path.rpartition("/")[2])


def _depth(path: str) -> int:
    return path.count("/") + 1 if path else 0
