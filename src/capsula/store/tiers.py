"""Tiers: a store on this disk in front, remotes behind it. What a remote has is brought here and used from here.

A remote's trouble is said in one line and is then no trouble of the run: there is just no result from it. (`strict`
makes it an error.) An entry whose blobs can't all be had is none: the run makes it again, and sends it again.
"""

from __future__ import annotations

import time

from capsula.core.carried import trees_in, with_trees
from capsula.core.digest import EMPTY
from capsula.core.packs import Packs, is_small, packs_of, with_packs
from capsula.errors import (
    BlobCorrupt,
    BlobMissing,
    CapsulaError,
    EntryCorrupt,
    EntryUntrusted,
    RemoteRequired,
    StoreError,
    WireError,
    in_one_line,
)
from capsula.store.arrivals import Arrivals
from capsula.store.files import write_new
from capsula.store.receive import Receiving
from capsula.store.unopened import FEWEST, open_one, open_what_has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from capsula.core.digest import Digest
    from capsula.core.reapi import ActionResult
    from capsula.ports import Receiver, Remote
    from capsula.store.believed import Beliefs
    from capsula.store.disk import DiskStore

# Of what can't be fetched at once, what came is kept, and the rest is asked for again.
_FETCHES = 3
# Where a result names blobs.
_BLOBS = ("output_files", "output_directories", "stdout_digest", "stderr_digest")


class Tiers:
    """BlobStore and ActionCache. `readers` are asked in order; `to_send` is what `writers` don't have yet.

    `patience` is in seconds: how long all remotes together may take to say that there is a result. `beliefs`: what came
    from elsewhere and isn't believed is no result here, either.
    """

    def __init__(
        self,
        near: DiskStore,
        readers: Sequence[Remote],
        *,
        patience: float,
        say: Callable[[str], None],
        strict: bool = False,
        beliefs: Beliefs | None = None,
    ) -> None:
        self.near = near
        self._beliefs = beliefs
        self.to_send: list[Digest] = []
        # By name, the remotes from which blobs came that weren't what they should be.
        self.spoiled: set[str] = set()
        # What went wrong with which remote, and in doing what: "lookup" or "fetch".
        self.troubles: list[tuple[str, str, str]] = []
        self._readers = readers
        self._patience = patience
        self._say = say
        self._strict = strict
        self._source: dict[str, Remote] = {}
        # What was found last, and by the names of remotes, the packs that they have of it.
        self._found: tuple[Digest, ActionResult] | None = None
        self._packs: dict[str, Packs] = {}
        # Trees that came with it, by their hashes.
        self._carried: dict[str, bytes] = {}
        # Actions, with the names of remotes that said that they have nothing of them.
        self._absent: set[tuple[str, str]] = set()
        self._told: set[str] = set()
        self._asked: set[str] = set()
        # While a result is brought and used. `_named`: its small blobs, as long as all were right that were used.
        self._named: list[Digest] = []
        self._arrived: Arrivals | None = None
        self._brought: tuple[Digest, ActionResult] | None = None

    @property
    def at_hand(self) -> bool:
        return self._arrived is not None and self._arrived.is_all

    @property
    def written(self) -> int:
        return self.near.written

    def has_told(self, name: str) -> bool:
        """Whether this remote's trouble has been said."""
        return name in self._told

    # ------------------------------------------------------------------------------------------------ ActionCache

    def lookup(self, action: Digest) -> ActionResult | None:
        damaged: EntryCorrupt | None = None
        self._found, self._packs, self._carried = None, {}, {}
        try:
            found = self.near.lookup(action)
            if found is not None and not self._is_doubted(action, found):
                # Also where one from elsewhere couldn't be had before: somebody here has made it meanwhile.
                self._source.pop(action.hash, None)
                self._found = action, found
                return found
        except EntryCorrupt as error:
            damaged = error
        deadline = time.monotonic() + self._patience
        # Once a run: when it looks again, after it has waited for another process here, only this disk has news.
        readers = () if action.hash in self._asked else self._readers
        self._asked.add(action.hash)
        for at, remote in enumerate(readers):
            # Each has its share of the time that is left: one that is silent doesn't take that of the next.
            now = time.monotonic()
            self._absent.discard((action.hash, remote.name))
            try:
                found = remote.lookup(action, now + (deadline - now) / (len(readers) - at))
            except (StoreError, WireError) as error:
                self.troubles.append((remote.name, "lookup", error.what))
                self._trouble(remote, error)
                continue
            if found is not None:
                self._source[action.hash] = remote
                self._packs[remote.name] = packs_of(found)
                self._carried = trees_in(found)
                found = with_trees(with_packs(found, ()), ())
                self._found = action, found
                self._bring_trees(found, remote)
                return found
            self._absent.add((action.hash, remote.name))
        if damaged is not None:
            raise damaged
        return None

    def came_from(self, action: Digest) -> str:
        """The name of the remote that the result came from in this run, "" if it was here."""
        source = self._source.get(action.hash)
        return source.name if source is not None else ""

    def is_absent(self, action: Digest, name: str) -> bool:
        """Whether the remote of this name was asked in this run, and had nothing."""
        return (action.hash, name) in self._absent

    def ask_again(self, action: Digest) -> None:
        """There may be news of it elsewhere, too."""
        self._asked.discard(action.hash)

    def store(self, action: Digest, result: ActionResult) -> None:
        self.near.store(action, result)
        self.to_send.append(action)

    def bring(self, action: Digest, result: ActionResult, digests: Sequence[Digest], patience: float) -> None:
        source = self._source.get(action.hash)
        if self._found is None or self._found[0] != action:
            self._found, self._packs, self._carried = (action, result), {}, {}
        self._named = [each for each in digests if is_small(each)]
        open_one(self.near, action.hash)
        # Who has read the trees has no more need of them; this store has. Those that came with the entry are at hand.
        wanted = [each for each in (*digests, *_trees(result)) if self._at_hand(each) is None]
        absent = self.near.missing(dict.fromkeys(wanted))
        if len(absent) >= FEWEST and open_what_has(self.near, absent):
            absent = self.near.missing(absent)
        if absent:
            self._arrived = Arrivals(self.near, action, time.time)
            self._fetch(absent, source, max(patience, self._patience))
        if source is not None:
            self._brought = (action, result)

    def let_go(self) -> None:
        arrived, self._arrived = self._arrived, None
        brought, self._brought = self._brought, None
        carried, self._carried = self._carried, {}
        self._named = []
        try:
            if arrived is not None:
                arrived.finish()
            if brought is not None:
                # A sweep goes by the trees, so these are blobs of their own.
                for tree in self.near.missing(_trees(brought[1])):
                    if tree.hash in carried:
                        self.near.keep(tree.hash, carried[tree.hash])
                # Now it is whole here, too.
                action, result = brought
                self.near.store(action, result if self._beliefs is None else self._beliefs.arrived(result))
        except StoreError as error:
            self._say(f"what came can't be kept here: {error.what}")

    # ------------------------------------------------------------------------------------------------ BlobStore

    def has(self, digest: Digest) -> bool:
        return self.near.has(digest)

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        return self.near.missing(digests)

    def read(self, digest: Digest) -> bytes:
        content = self._at_hand(digest)
        if content is None:
            try:
                return self.near.read(digest)
            except (BlobMissing, BlobCorrupt):
                self._fetch_again(digest)
            content = self._at_hand(digest)
        return self.near.read(digest) if content is None else content

    def fetch(self, digest: Digest, path: str, mode: int) -> None:
        content = self._at_hand(digest)
        if content is None:
            try:
                self.near.fetch(digest, path, mode)
                return
            except (BlobMissing, BlobCorrupt):
                self._fetch_again(digest)
            content = self._at_hand(digest)
        if content is None:
            self.near.fetch(digest, path, mode)
        else:
            write_new(path, content, mode)

    def put(self, content: bytes) -> Digest:
        return self.near.put(content)

    def put_file(self, path: str) -> Digest:
        return self.near.put_file(path)

    # ------------------------------------------------------------------------------------------------ inside

    def _fetch(self, digests: Sequence[Digest], source: Remote | None, patience: float) -> None:
        """From the remote that had the entry, then from the others. BlobMissing when one of them is nowhere, which then
        says whose trouble it was: whoever asked tells it, once."""
        absent = list({digest.hash: digest for digest in digests if digest.size_bytes}.values())
        if len(absent) < len(digests) and not self.near.has(EMPTY):
            self.near.put(b"")
        deadline = time.monotonic() + patience
        troubles: list[tuple[Remote, StoreError]] = []
        for remote in dict.fromkeys(each for each in (source, *self._readers) if each is not None):
            packs = self._packs_at(remote, absent, deadline)
            for _ in range(_FETCHES):
                if not absent:
                    break
                try:
                    self._fetch_from(remote, absent, packs, deadline)
                except StoreError as error:
                    if isinstance(error, BlobCorrupt):
                        self.spoiled.add(remote.name)
                    if not isinstance(error, BlobMissing):
                        self._refuse_if_strict(error)
                    troubles.append((remote, error))
                still = self._not_here(absent)
                if len(still) == len(absent):
                    if not packs.packs:
                        break
                    # In a pack that is gone or spoiled isn't all that it should hold: that may be there for itself.
                    packs = Packs()
                absent = still
        if absent and open_what_has(self.near, absent):
            absent = self._not_here(absent)
        told = [trouble for trouble in troubles if not isinstance(trouble[1], BlobMissing)]
        self.troubles += [(remote.name, "fetch", error.what) for remote, error in told]
        if absent:
            self._told.update(remote.name for remote, _ in told)
            reasons = [reason for _, reason in told or troubles]
            reason = reasons[0] if reasons else BlobMissing("it is in no store")
            raise BlobMissing(f"the blob {absent[0]!r} can't be had: {reason.what}", hint=reason.hint)
        for remote, reason in told:
            self._trouble(remote, reason)

    def _fetch_again(self, digest: Digest) -> None:
        """What was spoiled on this disk. It is seldom alone (the power went), and its pack should come once for all."""
        named, self._named = self._named, []
        others = [each for each in named if self._is_spoiled(each)]
        if others:
            try:
                self._fetch([digest, *others], None, self._patience)
                return
            except BlobMissing:
                pass  # where the outputs are as they should be, nobody needs the others
        self._fetch([digest], None, self._patience)

    def _is_spoiled(self, digest: Digest) -> bool:
        if self._at_hand(digest) is not None:
            return False
        try:
            self.near.verify(digest)
        except (BlobMissing, BlobCorrupt):
            return True
        except StoreError:
            return False
        return False

    def _fetch_from(self, remote: Remote, absent: Sequence[Digest], packs: Packs, deadline: float) -> None:
        alone, wanted = packs.split(absent)

        def receive(digest: Digest) -> Receiver:
            if digest.hash not in wanted:
                return self._receiving(digest)
            from capsula.store.packs import Unpacking

            return Unpacking(digest, wanted[digest.hash][1], self._receiving)

        remote.fetch([*alone, *[pack for pack, _ in wanted.values()]], receive, deadline)

    def _packs_at(self, remote: Remote, absent: Sequence[Digest], deadline: float) -> Packs:
        """Those that it has of the result that was found last. It may have been found here, or at another, and not be
        whole: then the entry there tells, if it is of the same result."""
        if remote.packs and remote.name not in self._packs and self._found is not None and absent:
            action, result = self._found
            self._packs[remote.name] = Packs()
            try:
                found = remote.lookup(action, deadline)
            except (StoreError, WireError):
                found = None  # if it is trouble, it is trouble in fetching, too
            if found is not None and all(getattr(found, name) == getattr(result, name) for name in _BLOBS):
                self._packs[remote.name] = packs_of(found)
        return self._packs.get(remote.name, Packs())

    def _bring_trees(self, found: ActionResult, remote: Remote) -> None:
        """All at once, before somebody reads one after the other to learn what else there is to bring."""
        trees = _trees(found)
        absent = self._not_here(trees) if len(trees) > 1 else []
        try:
            if absent:
                self._fetch(absent, remote, self._patience)
        except BlobMissing:
            return  # whoever reads it is told

    def _receiving(self, digest: Digest) -> Receiver:
        if self._arrived is not None:
            return self._arrived.receive(digest)
        return Receiving(self.near.root, digest, time.time)

    def _at_hand(self, digest: Digest) -> bytes | None:
        content = self._carried.get(digest.hash)
        if content is not None and len(content) == digest.size_bytes:
            return content
        return None if self._arrived is None else self._arrived.get(digest)

    def _not_here(self, digests: Sequence[Digest]) -> list[Digest]:
        return self.near.missing([digest for digest in digests if self._at_hand(digest) is None])

    def _is_doubted(self, action: Digest, result: ActionResult) -> bool:
        reason = self._beliefs.doubt(action, result) if self._beliefs is not None else ""
        if reason and action.hash not in self._told:
            self._told.add(action.hash)
            self._say(
                f"what was fetched before of {action.hash[:12]} isn't believed: {reason}; going on without it"
            )
        return bool(reason)

    def _refuse_if_strict(self, error: CapsulaError) -> None:
        if self._strict:
            raise RemoteRequired(error.what, hint=error.hint) from error

    def _trouble(self, remote: Remote, error: CapsulaError) -> None:
        # Who is strict wants the store to work; that somebody put something into it is no reason to stop all others.
        if not isinstance(error, EntryUntrusted):
            self._refuse_if_strict(error)
        if remote.name not in self._told:
            self._told.add(remote.name)
            told = in_one_line(error)
            what = told if remote.name in told else f"{remote.name}: {told}"
            self._say(f"{what}; going on without it")


def _trees(result: ActionResult) -> list[Digest]:
    return [each.tree_digest for each in result.output_directories if each.tree_digest is not None]
