"""The past of a capsule: which actions it had on this machine, newest first, so that a miss can be explained."""

import posix

from capsula.core.digest import Digest, sha256
from capsula.store.layout import IDS, open_making

KEPT = 64
_ROW = 64 + 1 + 12 + 1


class PastActions:
    """One small file of fixed-size rows per capsule id, under `ids/` of the store. Losing it loses an explanation.

    A root of "" is no store at all.
    """

    __slots__ = ("_root",)

    def __init__(self, root: str) -> None:
        self._root = root

    def recent(self, capsule_id: str) -> tuple[Digest, ...]:
        rows: dict[str, Digest] = {}
        for row in reversed(self._rows(capsule_id)):
            name, _, size = row.decode("ascii", "replace").partition(" ")
            if size.strip().isdigit():
                rows.setdefault(name, Digest(name, int(size)))
        return tuple(rows.values())

    def record(self, capsule_id: str, action: Digest) -> None:
        if not self._root:
            return
        row = b"%b %12d\n" % (action.hash.encode(), action.size_bytes)
        path = self._path(capsule_id)
        try:
            rows = self._rows(capsule_id)
            if rows and rows[-1] + b"\n" == row:
                return
            if len(rows) > 4 * KEPT:
                self._shorten(path, rows[-KEPT:])
            fd = open_making(path, posix.O_WRONLY | posix.O_APPEND)
            try:
                # One write of one row to a file opened for appending: two writers can't mix their bytes.
                posix.write(fd, row)
            finally:
                posix.close(fd)
        except OSError:
            return

    def _shorten(self, path: str, rows: list[bytes]) -> None:
        aside = f"{path}.{posix.getpid()}"
        with open(aside, "wb", buffering=0) as file:
            file.write(b"\n".join(rows) + b"\n")
        posix.rename(aside, path)

    def _rows(self, capsule_id: str) -> list[bytes]:
        try:
            with open(self._path(capsule_id), "rb", buffering=0) as file:
                content = file.read()
        except OSError:
            return []
        return [row for row in content.split(b"\n") if len(row) == _ROW - 1]

    def _path(self, capsule_id: str) -> str:
        name = sha256(capsule_id.encode("utf-8", "surrogateescape")).hexdigest()
        return f"{self._root}/{IDS}/{name}"
