"""What is written is on the disk, so that a power cut doesn't leave a sealed capsule with empty files."""

from __future__ import annotations

import os
from collections.abc import Sequence

_AT_ONCE = 100
_MANY = 200
_LARGE = 1 << 20


def flush(paths: Sequence[str]) -> None:
    """These files, all of one file system. OSError when that can't be."""
    if len(paths) > _MANY and _sync(os.path.dirname(paths[0])):
        return
    for start in range(0, len(paths), _AT_ONCE):
        _flush(paths[start : start + _AT_ONCE])


def _flush(paths: Sequence[str]) -> None:
    """All are told to go before the first is waited for: then one write of the journal does for all, where one by one
    each had its own."""
    opened: list[int] = []
    try:
        for path in paths:
            opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            # The name of it notwithstanding, this begins to write. What is large would be read again later.
            if hasattr(os, "posix_fadvise") and os.fstat(opened[-1]).st_size < _LARGE:
                os.posix_fadvise(opened[-1], 0, 0, os.POSIX_FADV_DONTNEED)
        for descriptor in opened:
            os.fsync(descriptor)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _sync(place: str) -> bool:
    """All that is being written to this file system; False where that can't be asked for. For thousands of files it
    takes a tenth of the time that one by one takes, for a few it may have to wait for what others write."""
    try:
        import ctypes

        call = ctypes.CDLL(None).syncfs
    except (ImportError, OSError, AttributeError):
        return False
    opened = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(call(opened) == 0)
    finally:
        os.close(opened)
