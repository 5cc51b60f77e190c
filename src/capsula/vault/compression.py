"""How a bundle is compressed: chosen by its name, recognised by its first bytes, undone with flat memory."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

from capsula.core.names import printable
from capsula.errors import NotAvailable, UsageError
from capsula.vault.bundle import BundleError

ENDINGS = {
    ".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz", ".txz": "xz", ".tar.zst": "zst", ".tzst": "zst",
}  # fmt: skip
_PIECE = 1 << 20
_MOST_MEMORY = 256 << 20  # that a file of others can ask of a decompressor


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Sink(Protocol):
    def write(self, content: bytes, /) -> int: ...

    def close(self) -> None: ...


def ending(name: str) -> str:
    """How a file of this name is compressed. UsageError for a name that doesn't say so."""
    for end, how in ENDINGS.items():
        if name.endswith(end) and name != end:
            return how
    raise UsageError(
        f"{printable(name)} doesn't say how it is to be compressed",
        hint="its name may end in .tar.gz, .tar.xz, .tar.zst or .tar",
    )


def compressed(file: BinaryIO, how: str) -> Sink:
    """What is written to it arrives in `file` when it is closed; that stays open. The same bytes each time."""
    if how == "gz":
        import gzip

        return gzip.GzipFile("", "wb", 6, file, mtime=0)
    if how == "xz":
        return lzma.LZMAFile(file, "wb", preset=6)
    if how == "zst":
        zstd = _zstd()
        return zstd.ZstdFile(file, "wb", options={zstd.CompressionParameter.checksum_flag: 1})  # type: ignore[no-any-return]
    return _Kept(file)


def uncompressed(file: BinaryIO) -> Source:
    """By its first bytes, not by its name. Whatever is in it, memory stays flat."""
    head = b""
    while len(head) < 6 and (more := file.read(6 - len(head))):
        head += more
    source = _Rejoined(head, file)
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.GzipFile(fileobj=source, mode="rb")  # type: ignore[call-overload, no-any-return]
    if head == b"\xfd7zXZ\0":
        return _Xz(source)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        zstd = _zstd()
        most = {zstd.DecompressionParameter.window_log_max: _MOST_MEMORY.bit_length() - 2}
        return zstd.ZstdFile(source, "rb", options=most)  # type: ignore[no-any-return]
    return source


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found, import-untyped, no-redef, unused-ignore]
        except ImportError:
            raise NotAvailable(
                "this Python can't read or write .zst", hint="pip install 'capsula[zstd]', or use .tar.gz"
            ) from None
    return zstd


class _Kept:
    """Without a compression."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, content: bytes, /) -> int:
        return self._file.write(content)

    def close(self) -> None:
        pass


class _Rejoined:
    """A file of which the beginning has been read."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head, self._file = head, file

    def read(self, size: int, /) -> bytes:
        if self._head:
            found, self._head = self._head[:size], self._head[size:]
            return found
        return self._file.read(size)


class _Xz:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MOST_MEMORY)

    def read(self, size: int, /) -> bytes:
        while not self._decoder.eof:
            content = self._source.read(_PIECE) if self._decoder.needs_input else b""
            if not content and self._decoder.needs_input:
                raise EOFError
            if found := self._decoder.decompress(content, size):
                return found
        if self._decoder.unused_data or self._source.read(1):
            raise lzma.LZMAError("something follows it")
        return b""


@contextmanager
def damage_told() -> Iterator[None]:
    """In our words what the decompressors and tarfile have to say."""
    try:
        yield
    except EOFError:
        raise BundleError("it is cut short", hint="was it copied or downloaded to its end?") from None
    except tarfile.HeaderError as error:
        raise BundleError(f"it is damaged: {error}") from None
    except (zlib.error, lzma.LZMAError) as error:
        raise BundleError(f"it is damaged: {error}") from None
    except OSError as error:
        if type(error).__name__ == "BadGzipFile":
            raise BundleError(f"it is damaged: {error}") from None
        raise
    except Exception as error:
        if type(error).__name__ == "ZstdError":
            raise BundleError(f"it is damaged: {error}") from None
        raise
