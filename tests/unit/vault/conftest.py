"""A vault, and capsules in it that say what a test wants them to say."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from capsula.vault.vault import Draft, Vault
from unit.vault.bundles import vault_at

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
Make = Callable[..., Draft]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return vault_at(tmp_path / "vault")


@pytest.fixture
def other(tmp_path: Path) -> Vault:
    return vault_at(tmp_path / "other")


@pytest.fixture
def make(vault: Vault) -> Make:
    """Seals a capsule. `at` decides where it stands among the others: in one millisecond chance decides ids."""
    count = iter(range(100_000))

    def made(
        at: int | None = None, *, status: str = "finished", log: str = "", context: Any = None, **summary: Any
    ) -> Draft:
        number = next(count) if at is None else at
        draft = vault.begin("run", WHEN, "monitor")
        draft.write_json(
            "context.json", context or {"cwd": "/work", "git": {"work": {"sha": f"{number:040x}"}}}
        )
        draft.write_json("post-run-info.json", {"max_rss_kb": 1000 + number, "stdout": log[:100]})
        if log:
            draft.write("stdout.txt", log.encode())
        if status == "running":
            rewrite(draft, id=an_id(number))
        else:
            draft.seal(status, {"command": f"work {number}", "items": [], **summary})
            rewrite(draft, id=an_id(number))
        draft.id = an_id(number)
        return draft

    return made


def an_id(number: int) -> str:
    return f"{number:012x}{number * 7919 % 0x1000000:06x}"


def rewrite(draft: Draft, **fields: object) -> None:
    """Other things in its capsule.json, which is replaced as sealing does it."""
    path = os.path.join(draft.path, "capsule.json")
    record = json.loads(Path(path).read_text())
    Path(f"{path}.new").write_text(json.dumps({**record, **fields}))
    os.replace(f"{path}.new", path)
