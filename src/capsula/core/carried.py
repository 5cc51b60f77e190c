"""Trees that travel in the entry that names them: who finds it knows at once what there is to fetch, and needn't ask
for that first. They are blobs all the same, for those who read the entry and know nothing of this."""

from capsula.core.digest import digest_of
from capsula.core.statement import attached, with_attached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsula.core.reapi import ActionResult

TYPE_URL = "type.capsula.dev/trees.v1"
# All together: those of some 600 files. Beyond, asking for a tree is little of what there is to fetch.
LARGEST = 1 << 16
_NUMBER = 4


def with_trees(result: "ActionResult", trees: "Iterable[bytes]") -> "ActionResult":
    """The same result, with those of these in it that there is room for, and no others."""
    value = b""
    for tree in trees:
        if len(value) + _NUMBER + len(tree) <= LARGEST:
            value += len(tree).to_bytes(_NUMBER, "big") + tree
    return with_attached(result, TYPE_URL, value or None)


def trees_in(result: "ActionResult") -> dict[str, bytes]:
    """By the hashes that they have. What isn't as it should be is some other bytes, which nobody asks for."""
    value = attached(result, TYPE_URL) or b""
    found: dict[str, bytes] = {}
    position, end = 0, len(value) if len(value) <= LARGEST else 0
    while position < end:
        start = position + _NUMBER
        position = start + int.from_bytes(value[position:start], "big")
        tree = value[start:position]
        found[digest_of(tree).hash] = tree
    return found
