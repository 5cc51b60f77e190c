"""What came from a shared store is in one file until somebody asks for it, and nobody notices."""

import errno
import os
import time
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult, OutputFile
from capsula.errors import StoreError
from capsula.store import sweep, unopened, upkeep
from capsula.store.disk import DiskStore
from capsula.store.layout import GRACE, entry_path, unopened_path
from capsula.store.unopened import keep, open_all, open_one, open_what_has

CONTENTS = [b"content %d" % number * (number + 1) for number in range(60)]
ACTION, OTHER = digest_of(b"action"), digest_of(b"another")
RESULT = ActionResult(
    output_files=tuple(OutputFile(path=str(at), digest=digest_of(each)) for at, each in enumerate(CONTENTS))
)


@pytest.fixture
def near(tmp_path: Path) -> DiskStore:
    return DiskStore(str(tmp_path / "near"), now=time.time)


def bring(near: DiskStore, contents: list[bytes] = CONTENTS, action: Digest = ACTION) -> Path:
    """As when it has come from a remote; the file that it is in."""
    keep(near, action, {digest_of(content).hash: content for content in contents}, time.time())
    near.store(action, RESULT)
    return Path(unopened_path(near.root, action.hash))


def there(near: DiskStore) -> int:
    """How many of the contents are; all that are, are right."""
    digests = [digest_of(content) for content in CONTENTS]
    return sum(
        [
            near.has(digest) and near.read(digest) == each
            for digest, each in zip(digests, CONTENTS, strict=True)
        ]
    )


def test_it_is_opened_when_the_result_is_asked_for(near: DiskStore) -> None:
    path = bring(near)
    assert (there(near), path.exists()) == (0, True)
    assert near.lookup(OTHER) is None
    assert there(near) == 0
    assert near.lookup(ACTION) == RESULT
    assert (there(near), path.exists()) == (len(CONTENTS), False)
    assert near.lookup(ACTION) == RESULT


def test_what_is_there_already_stays(near: DiskStore) -> None:
    near.put(CONTENTS[3])
    bring(near)
    after = near.written
    assert near.lookup(ACTION) == RESULT
    assert there(near) == len(CONTENTS)
    assert near.written == after, "it was counted when it came"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"x",
        lambda raw: raw[:200],
        lambda raw: b"",
        lambda raw: bytes(len(raw)),
        lambda raw: raw.replace(b"content 7", b"content 8"),
        lambda raw: os.urandom(len(raw)),
    ],
)
def test_what_is_spoiled_is_as_if_it_werent_there(near: DiskStore, spoil) -> None:  # type: ignore[no-untyped-def]
    path = bring(near)
    raw = spoil(path.read_bytes())
    path.chmod(0o600)
    path.write_bytes(raw)
    assert near.lookup(ACTION) == RESULT
    assert not path.exists()
    assert len(os.listdir(f"{near.root}/quarantine")) == 1
    assert there(near) < len(CONTENTS)
    assert not [
        each for each in Path(near.root, "cas").glob("*/*") if digest_of(each.read_bytes()).hash != each.name
    ]


@pytest.mark.parametrize("instead", ["directory", "link to nowhere", "link to itself", "pipe"])
def test_something_else_in_its_place_keeps_nobody(near: DiskStore, instead: str) -> None:
    path = bring(near)
    path.unlink()
    if instead == "directory":
        path.mkdir()
    elif instead == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if instead == "link to itself" else "nowhere")
    before = os.listdir("/proc/self/fd")
    assert near.lookup(ACTION) == RESULT
    assert there(near) == 0
    open_all(near)
    open_what_has(near, [digest_of(CONTENTS[0])])
    assert os.listdir("/proc/self/fd") == before


def test_one_that_comes_anew_while_it_is_opened_stays(
    near: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(near, CONTENTS[:40])
    kept = DiskStore.keep

    def meanwhile(self: DiskStore, name: str, content: bytes) -> None:
        monkeypatch.setattr(DiskStore, "keep", kept)
        bring(near, CONTENTS[40:])
        kept(self, name, content)

    monkeypatch.setattr(DiskStore, "keep", meanwhile)
    open_one(near, ACTION.hash)
    assert there(near) == 40
    open_one(near, ACTION.hash)
    assert there(near) == len(CONTENTS)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Until it is undone, the disk takes no blobs."""

    def refused(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(DiskStore, "keep", refused)
    return monkeypatch


def test_where_the_disk_takes_nothing_it_is_held_in_memory(near: DiskStore, full: pytest.MonkeyPatch) -> None:
    path = bring(near)
    for _ in range(2):
        assert near.lookup(ACTION) == RESULT
        open_one(near, ACTION.hash)
        assert near.missing([digest_of(each) for each in CONTENTS]) == []
        assert (there(near), path.exists()) == (len(CONTENTS), True)
        for each in CONTENTS:
            near.verify(digest_of(each))
    full.undo()
    other = DiskStore(near.root, now=time.time)
    assert there(other) == 0
    assert other.lookup(ACTION) == RESULT
    assert (there(other), path.exists()) == (len(CONTENTS), False)


def test_of_what_others_have_only_what_is_wanted_is_held(near: DiskStore, full: pytest.MonkeyPatch) -> None:
    bring(near)
    assert open_what_has(near, [digest_of(each) for each in CONTENTS[:3]])
    assert there(near) == 3
    assert not open_all(near)
    full.undo()
    assert open_all(near)


def test_what_comes_is_added_to_what_could_not_be_opened(near: DiskStore, full: pytest.MonkeyPatch) -> None:
    bring(near, CONTENTS[:40])
    open_one(near, ACTION.hash)
    bring(near, CONTENTS[30:])
    full.undo()
    assert DiskStore(near.root, now=time.time).lookup(ACTION) == RESULT
    assert DiskStore(near.root, now=time.time).missing([digest_of(each) for each in CONTENTS]) == []


def test_where_nobody_may_look_there_is_nothing(near: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another user's store."""
    bring(near)

    def closed(_: str) -> list[object]:
        raise PermissionError

    monkeypatch.setattr(unopened, "scan_unopened", closed)
    assert not open_what_has(near, [digest_of(each) for each in CONTENTS])
    assert not open_all(near), "so that nothing is concluded from it"


def test_a_disk_that_refuses_is_told_and_leaves_nothing(
    near: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(unopened, "publish", full)
    with pytest.raises(StoreError):
        bring(near)
    assert [path for path in Path(near.root).rglob("*") if path.is_file()] == []


def test_what_another_result_has_is_found(near: DiskStore) -> None:
    first = bring(near, CONTENTS[:40])
    second = bring(near, CONTENTS[40:], OTHER)
    open_what_has(near, [digest_of(each) for each in [*CONTENTS[:20], b"new"]])
    assert (first.exists(), second.exists(), there(near)) == (False, True, 40)


# ------------------------------------------------------------------------------------------------ sweeps and checks


LATER = time.time() + 2 * GRACE


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "é" * 64, "0" * 63, "xy" * 32])
def test_what_has_no_name_of_a_blob_is_in_none(near: DiskStore, name: str) -> None:
    """An entry from somewhere else may name anything."""
    path = bring(near)
    assert not open_what_has(near, [Digest(name, 5)] * 40)
    assert path.exists()
    assert open_what_has(near, [Digest(name, 5), digest_of(CONTENTS[0])])


def test_a_sweep_leaves_it_with_its_entry(near: DiskStore) -> None:
    large = near.put(b"x" * 100_000)
    path = bring(near)
    near.store(
        ACTION, ActionResult(output_files=(*RESULT.output_files, OutputFile(path="large", digest=large)))
    )
    swept = sweep.sweep(near.root, now=lambda: LATER)
    assert swept is not None
    assert (swept.entries, swept.damaged, swept.blobs) == (1, 0, 1)
    assert swept.bytes > path.stat().st_size + 100_000
    assert near.lookup(ACTION) is not None
    assert there(near) == len(CONTENTS)
    assert near.has(large)


def test_it_goes_with_its_entry(near: DiskStore) -> None:
    path = bring(near)
    swept = sweep.sweep(near.root, 100, now=lambda: LATER)
    assert swept is not None
    assert (swept.entries_deleted, path.exists()) == (1, False)
    assert swept.bytes_deleted > sum(map(len, CONTENTS))


def test_of_two_the_one_that_was_used_last_stays(near: DiskStore) -> None:
    first, second = bring(near), bring(near, CONTENTS, OTHER)
    near.store(OTHER, RESULT)
    for action, moment in ((ACTION, 1000), (OTHER, 2000)):
        os.utime(entry_path(near.root, action.hash), (moment, moment))
    swept = sweep.sweep(near.root, second.stat().st_size * 2, now=lambda: LATER)
    assert swept is not None
    assert (first.exists(), second.exists(), swept.entries) == (False, True, 1)


def test_what_no_entry_names_goes_when_it_is_old(near: DiskStore) -> None:
    path = bring(near)
    near.remove(ACTION)
    sweep.sweep(near.root)
    assert path.exists(), "its entry may be about to be stored"
    sweep.sweep(near.root, now=lambda: LATER)
    assert not path.exists()


@pytest.mark.parametrize("does", ["sweep", "verify"])
@pytest.mark.parametrize("when", ["it comes", "it is opened"])
def test_nothing_is_taken_for_broken_while_it_changes(
    near: DiskStore, monkeypatch: pytest.MonkeyPatch, does: str, when: str
) -> None:
    """Between the listing of what is unopened and the look at each entry."""
    if when == "it is opened":
        bring(near)
    module = sweep if does == "sweep" else upkeep
    load = module.load_entry

    def meanwhile(path: str, key: str) -> object:
        if when == "it is opened":
            open_one(near, key)
        else:
            bring(near)
        return load(path, key)

    monkeypatch.setattr(module, "load_entry", meanwhile)
    if when == "it comes":
        for each in CONTENTS:
            near.put(each)
        near.store(ACTION, RESULT)
    if does == "sweep":
        swept = sweep.sweep(near.root)
        assert swept is not None
        assert (swept.entries, swept.damaged) == (1, 0)
    else:
        assert upkeep.verify(near.root).sound
    assert near.lookup(ACTION) == RESULT
    assert there(near) == len(CONTENTS)


def test_it_is_verified_counted_and_cleared(near: DiskStore) -> None:
    path = bring(near)
    assert upkeep.stats(near.root).blobs.bytes == path.stat().st_size
    assert upkeep.verify(near.root).blobs == len(CONTENTS)
    assert path.exists()
    assert upkeep.clear(near.root).bytes > sum(map(len, CONTENTS))
    assert not path.exists()
    assert upkeep.stats(near.root).bytes == 0


def test_what_it_lacks_is_told_by_verify(near: DiskStore) -> None:
    bring(near, CONTENTS[1:])
    assert upkeep.verify(near.root).incomplete == (ACTION.hash,)


def test_one_without_an_entry_goes_also_when_its_clock_was_wrong(near: DiskStore) -> None:
    path = bring(near)
    near.remove(ACTION)
    os.utime(path, (LATER + 400 * 86400, LATER + 400 * 86400))
    sweep.sweep(near.root)
    sweep.sweep(near.root, now=lambda: LATER)
    assert not path.exists()


def test_what_is_used_while_it_should_go_stays_whole(
    near: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = near.put(b"x" * 100_000)
    bring(near)
    near.store(
        ACTION, ActionResult(output_files=(*RESULT.output_files, OutputFile(path="large", digest=large)))
    )
    evict = sweep.Marks.evict

    def meanwhile(self: sweep.Marks, swept: sweep.Swept) -> None:
        assert near.lookup(ACTION) is not None
        evict(self, swept)

    monkeypatch.setattr(sweep.Marks, "evict", meanwhile)
    sweep.sweep(near.root, 100, now=lambda: LATER)
    assert near.lookup(ACTION) is not None
    assert there(near) == len(CONTENTS)
    assert near.has(large)


def test_one_that_was_spoiled_is_told_by_verify(near: DiskStore) -> None:
    path = bring(near)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"content 7", b"content 8"))
    found = upkeep.verify(near.root)
    assert (found.bad_blobs, found.incomplete) == ((ACTION.hash,), (ACTION.hash,))
    assert not path.exists()


def test_names_that_are_no_hashes_are_left_alone(near: DiskStore) -> None:
    path = bring(near)
    strange = path.with_name("README")
    path.rename(strange)
    open_all(near)
    open_one(near, ACTION.hash)
    assert strange.exists()


def test_of_very_many_the_newest_are_looked_into(near: DiskStore) -> None:
    for number in range(unopened._NEWEST + 2):
        path = bring(near, CONTENTS[:40], digest_of(b"%d" % number))
        os.utime(path, (number, number))
    open_what_has(near, [digest_of(CONTENTS[0])])
    assert sorted(path.stat().st_mtime for path in Path(near.root, "unopened").iterdir()) == [0, 1]
    open_all(near)
    assert list(Path(near.root, "unopened").iterdir()) == []
