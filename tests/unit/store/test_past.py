"""The past of a capsule: newest first, never longer than it is good for, and never an error."""

import os
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.store.past import KEPT, PastActions


def action(number: int) -> Digest:
    return Digest(digest_of(b"%d" % number).hash, 100 + number)


@pytest.fixture
def past(tmp_path: Path) -> PastActions:
    return PastActions(str(tmp_path / "not" / "made"))


def rows(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "not" / "made" / "ids").iterdir())


def test_what_happened_last_comes_first(past: PastActions) -> None:
    assert past.recent("c") == ()
    for number in (1, 2, 3):
        past.record("c", action(number))
    assert past.recent("c") == (action(3), action(2), action(1))


def test_what_happened_again_is_told_once(past: PastActions) -> None:
    for number in (1, 2, 1, 1):
        past.record("c", action(number))
    assert past.recent("c") == (action(1), action(2))


def test_the_same_again_is_not_written_again(past: PastActions, tmp_path: Path) -> None:
    for _ in range(5):
        past.record("c", action(1))
    assert len(rows(tmp_path)[0].read_bytes().splitlines()) == 1


def test_capsules_have_their_own_past(past: PastActions, tmp_path: Path) -> None:
    for name in ("a", "b", "../../etc/passwd", "\udcff", "c\0/root", ""):
        past.record(name, action(len(name)))
        assert past.recent(name) == (action(len(name)),)
    assert len(rows(tmp_path)) == 6
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in rows(tmp_path))


def test_a_long_past_is_shortened_and_the_newest_are_kept(past: PastActions, tmp_path: Path) -> None:
    for number in range(10 * KEPT):
        past.record("c", action(number))
    recent = past.recent("c")
    assert recent[:KEPT] == tuple(action(number) for number in range(10 * KEPT - 1, 9 * KEPT - 1, -1))
    assert len(recent) <= 4 * KEPT + 2
    assert len(rows(tmp_path)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\n\n\n",
        b"short row\n",
        b"\xff" * 77 + b"\n",
        b"x" * 64 + b"  not a number\n",
        b"no end of line",
        bytes(500),
    ],
)
def test_rows_that_are_none_are_passed_over(past: PastActions, tmp_path: Path, damage: bytes) -> None:
    past.record("c", action(1))
    path = rows(tmp_path)[0]
    path.write_bytes(path.read_bytes() + damage + (b"" if damage.endswith(b"\n") else b"\n"))
    past.record("c", action(2))
    found = past.recent("c")
    assert found[0] == action(2)
    assert found[-1] == action(1)


def test_a_row_that_was_cut_off_costs_one_more_at_most(past: PastActions, tmp_path: Path) -> None:
    past.record("c", action(1))
    path = rows(tmp_path)[0]
    path.write_bytes(path.read_bytes() + b"abc")
    for number in (2, 3):
        past.record("c", action(number))
    assert past.recent("c")[0] == action(3)
    assert past.recent("c")[-1] == action(1)


def test_what_cannot_be_kept_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (f"{tmp_path}/file", "/proc/nothing", "", "/dev/null/x"):
        past = PastActions(root)
        before = set(os.listdir("/")) if not root else None
        past.record("c", action(1))
        if before is None:
            assert past.recent("c") == ()
        else:
            assert set(os.listdir("/")) == before


def test_writers_at_once_lose_nothing(past: PastActions) -> None:
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            for number in range(25):
                past.record("c", action(child * 25 + number))
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert set(past.recent("c")) == {action(number) for number in range(100)}
