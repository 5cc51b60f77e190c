"""The outbox: what is still to be sent, what is sent of it, and what is forgotten."""

import os
import signal
import time
from itertools import count
from pathlib import Path

import pytest

from capsula.core.carried import trees_in, with_trees
from capsula.core.digest import Digest, digest_of
from capsula.core.node import DIRECTORY, FILE, Node
from capsula.core.reapi import Action, ActionResult, Command
from capsula.core.result import to_result
from capsula.core.wire import encode
from capsula.errors import StoreError, StoreUnreachable
from capsula.store.disk import DiskStore
from capsula.store.layout import blob_path
from capsula.store.outbox import Outbox, empty, named_by
from capsula.testing import MemoryRemote, soon


class Full(MemoryRemote):
    """Takes so many blobs."""

    room = 0

    def send(self, digests, path_of, deadline) -> None:
        if len(self.blobs) + len(digests) > self.room:
            raise StoreUnreachable("503 Slow Down")
        super().send(digests, path_of, deadline)


@pytest.fixture
def near(tmp_path: Path) -> DiskStore:
    return DiskStore(str(tmp_path / "store"), now=time.time)


@pytest.fixture
def box(near: DiskStore) -> Outbox:
    """Its clock goes on by a second each time that somebody looks."""
    seconds = count(time.time())
    return Outbox(near.root, "memory://", lambda: next(seconds))


def stored(near: DiskStore, number: int = 0) -> Digest:
    """An action with a result of a directory, two files and a long log."""
    command = near.put(encode(Command(arguments=("make", str(number)))))
    action = near.put(encode(Action(command_digest=command)))
    nodes = {
        "dist": Node(DIRECTORY, mode=0o755),
        "dist/a": Node(FILE, mode=0o644, digest=near.put(b"a %d" % number)),
        "b": Node(FILE, mode=0o755, digest=near.put(b"b %d" % number)),
    }
    result, trees = to_result(nodes, 0)
    for content in trees.values():
        near.put(content)
    result.stdout_digest = near.put(b"log " * 1000)
    near.store(action, result)
    return action


def test_blobs_go_before_the_entry_and_only_those_that_are_not_there(near: DiskStore, box: Outbox) -> None:
    action, far = stored(near), MemoryRemote()
    far.blobs[digest_of(b"b 0").hash] = b"b 0"
    box.add(action)
    assert empty(box, near, far, soon()) is None
    assert list(box.waiting()) == []
    assert digest_of(b"b 0").hash not in far.sent
    # a, the tree, the log, the action and its command
    assert len(far.sent) == 5
    assert action.hash in far.sent
    found = far.lookup(action, soon())
    assert found is not None
    assert with_trees(found, ()) == near.lookup(action)
    assert list(trees_in(found)) == [
        each.tree_digest.hash for each in found.output_directories if each.tree_digest
    ]


def test_what_cannot_be_sent_waits(near: DiskStore, box: Outbox) -> None:
    first, second = stored(near, 1), stored(near, 2)
    far = Full()
    for action in (first, second):
        box.add(action)
    assert isinstance(empty(box, near, far, soon()), StoreUnreachable)
    assert far.entries == {}
    # The next time, one that never gets through doesn't keep the others waiting.
    assert list(Outbox(near.root, "memory://").waiting()) == [second, first]
    far.room = 100
    assert empty(box, near, far, soon()) is None
    assert set(far.entries) == {first.hash, second.hash}


class Away(MemoryRemote):
    """Nobody is there. Counts who was asked for."""

    asked = 0

    def missing(self, digests, deadline) -> list[Digest]:
        self.asked += 1
        raise StoreUnreachable("Connection refused")


def test_one_that_is_away_is_asked_once_and_forgets_nothing(near: DiskStore, box: Outbox) -> None:
    actions = [stored(near, number) for number in range(50)]
    for action in actions:
        box.add(action)
    for times in range(1, 31):
        far = Away()
        assert isinstance(empty(box, near, far, soon()), StoreUnreachable)
        assert (far.asked, times) == (1, times)
    assert list(box.waiting()) == actions


def test_while_another_process_sends_only_what_is_new_is_sent(near: DiskStore, box: Outbox) -> None:
    actions = [stored(near, number) for number in range(3)]
    for action in actions:
        box.add(action)
    far = MemoryRemote()
    with Outbox(near.root, far.name).turn() as is_theirs:
        assert is_theirs
        assert empty(box, near, far, soon(), actions[2:]) is None
    assert (set(far.entries), list(box.waiting())) == ({actions[2].hash}, actions[:2])
    assert empty(box, near, far, soon()) is None
    assert len(far.entries) == 3


def test_what_comes_while_others_are_sent_is_sent_too(near: DiskStore, box: Outbox) -> None:
    actions = [stored(near, number) for number in range(4)]
    todo = list(actions)

    class Busy(MemoryRemote):
        def store(
            self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False
        ) -> None:
            # Somebody else puts another one there, and finds that it is seen to.
            if todo:
                box.add(todo.pop(0))
                with Outbox(near.root, self.name).turn() as is_theirs:
                    assert not is_theirs
            super().store(action, result, deadline, if_none=if_none)

    far = Busy()
    box.add(todo.pop(0))
    assert empty(box, near, far, soon()) is None
    assert (set(far.entries), list(box.waiting())) == ({action.hash for action in actions}, [])


def test_a_blob_that_a_power_cut_left_without_its_bytes_is_not_sent(near: DiskStore, box: Outbox) -> None:
    good, bad = stored(near, 1), stored(near, 2)
    for action in (bad, good):
        box.add(action)
    path = Path(blob_path(near.root, digest_of(b"a 2").hash))
    path.chmod(0o600)
    path.write_bytes(bytes(3))
    far = MemoryRemote()
    assert empty(box, near, far, soon()) is None
    assert set(far.entries) == {good.hash}
    assert all(digest_of(content).hash == name for name, content in far.blobs.items())
    assert list(box.waiting()) == []
    assert near.missing([digest_of(b"a 2")]) == [digest_of(b"a 2")]


# Of each of two results: what isn't there, its blobs, its entry.
STEPS = 6


@pytest.mark.parametrize("step", range(STEPS))
def test_a_sender_that_is_killed_at_any_step_leaves_no_entry_without_blobs(
    near: DiskStore, box: Outbox, tmp_path: Path, step: int
) -> None:
    actions = [stored(near, number) for number in range(2)]
    for action in actions:
        box.add(action)
    (tmp_path / "far").mkdir()
    child = os.fork()
    if not child:
        try:
            empty(box, near, Folder(tmp_path / "far", dies_at=step), soon())
        finally:
            os._exit(7)  # it should have been killed before
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    far = Folder(tmp_path / "far")
    for name in far.kept():
        result = near.lookup(Digest(name, 0))
        assert result is not None
        assert far.missing(named_by(result, near), soon()) == []
    assert empty(box, near, far, soon()) is None
    assert (far.kept(), list(box.waiting())) == ({action.hash for action in actions}, [])


class Folder(MemoryRemote):
    """A remote that outlives who speaks to it. `dies_at`: the caller is killed in the middle of that call."""

    def __init__(self, base: Path, dies_at: int = -1) -> None:
        super().__init__()
        self.base = base
        self.left = dies_at

    def missing(self, digests, deadline) -> list[Digest]:
        absent = [digest for digest in digests if not (self.base / f"cas-{digest.hash}").exists()]
        self._step()
        return absent

    def send(self, digests, path_of, deadline) -> None:
        for at, digest in enumerate(digests):
            if at == len(digests) // 2:
                self._step()
            (self.base / f"cas-{digest.hash}").write_bytes(Path(path_of(digest)).read_bytes())

    def store(self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False) -> None:
        (self.base / f"ac-{action.hash}").write_bytes(encode(result))
        self._step()

    def kept(self) -> set[str]:
        return {path.name[3:] for path in self.base.glob("ac-*")}

    def _step(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


def test_each_remote_has_an_outbox_of_its_own(near: DiskStore, box: Outbox) -> None:
    box.add(stored(near))
    assert list(Outbox(near.root, "other://").waiting()) == []


@pytest.mark.parametrize("gone", ["ac/*/*", "cas/*/*"])
def test_what_is_no_longer_here_is_forgotten(near: DiskStore, box: Outbox, gone: str) -> None:
    box.add(stored(near))
    for path in Path(near.root).glob(gone):
        path.unlink()
    far = MemoryRemote()
    assert empty(box, near, far, soon()) is None
    assert (list(box.waiting()), far.entries) == ([], {})


def test_what_is_too_old_or_was_tried_too_often_is_forgotten(near: DiskStore) -> None:
    clock = [1_000_000.0]
    box = Outbox(near.root, "memory://", lambda: clock[0])
    action = stored(near)
    box.add(action)
    clock[0] += 8 * 86400
    assert list(box.waiting()) == []
    box.add(action)
    for _ in range(25):
        assert isinstance(empty(box, near, Full(), soon()), StoreUnreachable | None)
    assert list(box.waiting()) == []


@pytest.mark.parametrize("content", [b"", b"x y z", b"5", b"-5 0 0", b"\xff" * 100])
def test_nonsense_in_it_is_no_trouble(near: DiskStore, box: Outbox, content: bytes) -> None:
    action = stored(near)
    box.add(action)
    path = next(Path(near.root).glob(f"spool/*/{action.hash}"))
    path.write_bytes(content)
    assert list(box.waiting()) == []
    box.tried(action)
    box.remove(action)


def test_what_somebody_who_was_killed_left_half_written_goes_in_time(near: DiskStore, box: Outbox) -> None:
    action = stored(near)
    box.add(action)
    path = next(Path(near.root).glob(f"spool/*/{action.hash}"))
    young, old = (path.with_name(f"{action.hash}.{pid}") for pid in (1, 2))
    for half in (young, old):
        half.write_bytes(b"5")
    os.utime(old, (0, 0))
    assert list(box.waiting()) == [action]
    assert (young.exists(), old.exists()) == (True, False)


def test_an_action_that_may_hold_a_secret_is_not_sent(near: DiskStore, box: Outbox) -> None:
    action = digest_of(encode(Action(command_digest=digest_of(b"never stored"))))
    near.store(action, ActionResult(exit_code=0, stdout_raw=b"x"))
    far = MemoryRemote()
    box.add(action)
    assert empty(box, near, far, soon()) is None
    assert far.sent == []
    assert action.hash in far.entries


def test_one_that_is_refused_does_not_hold_up_the_others(near: DiskStore, box: Outbox) -> None:
    actions = [stored(near, number) for number in range(7)]
    asked: list[str] = []

    class Choosy(MemoryRemote):
        refused: tuple[str, ...] = ()

        def store(
            self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False
        ) -> None:
            asked.append(action.hash)
            if action.hash in self.refused:
                raise StoreError("413 Request Entity Too Large")
            super().store(action, result, deadline, if_none=if_none)

    far = Choosy()
    far.refused = (actions[0].hash,)
    for action in actions[:2]:
        box.add(action)
    error = empty(box, near, far, soon())
    assert error is not None
    assert "413" in error.what
    assert list(far.entries) == [actions[1].hash]
    assert list(box.waiting()) == [actions[0]]
    # A server that refuses everything isn't asked about everything.
    far.refused = tuple(action.hash for action in actions)
    for action in actions:
        box.add(action)
    asked.clear()
    assert empty(box, near, far, soon()) is not None
    assert len(asked) == 3


def test_what_was_known_to_be_absent_takes_nobodys_place(
    near: DiskStore, box: Outbox, tmp_path: Path
) -> None:
    action, far = stored(near), MemoryRemote()
    other = DiskStore(str(tmp_path / "other"), now=time.time)
    stored(other)
    other.store(action, ActionResult(exit_code=3))
    box.add(action, if_none=True)
    # It waits for long, and knows it all the time.
    box.tried(action)
    theirs = Outbox(other.root, far.name)
    theirs.add(action, if_none=True)
    assert empty(theirs, other, far, soon()) is None
    assert empty(box, near, far, soon()) is None
    assert list(box.waiting()) == []
    found = far.lookup(action, soon())
    assert found is not None
    assert found.exit_code == 3
    # Where there was one that couldn't be used, it is replaced.
    box.add(action)
    assert empty(box, near, far, soon()) is None
    found = far.lookup(action, soon())
    assert found is not None
    assert found.exit_code == 0
