"""Small blobs on their way in packs: what is sent, what is fetched, and what is done where that fails."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.node import DIRECTORY, FILE, Node
from capsula.core.packs import LARGEST_MEMBER, TYPE_URL, Pack, Packs, head, packs_of, with_packs
from capsula.core.reapi import Action, ActionResult, Command
from capsula.core.result import to_result
from capsula.core.statement import attached
from capsula.core.wire import encode
from capsula.errors import BlobMissing, StoreUnreachable
from capsula.store.audit import audit
from capsula.store.disk import DiskStore
from capsula.store.outbox import Outbox, empty, named_by
from capsula.store.room import DAY, Wanted, make_room
from capsula.store.sealed import Sealed
from capsula.store.tiers import Tiers
from capsula.testing import MemoryRemote, soon

COUNT = 40
LARGE = b"large" * LARGEST_MEMBER
LOG = b"log " * 1000


def quiet(doing: str, done: int, total: int) -> None:
    return


def content(number: int, version: int = 0) -> bytes:
    return b"%d of %d " % (number, version) * (number + 1)


class Machine:
    """One with a disk of its own, that sends to a remote and fetches from it."""

    def __init__(self, base: Path, far: MemoryRemote) -> None:
        self.near = DiskStore(str(base), now=time.time)
        self.box = Outbox(self.near.root, far.name)
        self.remote = Sealed(far)
        self.said: list[str] = []

    def result(self, name: str, *, count: int = COUNT, version: int = 0) -> Digest:
        """An action with a result of a directory with small files, one large file, and a long log."""
        command = self.near.put(encode(Command(arguments=("make", name))))
        action = self.near.put(encode(Action(command_digest=command)))
        nodes = {"dist": Node(DIRECTORY, mode=0o755)}
        for number in range(count):
            # The first few are other ones in each version.
            digest = self.near.put(content(number, version if number < 2 else 0))
            nodes[f"dist/{number}"] = Node(FILE, mode=0o644, digest=digest)
        nodes["large"] = Node(FILE, mode=0o755, digest=self.near.put(LARGE))
        result, trees = to_result(nodes, 0)
        for tree in trees.values():
            self.near.put(tree)
        result.stdout_digest = self.near.put(LOG)
        self.near.store(action, result)
        return action

    def send(self, *actions: Digest, anew: bool = False) -> None:
        for action in actions:
            self.box.add(action, anew=anew)
        assert empty(self.box, self.near, self.remote, soon()) is None

    def tiers(self, *more: MemoryRemote) -> Tiers:
        remotes = [self.remote, *[Sealed(each) for each in more]]
        return Tiers(self.near, remotes, patience=5, say=self.said.append)

    def bring(self, action: Digest, *more: MemoryRemote) -> ActionResult | None:
        """As a run does that finds a result; it is whole here then."""
        tiers = self.tiers(*more)
        found = tiers.lookup(action)
        if found is None:
            return None
        try:
            tiers.bring(action, found, named_by(found, tiers), 5)
        finally:
            tiers.let_go()
        assert self.near.lookup(action) is not None
        assert self.near.missing(named_by(found, self.near)) == []
        for digest in named_by(found, self.near):
            self.near.verify(digest)
        return found


@pytest.fixture
def far() -> MemoryRemote:
    return MemoryRemote()


@pytest.fixture
def machine(tmp_path: Path, far: MemoryRemote) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path / name, far)


def packs_in(far: MemoryRemote, action: Digest) -> Packs:
    found = far.lookup(action, soon())
    assert found is not None
    return packs_of(found)


def a_pack(one: Machine, members: list[Digest]) -> bytes:
    rows = sorted(members, key=lambda each: each.hash)
    return head(rows) + b"".join([one.near.read(each) for each in rows])


def test_small_blobs_go_together_and_the_rest_alone(machine, far) -> None:
    one = machine("one")
    action = one.result("a")
    one.send(action)
    # The action and its command, the tree, the large file, and one pack for all others.
    assert len(far.sent) == 5
    assert digest_of(LARGE).hash in far.sent
    assert digest_of(content(5)).hash not in far.blobs
    [pack] = packs_in(far, action).packs
    stored = far.blobs[pack.digest.hash]
    assert digest_of(stored) == pack.digest
    assert content(5) in stored
    assert LOG in stored
    assert os.listdir(f"{one.near.root}/tmp") == []


def test_where_others_read_too_each_goes_alone(tmp_path) -> None:
    far = MemoryRemote(packs=False)
    one = Machine(tmp_path / "one", far)
    action = one.result("a")
    one.send(action)
    assert digest_of(content(5)).hash in far.blobs
    assert packs_in(far, action).packs == []
    assert Machine(tmp_path / "other", far).bring(action) is not None


def test_a_result_of_few_files_is_as_it_always_was(machine, far) -> None:
    one = machine("one")
    action = one.result("a", count=3)
    one.send(action)
    assert digest_of(content(2)).hash in far.blobs
    assert packs_in(far, action).packs == []
    assert machine("other").bring(action) is not None


def test_another_machine_gets_all_of_it(machine, far) -> None:
    one, other = machine("one"), machine("other")
    action = one.result("a")
    one.send(action)
    found = other.bring(action)
    assert found == one.near.lookup(action)
    assert found is not None
    assert attached(found, TYPE_URL) is None
    assert attached(other.near.lookup(action), TYPE_URL) is None
    # The large file and the pack: the tree comes with the entry.
    assert len(far.fetched) == 2
    assert other.said == []


def test_of_two_results_that_are_looked_up_each_has_its_own_packs(machine, far) -> None:
    one, other = machine("one"), machine("other")
    first, second = one.result("a"), one.result("b", version=1)
    one.send(first, second)
    tiers = other.tiers()
    found = tiers.lookup(first)
    assert found is not None
    named = named_by(found, tiers)
    assert tiers.lookup(second) is not None
    tiers.bring(first, found, named, 5)
    tiers.let_go()
    assert other.near.lookup(first) is not None
    assert other.near.missing(named) == []
    assert (tiers.spoiled, other.said) == (set(), [])


def test_what_is_here_is_not_stored_again(machine, far) -> None:
    one, other = machine("one"), machine("other")
    action = one.result("a")
    one.send(action)
    for number in range(COUNT):
        other.near.put(content(number))
    del far.blobs[packs_in(far, action).packs[0].digest.hash]
    other.near.put(LOG)
    assert other.bring(action) is not None


def test_the_same_pack_is_sent_once(machine, far) -> None:
    one = machine("one")
    first, second = one.result("a"), one.result("b")
    one.send(first)
    far.sent.clear()
    one.send(second)
    assert packs_in(far, first).packs[0].digest == packs_in(far, second).packs[0].digest
    # What tells of the action is new.
    assert len(far.sent) == 2


def test_many_packs_are_made_a_few_at_a_time(machine, far, monkeypatch) -> None:
    monkeypatch.setattr("capsula.core.packs.SIZE", 200)
    monkeypatch.setattr("capsula.store.outbox._PACKS_AT_ONCE", 3)
    one, other = machine("one"), machine("other")
    action = one.result("a")
    most = 0
    send = far.send

    def counted(digests, path_of, deadline) -> None:
        nonlocal most
        most = max(most, len(os.listdir(f"{one.near.root}/tmp")))
        send(digests, path_of, deadline)

    monkeypatch.setattr(far, "send", counted)
    one.send(action)
    assert len(packs_in(far, action).packs) > 10
    assert most == 3
    assert other.bring(action) is not None


def test_a_pack_that_is_gone_is_a_miss_and_the_next_run_sends_it(machine, far) -> None:
    one, other = machine("one"), machine("other")
    action = one.result("a")
    one.send(action)
    del far.blobs[packs_in(far, action).packs[0].digest.hash]
    with pytest.raises(BlobMissing):
        other.bring(action)
    assert other.near.lookup(action) is None
    other.result("a")
    other.send(action)
    assert machine("third").bring(action) is not None


def test_what_is_gone_with_its_pack_may_be_there_alone_or_elsewhere(machine, far, tmp_path) -> None:
    one = machine("one")
    action = one.result("a")
    one.send(action)
    del far.blobs[packs_in(far, action).packs[0].digest.hash]
    second = MemoryRemote("second://")
    Machine(tmp_path / "one", second).send(action)
    assert machine("other").bring(action, second) is not None
    for digest in named_by(one.near.lookup(action), one.near):
        far.blobs[digest.hash] = one.near.read(digest)
    assert machine("third").bring(action) is not None


@pytest.mark.parametrize("how", ["swapped", "short", "a byte", "nothing", "another pack"])
def test_a_pack_that_comes_wrong_gives_nothing_wrong(machine, far, how) -> None:
    one, other = machine("one"), machine("other")
    action, another = one.result("a"), one.result("b", version=1)
    one.send(action, another)
    [pack], [second] = packs_in(far, action).packs, packs_in(far, another).packs
    good = far.blobs[pack.digest.hash]
    at = good.index(content(20))
    far.blobs[pack.digest.hash] = {
        "swapped": LARGE[: len(good)],
        "short": good[:-7],
        "a byte": good[:at] + b"X" + good[at + 1 :],
        "nothing": b"",
        "another pack": far.blobs[second.digest.hash],
    }[how]
    tiers = other.tiers()
    found = tiers.lookup(action)
    assert found is not None
    with pytest.raises(BlobMissing):
        tiers.bring(action, found, named_by(found, tiers), 5)
    tiers.let_go()
    assert other.near.lookup(action) is None
    for number in range(COUNT):
        digest = digest_of(content(number))
        if other.near.has(digest):
            other.near.verify(digest)
    assert tiers.spoiled == {far.name}
    # The run makes it again, and sends all of it, whatever is there.
    other.result("a")
    other.send(action, anew=True)
    assert far.blobs[pack.digest.hash] == good
    assert machine("third").bring(action) is not None


def test_a_blob_that_is_spoiled_here_comes_from_its_pack(machine, far) -> None:
    one, other = machine("one"), machine("other")
    action = one.result("a")
    one.send(action)
    other.bring(action)
    lost, bad = digest_of(content(7)), digest_of(content(8))
    os.unlink(path_in(other, lost))
    os.chmod(path_in(other, bad), 0o600)
    Path(path_in(other, bad)).write_bytes(b"x" * bad.size_bytes)
    tiers = other.tiers()
    found = tiers.lookup(action)
    assert found is not None
    assert tiers.came_from(action) == ""
    tiers.bring(action, found, named_by(found, tiers), 5)
    tiers.let_go()
    assert tiers.read(lost) == content(7)
    assert tiers.read(bad) == content(8)


@pytest.mark.parametrize("is_all_there", [True, False])
def test_a_pack_comes_once_for_all_that_is_spoiled_here(machine, far, is_all_there) -> None:
    one, other = machine("one"), machine("other")
    action = one.result("a")
    one.send(action)
    other.bring(action)
    bad = [digest_of(content(number)) for number in range(5, 25)]
    for digest in bad:
        os.chmod(path_in(other, digest), 0o600)
        Path(path_in(other, digest)).write_bytes(bytes(digest.size_bytes))
    if not is_all_there:
        # The pack is lost, and of the blobs it had only the first is elsewhere.
        del far.blobs[packs_in(far, action).packs[0].digest.hash]
        far.blobs[bad[0].hash] = content(5)
    tiers = other.tiers()
    found = tiers.lookup(action)
    assert found is not None
    tiers.bring(action, found, named_by(found, tiers), 5)
    far.fetched.clear()
    tiers.fetch(bad[0], f"{other.near.root}/0", 0o644)
    if is_all_there:
        for number in range(1, 20):
            tiers.fetch(bad[number], f"{other.near.root}/{number}", 0o644)
            assert Path(f"{other.near.root}/{number}").read_bytes() == content(number + 5)
        assert len(far.fetched) == 1
    assert Path(f"{other.near.root}/0").read_bytes() == content(5)
    tiers.let_go()


def path_in(machine: Machine, digest: Digest) -> str:
    return f"{machine.near.root}/cas/{digest.hash[0]}/{digest.hash}"


def test_a_member_that_vanished_here_is_not_sent_without(machine, far) -> None:
    one = machine("one")
    action = one.result("a")
    one.box.add(action)
    os.unlink(path_in(one, digest_of(content(3))))
    assert empty(one.box, one.near, one.remote, soon()) is None
    assert far.entries == {}
    assert list(one.box.waiting()) == []


def test_what_is_spoiled_here_is_not_sent_and_all_of_it_is_made_by_one_run(machine, far) -> None:
    one = machine("one")
    action = one.result("a")
    one.box.add(action)
    for number in range(3, 9):
        path = path_in(one, digest_of(content(number)))
        os.chmod(path, 0o600)
        Path(path).write_bytes(bytes(len(content(number))))
    assert empty(one.box, one.near, one.remote, soon()) is None
    assert far.entries == {}
    one.send(one.result("a"))
    assert machine("other").bring(action) is not None


def test_what_fails_on_the_way_leaves_no_entry_and_no_files(machine, far, monkeypatch) -> None:
    one = machine("one")
    action = one.result("a")
    one.box.add(action)

    def full(digests, path_of, deadline) -> None:
        raise StoreUnreachable("503 Slow Down")

    monkeypatch.setattr(far, "send", full)
    assert isinstance(empty(one.box, one.near, one.remote, soon()), StoreUnreachable)
    assert far.entries == {}
    assert os.listdir(f"{one.near.root}/tmp") == []
    assert list(one.box.waiting()) == [action]


# ---------------------------------------------------------------------------------------------------- as a whole


def test_what_only_packs_hold_is_no_loss(machine, far) -> None:
    far.blobs.clear()
    one = machine("one")
    actions = [one.result("a"), one.result("b", version=1)]
    one.send(*actions)
    found = audit(one.remote, one.near, share=1.0, tell=quiet)
    assert (found.entries, found.wrong, found.bad, found.unnamed) == (2, 0, (), 0)
    # Two trees, two packs, one large file; two actions with their commands.
    assert (found.blobs, found.reread) == (9, 9)


def test_a_pack_that_is_gone_or_spoiled_is_found_and_made_again_of_what_is_here(machine, far) -> None:
    one, other = machine("one"), machine("other")
    first, second = one.result("a"), one.result("b", version=1)
    one.send(first, second)
    entries = dict(far.entries)
    [lost], [bad] = packs_in(far, first).packs, packs_in(far, second).packs
    del far.blobs[lost.digest.hash]
    far.blobs[bad.digest.hash] = b"x" * bad.digest.size_bytes
    found = audit(other.remote, other.near, share=1.0, tell=quiet)
    assert found.incomplete == tuple(sorted((first.hash, second.hash)))
    assert found.bad == (bad.digest.hash,)
    found = audit(one.remote, one.near, share=1.0, repair=True, tell=quiet)
    assert (found.sent, found.removed) == (2, 0)
    assert far.entries == entries
    assert audit(other.remote, other.near, share=1.0, tell=quiet).wrong == 0
    assert other.bring(first) is not None


def test_a_pack_without_what_it_should_hold_is_found_when_it_is_read(machine, far) -> None:
    """As somebody may have written it: its bytes are those of its digest, and the entry names it."""
    one = machine("one")
    action, log = one.result("a"), digest_of(LOG)
    one.send(action)
    result = far.lookup(action, soon())
    [pack] = packs_of(result).packs
    files = [digest_of(content(number)) for number in range(COUNT)]

    def name(instead: bytes) -> Digest:
        digest = digest_of(instead)
        far.blobs[digest.hash] = instead
        one.remote.store(action, with_packs(result, [Pack(pack.begin, digest)]), soon())
        return digest

    without_a_file = a_pack(one, [*files[:5], *files[6:], log])
    for instead in (
        without_a_file,
        a_pack(one, files),
        head(files[:1]) + b"y" * files[0].size_bytes,
        b"no pack at all",
    ):
        digest = name(instead)
        assert audit(one.remote, one.near, tell=quiet).wrong == 0
        found = audit(one.remote, one.near, share=1.0, tell=quiet)
        assert (found.incomplete, found.bad) == ((action.hash,), ()), instead[:40]
    found = audit(one.remote, one.near, share=1.0, repair=True, tell=quiet)
    assert (found.removed, digest.hash in far.blobs) == (1, True)
    # With the file for itself it can be used.
    far.blobs[files[5].hash] = content(5)
    name(without_a_file)
    assert audit(one.remote, one.near, share=1.0, tell=quiet).wrong == 0
    assert machine("other").bring(action) is not None


def test_of_several_packs_each_has_to_hold_its_own(machine, far) -> None:
    one = machine("one")
    action = one.near.put(b"an action")
    nodes = {"dist": Node(DIRECTORY, mode=0o755)}
    for number in range(300):
        digest = one.near.put(b"%d " % number * 3000)
        nodes[f"dist/{number}"] = Node(FILE, mode=0o644, digest=digest)
    result, trees = to_result(nodes, 0)
    for tree in trees.values():
        one.near.put(tree)
    one.near.store(action, result)
    one.send(action)
    first, second, *rest = packs_in(far, action).packs
    assert audit(one.remote, one.near, share=1.0, tell=quiet).wrong == 0
    stored = far.lookup(action, soon())
    swapped = [Pack(first.begin, second.digest), Pack(second.begin, first.digest), *rest]
    one.remote.store(action, with_packs(stored, swapped), soon())
    assert audit(one.remote, one.near, share=1.0, tell=quiet).incomplete == (action.hash,)


def test_where_it_is_not_here_the_entry_goes(machine, far) -> None:
    one, other = machine("one"), machine("other")
    action = one.result("a")
    one.send(action)
    del far.blobs[packs_in(far, action).packs[0].digest.hash]
    found = audit(other.remote, other.near, repair=True, tell=quiet)
    assert (found.sent, found.removed) == (0, 1)
    assert far.entries == {}


def test_packs_go_with_the_last_entry_that_names_them(machine, far) -> None:
    one, other = machine("one"), machine("other")
    first, second, third = one.result("a"), one.result("b"), one.result("c", version=1)
    one.send(first, second, third)
    shared, own = packs_in(far, first).packs[0].digest.hash, packs_in(far, third).packs[0].digest.hash
    far.clock = 1000 * DAY
    for name in far.blobs:
        far.times["cas", name] = 500 * DAY
    for action, day in ((first, 500), (second, 999), (third, 500)):
        far.times["ac", action.hash] = day * DAY
    # Written alone by an older version, and not needed since there are packs.
    old = digest_of(content(5)).hash
    far.blobs[old], far.times["cas", old] = content(5), 500 * DAY
    cleared = make_room(one.remote, far.holdings(), Wanted(age=30 * DAY), quiet)
    assert (cleared.removed_entries, cleared.damaged) == (2, 0)
    assert shared in far.blobs
    assert own not in far.blobs
    assert old not in far.blobs
    assert other.bring(second) is not None
    size = sum(map(len, (*far.blobs.values(), *far.entries.values())))
    assert make_room(one.remote, far.holdings(), Wanted(size=size), quiet).removed_entries == 0
    assert make_room(one.remote, far.holdings(), Wanted(size=size - 1), quiet).removed_entries == 1
