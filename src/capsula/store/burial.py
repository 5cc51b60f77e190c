"""Burying, as a restore needs it: move to the trash, and know how to take it back."""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def burier(root: str, capsule_id: str) -> "Callable[[str], Callable[[], None]]":
    """A function that moves a path to the trash of the store at `root` and returns one that brings it back."""

    def bury(path: str) -> "Callable[[], None]":
        from capsula.store import trash

        why = "in the way of a restored output"
        item = trash.bury(root, path, now=time.time(), why=why, capsule=capsule_id)

        def take_back() -> None:
            trash.restore(root, item.id)

        return take_back

    return bury
