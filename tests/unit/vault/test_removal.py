"""Removing: what goes is decided from values; what goes is gone, or all there."""

import os
from pathlib import Path

import pytest

from capsula.errors import CapsulaError
from capsula.vault import remarks, removal
from capsula.vault.index import Found, Index
from capsula.vault.remarks import NONE, Remarks
from capsula.vault.removal import Rules, choose
from capsula.vault.vault import Vault

from .conftest import Make

DAY = 86400.0
NOW = 1_800_000_000.0


def a_capsule(age: float, status: str = "finished", said: Remarks = NONE) -> Found:
    return Found(0, "/v/x", f"{int((NOW - age) * 1000):012x}000000", status, said, {})


def gone(found: list[Found], rules: Rules) -> list[int]:
    doomed = [each.found for each in choose(found, rules, NOW)]
    return [at for at, each in enumerate(found) if any(each is one for one in doomed)]


def test_only_crashed_ones_of_some_age_go_by_default() -> None:
    found = [
        a_capsule(DAY, "crashed"),
        a_capsule(8 * DAY, "crashed"),
        a_capsule(99 * DAY),
        a_capsule(99 * DAY, "running"),
    ]
    assert gone(found, Rules(crashed=7 * DAY)) == [1]
    assert gone(found, Rules(crashed=0)) == [0, 1]


def test_the_last_ones_stay() -> None:
    found = [a_capsule(number * DAY) for number in range(5)]
    assert gone(found, Rules(7 * DAY, keep_last=2)) == [2, 3, 4]
    assert gone(found, Rules(7 * DAY, keep_last=0)) == [0, 1, 2, 3, 4]


def test_old_ones_go() -> None:
    found = [a_capsule(number * DAY) for number in range(5)]
    assert gone(found, Rules(7 * DAY, older_than=2.5 * DAY)) == [3, 4]
    assert gone(found, Rules(7 * DAY, older_than=2.5 * DAY, keep_last=4)) == [4]


def test_crashed_ones_are_not_among_the_last() -> None:
    found = [a_capsule(0, "crashed"), a_capsule(1, "crashed"), a_capsule(DAY), a_capsule(2 * DAY)]
    assert gone(found, Rules(7 * DAY, keep_last=1)) == [0, 1, 3]


@pytest.mark.parametrize("said", [Remarks(("a",)), Remarks(note="x")])
def test_what_somebody_marked_stays(said: Remarks) -> None:
    found = [a_capsule(99 * DAY, "crashed", said), a_capsule(99 * DAY, said=said)]
    assert gone(found, Rules(0, older_than=0, keep_last=0)) == []


def test_what_nobody_can_judge_stays() -> None:
    strange = Found(0, "/v/x", "", "damaged", NONE, {}), Found(0, "/v/y", "no id", "finished", NONE, {})
    assert gone([*strange, a_capsule(9 * DAY, "damaged")], Rules(0, older_than=0, keep_last=0)) == []


def test_what_is_removed_is_gone_with_its_remarks(vault: Vault, make: Make) -> None:
    one, other = make(0, log="x" * 100_000), make(1, log="x" * 100_000)
    remarks.change(vault.root, one.id, lambda old: old.with_tags(["a"]))
    os.makedirs(f"{one.path}/closed/inside")
    os.chmod(f"{one.path}/closed", 0)
    os.symlink(other.path, f"{one.path}/link")
    freed = removal.remove(vault.root, one.path, one.id)
    assert not os.path.exists(one.path)
    assert not os.listdir(f"{vault.root}/.capsula/removed")
    assert remarks.read(vault.root, one.id) == NONE
    assert Path(other.path, "stdout.txt").read_text() == "x" * 100_000
    # The log is one with that of the other, and stays.
    assert freed < 100_000
    freed = removal.remove(vault.root, other.path, other.id) + removal.sweep(vault.root, 0)[1]
    assert freed > 100_000


def test_one_that_can_t_be_removed_is_all_there(
    vault: Vault, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = make(0)
    before = sorted(os.listdir(draft.path))

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(removal.os, "rename", refused)
    with pytest.raises(CapsulaError, match=r"can't remove .*: Permission denied"):
        removal.remove(vault.root, draft.path, draft.id)
    assert sorted(os.listdir(draft.path)) == before


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_removal_that_dies_leaves_no_half_capsule(
    vault: Vault, make: Make, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    draft = make(0, log="x" * 5000)
    unlink, done = os.unlink, []

    def killed(path: str) -> None:
        if "/removed/" in path:
            if len(done) == after:
                raise KeyboardInterrupt
            done.append(path)
        unlink(path)

    monkeypatch.setattr(removal.os, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        removal.remove(vault.root, draft.path, draft.id)
    monkeypatch.undo()
    with Index(vault.root) as index:
        index.refresh()
        assert index.find() == []
    assert removal.sweep(vault.root, 0)[0] == 1
    assert not os.listdir(f"{vault.root}/.capsula/removed")


def test_directories_that_never_became_a_capsule_are_left_overs_after_a_day(vault: Vault, make: Make) -> None:
    make(0)
    os.mkdir(f"{vault.root}/empty")
    os.mkdir(f"{vault.root}/begun")
    Path(vault.root, "begun", ".capsule.json.new").touch()
    os.mkdir(f"{vault.root}/somebody-s")
    Path(vault.root, "somebody-s", "file").touch()
    now = os.stat(vault.root).st_mtime
    assert removal.leftovers(vault.root, now) == []
    assert removal.leftovers(vault.root, now + 2 * DAY) == [f"{vault.root}/begun", f"{vault.root}/empty"]
    assert removal.sweep(vault.root, now + 2 * DAY)[0] == 2
    assert Path(vault.root, "somebody-s", "file").exists()
