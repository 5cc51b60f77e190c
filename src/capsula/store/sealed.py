"""Entries that show whether they are what was stored, under the key that it was stored under.

A remote may cut an entry short, or hand out another action's: both can be well-formed results. So each carries the
digest of its own statement, and one without it, or with another, is none. The statement has the size of the action in
it, so that goes along for those who know an entry by its name only.

The paths of outputs outside the project are absolute, which the API forbids and a strict server refuses the entry for:
on the way they are below a directory that stands for "/".
"""

from __future__ import annotations

from capsula.core.digest import Digest, sha256
from capsula.core.statement import attached, copied, statement, with_attached
from capsula.errors import EntryCorrupt, WireError
from capsula.store.passing import Passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.core.reapi import ActionResult
    from capsula.ports import Remote

TYPE_URL = "type.capsula.dev/seal.v1"
ACTION_URL = "type.capsula.dev/action.v1"
_TOP = ".capsula-top/"
_LINKS = ("output_symlinks", "output_file_symlinks", "output_directory_symlinks")
_OUTPUTS = ("output_files", "output_directories", *_LINKS)


class Sealed(Passing):
    """A Remote around another. `lookup` raises EntryCorrupt for an entry that doesn't verify. Where the other finds an
    entry by its hash alone, so does this one: the size of the action may then be 0."""

    def __init__(self, remote: Remote) -> None:
        super().__init__(remote.name, lambda: remote, packs=remote.packs)

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        try:
            result = super().lookup(action, deadline)
        except WireError as error:
            raise _wrong(self.name, action) from error
        if result is None:
            return None
        result = _with_paths(result, _absolute)
        size = action.size_bytes or size_of_action(result)
        if attached(result, TYPE_URL) != _seal(Digest(action.hash, size), result):
            raise _wrong(self.name, action)
        plain = with_attached(result, TYPE_URL, None)
        # Who knows the size gets what was stored; who doesn't shall find it.
        return with_attached(plain, ACTION_URL, None) if action.size_bytes else plain

    def store(self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False) -> None:
        result = with_attached(result, ACTION_URL, b"%d" % action.size_bytes)
        result = with_attached(result, TYPE_URL, _seal(action, result))
        super().store(action, _with_paths(result, _relative), deadline, if_none=if_none)


def _relative(path: str) -> str:
    return _TOP + path[1:] if path.startswith("/") else path


def _absolute(path: str) -> str:
    return "/" + path[len(_TOP) :] if path.startswith(_TOP) else path


def _with_paths(result: ActionResult, changed: Callable[[str], str]) -> ActionResult:
    """The same result, each output at another path. Almost always no path is another."""
    lists = {
        name: getattr(result, name)
        for name in _OUTPUTS
        if any(changed(each.path) != each.path for each in getattr(result, name))
    }
    if not lists:
        return result
    moved = {
        name: tuple(copied(each, path=changed(each.path)) for each in outputs)
        for name, outputs in lists.items()
    }
    return copied(result, **moved)


def size_of_action(result: ActionResult) -> int:
    """As the entry says, 0 if it doesn't."""
    told = attached(result, ACTION_URL) or b""
    return int(told) if told.isdigit() and len(told) < 16 else 0


def _seal(action: Digest, result: ActionResult) -> bytes:
    return sha256(statement(action, result)).digest()


def _wrong(name: str, action: Digest) -> EntryCorrupt:
    return EntryCorrupt(
        f"{name}: the entry {action.hash[:12]} isn't as it was stored", hint="this run stores it again"
    )
