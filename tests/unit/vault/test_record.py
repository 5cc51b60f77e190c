"""Reading capsules: which is meant, what became of it, and whether it is as it was sealed."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from capsula.errors import CapsulaError
from capsula.vault.record import CRASHED, capsules, read_capsule, verify
from capsula.vault.vault import Draft, Vault

WHEN = datetime(2026, 1, 2, tzinfo=UTC)


def sealed(vault: Vault, template: str = "run", items: tuple[str, ...] = ()) -> Draft:
    draft = vault.begin(template, WHEN, "monitor")
    draft.write("a", b"one")
    draft.seal("finished", {"items": list(items)})
    return draft


def rewrite(draft: Draft, **fields: object) -> None:
    path = Path(draft.path) / "capsule.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_one_whose_recorder_is_gone_has_crashed(vault: Vault) -> None:
    draft = vault.begin("x", WHEN, "monitor")
    assert read_capsule(draft.path).status == "running"  # type: ignore[union-attr]
    for gone in ({"boot_id": "another"}, {"pid": 2**22 + 1}):
        rewrite(draft, **gone)
        assert read_capsule(draft.path).status == CRASHED  # type: ignore[union-attr]
        rewrite(draft, boot_id=json.loads((Path(draft.path) / "capsule.json").read_text())["boot_id"])
    rewrite(draft, host="elsewhere")
    assert read_capsule(draft.path).status == "running"  # type: ignore[union-attr]


@pytest.mark.parametrize("content", ["{", "[]", "\0", "[" * 100_000])
def test_a_damaged_one_is_an_error(vault: Vault, content: str) -> None:
    bad = sealed(vault)
    path = Path(bad.path) / "capsule.json"
    path.chmod(0o600)
    path.write_text(content)
    with pytest.raises(CapsulaError):
        read_capsule(bad.path)
    good = sealed(vault)
    assert {capsule.path: capsule.status for capsule in capsules(vault.root)} == {
        good.path: "finished",
        bad.path: "damaged",
    }


@pytest.mark.parametrize("damage", ["none", "edited", "gone", "added", "link"])
def test_what_is_not_as_it_was_sealed_is_named(vault: Vault, damage: str) -> None:
    draft = vault.begin("x", WHEN, "monitor")
    draft.write("sub/a", b"one")
    os.symlink("a", f"{draft.path}/sub/link")
    draft.seal("finished", {})
    a, link = Path(draft.path, "sub/a"), Path(draft.path, "sub/link")
    if damage == "edited":
        a.chmod(0o600)
        a.write_bytes(b"two")
    elif damage == "gone":
        a.unlink()
    elif damage == "added":
        Path(draft.path, "new").touch()
    elif damage == "link":
        link.unlink()
        link.symlink_to("b")
    capsule = read_capsule(draft.path)
    assert capsule is not None
    expected = {
        "none": [],
        "edited": ["sub/a: other bytes than were sealed"],
        "gone": ["sub/a: No such file or directory"],
        "added": ["new: wasn't there when it was sealed"],
        "link": ["sub/link: leads to somewhere else"],
    }
    assert verify(capsule) == expected[damage]
