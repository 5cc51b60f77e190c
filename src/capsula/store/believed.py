"""Results that came from elsewhere and are kept here: whether this run believes them.

What a run made here needs nobody who vouches for it. What was fetched does, each time that it is used: it may have been
fetched before anybody said whom to trust, or signed with a key that has been revoked since.
"""

from __future__ import annotations

from capsula.core.statement import attached, with_attached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.core.digest import Digest
    from capsula.core.reapi import ActionResult

# Under which trust it was believed when it came.
TYPE_URL = "type.capsula.dev/arrived.v1"


class Beliefs:
    """`under` names whom a run trusts, b"" for everybody: what came under the same name isn't looked at again, as that
    would cost as much as the rest of a hit. `why_not` is the end of a sentence, "" for what is believed."""

    def __init__(
        self, under: bytes = b"", why_not: Callable[[Digest, ActionResult], str] = lambda _action, _result: ""
    ) -> None:
        self._under = under
        self._why_not = why_not

    def arrived(self, result: ActionResult) -> ActionResult:
        """The result as it is kept here. Whoever sent it has no say in what this tells."""
        return with_attached(result, TYPE_URL, self._under)

    def doubt(self, action: Digest, result: ActionResult) -> str:
        """Why what is kept here isn't believed, "" if it is, or was made here."""
        under = attached(result, TYPE_URL)
        return (
            "" if under is None or under == self._under or not self._under else self._why_not(action, result)
        )
