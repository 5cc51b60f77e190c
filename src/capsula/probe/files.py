"""The files that the user named: hashed, and nothing else is done to them here."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BufferedReader
from typing import TYPE_CHECKING

from capsula.core.found import Found
from capsula.core.names import printable

if TYPE_CHECKING:
    from capsula.core.found import Value


# These give as many bytes as they are asked for: twice their strength, as is usual.
_LENGTHS = {"shake_128": 32, "shake_256": 64}


class FilesProbe:
    """`rules` are (path as written, name of a hashlib algorithm or None); a file that can't be read is told of with the
    reason."""

    name = "files"

    def __init__(self, rules: tuple[tuple[str, str | None], ...], root: str) -> None:
        self._rules = rules
        self._root = root

    def read(self) -> Found:
        section: dict[str, Value] = {}
        left_out = []
        for path, algorithm in self._rules:
            row: dict[str, Value] = {"hash_algorithm": algorithm, "file_hash": None}
            full = os.path.join(self._root, path)
            try:
                if algorithm is not None and not stat.S_ISREG(os.stat(full).st_mode):
                    # A pipe would never end, and a device is somebody else's to read.
                    raise OSError(errno.EINVAL, "it is no file")
                if algorithm is not None:
                    with open(full, "rb") as file:
                        row["file_hash"] = _hash(file, algorithm)
                else:
                    os.lstat(full)
            except OSError as error:
                row["error"] = error.strerror or str(error)
                left_out.append(f"{printable(path)}: {row['error']}")
            section[path] = row
        return Found({"files": section}, keys=("/files",), left_out=tuple(left_out))


def _hash(file: BufferedReader, algorithm: str) -> str:
    digest = hashlib.file_digest(file, algorithm)
    length = _LENGTHS.get(algorithm)
    return digest.hexdigest() if length is None else digest.hexdigest(length)  # type: ignore[call-arg]
