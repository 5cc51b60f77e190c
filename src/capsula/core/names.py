"""File names as text: every byte string a file system allows, as valid Unicode that no other name shares, and back.

Python reads a name that isn't UTF-8 with lone surrogates (PEP 383), which a protobuf string can't hold. Here such a
byte becomes one of 256 private characters at the top of plane 16, and one of these in a name is itself written as its
four bytes, so that the mapping stays one to one.
"""

_FIRST = 0x10FE00
_LAST = 0x10FEFF


def to_text(name: str) -> str:
    """The name as valid Unicode; ordinary names come back as they are."""
    if name.isascii():
        return name
    try:
        name.encode()
    except UnicodeEncodeError:
        return "".join([_escaped(character) for character in name])
    return name if _is_plain(name) else "".join([_escaped(character) for character in name])


def from_text(text: str) -> str:
    """The inverse of `to_text`: a name with surrogates, as the os functions take it."""
    if text.isascii() or _is_plain(text):
        return text
    raw = b"".join(
        [
            bytes([ord(c) - _FIRST]) if _FIRST <= ord(c) <= _LAST else c.encode("utf-8", "surrogateescape")
            for c in text
        ]
    )
    return raw.decode("utf-8", "surrogateescape")


def printable(name: str) -> str:
    """The name for people: control characters, surrogates and backslashes escaped, everything else as it is."""
    if name.isprintable() and "\\" not in name:
        return name
    return "".join([c if c.isprintable() and c != "\\" else _shown(c) for c in name])


def _is_plain(text: str) -> bool:
    return max(text, default="") < chr(_FIRST) or not any(_FIRST <= ord(c) <= _LAST for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return chr(_FIRST + code - 0xDC00)
    if _FIRST <= code <= _LAST:
        return "".join([chr(_FIRST + byte) for byte in character.encode()])
    return character


def _shown(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
