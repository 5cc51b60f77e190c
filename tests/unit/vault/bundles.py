"""Vaults with sealed capsules, and bundles of them."""

import io
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from capsula.vault import arrival, packing
from capsula.vault.archive import Reader
from capsula.vault.record import Capsule, read_capsule
from capsula.vault.vault import Draft, Vault

WHEN = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
HOW = ["", "gz", "xz", "zst"]
DATA = b"in both of them " * 200


def vault_at(place: Path) -> Vault:
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
