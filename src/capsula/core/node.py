"""A node: one declared output, as it stands in the work tree."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.core.digest import Digest

FILE, LINK, DIRECTORY = "file", "link", "directory"


class Node:
    """One declared output: a file (`digest`, `mode`), a link (`target`) or a directory (`mode`). A value."""

    __slots__ = ("digest", "kind", "mode", "target")

    def __init__(self, kind: str, *, mode: int = 0, digest: "Digest | None" = None, target: str = "") -> None:
        self.kind = kind
        self.mode = mode & 0o777
        self.digest = digest
        self.target = target

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        return (self.kind, self.mode, self.digest, self.target) == (
            other.kind,
            other.mode,
            other.digest,
            other.target,
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.mode, self.digest, self.target))

    def __repr__(self) -> str:
        return f"Node({self.kind}, {self.mode:o}, {self.digest}, {self.target!r})"
