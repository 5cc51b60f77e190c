"""A remote that is opened when it is first asked for something: a run that finds all it needs here loads no library for
it, reads no key and asks no helper for credentials.
"""

from __future__ import annotations

from _thread import allocate_lock

from capsula.errors import CapsulaError, StoreError
from capsula.store.passing import Passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.core.digest import Digest
    from capsula.ports import Flight, Remote
    from capsula.store.shared_flight import SharedFlight


class Late(Passing):
    """A Remote around the one that `opened` gives. What keeps it from being opened is a StoreError of each call."""

    def __init__(self, name: str, opened: Callable[[], Remote], *, packs: bool) -> None:
        super().__init__(name, self._opened, packs=packs)
        self._open = opened
        self._remote: Remote | None = None
        self._error: StoreError | None = None
        self._lock = allocate_lock()

    def close(self) -> None:
        if self._remote is not None:
            self._remote.close()

    def _opened(self) -> Remote:
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._remote is None:
                try:
                    self._remote = self._open()
                except CapsulaError as error:
                    hint = f" ({error.hint})" if error.hint else ""
                    self._error = StoreError(f"{error.what}{hint}")
                    raise self._error from error
            return self._remote


class LateFlight:
    """A Flight around the one that `opened` gives when somebody has to run: `near`, where that is None."""

    def __init__(self, near: Flight, opened: Callable[[], SharedFlight | None]) -> None:
        self._near = near
        self._open = opened
        self._shared: SharedFlight | None = None

    def enter(self, action: Digest, waiting: Callable[[str], None]) -> bool:
        self._shared = self._open()
        return (self._shared or self._near).enter(action, waiting)

    def leave(self) -> None:
        (self._shared or self._near).leave()

    def release(self, *, remove: bool) -> None:
        if self._shared is not None:
            self._shared.release(remove=remove)
