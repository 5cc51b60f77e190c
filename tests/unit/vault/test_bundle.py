"""Bundles: what was sealed comes out of one as it went in, and what is there already stays."""

import io
import json
import os
import shutil
import subprocess
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from capsula.core.names import to_text
from capsula.errors import CapsulaError, UsageError
from capsula.vault import arrival, compression, incoming, packing, remarks, removal
from capsula.vault.archive import Reader
from capsula.vault.record import capsules, verify
from capsula.vault.vault import Vault
from unit.vault.bundles import DATA, HOW, WHEN, begun, exported, imported, names, read, sealed

# --------------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("how", HOW)
def test_capsules_come_out_as_they_went_in(vault: Vault, other: Vault, how: str) -> None:
    found = [sealed(vault, own) for own in (b"", b"one", b"two")]
    content = exported(found, how)
    assert [capsule.id for capsule in imported(other, content).new] == [capsule.id for capsule in found]
    assert names(other) == sorted(capsule.name for capsule in found)
    for capsule in found:
        came = read(f"{other.root}/{capsule.name}")
        assert (came.record, came.status, verify(came)) == (capsule.record, "finished", [])
        assert Path(came.path).stat().st_mode & 0o777 == 0o700
        assert Path(came.path, "capsule.json").stat().st_mode & 0o777 == 0o400
    assert exported(capsules(other.root), how) == content


def test_names_of_any_bytes_links_and_empty_directories_come_too(
    vault: Vault, other: Vault, tmp_path: Path
) -> None:
    odd = os.fsdecode(b"\xff\n \xf4\x8f\xb8\x80")
    source = tmp_path / "source"
    (source / odd / "empty").mkdir(parents=True)
    (source / odd / ("long" * 50)).write_bytes(b"long")
    (source / odd / "tool").write_bytes(b"#!/bin/sh")
    (source / odd / "tool").chmod(0o755)
    (source / odd / "link").symlink_to(f"../{odd}/tool")
    draft = vault.begin("%Y", WHEN, "capture")
    draft.take(str(source), odd, move=False)
    draft.seal("failed", {})
    imported(other, exported([read(draft.path)], "gz"))
    came = Path(other.root, os.path.basename(draft.path))
    assert verify(read(str(came))) == []
    assert (came / odd / odd / "empty").is_dir()
    assert (came / odd / odd / "link").read_bytes() == b"#!/bin/sh"
    assert (came / odd / odd / "tool").stat().st_mode & 0o777 == 0o500


def test_the_same_capsules_make_the_same_bytes(vault: Vault) -> None:
    one, two = sealed(vault, b"1"), sealed(vault, b"2")
    first = exported([one, two], "gz")
    os.utime(f"{one.path}/own", (1, 1))
    assert exported([two, one, two], "gz") == first


def test_what_two_have_in_common_is_there_once(vault: Vault, other: Vault) -> None:
    one, two = sealed(vault, b"1"), sealed(vault, b"2")
    with tarfile.open(fileobj=io.BytesIO(exported([one, two]))) as archive:
        member = archive.getmember(f"{two.name}/data")
        assert (member.islnk(), member.linkname) == (True, f"{one.name}/data")
    imported(other, exported([one, two]))
    assert Path(other.root, one.name, "data").samefile(Path(other.root, two.name, "data"))


def test_tar_alone_can_unpack_it(vault: Vault, tmp_path: Path) -> None:
    found = [sealed(vault, b"1"), sealed(vault, b"2")]
    (tmp_path / "bundle.tar.gz").write_bytes(exported(found, "gz"))
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xzf", "../bundle.tar.gz"], cwd=tmp_path / "out", check=True)
    for capsule in found:
        assert verify(read(str(tmp_path / "out" / capsule.name))) == []
    told = json.loads((tmp_path / "out/capsula-bundle.json").read_text())
    assert [row["name"] for row in told["capsules"]] == [capsule.name for capsule in found]


def test_tags_and_notes_travel_along_and_join_those_that_are_there(vault: Vault, other: Vault) -> None:
    capsule = sealed(vault)
    remarks.change(vault.root, capsule.id, lambda old: remarks.Remarks(("a", "b"), "good"))
    content = exported([capsule])
    imported(other, content)
    assert remarks.read(other.root, capsule.id) == remarks.Remarks(("a", "b"), "good")
    remarks.change(other.root, capsule.id, lambda old: remarks.Remarks(("b", "c"), "better"))
    imported(other, content)
    assert remarks.read(other.root, capsule.id) == remarks.Remarks(("a", "b", "c"), "better\n\ngood")


def test_memory_stays_flat(vault: Vault, other: Vault) -> None:
    draft = vault.begin("x", WHEN, "capture")
    with open(f"{draft.path}/large", "wb") as file:
        file.writelines(os.urandom(1 << 20) for _ in range(48))
    draft.seal("finished", {})
    place = Path(vault.root).parent / "bundle.tar"
    tracemalloc.start()
    try:
        with place.open("wb") as out:
            packing.write(packing.pack([read(draft.path)]), out, "", lambda count: None)
        with place.open("rb") as file:
            reader = Reader(file)
            arrival.take_in(other.root, reader, arrival.plan(other.root, reader.manifest), lambda count: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert verify(read(f"{other.root}/{os.path.basename(draft.path)}")) == []


# --------------------------------------------------------------------------------------------------- what is there


def test_one_that_is_there_is_passed_over_and_the_others_come(vault: Vault, other: Vault) -> None:
    one, two = sealed(vault, b"1"), sealed(vault, b"2")
    imported(other, exported([one]))
    plan = imported(other, exported([one, two]))
    assert ([each.id for each in plan.new], [each.id for each in plan.there]) == ([two.id], [one.id])
    # In the archive its data is a link to the one that was passed over.
    assert verify(read(f"{other.root}/{two.name}")) == []


def test_one_that_is_there_under_another_name_is_passed_over(vault: Vault, other: Vault) -> None:
    capsule = sealed(vault)
    imported(other, exported([capsule]))
    os.rename(f"{other.root}/{capsule.name}", f"{other.root}/renamed-{capsule.id[-6:]}")
    assert len(imported(other, exported([capsule])).there) == 1


@pytest.mark.parametrize("there", ["another capsule", "a file", "a directory"])
def test_one_in_whose_place_is_something_else_is_refused(vault: Vault, other: Vault, there: str) -> None:
    capsule, innocent = sealed(vault), sealed(vault)
    place = Path(other.root, capsule.name)
    if there == "a file":
        place.write_text("x")
    else:
        place.mkdir()
        if there == "another capsule":
            (place / "capsule.json").write_text('{"id": "x"}')
    with pytest.raises(CapsulaError, match=f"another {capsule.name}"):
        imported(other, exported([capsule, innocent]))
    assert not Path(other.root, innocent.name).exists()


@pytest.mark.parametrize("status", ["running", "crashed"])
def test_one_that_isn_t_sealed_is_not_exported(vault: Vault, status: str) -> None:
    draft = begun(vault)
    if status == "crashed":
        record = json.loads(Path(draft.path, "capsule.json").read_text())
        Path(draft.path, "capsule.json").write_text(json.dumps({**record, "boot_id": "before"}))
    with pytest.raises(CapsulaError, match=f"isn't sealed: it is {status}"):
        exported([read(draft.path)])


@pytest.mark.parametrize(
    "change", ["other bytes", "longer", "shorter", "gone", "a link", "a link to the same", "a pipe"]
)
def test_one_that_isn_t_as_it_was_sealed_is_not_exported(vault: Vault, change: str) -> None:
    capsule = sealed(vault, b"own" * 1000)
    path = Path(capsule.path, "own")
    content = path.read_bytes()
    path.unlink()
    if change == "a link":
        path.symlink_to("data")
    elif change == "a link to the same":
        (path.parent / "same").write_bytes(content)
        path.symlink_to("same")
    elif change == "a pipe":
        os.mkfifo(path)
    elif change != "gone":
        path.write_bytes(
            {"other bytes": content[::-1], "longer": content + b"x", "shorter": content[:-1]}[change]
        )
    with pytest.raises(CapsulaError, match=f"^{capsule.name}/own: "):
        exported([capsule])


def test_where_there_are_no_links_and_no_room_that_is_no_trouble_or_said(
    vault: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = sealed(vault, b"1"), sealed(vault, b"2")

    def refused(*args: object) -> None:
        raise OSError(1, "Operation not permitted")

    content = exported([one, two])
    monkeypatch.setattr(arrival.os, "link", refused)
    imported(other, content)
    assert verify(read(f"{other.root}/{two.name}")) == []
    shutil.rmtree(f"{other.root}/{two.name}")
    full = os.statvfs_result((4096, 4096, 10, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(arrival.os, "statvfs", lambda place: full)
    with pytest.raises(CapsulaError, match="takes"):
        imported(other, content)
    assert names(other) == [one.name]


def test_a_disk_that_fills_up_leaves_nothing(
    vault: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = exported([sealed(vault)])

    def full(paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrival, "flush", full)
    with pytest.raises(OSError, match="No space"):
        imported(other, content)
    assert names(other) == []


def test_imports_of_one_bundle_at_once_all_succeed(vault: Vault, other: Vault) -> None:
    found = [sealed(vault, b"%d" % at) for at in range(20)]
    content = exported(found)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: imported(other, content), range(12)))
    assert names(other) == sorted(capsule.name for capsule in found)
    assert [verify(read(f"{other.root}/{name}")) for name in names(other)] == [[]] * 20


def test_what_a_killed_import_left_is_cleared_away_and_what_one_at_work_has_is_not(
    vault: Vault, other: Vault
) -> None:
    folder = Path(other.root, ".capsula/incoming")
    (folder / "killed").mkdir(parents=True)
    (folder / "killed/.lock").touch()
    (folder / "killed early").mkdir()
    with incoming.aside(other.root) as at_work:
        imported(other, exported([sealed(vault)]))
        assert sorted(os.listdir(folder)) == sorted([".lock", os.path.basename(at_work)])
    assert len(names(other)) == 1


def test_an_import_that_ends_between_two_capsules_can_be_done_again(
    vault: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = sealed(vault, b"1"), sealed(vault, b"2")
    content = exported([one, two])
    real = os.rename

    def rename(source: str, target: str) -> None:
        if os.path.basename(target) == two.name:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(arrival.os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            imported(other, content)
    assert (names(other), verify(read(f"{other.root}/{one.name}"))) == ([one.name], [])
    plan = imported(other, content)
    assert ([each.id for each in plan.new], [each.id for each in plan.there]) == ([two.id], [one.id])


def test_what_a_killed_import_left_goes_when_the_vault_is_cleaned(other: Vault) -> None:
    folder = Path(other.root, ".capsula/incoming")
    assert removal.leftovers(other.root, 0) == []
    (folder / "killed/x-123456").mkdir(parents=True)
    (folder / "killed/.lock").touch()
    (folder / "killed/x-123456/data").write_bytes(DATA)
    with incoming.aside(other.root):
        (folder / "again").mkdir()
        assert removal.leftovers(other.root, 0) == [str(folder / "again")]
        assert removal.sweep(other.root, 0)[0] == 1
        assert len(os.listdir(folder)) == 2
    assert names(other) == []


# --------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "how"),
    [("a.tar", ""), ("a.tar.gz", "gz"), ("d/a.b.tgz", "gz"), ("a.txz", "xz"), ("a.tar.zst", "zst")],
)
def test_its_name_says_how_it_is_compressed(name: str, how: str) -> None:
    assert compression.ending(name) == how


@pytest.mark.parametrize("name", ["a", "a.zip", "a.gz", ".tar.gz"])
def test_a_name_that_doesn_t_say_it_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        compression.ending(name)


def test_text_of_names_is_what_the_seal_has() -> None:
    assert to_text("\udcff") == "\U0010feff"
