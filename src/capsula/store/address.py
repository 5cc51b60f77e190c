"""The parts of an address, as urllib.parse tells them.

That brings a third of the standard library with it (re, enum, ipaddress), which costs a hit from a shared store as much
as starting the interpreter. So what is written in plain letters is taken apart here, and all else by urllib.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Parts(Protocol):
        """`port` raises ValueError when it is none."""

        @property
        def scheme(self) -> str: ...
        @property
        def netloc(self) -> str: ...
        @property
        def path(self) -> str: ...
        @property
        def username(self) -> str | None: ...
        @property
        def password(self) -> str | None: ...
        @property
        def hostname(self) -> str | None: ...
        @property
        def port(self) -> int | None: ...


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_IN_SCHEME = _LETTERS + "0123456789"
_IN_NETLOC = _IN_SCHEME + _LETTERS.upper() + "-._~:@!$&'()*+,;="
_IN_PATH = _IN_NETLOC + "/%"
_HIGHEST_PORT = 65535


class Plain:
    """Parts of an address that has all of them where they are expected."""

    __slots__ = ("hostname", "netloc", "password", "path", "port", "scheme", "username")

    def __init__(self, scheme: str, netloc: str, path: str) -> None:
        self.scheme = scheme
        self.netloc = netloc
        self.path = path
        who, at, where = netloc.rpartition("@")
        name, colon, word = who.partition(":")
        self.username = name if at else None
        self.password = word if colon else None
        host, _, port = where.partition(":")
        self.hostname = host.lower() or None
        self.port = int(port) if port else None


def parts_of(url: str) -> Parts:
    """ValueError for brackets that aren't closed, or hold no address."""
    scheme, marks, rest = url.partition("://")
    netloc, slash, path = rest.partition("/")
    # What is left of a text without these letters at both its ends begins with another one.
    is_plain = not (scheme.strip(_IN_SCHEME) or netloc.strip(_IN_NETLOC) or path.strip(_IN_PATH))
    if marks and scheme and scheme[0] in _LETTERS and is_plain and _is_port(netloc):
        return Plain(scheme, netloc, slash + path)
    from urllib.parse import urlsplit

    return urlsplit(url)


def _is_port(netloc: str) -> bool:
    """Whether it names a port, or none."""
    port = netloc.rpartition("@")[2].partition(":")[2]
    return not port or (len(port) <= 5 and port.isdigit() and int(port) <= _HIGHEST_PORT)


def unquoted(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)
