"""Blobs that come compressed with zstd: unpacked in pieces of a bounded size, whatever is in them."""

from __future__ import annotations

from capsula.errors import BlobCorrupt, NotAvailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# Below, a blob is stored as it is: a request costs more than its bytes.
WORTH_COMPRESSING = 4096
_PIECE = 1 << 18
# A frame that wants more memory than this to be unpacked is none of ours, nor of a server's.
_LARGEST_WINDOW = 1 << 27


def zstd() -> Any:
    """The library. NotAvailable where it isn't installed."""
    try:
        import zstandard
    except ImportError as error:
        raise NotAvailable(
            "the blob is compressed with zstd, for which a package is missing",
            hint="pip install 'capsula[s3]'",
        ) from error
    return zstandard


def unpacked(pieces: Iterable[bytes | memoryview], name: str) -> Iterator[bytes]:
    """`name` is whose they are. A few bytes may unpack to gigabytes: nobody has to take more of them than wanted."""
    unpacking = zstd().ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    reader = unpacking.stream_reader(_Readable(pieces), read_across_frames=True)
    try:
        while piece := reader.read(_PIECE):
            yield piece
    except zstd().ZstdError as error:
        raise BlobCorrupt(f"{name}: a blob can't be unpacked: {error}") from error


class _Readable:
    """Pieces as a file that has as much to read at a time as has come."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)

    def read(self, _size: int) -> bytes | memoryview:
        for piece in self._pieces:
            if piece:
                return piece
        return b""
