"""Object stores (S3 and what speaks its protocol, Google's, Azure's), through obstore.

    ac/<hash>            an entry, as the bytes of its ActionResult
    cas/<2 hex>/<hash>   a blob, by the digest of its content; compressed where that pays, with Content-Encoding: zstd

The small blobs of a result are in packs, which are blobs as well (core.packs).

Blobs may be written to another place than they are read from (another bucket, endpoint or region). No run lists
anything, and no object of these is ever changed to something else: two writers of one blob write the same.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from capsula.core.digest import Digest
from capsula.core.reapi import ActionResult
from capsula.core.wire import decode, encode
from capsula.errors import BlobMissing, NotAvailable, StoreError
from capsula.ports import Receiver
from capsula.store import clock
from capsula.store.guard import in_time
from capsula.store.holdings import ObjectHoldings
from capsula.store.layout import ENTRIES
from capsula.store.packed import WORTH_COMPRESSING, unpacked, zstd
from capsula.store.parallel import each
from capsula.store.receive import receiving

CONNECTIONS = 16
# In one piece below; from here on in parts, of which a few are in memory at a time.
PART = 8 << 20
_PARTS_AT_ONCE = 4
_CHUNK = 1 << 20
# How many are on the way at once, by their size: what is in memory of them together stays much the same. Those of one
# size go before those of the next; the packs of a result, of about a mebibyte, are all of the first.
_SMALL = 2 << 20
_AT_ONCE = ((0, _SMALL, CONNECTIONS), (_SMALL, PART, 5), (PART, sys.maxsize, 2))
_SAMPLE = 1 << 15
_LEVEL = 3
_ENCODED = {"Content-Encoding": "zstd"}


class Places:
    """Where entries are, where blobs are written to, and where they are read from: stores of obstore's."""

    __slots__ = ("downloads", "entries", "uploads")

    def __init__(self, entries: Any, uploads: Any, downloads: Any) -> None:
        self.entries = entries
        self.uploads = uploads
        self.downloads = downloads


class ObjectStore:
    """A Remote. `prefix` is put before each key: "" or something that ends with a slash."""

    def __init__(self, name: str, places: Places, prefix: str = "") -> None:
        self.name = name
        self.packs = True
        self._places = places
        self._prefix = prefix

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        in_time(self.name, deadline)
        try:
            content = bytes(obstore.get(self._places.entries, self._entry(action)).bytes())
        except FileNotFoundError as error:
            self._expect_place(error)
            return None
        except (BaseError, PermissionError, OSError) as error:
            raise self._refused(error) from error
        return decode(ActionResult, content)

    def store(self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False) -> None:
        in_time(self.name, deadline)
        content = encode(result)
        if if_none:
            self.holdings().write(ENTRIES, action.hash, content, None)
            return
        try:
            obstore.put(self._places.entries, self._entry(action), content)
        except (BaseError, PermissionError, OSError) as error:
            raise self._refused(error) from error

    def missing(self, digests: Sequence[Digest], deadline: float) -> list[Digest]:
        absent: list[Digest] = []

        def look(digest: Digest) -> None:
            in_time(self.name, deadline)
            try:
                obstore.head(self._places.downloads, self._blob(digest))
            except FileNotFoundError:
                absent.append(digest)
            except (BaseError, PermissionError, OSError) as error:
                raise self._refused(error) from error

        each(digests, look, CONNECTIONS)
        return absent

    def fetch(
        self, digests: Sequence[Digest], receive: Callable[[Digest], Receiver], deadline: float
    ) -> None:
        def get(digest: Digest) -> None:
            in_time(self.name, deadline)
            try:
                found = obstore.get(self._places.downloads, self._blob(digest))
            except FileNotFoundError as error:
                self._expect_place(error)
                raise BlobMissing(f"{self.name} doesn't have the blob {digest!r}") from error
            except (BaseError, PermissionError, OSError) as error:
                raise self._refused(error) from error
            with receiving(receive, digest) as receiver:
                for piece in self._content(found):
                    in_time(self.name, deadline)
                    receiver.write(piece)

        _each(digests, get)

    def send(self, digests: Sequence[Digest], path_of: Callable[[Digest], str], deadline: float) -> None:
        def put(digest: Digest) -> None:
            in_time(self.name, deadline)
            path = path_of(digest)
            try:
                self._put(digest, path, deadline)
            except (BaseError, PermissionError, OSError) as error:
                raise self._refused(error) from error

        _each(digests, put)

    def examine(self, deadline: float) -> list[tuple[str, str]]:
        in_time(self.name, deadline)
        key = f"{self._prefix}probe/{os.urandom(8).hex()}"
        made = []
        try:
            for _ in range(2):
                try:
                    obstore.put(self._places.entries, key, b"probe", mode="create")
                    made.append(True)
                except AlreadyExistsError:
                    made.append(False)
            now = clock.compared(obstore.head(self._places.entries, key)["last_modified"])
            obstore.delete(self._places.entries, key)
        except (BaseError, PermissionError, NotImplementedError) as error:
            return [("note", f"conditional writes, and removing, can't be had: {self._refused(error).what}")]
        if made != [True, False]:
            return [("note", "doesn't write on condition; of two results at once, either stays"), *now]
        return [("ok", "writes on condition"), *now]

    def holdings(self) -> ObjectHoldings:
        places = self._places
        return ObjectHoldings(
            entries=places.entries,
            uploads=places.uploads,
            downloads=places.downloads,
            prefix=self._prefix,
            refused=self._refused,
        )

    def close(self) -> None:
        """obstore's connections close by themselves when they are idle."""

    def _content(self, found: Any) -> Iterator[bytes] | Iterator[memoryview]:
        pieces = self._pieces(found)
        is_packed = found.attributes.get("Content-Encoding") == "zstd"
        return unpacked(pieces, self.name) if is_packed else pieces

    def _pieces(self, found: Any) -> Iterator[memoryview]:
        try:
            for piece in found.stream(min_chunk_size=_CHUNK):
                yield memoryview(piece)
        except (BaseError, OSError) as error:
            raise self._refused(error) from error

    def _put(self, digest: Digest, path: str, deadline: float) -> None:
        key, size = self._blob(digest), os.stat(path).st_size
        packing = _packing(path, size)
        if size < PART:
            with open(path, "rb") as file:
                content = file.read()
            attributes = _ENCODED if packing is not None else None
            obstore.put(
                self._places.uploads,
                key,
                packing.compress(content) if packing is not None else content,
                attributes=attributes,
                use_multipart=False,
            )
            return
        # By hand and not with a path: the parts of several large files at once would fill the memory.
        attributes = _ENCODED if packing is not None else None
        with (
            open(path, "rb") as file,
            obstore.open_writer(
                self._places.uploads,
                key,
                attributes=attributes,
                buffer_size=PART,
                max_concurrency=_PARTS_AT_ONCE,
            ) as writer,
        ):
            stream = packing.compressobj(size=size) if packing is not None else None
            while piece := file.read(_CHUNK):
                in_time(self.name, deadline)
                packed = stream.compress(piece) if stream is not None else piece
                if packed:
                    writer.write(packed)
            if stream is not None:
                writer.write(stream.flush())

    def _entry(self, action: Digest) -> str:
        return f"{self._prefix}ac/{action.hash}"

    def _blob(self, digest: Digest) -> str:
        return f"{self._prefix}cas/{digest.hash[:2]}/{digest.hash}"

    def _refused(self, error: BaseException) -> StoreError:
        from capsula.store import refusals

        return refusals.refused(self.name, error)

    def _expect_place(self, error: FileNotFoundError) -> None:
        from capsula.store import refusals

        if refusals.is_of_the_place(error):
            raise self._refused(error) from error


def _each(digests: Sequence[Digest], work: Callable[[Digest], object]) -> None:
    for least, most, at_once in _AT_ONCE:
        each([digest for digest in digests if least <= digest.size_bytes < most], work, at_once)


def _packing(path: str, size: int) -> Any:
    """A compressor if two samples of the file say that it pays, else None."""
    if size < WORTH_COMPRESSING:
        return None
    try:
        packing = zstd().ZstdCompressor(level=_LEVEL)
    except NotAvailable:
        return None
    with open(path, "rb") as file:
        sample = file.read(_SAMPLE)
        # What it begins with may be a list, as that of a pack, and unlike all the rest.
        file.seek(max(len(sample), (size - _SAMPLE) // 2))
        sample += file.read(_SAMPLE)
    return packing if len(packing.compress(sample)) < len(sample) * 0.9 else None
