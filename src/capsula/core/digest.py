"""A digest: the SHA-256 and the size of some bytes, and the one name that they have in every store."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from hashlib import _Hash as Hash


class _Hashing:
    """Which implementation is used. OpenSSL's is ten times as fast as the interpreter's own module and takes 2 ms to
    load, which pays after some ten kilobytes; a run that hashes little more than its own action never loads it.
    """

    fast: "Callable[[bytes], Hash] | None" = None
    own: "Callable[[bytes], Hash] | None" = None
    little = 32768


def sha256(content: bytes | None = None) -> "Hash":
    """A hash object over `content`; without any, one that is made for much to come by `update`."""
    if _Hashing.fast is not None:
        return _Hashing.fast(content or b"")
    if content is not None and len(content) <= _Hashing.little:
        _Hashing.little -= len(content)
        return _small(content)
    return _load(content or b"")


def fastest(count: int) -> "Callable[[bytes], Hash]":
    """The function to hash `count` pieces with, for loops that can't afford `sha256` in between."""
    if count > 16 and _Hashing.fast is None:
        _load(b"")
    return _Hashing.fast or sha256


def _load(content: bytes) -> "Hash":
    try:
        from _hashlib import openssl_sha256
    except ImportError:  # a Python built without OpenSSL
        return _small(content)
    _Hashing.fast = openssl_sha256
    return openssl_sha256(content)


def _small(content: bytes) -> "Hash":
    if _Hashing.own is None:
        # Found once: an import that fails looks through all of `sys.path` each time.
        if TYPE_CHECKING:
            from hashlib import sha256 as own
        else:
            try:
                from _sha256 import sha256 as own
            except ImportError:
                try:
                    from _sha2 import sha256 as own  # Python 3.12 and later
                except ImportError:
                    from hashlib import sha256 as own
        _Hashing.own = own
    return _Hashing.own(content)


class Digest:
    """`hash` is 64 lowercase hexadecimal characters, `size_bytes` the length of the content. A value: don't
    change it."""

    __slots__ = ("hash", "size_bytes")

    def __init__(self, hash: str = "", size_bytes: int = 0) -> None:  # noqa: A002 - the API's own name
        self.hash = hash
        self.size_bytes = size_bytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self.hash == other.hash and self.size_bytes == other.size_bytes

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"{self.hash}/{self.size_bytes}"


def digest_of(content: bytes) -> Digest:
    return Digest(sha256(content).hexdigest(), len(content))


EMPTY = digest_of(b"")
