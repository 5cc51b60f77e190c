"""The index: says what the files say, whatever happens to it, to them, and at the same time."""

import json
import multiprocessing
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsula.errors import CapsulaError
from capsula.vault import index as module
from capsula.vault import remarks, stamps
from capsula.vault.index import Index
from capsula.vault.lookup import resolve
from capsula.vault.query import parse
from capsula.vault.record import CRASHED
from capsula.vault.vault import Vault

from .conftest import WHEN, Make, an_id, rewrite

DAY = 86_400_000


@pytest.fixture
def index(vault: Vault) -> Iterator[Index]:
    with Index(vault.root) as opened:
        yield opened


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is there is fresh any more."""
    now = stamps.time.time_ns
    monkeypatch.setattr(stamps.time, "time_ns", lambda: now() + 10_000_000_000)


def ids(index: Index, condition: str = "", most: int = 0) -> list[str]:
    return [found.id for found in index.find(parse(condition) if condition else None, most=most)]


def kept(vault: Vault) -> Path:
    return Path(vault.root, ".capsula", "index.sqlite")


def test_capsules_are_found_newest_first(vault: Vault, make: Make, index: Index) -> None:
    assert index.refresh() == 0
    assert index.find() == []
    made = [make(number) for number in (2, 0, 1)]
    assert index.refresh() == 3
    assert ids(index) == [an_id(2), an_id(1), an_id(0)]
    assert ids(index, most=2) == [an_id(2), an_id(1)]
    found = index.find()[0]
    assert (found.path, found.name) == (made[0].path, os.path.basename(made[0].path))
    assert index.capsule(found).record == json.loads(Path(made[0].path, "capsule.json").read_text())


def test_a_condition_on_any_file_finds_its_capsules(make: Make, index: Index) -> None:
    for number in range(20):
        make(number, metrics={"loss": number / 10}, items=["odd" if number % 2 else "even"])
    index.refresh()
    assert ids(index, "metrics.loss < 0.25") == [an_id(2), an_id(1), an_id(0)]
    assert ids(index, "metrics.loss < 0.25 and items = odd") == [an_id(1)]
    assert ids(index, "max_rss_kb = 1007 or git.sha = 0000000000000000000000000000000000000003") == [
        an_id(7), an_id(3),
    ]  # fmt: skip
    assert ids(index, "loss < 1", most=1) == [an_id(9)]
    assert ids(index, "no.such = 1") == []
    (found,) = index.find(parse("loss = 0.3"), ["cwd", "max_rss_kb"])
    assert {name: found.facts[name] for name in ("context.cwd", "post.max_rss_kb")} == {
        "context.cwd": "/work", "post.max_rss_kb": 1003,
    }  # fmt: skip


def test_an_exact_name_counts_alone_across_files(make: Make, index: Index) -> None:
    make(0, context={"git": {"work": {"tags": ["v1"]}}})
    index.refresh()
    assert ids(index, "tags = v1") == []
    assert ids(index, "git.tags = v1") == [an_id(0)]


def test_names_are_those_that_a_capsule_has(vault: Vault, make: Make, index: Index) -> None:
    draft = make(0, metrics={"loss": 1})
    index.refresh()
    assert {"metrics.loss", "context.git.work.sha", "post.max_rss_kb", "tags", "status"} <= index.names()
    shutil.rmtree(draft.path)
    index.refresh()
    assert "metrics.loss" not in index.names()


def test_what_is_not_new_is_not_read_again(make: Make, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    make(0)
    later(monkeypatch)
    assert index.refresh() == 1

    def read_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(module, "read_row", read_again)
    assert index.refresh() == 0
    assert ids(index) == [an_id(0)]


@pytest.mark.parametrize("fresh", [True, False])
def test_what_changes_is_seen(
    vault: Vault, make: Make, index: Index, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    first, second = make(0), make(1)
    if not fresh:
        later(monkeypatch)
    index.refresh()
    rewrite(first, command="another")
    shutil.rmtree(second.path)
    third = make(2)
    os.rename(third.path, f"{vault.root}/elsewhere")
    index.refresh()
    assert [found.name for found in index.find()] == ["elsewhere", os.path.basename(first.path)]
    assert ids(index, "command = another") == [an_id(0)]


def test_a_run_that_is_sealed_is_seen(vault: Vault, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch)
    draft = vault.begin("run", WHEN, "monitor")
    index.refresh()
    assert [found.status for found in index.find()] == ["running"]
    draft.seal("failed", {})
    index.refresh()
    assert [found.status for found in index.find(parse("status = failed"))] == ["failed"]


def test_whether_a_run_still_runs_is_asked_of_its_process(
    make: Make, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = make(0, status="running")
    rewrite(draft, boot_id="another")
    later(monkeypatch)
    index.refresh()
    assert [found.status for found in index.find(parse(f"status = {CRASHED}"))] == [CRASHED]
    assert index.find(parse("status = running")) == []


@pytest.mark.parametrize(
    "content", ["{", "[]", "\0", "[" * 100_000, '{"id": 5, "items": 3, "files": 7, "troubles": 1}']
)
@pytest.mark.parametrize("name", ["capsule.json", "context.json", "post-run-info.json"])
def test_a_damaged_capsule_hides_no_other(make: Make, index: Index, name: str, content: str) -> None:
    good, bad = make(1), make(0)
    Path(bad.path, name).chmod(0o600)
    Path(bad.path, name).write_text(content)
    index.refresh()
    assert {found.path for found in index.find()} == {good.path, bad.path}
    index.texts()
    assert ids(index, "max_rss_kb = 1001") == [an_id(1)]


@pytest.mark.parametrize("how", ["cut", "no object", "gone", "a loop", "a directory", "closed"])
def test_a_damaged_capsule_stands_where_it_was_and_says_why(
    make: Make, index: Index, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, bad, new = (make(DAY * number) for number in range(3))
    index.refresh()
    record = Path(bad.path, "capsule.json")
    record.chmod(0o600)
    if how in ("cut", "no object"):
        record.write_text("{" if how == "cut" else "[]")
    elif how == "closed":
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        record.chmod(0)
    else:
        record.unlink()
        if how == "a loop":
            record.symlink_to("capsule.json")
        elif how == "a directory":
            record.mkdir()
    os.utime(bad.path, (DAY / 1000, DAY / 1000))
    for _ in range(2):
        index.refresh()
        assert [found.path for found in index.find()] == [new.path, bad.path, old.path]
        later(monkeypatch)
    found = index.find()[1]
    assert (found.status, found.id) == ("damaged", "")
    (why,) = index.capsule(found).record["troubles"]
    assert why.startswith("capsule.json: ")
    assert resolve(index.root, found.name).record["troubles"] == [why]
    shutil.rmtree(bad.path)
    index.refresh()
    assert [found.path for found in index.find()] == [new.path, old.path]


def test_what_never_was_a_capsule_is_none(vault: Vault, make: Make, index: Index) -> None:
    draft = make(0)
    for name in ("empty", ".capsula/x"):
        os.makedirs(os.path.join(vault.root, name), exist_ok=True)
    Path(vault.root, "empty", ".capsule.json.new").touch()
    Path(vault.root, "file").touch()
    index.refresh()
    assert [found.path for found in index.find()] == [draft.path]


def test_odd_text_is_kept_as_it_is(vault: Vault, make: Make, index: Index) -> None:
    draft = make(0, command="half a \ud800 character", metrics={"ü": "\udcff"})
    os.rename(draft.path, os.fsencode(vault.root) + b"/\xff\xfe")
    index.refresh()
    (found,) = index.find(parse("metrics.ü = '\udcff'"))
    assert found.name == "\udcff\udcfe"
    assert index.capsule(found).record["command"] == "half a \ud800 character"


def test_what_was_found_is_never_taken_for_another(make: Make, index: Index) -> None:
    drafts = [make(number) for number in range(2)]
    index.refresh()
    changed, gone = sorted(index.find(), key=lambda found: found.key)
    with Index(index.root) as other:
        shutil.rmtree(gone.path)
        other.refresh()
        make(2)
        rewrite(next(draft for draft in drafts if draft.path == changed.path), command="another")
        other.refresh()
    assert index.capsule(gone).record == {}
    assert index.capsule(changed).record["command"] == "another"


def test_remarks_are_facts(vault: Vault, make: Make, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    make(0), make(1)
    later(monkeypatch)
    index.refresh()
    remarks.change(vault.root, an_id(0), lambda old: remarks.Remarks(("good",), "for the paper"))
    index.refresh()
    assert ids(index, "tags = good and note ~ PAPER") == [an_id(0)]
    assert ids(index, "tags != good") == [an_id(1)]
    remarks.change(vault.root, an_id(0), lambda old: old.without_tags(["good"]))
    index.refresh()
    assert ids(index, "tags = good") == []
    remarks.drop(vault.root, an_id(0))
    index.refresh()
    assert ids(index, "note ~ paper") == []


def test_what_a_run_said_of_itself_counts_until_somebody_says_otherwise(
    vault: Vault, make: Make, index: Index
) -> None:
    make(0, tags=["own"], note="inside"), make(1, tags=["own"], note="inside")
    make(2, tags="no list", note=7)
    remarks.change(vault.root, an_id(0), lambda old: remarks.NONE, remarks.Remarks(("own",), "inside"))
    index.refresh()
    assert ids(index, "tags = own and note ~ inside") == [an_id(1)]
    assert {found.id: found.remarks.tags for found in index.find()} == {
        an_id(0): (),
        an_id(1): ("own",),
        an_id(2): (),
    }


def test_damaged_remarks_hide_no_capsule(vault: Vault, make: Make, index: Index) -> None:
    make(0)
    remarks.change(vault.root, an_id(0), lambda old: old.with_tags(["a"]))
    Path(vault.root, ".capsula", "notes", f"{an_id(0)}.json").write_text("{")
    index.refresh()
    assert ids(index) == [an_id(0)]


# ------------------------------------------------------------------------------------------- an index in trouble


@pytest.mark.parametrize(
    "damage", ["gone", "garbage", "cut", "empty", "other version", "no tables", "a directory"]
)
def test_a_damaged_index_is_made_again(vault: Vault, make: Make, damage: str) -> None:
    for number in range(3):
        make(number)
    with Index(vault.root) as index:
        index.refresh()
    path = kept(vault)
    if damage in ("gone", "a directory"):
        path.unlink()
    if damage == "a directory":
        path.mkdir()
    elif damage == "garbage":
        path.write_bytes(os.urandom(path.stat().st_size))
    elif damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage in ("other version", "no tables"):
        with sqlite3.connect(path) as there:
            there.execute("PRAGMA user_version = 99" if damage == "other version" else "DROP TABLE part")
        there.close()
    with Index(vault.root) as index:
        index.refresh()
        assert ids(index, "max_rss_kb > 1000") == [an_id(2), an_id(1)]
    if damage != "a directory":
        with Index(vault.root) as index:
            assert index.is_kept
            assert ids(index, "max_rss_kb > 1000") == [an_id(2), an_id(1)]


def test_damage_in_the_middle_of_the_work_is_survived(vault: Vault, make: Make, index: Index) -> None:
    make(0)
    index.refresh()
    index._database._connection.execute("DROP TABLE holds")
    assert ids(index, "max_rss_kb = 1000") == [an_id(0)]


def test_an_index_that_another_has_open_is_not_replaced(vault: Vault, make: Make, index: Index) -> None:
    make(0)
    index.refresh()
    with Index(vault.root) as other:
        other._database._connection.execute("DROP TABLE holds")
        assert ids(other, "max_rss_kb = 1000") == [an_id(0)]
        assert not other.is_kept
    assert kept(vault).exists()


def test_a_locked_index_still_answers(vault: Vault, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make(0)
    with Index(vault.root) as index:
        index.refresh()
    monkeypatch.setattr("capsula.vault.database._WAIT_MS", 1)
    writer = sqlite3.connect(kept(vault), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    make(1)
    with Index(vault.root) as index:
        index.refresh()
        assert ids(index) == [an_id(1), an_id(0)]
    writer.close()


def test_a_directory_that_is_no_vault_gets_nothing(tmp_path: Path) -> None:
    (tmp_path / "things").mkdir()
    with Index(str(tmp_path)) as index:
        assert index.refresh() == 0
        assert index.find() == []
    assert os.listdir(tmp_path) == ["things"]
    with Index(str(tmp_path / "nowhere")) as index:
        assert index.refresh() == 0
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_vault_that_can_t_be_written_to_still_answers(vault: Vault, make: Make) -> None:
    make(0)
    os.chmod(vault.root, 0o500)
    try:
        with Index(vault.root) as index:
            index.refresh()
            assert ids(index) == [an_id(0)]
            assert not index.is_kept
    finally:
        os.chmod(vault.root, 0o700)


def test_without_a_place_of_its_own_it_goes_on_from_what_is_there(
    vault: Vault, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(0)
    later(monkeypatch)
    with Index(vault.root) as index:
        index.refresh()

    def refused(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("capsula.vault.database.make_place", refused)
    make(1)
    with Index(vault.root) as index:
        assert not index.is_kept
        assert index.refresh() == 1
        assert ids(index, "max_rss_kb >= 1000") == [an_id(1), an_id(0)]


def test_a_vault_that_can_t_be_read_is_an_error(
    vault: Vault, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(stamps.os, "listdir", refused)
    with pytest.raises(CapsulaError, match="can't look into"):
        index.refresh()


def test_what_is_removed_is_not_in_the_file_any_more(vault: Vault, make: Make) -> None:
    draft = make(0, command="a secret of mine")
    with Index(vault.root) as index:
        index.refresh()
    assert b"a secret of mine" in kept(vault).read_bytes()
    shutil.rmtree(draft.path)
    with Index(vault.root) as index:
        index.refresh()
    assert b"a secret of mine" not in kept(vault).read_bytes()


# ---------------------------------------------------------------------------------------------- many at once


def _work(root: str, first: int) -> None:
    for number in range(first, first + 15):
        draft = Vault(root).begin("run", WHEN, "monitor")
        draft.write_json("context.json", {"number": number, "same": {"for": "all"}})
        with Index(root) as index:
            index.refresh()
            draft.seal("finished", {"command": f"work {number}"})
            remarks.change(root, draft.id, lambda old, number=number: old.with_tags([f"t{number}"]))  # type: ignore[misc]
            index.refresh()
            assert [found.id for found in index.find(parse(f"context.number = {number}"))] == [draft.id]
            assert [found.id for found in index.find(parse(f"tags = t{number}"))] == [draft.id]


def test_many_writers_and_readers_lose_nothing(vault: Vault) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_work, args=(vault.root, first)) for first in (0, 100, 200, 300)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    with Index(vault.root) as index:
        index.refresh()
        assert index.is_kept
        assert len(index.find()) == len(index.find(parse("context.same.for = all"))) == 60
        rebuilt = {(found.id, found.status, found.remarks) for found in index.find()}
    shutil.rmtree(Path(vault.root, ".capsula", "index.sqlite"), ignore_errors=True)
    kept(vault).unlink()
    with Index(vault.root) as index:
        index.refresh()
        assert {(found.id, found.status, found.remarks) for found in index.find()} == rebuilt


def test_some_hundred_are_told_of_as_they_are_read(make: Make, index: Index) -> None:
    for number in range(300):
        make(number, metrics={"loss": number})
    told: list[tuple[int, int]] = []
    assert index.refresh(lambda done, total: told.append((done, total))) == 300
    assert told == [(250, 300), (300, 300)]
    assert len(ids(index, "metrics.loss >= 100")) == 200
    # What they have in common is there once.
    (parts,) = index._database.rows("SELECT count(*) FROM part WHERE facts LIKE '%/work%'")[0]
    assert parts == 1
