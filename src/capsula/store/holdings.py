"""What an object store holds, by kind and name: its pages, removing, and small objects that are written on condition.

    ac/<hash>, cas/<2 hex>/<hash>   entries and blobs, as in objects.py
    lease/<hash>                    who is making the result of this action now

The contract is in ports.Holdings.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, NotFoundError, PreconditionError

from capsula.errors import StoreError
from capsula.store.layout import BLOBS, is_hash

PROBES = "probe"
# What a write on condition ends with where something else is there, or nothing is.
_OTHERWISE = (AlreadyExistsError, PreconditionError, FileNotFoundError)
# As many as a server tells, and takes for removal, at once.
PAGE = 1000


class ObjectHoldings:
    """`entries`, `uploads` and `downloads` are stores of obstore's; `refused` makes an error of ours of one of its."""

    def __init__(
        self,
        *,
        entries: Any,
        uploads: Any,
        downloads: Any,
        prefix: str,
        refused: Callable[[BaseException], StoreError],
    ) -> None:
        self._entries = entries
        self._uploads = uploads
        self._downloads = downloads
        self._prefix = prefix
        self._refused = refused

    def pages(self, kind: str, after: str = "") -> Iterator[list[tuple[str, int, float]]]:
        store = self._downloads if kind == BLOBS else self._entries
        beyond = self._path(kind, after) if after else None
        try:
            for page in obstore.list(store, f"{self._prefix}{kind}", offset=beyond, chunk_size=PAGE):
                rows = [
                    (each["path"].rpartition("/")[2], int(each["size"]), each["last_modified"].timestamp())
                    for each in page
                    if self._is_ours(kind, each["path"])
                ]
                if rows:
                    yield rows
        except (BaseError, PermissionError, OSError) as error:
            raise self._refused(error) from error

    def remove(self, kind: str, names: Sequence[str]) -> None:
        store = self._uploads if kind == BLOBS else self._entries
        try:
            for at in range(0, len(names), PAGE):
                obstore.delete(store, [self._path(kind, name) for name in names[at : at + PAGE]])
        except (FileNotFoundError, NotFoundError):
            return
        except (BaseError, PermissionError, OSError) as error:
            raise self._refused(error) from error

    def read(self, kind: str, name: str) -> tuple[bytes, object] | None:
        store = self._downloads if kind == BLOBS else self._entries
        try:
            found = obstore.get(store, self._path(kind, name))
            return bytes(found.bytes()), _version(found.meta)
        except FileNotFoundError:
            return None
        except (BaseError, PermissionError, OSError) as error:
            raise self._refused(error) from error

    def write(self, kind: str, name: str, content: bytes, over: object | None) -> object | None:
        try:
            return self._write(self._path(kind, name), content, over)
        except (BaseError, PermissionError, OSError, NotImplementedError) as error:
            raise self._refused(error) from error

    def now(self) -> float:
        name = os.urandom(32).hex()
        try:
            path = self._path(PROBES, name)
            obstore.put(self._entries, path, b"what time is it")
            try:
                return float(obstore.head(self._entries, path)["last_modified"].timestamp())
            finally:
                self._clear(path)
        except (BaseError, PermissionError, OSError) as error:
            raise self._refused(error) from error

    def age(self, kind: str, name: str) -> float | None:
        now = self.now()
        store = self._downloads if kind == BLOBS else self._entries
        try:
            return now - float(obstore.head(store, self._path(kind, name))["last_modified"].timestamp())
        except FileNotFoundError:
            return None
        except (BaseError, PermissionError, OSError) as error:
            raise self._refused(error) from error

    def _clear(self, path: str) -> None:
        try:
            obstore.delete(self._entries, path)
        except (BaseError, PermissionError, OSError):
            return  # who may write needn't be allowed to remove; what stays, gc removes

    def _write(self, path: str, content: bytes, over: object | None) -> object | None:
        try:
            return self._put(path, content, "create" if over is None else over)
        except _OTHERWISE:
            if not isinstance(over, dict) or self._version_at(path) != over:
                return None
        except (GenericError, NotImplementedError) as error:
            if isinstance(error, GenericError) and "501 Not Implemented" not in str(error):
                raise
            # Swift has no writes on condition. To look first comes near: of two at once, the last one stays.
            return self._put(path, content, "overwrite") if self._version_at(path) == over else None
        # It is that version. Ceph compares the tag as it told it, in quotes, with the one that it has, without them.
        try:
            return self._put(path, content, {**over, "e_tag": over["e_tag"].strip('"')})
        except _OTHERWISE:
            return None

    def _put(self, path: str, content: bytes, mode: Any) -> object:
        return _version(obstore.put(self._entries, path, content, mode=mode))

    def _version_at(self, path: str) -> object | None:
        try:
            return _version(obstore.head(self._entries, path))
        except FileNotFoundError:
            return None

    def _path(self, kind: str, name: str) -> str:
        folder = f"{name[:2]}/" if kind == BLOBS else ""
        return f"{self._prefix}{kind}/{folder}{name}"

    def _is_ours(self, kind: str, path: str) -> bool:
        name = path.rpartition("/")[2]
        return is_hash(name) and path == self._path(kind, name)


def _version(said: Any) -> object:
    """What a write on condition has to name; Google's stores go by the version, the others by the tag."""
    return {name: said[name] for name in ("e_tag", "version") if said.get(name) is not None}
