"""Bundles that were made to do harm: whatever isn't what was sealed is refused by name."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from capsula.errors import CapsulaError
from capsula.vault import bundle, packing, remarks
from capsula.vault.bundle import Entry, Kind
from capsula.vault.record import verify
from capsula.vault.vault import Vault
from unit.vault.bundles import begun, exported, imported, names, read, sealed


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
