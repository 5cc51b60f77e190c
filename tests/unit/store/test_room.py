"""Making room in a remote, and whether it is as it should be, on one in memory."""

import os
import time
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import Action, ActionResult, Directory, FileNode, OutputDirectory, OutputFile, Tree
from capsula.core.wire import encode
from capsula.errors import StoreUnreachable
from capsula.store.audit import audit
from capsula.store.disk import DiskStore
from capsula.store.room import DAY, Cleared, Wanted, make_room
from capsula.store.sealed import Sealed
from capsula.store.unopened import keep
from capsula.testing import MemoryRemote

NOW = 1000 * DAY


def quiet(doing: str, done: int, total: int) -> None:
    return


class Store:
    """A remote with results in it, whose ages are known."""

    def __init__(self) -> None:
        self.memory = MemoryRemote()
        self.memory.blobs.clear()
        self.memory.clock = NOW
        self.remote = Sealed(self.memory)

    def blob(self, content: bytes, age: float) -> Digest:
        digest = digest_of(content)
        self.memory.blobs[digest.hash] = content
        self.memory.times["cas", digest.hash] = NOW - age
        return digest

    def result(self, name: str, age: float, *, files: tuple[bytes, ...] = ()) -> Digest:
        """With a file of its own, those in a tree, and what tells of its action."""
        command = self.blob(b"command " + name.encode(), age)
        action = self.blob(encode(Action(command_digest=command)), age)
        inside = [FileNode(name=str(at), digest=self.blob(each, age)) for at, each in enumerate(files)]
        tree = self.blob(encode(Tree(root=Directory(files=tuple(inside)))), age)
        own = self.blob(b"own of " + name.encode(), age)
        result = ActionResult(
            output_files=(OutputFile(path="file", digest=own),),
            output_directories=(OutputDirectory(path="out", tree_digest=tree),),
        )
        self.remote.store(action, result, time.monotonic() + 60)
        self.memory.times["ac", action.hash] = NOW - age
        return action

    def make_room(self, age: float | None = None, size: int | None = None) -> Cleared:
        return make_room(self.remote, self.memory.holdings(), Wanted(age, size), quiet)

    def holds(self, content: bytes) -> bool:
        return digest_of(content).hash in self.memory.blobs


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def near(tmp_path: Path) -> DiskStore:
    return DiskStore(str(tmp_path / "near"), now=time.time)


# ---------------------------------------------------------------------------------------------------- room


def test_without_a_limit_only_what_no_entry_names_goes(store) -> None:
    store.result("a", 90 * DAY, files=(b"x", b"y"))
    before = dict(store.memory.blobs)
    store.blob(b"nobody's", 2 * DAY)
    cleared = store.make_room()
    assert (cleared.removed_entries, cleared.removed_blobs, cleared.removed_bytes) == (0, 1, 8)
    assert store.memory.blobs == before
    assert cleared.entries == 1


def test_old_entries_go_with_what_no_other_names(store) -> None:
    old = store.result("old", 31 * DAY, files=(b"shared", b"of old"))
    new = store.result("new", 29 * DAY, files=(b"shared", b"of new"))
    cleared = store.make_room(age=30 * DAY)
    assert set(store.memory.entries) == {new.hash} != {old.hash}
    assert [store.holds(each) for each in (b"shared", b"of new", b"of old", b"own of old")] == [
        True,
        True,
        False,
        False,
    ]
    assert not store.holds(b"command old")
    assert store.holds(b"command new")
    assert cleared.removed_entries == 1


def test_above_the_size_the_oldest_entries_go(store) -> None:
    for day in range(1, 8):
        store.result(f"of day {day}", day * DAY * 2, files=(b"%d" % day * 1000,))
    cleared = store.make_room(size=5000)
    assert [store.holds(b"%d" % day * 1000) for day in range(1, 8)] == [True] * 3 + [False] * 4
    assert cleared.bytes <= 5000
    assert cleared.bytes == sum(
        len(each) for each in [*store.memory.entries.values(), *store.memory.blobs.values()]
    )


def test_one_that_is_larger_than_all_takes_room_from_nobody(store) -> None:
    store.result("huge", 2 * DAY, files=(b"h" * 9000,))
    small = store.result("small", 3 * DAY, files=(b"s",))
    store.make_room(size=4000)
    assert set(store.memory.entries) == {small.hash}


def test_a_young_blob_stays(store) -> None:
    store.blob(b"on its way", DAY / 2)
    cleared = store.make_room()
    assert store.holds(b"on its way")
    assert cleared.young == 1


def test_an_entry_goes_before_its_blobs(store, monkeypatch) -> None:
    removed = []
    plain = type(store.memory.holdings()).remove
    monkeypatch.setattr(
        "capsula.testing.remotes.MemoryHoldings.remove",
        lambda self, kind, names: (removed.append((kind, len(names))), plain(self, kind, names)),
    )
    store.result("a", 31 * DAY)
    store.make_room(age=30 * DAY)
    assert [kind for kind, count in removed if count] == ["ac", "cas"]


def test_what_is_written_meanwhile_keeps_what_it_names(store, monkeypatch) -> None:
    """An entry that counts on a blob of one that just went."""
    store.result("old", 31 * DAY, files=(b"shared",))
    plain = type(store.memory.holdings()).remove
    removed = []

    def remove(self, kind, names):
        plain(self, kind, names)
        if kind == "ac" and names:
            removed.extend(names)
            assert len(removed) == 1, "the new one is removed as well"
            store.result("new", 0.0, files=(b"shared",))
            store.memory.times["cas", digest_of(b"shared").hash] = NOW - 31 * DAY

    monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.remove", remove)
    store.make_room(age=30 * DAY)
    assert store.holds(b"shared")
    assert len(store.memory.entries) == 1


def test_one_that_came_between_and_lost_a_blob_goes_too(store, monkeypatch) -> None:
    store.result("old", 31 * DAY, files=(b"shared",))
    plain = type(store.memory.holdings()).remove

    def remove(self, kind, names):
        if kind == "cas" and names:
            store.result("new", 0.0, files=(b"shared",))
        plain(self, kind, names)

    monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.remove", remove)
    store.make_room(age=30 * DAY)
    assert store.memory.entries == {}


def test_entries_that_cannot_be_used_go_when_they_are_a_day_old(store) -> None:
    for name, age in (("old", 2 * DAY), ("new", DAY / 2)):
        spoilt = store.result(f"spoilt {name}", age)
        store.memory.entries[spoilt.hash] += b"\xff\xff"
        lost = store.result(f"lost {name}", age, files=(b"lost " + name.encode(),))
        del store.memory.blobs[digest_of(b"lost " + name.encode()).hash]
        assert lost.hash in store.memory.entries
    cleared = store.make_room()
    assert len(store.memory.entries) == 2 == cleared.damaged


def test_nothing_is_concluded_from_one_that_does_not_answer(store, monkeypatch) -> None:
    store.result("a", 2 * DAY)
    store.result("b", 2 * DAY)
    plain = store.memory.lookup
    asked = []

    def lookup(action, deadline):
        asked.append(action)
        if len(asked) == 2:
            raise StoreUnreachable("gone home")
        return plain(action, deadline)

    monkeypatch.setattr(store.memory, "lookup", lookup)
    before = len(store.memory.blobs)
    with pytest.raises(StoreUnreachable):
        store.make_room(age=DAY)
    assert len(store.memory.entries) == 2
    assert len(store.memory.blobs) == before


def test_leases_of_a_day_ago_go(store) -> None:
    store.memory.leases = {"a" * 64: b"old", "b" * 64: b"new"}
    store.memory.times = {("lease", "a" * 64): NOW - 2 * DAY, ("lease", "b" * 64): NOW - 60}
    store.make_room()
    assert list(store.memory.leases) == ["b" * 64]


def test_nothing_is_left_in_the_temporary_directory(store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store.make_room()
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------------- audit


def test_a_sound_remote_is_found_sound(store, near) -> None:
    store.result("a", DAY, files=(b"x", b"y"))
    store.result("b", DAY, files=(b"x", b"z"))
    store.blob(b"nobody's", 0)
    found = audit(store.remote, near, share=1.0, tell=quiet)
    assert (found.lists, found.entries, found.wrong, found.bad) == (True, 2, 0, ())
    # Two own files, two trees, x, y and z, and two actions with their commands: each is read again.
    assert (found.blobs, found.reread) == (11, 11)
    assert found.unnamed == 1


@pytest.mark.parametrize("what", ["own of a", "in the tree", "the tree"])
def test_what_is_gone_is_found(store, near, what) -> None:
    a = store.result("a", DAY, files=(b"in the tree",))
    store.result("b", DAY)
    tree = Tree(root=Directory(files=(FileNode(name="0", digest=digest_of(b"in the tree")),)))
    gone = encode(tree) if what == "the tree" else what.encode()
    del store.memory.blobs[digest_of(gone).hash]
    found = audit(store.remote, near, tell=quiet)
    assert (found.incomplete, found.damaged, found.entries) == ((a.hash,), (), 1)


def test_what_is_cut_short_is_found_without_being_read(store, near) -> None:
    a = store.result("a", DAY)
    store.memory.blobs[digest_of(b"own of a").hash] = b"own"
    assert audit(store.remote, near, tell=quiet).incomplete == (a.hash,)


def test_other_bytes_are_found_when_it_is_read_again(store, near) -> None:
    a = store.result("a", DAY)
    name = digest_of(b"own of a").hash
    store.memory.blobs[name] = b"own of b"
    assert audit(store.remote, near, tell=quiet).wrong == 0
    found = audit(store.remote, near, share=1.0, tell=quiet)
    assert (found.bad, found.incomplete) == ((name,), (a.hash,))


def test_a_spoilt_entry_is_found(store, near) -> None:
    a = store.result("a", DAY)
    b = store.result("b", DAY)
    store.memory.entries[a.hash] = store.memory.entries[b.hash]
    found = audit(store.remote, near, tell=quiet)
    assert (found.damaged, found.entries) == ((a.hash,), 1)


def test_repair_sends_what_is_here_and_removes_what_cannot_be_used(store, near) -> None:
    here, nowhere = store.result("here", DAY), store.result("nowhere", DAY)
    spoilt = store.result("spoilt", DAY)
    near.put(b"own of here")
    del store.memory.blobs[digest_of(b"own of nowhere").hash]
    store.memory.blobs[digest_of(b"own of here").hash] = b"own of hare"
    store.memory.entries[spoilt.hash] = b"\xff"
    found = audit(store.remote, near, share=1.0, repair=True, tell=quiet)
    assert (found.incomplete, found.damaged) == (tuple(sorted((here.hash, nowhere.hash))), (spoilt.hash,))
    assert (found.sent, found.removed) == (1, 2)
    assert set(store.memory.entries) == {here.hash}
    assert store.memory.blobs[digest_of(b"own of here").hash] == b"own of here"
    again = audit(store.remote, near, share=1.0, tell=quiet)
    assert (again.wrong, again.bad, again.entries) == (0, (), 1)


def test_where_nothing_is_listed_the_results_of_this_machine_are_looked_for(store, near, monkeypatch) -> None:
    monkeypatch.setattr(store.memory, "holdings", lambda: None)
    there, lost, away = (store.result(name, DAY) for name in ("there", "lost", "away"))
    for action in (there, lost, away):
        result = store.remote.lookup(action, time.monotonic() + 60)
        assert result is not None
        near.store(action, result)
    # It has come from a shared store, too, and nobody has asked for it here.
    keep(near, lost, {digest_of(b"own of lost").hash: b"own of lost"}, time.time())
    del store.memory.entries[away.hash]
    del store.memory.blobs[digest_of(b"own of lost").hash]
    found = audit(store.remote, near, tell=quiet)
    assert (found.lists, found.entries, found.incomplete) == (False, 1, (lost.hash,))
    assert audit(store.remote, near, repair=True, tell=quiet).sent == 1
    assert audit(store.remote, near, tell=quiet).entries == 2


def test_of_the_age_nought_is_also_what_was_stored_in_this_second(store) -> None:
    """The server tells the time in whole seconds, and lists times more exactly."""
    store.result("just now", age=-0.7)
    assert store.make_room(age=0).removed_entries == 1
    assert store.memory.entries == {}
