"""Remarks: tags and notes beside sealed capsules, whoever else writes at the same time."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.errors import CapsulaError, UsageError
from capsula.vault import remarks
from capsula.vault.remarks import NONE, Remarks
from capsula.vault.vault import Vault

ID = "01a2148a1dd295ca83"


@pytest.fixture
def root(tmp_path: Path) -> str:
    made = Vault(str(tmp_path / "vault"))
    made.prepare()
    return made.root


def kept(root: str) -> Path:
    return Path(root, ".capsula", "notes", f"{ID}.json")


def test_a_capsule_without_remarks_has_none(root: str) -> None:
    assert remarks.read(root, ID) == remarks.read(f"{root}/nowhere", ID) == NONE
    assert not os.path.exists(f"{root}/.capsula")


def test_what_is_written_is_read_again(root: str) -> None:
    remarks.change(root, ID, lambda old: old.with_tags(["b", "a", "b"]))
    said = remarks.change(root, ID, lambda old: Remarks(old.tags, "it's ü\n\ud800"))
    assert said == remarks.read(root, ID) == Remarks(("a", "b"), "it's ü\n\ud800")
    assert kept(root).stat().st_mode & 0o077 == 0
    assert json.loads(kept(root).read_text()) == {"tags": ["a", "b"], "note": "it's ü\n\ud800"}


def test_the_last_remark_taken_away_stays_away(root: str) -> None:
    said = {"tags": ["own"], "note": "inside"}
    assert remarks.of(root, ID, said) == remarks.own(said) == Remarks(("own",), "inside")
    remarks.change(root, ID, lambda old: old.with_tags(["a"]), remarks.own(said))
    assert remarks.of(root, ID, said) == Remarks(("a", "own"), "inside")
    remarks.change(root, ID, lambda old: Remarks(old.without_tags(["a", "own", "never"]).tags))
    assert remarks.of(root, ID, said) == remarks.read(root, ID) == NONE
    remarks.drop(root, ID)
    assert not kept(root).exists()


def test_what_changes_nothing_writes_nothing(root: str) -> None:
    remarks.change(root, ID, lambda old: old.without_tags(["a"]), Remarks(("own",)))
    assert not kept(root).exists()


@pytest.mark.parametrize("identity", ["", "../../x", "a/b", "x" * 18, "A" * 18])
def test_no_id_leads_out_of_the_vault(root: str, identity: str) -> None:
    assert remarks.read(root, identity) == NONE
    with pytest.raises(CapsulaError):
        remarks.change(root, identity, lambda old: old.with_tags(["a"]))


def test_nothing_is_written_among_other_people_s_things(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    with pytest.raises(CapsulaError):
        remarks.change(str(tmp_path / "vault"), ID, lambda old: old.with_tags(["a"]))
    assert not list((tmp_path / "vault").iterdir())


@pytest.mark.parametrize("content", ["{", "[]", "\0", "[" * 100_000])
def test_damaged_remarks_are_said_and_not_overwritten(root: str, content: str) -> None:
    remarks.change(root, ID, lambda old: old.with_tags(["a"]))
    kept(root).write_text(content)
    with pytest.raises(CapsulaError, match="can't read"):
        remarks.read(root, ID)
    with pytest.raises(CapsulaError, match="can't read"):
        remarks.change(root, ID, lambda old: old.with_tags(["b"]))
    assert kept(root).read_text() == content


def _tag_many(root: str, name: str) -> None:
    for number in range(25):
        remarks.change(root, ID, lambda old, number=number: old.with_tags([f"{name}{number}"]))  # type: ignore[misc]


def test_of_tags_given_at_once_all_stay(root: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_tag_many, args=(root, name)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(remarks.read(root, ID).tags) == 100


@pytest.mark.parametrize("text", ["", "a b", "a,b", "-x", "a\nb", "x" * 101, "\x1b[1m"])
def test_what_can_t_be_a_tag_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        remarks.tag(text)


_remarks = st.builds(lambda tags, note: Remarks(note=note).with_tags(tags), st.lists(st.text()), st.text())


@given(_remarks)
def test_remarks_are_the_same_after_writing_and_reading(made: Remarks) -> None:
    assert remarks.parse(remarks.dump(made)) == made


@given(_remarks, _remarks)
def test_merging_loses_nothing_and_twice_is_once(one: Remarks, other: Remarks) -> None:
    both = one.merged(other)
    assert {*one.tags, *other.tags} == set(both.tags)
    assert one.note in both.note
    assert other.note in both.note
    assert both.merged(other) == both
