"""Entries that show whether they are what was stored, under the key that it was stored under.

A remote may cut an entry short, or hand out another action's: both can be well-formed results. So each carries the
digest of its own statement, and one without it, or with another, is none.
"""

from collections.abc import Callable, Sequence

from capsula.core.digest import Digest, sha256
from capsula.core.reapi import ActionResult
from capsula.core.statement import attached, statement, with_attached
from capsula.errors import EntryCorrupt, WireError
from capsula.ports import Receiver, Remote

TYPE_URL = "type.capsula.dev/seal.v1"


class Sealed:
    """A Remote around another. `lookup` raises EntryCorrupt for an entry that doesn't verify."""

    def __init__(self, remote: Remote) -> None:
        self.name = remote.name
        self._remote = remote

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        try:
            result = self._remote.lookup(action, deadline)
        except WireError as error:
            raise _wrong(self.name, action) from error
        if result is None:
            return None
        if attached(result, TYPE_URL) != _seal(action, result):
            raise _wrong(self.name, action)
        return with_attached(result, TYPE_URL, None)

    def store(self, action: Digest, result: ActionResult, deadline: float) -> None:
        self._remote.store(action, with_attached(result, TYPE_URL, _seal(action, result)), deadline)

    def missing(self, digests: Sequence[Digest], deadline: float) -> list[Digest]:
        return self._remote.missing(digests, deadline)

    def fetch(
        self, digests: Sequence[Digest], receive: Callable[[Digest], Receiver], deadline: float
    ) -> None:
        self._remote.fetch(digests, receive, deadline)

    def send(self, digests: Sequence[Digest], path_of: Callable[[Digest], str], deadline: float) -> None:
        self._remote.send(digests, path_of, deadline)

    def examine(self, deadline: float) -> list[tuple[str, str]]:
        return self._remote.examine(deadline)

    def close(self) -> None:
        self._remote.close()


def _seal(action: Digest, result: ActionResult) -> bytes:
    return sha256(statement(action, result)).digest()


def _wrong(name: str, action: Digest) -> EntryCorrupt:
    return EntryCorrupt(
        f"{name}: the entry {action.hash[:12]} isn't as it was stored", hint="this run stores it again"
    )
