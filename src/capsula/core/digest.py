"""A digest: the SHA-256 and the size of some bytes, and the one name that they have in every store."""

try:
    # hashlib itself is half a millisecond of set-up that a hit doesn't need; OpenSSL's function is the fast one
    # (SHA instructions), and it is what hashlib would hand out.
    from _hashlib import openssl_sha256
except ImportError:  # a Python built without OpenSSL
    from hashlib import sha256 as openssl_sha256


sha256 = openssl_sha256


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
