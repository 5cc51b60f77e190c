"""Whether a server's clock is ours: object stores refuse what was signed at another time."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime

_APART_SECONDS = 60


def compared(theirs: datetime) -> list[tuple[str, str]]:
    """A finding for people. `theirs` is what the server has just said, to the second."""
    apart = abs(theirs.timestamp() - time.time())
    if apart < _APART_SECONDS:
        return [("ok", "its clock is ours")]
    return [
        ("wrong", f"its clock and ours are {apart:.0f} seconds apart, and signed requests may be refused")
    ]


def read(date: str) -> list[tuple[str, str]]:
    """The same, of the date in an answer by HTTP; nothing when there is none."""
    from email.utils import parsedate_to_datetime

    try:
        return compared(parsedate_to_datetime(date))
    except (TypeError, ValueError):
        return []
