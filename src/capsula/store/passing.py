"""A remote around another, which passes on what it is asked. Wrappers are made of it: each says only what it does
otherwise.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capsula.core.digest import Digest
    from capsula.core.reapi import ActionResult
    from capsula.ports import Holdings, Receiver, Remote


class Passing:
    """A Remote. `_inner` is asked each time, so that it may be there from the first question on only."""

    def __init__(self, name: str, inner: Callable[[], Remote], *, packs: bool) -> None:
        self.name = name
        self.packs = packs
        self._inner = inner

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        return self._inner().lookup(action, deadline)

    def store(self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False) -> None:
        self._inner().store(action, result, deadline, if_none=if_none)

    def missing(self, digests: Sequence[Digest], deadline: float) -> list[Digest]:
        return self._inner().missing(digests, deadline)

    def fetch(
        self, digests: Sequence[Digest], receive: Callable[[Digest], Receiver], deadline: float
    ) -> None:
        self._inner().fetch(digests, receive, deadline)

    def send(self, digests: Sequence[Digest], path_of: Callable[[Digest], str], deadline: float) -> None:
        self._inner().send(digests, path_of, deadline)

    def examine(self, deadline: float) -> list[tuple[str, str]]:
        return self._inner().examine(deadline)

    def holdings(self) -> Holdings | None:
        return self._inner().holdings()

    def close(self) -> None:
        self._inner().close()
