"""A store on this disk with remotes behind it: what is brought, what is kept, and whose trouble it is."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capsula.core.carried import with_trees
from capsula.core.digest import Digest, digest_of
from capsula.core.node import DIRECTORY, FILE, Node
from capsula.core.reapi import ActionResult, OutputFile
from capsula.core.result import to_result
from capsula.errors import BlobMissing, EntryUntrusted, RemoteRequired, StoreUnreachable
from capsula.store.believed import Beliefs
from capsula.store.disk import DiskStore
from capsula.store.layout import GRACE, blob_path
from capsula.store.outbox import named_by
from capsula.store.sealed import Sealed
from capsula.store.sweep import sweep
from capsula.store.tiers import Tiers
from capsula.store.unopened import FEWEST, keep
from capsula.testing import MemoryRemote, soon

ACTION = digest_of(b"an action")


class Away(MemoryRemote):
    """One that doesn't answer."""

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        self.lookups += 1
        raise StoreUnreachable(f"{self.name}: Connection refused")

    def fetch(self, digests, receive, deadline) -> None:
        raise StoreUnreachable(f"{self.name}: Connection refused")


@pytest.fixture
def near(tmp_path: Path) -> DiskStore:
    return DiskStore(str(tmp_path / "near"), now=time.time)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def tiers(near: DiskStore, said: list[str]) -> Callable[..., Tiers]:
    def make(*remotes: MemoryRemote, strict: bool = False) -> Tiers:
        sealed = [Sealed(remote) for remote in remotes]
        return Tiers(near, sealed, patience=5, say=said.append, strict=strict)

    return make


def filled(remote: MemoryRemote, *contents: bytes) -> ActionResult:
    """A result in the remote, with an output for each content."""
    outputs = []
    for number, content in enumerate(contents):
        digest = digest_of(content)
        remote.blobs[digest.hash] = content
        outputs.append(OutputFile(path=f"out/{number}", digest=digest))
    result = ActionResult(output_files=tuple(outputs))
    Sealed(remote).store(ACTION, result, soon())
    return result


def digests(result: ActionResult) -> list[Digest]:
    return [file.digest for file in result.output_files if file.digest is not None]


def bring(store: Tiers, result: ActionResult) -> None:
    """As a run does that has nothing to do with it."""
    try:
        store.bring(ACTION, result, digests(result), 0)
    finally:
        store.let_go()


def test_what_a_remote_has_is_brought_and_stays(
    tiers: Callable[..., Tiers], near: DiskStore, said: list[str]
) -> None:
    far = MemoryRemote()
    result = filled(far, b"one", b"two", b"", b"one")
    store = tiers(far)
    assert store.lookup(ACTION) == result
    bring(store, result)
    assert [near.read(digest) for digest in digests(result)] == [b"one", b"two", b"", b"one"]
    assert near.lookup(ACTION) == result
    assert len(far.fetched) == 2, "nothing travels twice, and what is empty not at all"
    assert said == []


def test_what_is_brought_is_at_hand_and_is_kept_when_it_is_let_go(
    tiers: Callable[..., Tiers], near: DiskStore, tmp_path: Path
) -> None:
    far = MemoryRemote()
    contents = [b"small", b"large" * 20_000]
    result = filled(far, *contents)
    store = tiers(far)
    store.lookup(ACTION)
    store.bring(ACTION, result, digests(result), 0)
    assert [near.has(digest) for digest in digests(result)] == [False, True]
    assert near.lookup(ACTION) is None, "blobs before entries"
    for number, (digest, content) in enumerate(zip(digests(result), contents, strict=True)):
        assert store.read(digest) == content
        store.fetch(digest, str(tmp_path / str(number)), 0o640)
        assert (tmp_path / str(number)).read_bytes() == content
        assert (tmp_path / str(number)).stat().st_mode & 0o7777 == 0o640
    store.let_go()
    assert near.missing(digests(result)) == []
    assert near.lookup(ACTION) == result
    assert len(far.fetched) == 2


def test_a_disk_that_takes_nothing_is_no_reason_not_to_use_it(
    tiers: Callable[..., Tiers], near: DiskStore, said: list[str]
) -> None:
    far = MemoryRemote()
    result = filled(far, *[b"%d" % number for number in range(50)])
    store = tiers(far)
    store.lookup(ACTION)
    # It can be read, but nothing can be written to it, not even by root.
    Path(near.root).mkdir()
    Path(near.root, "tmp").write_bytes(b"")
    store.bring(ACTION, result, digests(result), 0)
    assert [store.read(digest) for digest in digests(result)][7] == b"7"
    store.let_go()
    assert len(said) == 1
    assert said[0].startswith("what came can't be kept here: ")


def test_what_is_here_is_not_asked_for(tiers: Callable[..., Tiers], near: DiskStore) -> None:
    far = MemoryRemote()
    near.put(b"here")
    result = filled(far, b"here", b"there")
    near.store(ACTION, result)
    store = tiers(far)
    assert store.lookup(ACTION) == result
    assert far.lookups == 0
    bring(store, result)
    assert far.fetched == [digest_of(b"there").hash]


def test_a_remote_is_asked_once_for_an_action(tiers: Callable[..., Tiers]) -> None:
    far = MemoryRemote()
    store = tiers(far)
    assert store.lookup(ACTION) is None
    assert store.lookup(ACTION) is None
    assert far.lookups == 1


def test_the_first_that_has_it_is_taken_and_the_next_helps_out(tiers: Callable[..., Tiers]) -> None:
    empty, first, second = MemoryRemote("a://"), MemoryRemote("b://"), MemoryRemote("c://")
    result = filled(first, b"kept", b"lost")
    del first.blobs[digest_of(b"lost").hash]
    second.blobs[digest_of(b"lost").hash] = b"lost"
    store = tiers(empty, first, second)
    found = store.lookup(ACTION)
    assert found == result
    assert second.lookups == 0
    bring(store, result)
    assert store.read(digest_of(b"lost")) == b"lost"


def test_who_said_that_it_has_nothing_is_known(tiers: Callable[..., Tiers]) -> None:
    first, second, away = MemoryRemote("first://"), MemoryRemote("second://"), Away("away://")
    store = tiers(first, away, second)
    assert store.lookup(ACTION) is None
    names = ("first://", "away://", "second://", "never asked://")
    assert [store.is_absent(ACTION, name) for name in names] == [True, False, True, False]
    assert not store.is_absent(digest_of(b"another action"), "first://")
    # Somebody has made it meanwhile.
    filled(second, b"one")
    store.ask_again(ACTION)
    assert store.lookup(ACTION) is not None
    assert [store.is_absent(ACTION, name) for name in names] == [True, False, False, False]


def test_an_entry_whose_blobs_are_gone_is_none(tiers: Callable[..., Tiers], near: DiskStore) -> None:
    far = MemoryRemote()
    result = filled(far, b"kept", b"lost")
    del far.blobs[digest_of(b"lost").hash]
    store = tiers(far)
    with pytest.raises(BlobMissing):
        bring(store, result)
    assert near.lookup(ACTION) is None


@pytest.mark.parametrize("wrong", [b"", b"twO", b"tw", b"two and more"])
def test_a_blob_that_comes_wrong_is_none_and_is_said_once(
    tiers: Callable[..., Tiers], near: DiskStore, said: list[str], wrong: bytes
) -> None:
    far = MemoryRemote()
    result = filled(far, b"one", b"two")
    far.blobs[digest_of(b"two").hash] = wrong
    store = tiers(far)
    store.lookup(ACTION)
    with pytest.raises(BlobMissing, match="came"):
        bring(store, result)
    # By whoever asked, with what it was for.
    assert said == []
    assert store.has_told(far.name)
    assert near.lookup(ACTION) is None
    assert not near.has(digest_of(b"two"))


def test_what_one_has_spoiled_comes_from_the_next_and_is_said(
    tiers: Callable[..., Tiers], near: DiskStore, said: list[str]
) -> None:
    far, farther = MemoryRemote("far://"), MemoryRemote("farther://")
    result = filled(far, b"one", b"two")
    filled(farther, b"one", b"two")
    far.blobs[digest_of(b"two").hash] = b"twO"
    store = tiers(far, farther)
    store.lookup(ACTION)
    bring(store, result)
    assert len(said) == 1
    assert said[0].startswith("far://: ")
    assert near.missing(digests(result)) == []
    assert farther.fetched == [digest_of(b"two").hash], "what was right isn't fetched again"


def test_each_remote_has_its_share_of_the_time(tiers: Callable[..., Tiers]) -> None:
    deadlines: list[float] = []

    class Slow(MemoryRemote):
        def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
            deadlines.append(deadline)
            return None

    began = time.monotonic()
    assert tiers(Slow("a://"), Slow("b://")).lookup(ACTION) is None
    after = time.monotonic() - began
    # The patience is 5 seconds.
    assert began + 2.5 <= deadlines[0] <= began + 2.5 + after
    assert began + 5 <= deadlines[1] <= began + 5 + after


def test_an_entry_of_another_action_or_a_changed_one_is_none(
    tiers: Callable[..., Tiers], said: list[str]
) -> None:
    far = MemoryRemote()
    filled(far, b"one")
    other = digest_of(b"another action")
    far.entries[other.hash] = far.entries[ACTION.hash]
    assert tiers(far).lookup(other) is None
    assert len(said) == 1
    content = far.entries[ACTION.hash]
    for damaged in (content[:-1], content.replace(b"out/0", b"out/1"), b"\xff", b""):
        far.entries[ACTION.hash] = damaged
        said.clear()
        assert tiers(far).lookup(ACTION) is None
        assert len(said) == 1


def test_trouble_is_said_once_and_is_no_trouble_of_the_run(
    tiers: Callable[..., Tiers], near: DiskStore, said: list[str]
) -> None:
    store = tiers(Away("gone://"))
    assert store.lookup(ACTION) is None
    assert store.lookup(digest_of(b"another")) is None
    with pytest.raises(BlobMissing):
        store.read(digest_of(b"nowhere"))
    assert said == ["gone://: Connection refused; going on without it"]
    store.store(ACTION, ActionResult())
    assert near.lookup(ACTION) == ActionResult()
    assert store.to_send == [ACTION]


def test_with_strict_it_is_an_error(tiers: Callable[..., Tiers]) -> None:
    with pytest.raises(RemoteRequired):
        tiers(Away(), strict=True).lookup(ACTION)


def test_an_entry_that_nobody_vouches_for_is_a_miss_also_with_strict(
    tiers: Callable[..., Tiers], said: list[str]
) -> None:
    class Foreign(MemoryRemote):
        def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
            raise EntryUntrusted("nobody has signed it")

    assert tiers(Foreign(), strict=True).lookup(ACTION) is None
    assert len(said) == 1


def test_a_damaged_entry_here_is_made_good_from_there(tiers: Callable[..., Tiers], near: DiskStore) -> None:
    far = MemoryRemote()
    result = filled(far, b"one")
    near.store(ACTION, result)
    path = next(Path(near.root).glob("ac/*/*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert tiers(far).lookup(ACTION) == result


# ------------------------------------------------------------------------------------------------ what is unopened

MANY = [b"content %d" % number for number in range(100)]


def test_of_many_that_come_it_is_known_here_what_they_are(
    tiers: Callable[..., Tiers], near: DiskStore
) -> None:
    far = MemoryRemote()
    result = filled(far, *MANY)
    store = tiers(far)
    assert store.lookup(ACTION) == result
    bring(store, result)
    assert os.listdir(f"{near.root}/unopened") == [ACTION.hash]
    assert near.lookup(ACTION) == result
    assert near.missing(digests(result)) == []


def test_few_are_files_of_their_own_at_once(tiers: Callable[..., Tiers], near: DiskStore) -> None:
    far = MemoryRemote()
    result = filled(far, *MANY[:31])
    store = tiers(far)
    assert store.lookup(ACTION) == result
    bring(store, result)
    assert near.missing(digests(result)) == []


def test_what_came_with_another_result_is_not_fetched_again(
    tiers: Callable[..., Tiers], near: DiskStore
) -> None:
    keep(near, digest_of(b"another"), {digest_of(each).hash: each for each in MANY[:90]}, time.time())
    far = MemoryRemote()
    result = filled(far, *MANY)
    store = tiers(far)
    assert store.lookup(ACTION) == result
    bring(store, result)
    assert set(far.fetched) == {digest_of(each).hash for each in MANY[90:]}
    assert near.lookup(ACTION) == result
    assert near.missing(digests(result)) == []


@pytest.mark.parametrize("count", [5, 60])
def test_what_the_remote_has_lost_and_another_result_has_is_found(
    tiers: Callable[..., Tiers], near: DiskStore, said: list[str], count: int
) -> None:
    lost = MANY[:count]
    keep(near, digest_of(b"another"), {digest_of(each).hash: each for each in lost}, time.time())
    far = MemoryRemote()
    result = filled(far, *MANY)
    for each in lost:
        del far.blobs[digest_of(each).hash]
    store = tiers(far)
    assert store.lookup(ACTION) == result
    bring(store, result)
    assert near.lookup(ACTION) == result
    assert near.missing(digests(result)) == []
    assert said == []


def test_what_has_come_before_a_remote_broke_off_is_not_fetched_again(
    tiers: Callable[..., Tiers], near: DiskStore
) -> None:
    far = MemoryRemote()
    result = filled(far, *MANY)
    gone = {digest_of(each).hash: each for each in MANY[50:]}
    for name in gone:
        del far.blobs[name]
    store = tiers(far)
    assert store.lookup(ACTION) == result
    with pytest.raises(BlobMissing):
        bring(store, result)
    assert near.lookup(ACTION) is None
    far.blobs.update(gone)
    far.fetched.clear()
    again = tiers(far)
    assert again.lookup(ACTION) == result
    bring(again, result)
    assert set(far.fetched) == set(gone)
    assert near.lookup(ACTION) == result
    assert near.missing(digests(result)) == []


@pytest.mark.parametrize("does", ["read", "fetch"])
def test_what_is_spoiled_here_is_used_out_of_memory_when_it_has_come_again(
    tiers: Callable[..., Tiers], near: DiskStore, tmp_path: Path, does: str
) -> None:
    """While the others are brought."""
    spoiled = near.put(MANY[0])
    far = MemoryRemote()
    result = filled(far, *MANY)
    path = Path(blob_path(near.root, spoiled.hash))
    path.chmod(0o600)
    path.write_bytes(b"x" * spoiled.size_bytes)
    store = tiers(far)
    assert store.lookup(ACTION) == result
    store.bring(ACTION, result, digests(result), 0)
    if does == "read":
        assert store.read(spoiled) == MANY[0]
    else:
        store.fetch(spoiled, str(tmp_path / "out"), 0o644)
        assert (tmp_path / "out").read_bytes() == MANY[0]
    store.let_go()
    assert near.lookup(ACTION) == result
    assert near.read(spoiled) == MANY[0]


# ---------------------------------------------------------------------------------------------------- trees in entries


def with_a_tree(remote: MemoryRemote, *carried: bytes, files: int = 1) -> tuple[ActionResult, Digest]:
    """A result of one directory in the remote, with these in its entry; its tree is no blob there."""
    nodes = {"out": Node(DIRECTORY, mode=0o755)}
    for number in range(files):
        digest = digest_of(b"content %d" % number)
        remote.blobs[digest.hash] = b"content %d" % number
        nodes[f"out/{number}"] = Node(FILE, mode=0o644, digest=digest)
    result, trees = to_result(nodes, 0)
    [tree] = trees.values()
    Sealed(remote).store(ACTION, with_trees(result, carried or (tree,)), soon())
    return result, digest_of(tree)


def test_a_tree_that_comes_with_its_entry_is_not_asked_for_and_is_kept(
    tiers: Callable[..., Tiers], near: DiskStore
) -> None:
    far = MemoryRemote()
    result, tree = with_a_tree(far)
    store = tiers(far)
    assert store.lookup(ACTION) == result
    named = named_by(result, store)
    assert tree in named
    assert far.fetched == []
    assert not near.has(tree), "it is none of this machine's before it is used"
    # As a run does, which has read it.
    store.bring(ACTION, result, [digest_of(b"content 0")], 0)
    store.let_go()
    assert far.fetched == [digest_of(b"content 0").hash]
    assert near.lookup(ACTION) == result
    assert [near.read(digest) for digest in named]
    # From here on it is there for a run without any remote.
    assert named_by(result, tiers()) == named


def test_a_sweep_knows_what_a_tree_names_that_came_with_its_entry(
    tiers: Callable[..., Tiers], near: DiskStore
) -> None:
    far = MemoryRemote()
    result, tree = with_a_tree(far, files=2 * FEWEST)
    store = tiers(far)
    store.lookup(ACTION)
    named = named_by(result, store)
    store.bring(ACTION, result, [each for each in named if each != tree], 0)
    store.let_go()
    assert near.missing(named) == [each for each in named if each != tree], "all others in one file"
    swept = sweep(near.root, now=lambda: time.time() + 2 * GRACE)
    assert swept is not None
    assert (swept.entries, swept.damaged) == (1, 0)
    assert near.lookup(ACTION) == result
    assert near.missing(named) == []


def test_what_comes_in_place_of_a_tree_is_not_taken_for_it(
    tiers: Callable[..., Tiers], near: DiskStore
) -> None:
    far = MemoryRemote()
    result, tree = with_a_tree(far, b"something else")
    store = tiers(far)
    assert store.lookup(ACTION) == result
    with pytest.raises(BlobMissing):
        store.read(tree)
    assert not near.has(digest_of(b"something else"))


def test_of_another_result_the_trees_are_asked_for(tiers: Callable[..., Tiers], near: DiskStore) -> None:
    """As when two are looked up before one is brought."""
    far = MemoryRemote()
    result, tree = with_a_tree(far)
    store = tiers(far)
    store.lookup(ACTION)
    content = store.read(tree)
    named = named_by(result, store)
    assert store.lookup(digest_of(b"another action")) is None
    far.blobs[tree.hash] = content
    store.bring(ACTION, result, [digest_of(b"content 0")], 0)
    store.let_go()
    assert tree.hash in far.fetched
    assert near.missing(named) == []


def test_what_another_run_here_made_meanwhile_came_from_nowhere_else(
    near: DiskStore, said: list[str]
) -> None:
    """The remote's was there and couldn't be had: so it is made, here and by whoever was first."""
    far = MemoryRemote()
    result = filled(far, b"one")
    far.blobs.clear()
    store = Tiers(near, [Sealed(far)], patience=5, say=said.append, beliefs=Beliefs())
    assert store.lookup(ACTION) == result
    with pytest.raises(BlobMissing):
        bring(store, result)
    near.put(b"one")
    near.store(ACTION, result)
    found = store.lookup(ACTION)
    assert found == result
    bring(store, found)
    assert store.came_from(ACTION) == ""
    trusting = Beliefs(b"somebody", lambda _action, _result: "nobody has signed it")
    kept = near.lookup(ACTION)
    assert kept is not None
    assert trusting.doubt(ACTION, kept) == "", "what was made here needs nobody who vouches for it"
