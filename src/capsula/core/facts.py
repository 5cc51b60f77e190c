"""Facts: rows of short texts, and the canonical bytes in which the salt of an action and a capsule's origin hold them.

A row is a tuple of strings, the first its kind. Its bytes are `<number of fields>(`, the fields as netstrings (`<length
in bytes>:<UTF-8 bytes>,`) and `)`; those of a list are its rows' one after the other. The same rows in the same order
give the same bytes.
"""

from capsula.core.names import from_text, to_text
from capsula.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    Fact = tuple[str, ...]


def pack(facts: "list[Fact] | tuple[Fact, ...]") -> bytes:
    rows = []
    for fact in facts:
        fields = [to_text(field).encode() for field in fact]
        rows.append(
            b"%d(%b)" % (len(fields), b"".join([b"%d:%b," % (len(field), field) for field in fields]))
        )
    return b"".join(rows)


def unpack(content: bytes) -> "tuple[Fact, ...]":
    """Raises WireError when the bytes are no rows."""
    facts = []
    at, end = 0, len(content)
    try:
        while at < end:
            opening = content.index(b"(", at, at + 12)
            count, at = _number(content[at:opening]), opening + 1
            fields = []
            for _ in range(count):
                colon = content.index(b":", at, at + 20)
                stop = colon + 1 + _number(content[at:colon])
                if content[stop : stop + 1] != b",":
                    raise ValueError
                fields.append(from_text(content[colon + 1 : stop].decode()))
                at = stop + 1
            if content[at : at + 1] != b")":
                raise ValueError
            at += 1
            facts.append(tuple(fields))
    except ValueError:
        raise WireError(f"not a list of facts: bad bytes at offset {at}") from None
    return tuple(facts)


def _number(digits: bytes) -> int:
    """Raises ValueError for all but the one form of a number: a sign would lead a reader back, and round for ever."""
    if not digits.isdigit() or (digits[:1] == b"0" and digits != b"0"):
        raise ValueError
    return int(digits)
