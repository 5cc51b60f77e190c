"""Bundles: what was sealed comes out of one as it went in, and whatever isn't that is refused by name."""

import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.core.names import to_text
from capsula.errors import CapsulaError, NotAvailable, UsageError
from capsula.vault import arrival, bundle, compression, incoming, packing, remarks, removal
from capsula.vault.archive import Reader
from capsula.vault.bundle import Entry, Kind
from capsula.vault.record import Capsule, capsules, read_capsule, verify
from capsula.vault.vault import Draft, Vault

WHEN = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
HOW = ["", "gz", "xz", "zst"]
DATA = b"in both of them " * 200


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return made(tmp_path / "vault")


@pytest.fixture
def other(tmp_path: Path) -> Vault:
    return made(tmp_path / "other")


def made(place: Path) -> Vault:
    vault = Vault(str(place))
    vault.prepare()
    return vault


def begun(vault: Vault, own: bytes = b"own") -> Draft:
    draft = vault.begin("x", WHEN, "capture")
    draft.write("data", DATA)
    draft.write("own", own)
    return draft


def sealed(vault: Vault, own: bytes = b"own") -> Capsule:
    draft = begun(vault, own)
    draft.seal("finished", {"command": "make"})
    return read(draft.path)


def read(path: str) -> Capsule:
    found = read_capsule(path)
    assert found is not None
    return found


def exported(found: Iterable[Capsule], how: str = "") -> bytes:
    out = io.BytesIO()
    packing.write(packing.pack(found), out, how, lambda count: None)
    return out.getvalue()


def imported(vault: Vault, content: bytes) -> arrival.Plan:
    reader = Reader(io.BytesIO(content))
    plan = arrival.plan(vault.root, reader.manifest)
    arrival.take_in(vault.root, reader, plan, lambda count: None)
    return plan


def names(vault: Vault) -> list[str]:
    """What is in it, but for what any vault has; nothing is left at the side."""
    assert {path.name for path in Path(vault.root).glob(".capsula/incoming/*")} <= {".lock"}
    return sorted(set(os.listdir(vault.root)) - {".capsula", ".capsula-vault", ".gitignore"})


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


# --------------------------------------------------------------------------------------------------- hostile ones


def remade(content: bytes, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> bytes:
    """The archive with other members: each is its header and what it holds."""
    members = []
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            members.append((member, file.read() if file else b""))
    change(members)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for member, held in members:
            archive.addfile(member, io.BytesIO(held))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in more.items():
        setattr(made, key, value)
    return made, b"x" * made.size if made.isreg() else b""


STRANGE = [
    (member("/etc/cron.d/x", size=1), "/etc/cron.d/x in it leads out"),
    (member("../x", size=1), r"\.\./x in it leads out"),
    (member("x/../../y", size=1), r"x/\.\./\.\./y in it leads out"),
    (member("x/link", tarfile.SYMTYPE, linkname="/etc"), "x/link is in it, but not in its manifest"),
    (member("x/hard", tarfile.LNKTYPE, linkname="/etc/passwd"), "x/hard is in it, but not"),
    (member("x/null", tarfile.CHRTYPE), "x/null in it is a device"),
    (member("x/disk", tarfile.BLKTYPE), "x/disk in it is a device"),
    (member("x/pipe", tarfile.FIFOTYPE), "x/pipe in it is a pipe"),
    (member("x/odd", b"Z"), "x/odd in it is nothing that belongs"),
    (member("x/root", size=1, mode=0o4755), "x/root in it has the mode 4755"),
    (member("x/more", size=1), "x/more is in it, but not in its manifest"),
    (member("capsula-bundle.json", size=1), "capsula-bundle.json is in it twice"),
    (member("x/\udcff", size=1), r"x/\\xff in it is no UTF-8"),
]


@pytest.mark.parametrize("place", [1, 2, -1, 1000])
@pytest.mark.parametrize(("strange", "said"), STRANGE, ids=[said for _, said in STRANGE])
def test_a_member_that_doesn_t_belong_is_refused_by_name(
    vault: Vault, other: Vault, strange: tuple[tarfile.TarInfo, bytes], said: str, place: int
) -> None:
    content = remade(exported([sealed(vault)]), lambda members: members.insert(place, strange))
    with pytest.raises(CapsulaError, match=said):
        imported(other, content)
    assert names(other) == []


def changed_member(ending: str, /, **more: Any) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        for at, (found, held) in enumerate(members):
            if found.name.endswith(ending):
                held = more.get("held", held)
                for key, value in more.items():
                    if key != "held":
                        setattr(found, key, value)
                members[at] = (found, held)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed_member("/own", held=b"evil", size=4), "/own in it has 4 bytes, its manifest says 3"),
        (changed_member("/own", held=b"bad", size=3), "/own in it has other bytes"),
        (changed_member("/own", mode=0o2644), "/own in it has the mode 2644"),
        (changed_member("/own", type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0), "is a link"),
        (changed_member("/own", type=tarfile.LNKTYPE, linkname="/etc/passwd", size=0), "is a hard link"),
        (changed_member("/own", type=tarfile.CHRTYPE, size=0), "/own in it is a device"),
        (changed_member("/own", name="../../own"), r"\.\./\.\./own in it leads out"),
        (lambda members: members.pop(), "ends before .*/own"),
        (lambda members: members.append(members[-1]), "/own is in it twice"),
        (lambda members: members.insert(2, members.pop()), "/own in it isn't in its place"),
        (lambda members: members.pop(0), "no bundle"),
        (lambda members: members.clear(), "no bundle"),
    ],
)
def test_a_member_that_isn_t_as_the_manifest_says_is_refused_by_name(
    vault: Vault, other: Vault, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None], said: str
) -> None:
    content = remade(exported([sealed(vault)]), change)
    with pytest.raises(CapsulaError, match=said):
        imported(other, content)
    assert names(other) == []


@pytest.mark.parametrize("ending", ["/link", "/data"])
def test_a_link_to_something_else_than_the_manifest_says_is_refused_by_name(
    vault: Vault, other: Vault, ending: str
) -> None:
    """The first `data` has bytes, the second is a hard link to it."""
    draft = begun(vault)
    os.symlink("own", f"{draft.path}/link")
    draft.seal("finished", {})

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        for found, _ in members:
            if found.name.endswith(ending) and found.linkname:
                found.linkname = "/etc/passwd"

    content = remade(exported([read(draft.path), sealed(vault)]), change)
    with pytest.raises(
        CapsulaError, match=f"{ending} in it leads to /etc/passwd, its manifest says otherwise"
    ):
        imported(other, content)
    assert names(other) == []


def test_a_manifest_of_which_a_letter_was_changed_is_damaged(vault: Vault) -> None:
    capsule = sealed(vault)
    remarks.change(vault.root, capsule.id, lambda old: remarks.Remarks((), "it is good"))
    content = bundle.dump(packing.pack([capsule]).manifest)
    assert bundle.parse(content).capsules[0].remarks.note == "it is good"
    with pytest.raises(CapsulaError, match="its manifest is damaged"):
        bundle.parse(content.replace(b"it is good", b"it is food"))


def test_something_in_the_gaps_is_refused(small: dict[str, bytes]) -> None:
    content = bytearray(small[""])
    end = content.rindex(DATA) + len(DATA)
    assert content[end] == 0
    content[end] = 1
    with pytest.raises(CapsulaError, match="data in it is damaged"):
        check(bytes(content))


def forged(
    vault: Vault,
    change: Callable[[dict[str, Any], dict[str, Any]], None],
    said: Mapping[str, Any] = MappingProxyType({}),
) -> bytes:
    """A bundle of which manifest and seal have been changed alike, with digests and checksums that are right: the row
    of the file `own` in both of them, and the manifest's of the capsule."""
    draft = begun(vault)
    draft.seal("finished", {})
    content = exported([read(draft.path)])

    def forge(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        manifest = json.loads(members[0][1])
        capsule = manifest["capsules"][0]
        at = next(at for at, (found, _) in enumerate(members) if found.name.endswith("/capsule.json"))
        record = json.loads(members[at][1])
        for rows in (capsule["files"], record["files"]):
            change(capsule, next(row for row in rows if row["name"] == "own"))
        held = json.dumps({**record, **said}).encode()
        members[at][0].size = len(held)
        members[at] = (members[at][0], held)
        row = next(row for row in capsule["files"] if row["name"] == "capsule.json")
        row["size"], row["sha256"] = len(held), hashlib.sha256(held).hexdigest()
        manifest["sha256"] = hashlib.sha256(
            json.dumps(manifest["capsules"], sort_keys=True).encode()
        ).hexdigest()
        held = json.dumps(manifest).encode()
        members[0][0].size = len(held)
        members[0] = (members[0][0], held)

    return remade(content, forge)


def row(**more: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda capsule, found: found.update(more)


def link(target: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(capsule: dict[str, Any], found: dict[str, Any]) -> None:
        found.clear()
        found.update(name="own", link=target)

    return change


def capsule_row(**more: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda capsule, found: capsule.update(more)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (row(name="/etc/passwd"), "//etc/passwd leads out of its capsule"),
        (row(name="../../x"), r"/\.\./\.\./x leads out of its capsule"),
        (row(name="a/../b"), "leads out of its capsule"),
        (row(name="a//b"), "is no name for a file"),
        (row(name="./a"), "is no name for a file"),
        (row(name=""), "is no name for a file"),
        (row(name="a\0b"), "is no name for a file"),
        (row(name="\ud800"), "is no name for a file"),
        (row(name="x" * 256), "is no name for a file"),
        (row(name="x/" * 2100 + "x"), "is no name for a file"),
        (row(name="x/" * 200 + "x"), "is no name for a file"),
        (row(name=7), "name that is no text"),
        (row(name="data"), "/data is there twice"),
        (row(name="data/x"), "/data/x lies below"),
        (row(name="capsule.json/x"), "lies below"),
        (row(size=-1), "has no size"),
        (row(size=True), "has no size"),
        (row(size=1 << 70), "has no size"),
        (row(sha256="x"), "has no digest"),
        (row(mode="4755"), "has the mode 4755"),
        (row(mode=None), "has the mode None"),
        (link(""), "leads to what can't be"),
        (link("a\0"), "leads to what can't be"),
        (capsule_row(name="../x"), "no name for a capsule"),
        (capsule_row(name=".capsula"), "no name for a capsule"),
        (capsule_row(name=""), "no name for a capsule"),
        (capsule_row(name="capsula-bundle.json"), "no name for a capsule"),
        (capsule_row(id="1"), "has no id"),
        (capsule_row(tags=["a b"]), "can't be a tag"),
        (capsule_row(tags="ab"), "no list of tags"),
        (capsule_row(note=["x"]), "the note of"),
        (capsule_row(files={}), "no list of files"),
        (capsule_row(files=[]), "has no capsule.json|other files"),
        (capsule_row(id="0" * 18), "another id than its manifest"),
    ],
)
def test_a_manifest_that_asks_for_what_must_not_be_is_refused(
    vault: Vault, other: Vault, change: Callable[[dict[str, Any], dict[str, Any]], None], said: str
) -> None:
    try:
        content = forged(vault, change)
    except StopIteration:  # there is nothing left of it to be forged
        return
    with pytest.raises(CapsulaError, match=said):
        imported(other, content)
    assert names(other) == []


def test_a_forged_manifest_that_asks_for_nothing_bad_is_taken(vault: Vault, other: Vault) -> None:
    """So that the refusals above are those of what was forged."""
    imported(other, forged(vault, lambda capsule, found: None))
    assert len(names(other)) == 1


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"status": "running"}, "doesn't say how it ended"),
        ({"status": ["finished"]}, "doesn't say how it ended"),
        ({"format": 2}, "format that this capsula doesn't know"),
        ({"files": None}, "never sealed"),
    ],
)
def test_a_record_that_is_not_one_of_a_sealed_capsule_is_refused(
    vault: Vault, other: Vault, record: dict[str, Any], said: str
) -> None:
    with pytest.raises(CapsulaError, match=said):
        imported(other, forged(vault, lambda capsule, found: None, record))
    assert names(other) == []


def test_the_deepest_directories_are_made_and_cleared_away(vault: Vault, other: Vault) -> None:
    draft = begun(vault)
    draft.write("x/" * 199 + "x", b"deep")
    draft.seal("finished", {})
    content = exported([read(draft.path)])
    with pytest.raises(CapsulaError, match="other bytes"):
        imported(other, content.replace(b"deep", b"weep"))
    assert names(other) == []
    imported(other, content)
    assert verify(read(f"{other.root}/{os.path.basename(draft.path)}")) == []


def test_a_seal_that_names_other_files_is_refused(vault: Vault, other: Vault) -> None:
    turns = iter(["manifest", "seal"])

    def change(capsule: dict[str, Any], found: dict[str, Any]) -> None:
        if next(turns) == "seal":
            found["name"] = "another"

    with pytest.raises(CapsulaError, match="other files than it was sealed with"):
        imported(other, forged(vault, change))
    assert names(other) == []


@pytest.mark.parametrize(
    ("name", "target", "out"),
    [
        ("l", "a", False),
        ("l", "./a", False),
        ("d/e/l", "../../a", False),
        ("d/l", "../a/b/c", False),
        ("l", "..", True),
        ("l", "../x", True),
        ("d/l", "../../x", True),
        ("d/l", ".././../x", True),
        ("l", "/etc/passwd", True),
        ("p/q/l", "s/../../x", True),  # s may be a link to where two up is outside
        ("l", "a/..", True),
    ],
)
def test_a_link_that_may_lead_out_is_known(name: str, target: str, out: bool) -> None:
    assert Entry(name, Kind.LINK, target=target).leads_out is out


# --------------------------------------------------------------------------------------------------- damaged ones


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = made(tmp_path_factory.mktemp("small") / "vault")
    found = [sealed(place, b"1"), sealed(place, b"2")]
    return {how: exported(found, how) for how in HOW}


def check(content: bytes) -> None:
    arrival.check(Reader(io.BytesIO(content)), lambda count: None)


@pytest.mark.parametrize("how", HOW)
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60)
def test_one_that_is_cut_short_is_said(small: dict[str, bytes], how: str, share: float) -> None:
    check(small[how])
    # In a tar that isn't compressed, the zeros at the end are padding.
    last = len(small[how]) if how else len(small[how].rstrip(b"\0"))
    with pytest.raises(CapsulaError):
        check(small[how][: int(share * last)])


@pytest.mark.parametrize("how", HOW)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_a_flipped_bit_is_said_or_harmless(
    small: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, how: str, share: float, bit: int
) -> None:
    content = bytearray(small[how])
    content[int(share * len(content))] ^= 1 << bit
    flipped = bytes(content)
    try:
        check(flipped)
    except CapsulaError:
        return
    # The header of a gzip file has flags and a time that mean nothing to anybody.
    into = made(tmp_path_factory.mktemp("flipped") / "vault")
    imported(into, flipped)
    assert exported(capsules(into.root), how) == small[how]


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\0" * 20000, random.Random(1).randbytes(5000), b"\x1f\x8b", b"\xfd7zXZ\0"]
)
def test_what_is_no_bundle_is_said(content: bytes) -> None:
    with pytest.raises(CapsulaError):
        check(content)


def test_another_tar_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    subprocess.run(["tar", "cf", "a.tar", "a"], cwd=tmp_path, check=True)
    with pytest.raises(CapsulaError, match="no bundle of capsules"):
        check((tmp_path / "a.tar").read_bytes())


def peak_of(content: bytes) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(CapsulaError):
            check(content)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def compressed(content: bytes, how: str) -> bytes:
    out = io.BytesIO()
    with contextlib.closing(compression.compressed(out, how)) as sink:
        sink.write(content)
    return out.getvalue()


def test_a_bomb_fills_neither_memory_nor_disk(small: dict[str, bytes]) -> None:
    zeros = bytes(64 << 20)
    header = tarfile.TarInfo("capsula-bundle.json")
    header.size = len(zeros)
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, len(zeros)
    after = small[""].rstrip(b"\0")
    before = small[""][: -(-int(small[""][124:135], 8) // 512) * 512 + 512]
    assert len(Reader(io.BytesIO(before)).manifest.capsules) == 2
    for bomb in (
        gzip.compress(header.tobuf() + zeros, 1),
        gzip.compress(before + extended.tobuf() + zeros, 1),
        gzip.compress(after + bytes(-len(after) % 512) + zeros, 1),
        small["gz"] + gzip.compress(zeros, 1),
        lzma.compress(before + extended.tobuf() + zeros, preset=0),
        compressed(before + extended.tobuf() + zeros, "zst"),
        compressed(after + bytes(-len(after) % 512) + zeros, "zst"),
    ):
        assert len(bomb) < 2 << 20
        assert peak_of(bomb) < 16 << 20


def test_something_behind_the_end_is_refused(small: dict[str, bytes]) -> None:
    for how in HOW:
        for more in (b"x", small[how]):
            with pytest.raises(CapsulaError):
                check(small[how] + more)


def test_an_xz_that_asks_for_much_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    with pytest.raises(CapsulaError, match="damaged"):
        check(lzma.compress(b"x" * 100, filters=filters, format=lzma.FORMAT_XZ))


def test_without_a_library_for_zstd_that_is_said(
    small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("compression", "backports"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (lambda: check(small["zst"]), lambda: compression.compressed(io.BytesIO(), "zst")):
        with pytest.raises(NotAvailable, match="zst"):
            call()


def test_a_format_of_the_future_is_said() -> None:
    with pytest.raises(CapsulaError, match="format 2"):
        bundle.parse(b'{"capsula-bundle": 2}')


@pytest.mark.parametrize("content", [b"[" * 100_000, b"7", b"{}", b'{"capsula-bundle": 1}', b"\xff"])
def test_a_manifest_that_is_none_is_said(content: bytes) -> None:
    with pytest.raises(CapsulaError, match="its manifest"):
        bundle.parse(content)


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
