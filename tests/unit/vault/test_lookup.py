"""Which capsule is meant: by any of its names, and never a wrong one."""

import os
import shutil
from pathlib import Path

import pytest

from capsula.errors import UsageError
from capsula.vault.lookup import resolve, resolve_all
from capsula.vault.vault import Vault

from .conftest import Make, rewrite


def test_in_an_empty_vault_and_in_none_there_is_nothing(vault: Vault) -> None:
    for root in (vault.root, f"{vault.root}/nowhere"):
        with pytest.raises(UsageError, match="no capsule in"):
            resolve(root, "@latest")


def test_a_capsule_is_found_by_all_its_names(vault: Vault, make: Make) -> None:
    first, second, last = (make(number, items=[f"item{number}", "all"]) for number in range(3))
    asked = (
        second.id, second.id[-6:], second.id[:12], os.path.basename(second.path), second.path, "item1", "@-2",
        os.path.relpath(second.path),
    )  # fmt: skip
    assert {each: resolve(vault.root, each).path for each in asked} == dict.fromkeys(asked, second.path)
    assert resolve(vault.root, "@latest").path == resolve(vault.root, "all").path == last.path
    assert resolve(vault.root, "@-3").path == first.path


@pytest.mark.parametrize("asked", ["nothing", "@-9", "@x", "@0", "", "%", "_", "'", "\udcff"])
def test_what_nothing_is_called_is_refused(vault: Vault, make: Make, asked: str) -> None:
    make(0), make(1)
    with pytest.raises(UsageError):
        resolve(vault.root, asked)


def test_what_may_mean_several_is_refused(vault: Vault, make: Make) -> None:
    for number in range(3):
        make(number)
    with pytest.raises(UsageError, match="3 capsules begin with run") as refused:
        resolve(vault.root, "run")
    assert "run-" in refused.value.hint


def test_several_are_found_as_of_one_moment(vault: Vault, make: Make) -> None:
    first, second = make(0), make(1)
    found = resolve_all(vault.root, ["@-2", second.path, "@latest", first.id])
    assert [each.path for each in found] == [first.path, second.path, second.path, first.path]


def test_a_damaged_one_is_found_by_its_path(vault: Vault, make: Make) -> None:
    draft = make(0)
    record = Path(draft.path, "capsule.json")
    record.chmod(0o600)
    record.write_text("{")
    assert resolve(vault.root, f"{draft.path}/").status == "damaged"
    assert resolve(vault.root, f"{draft.path}/").path == draft.path


def test_what_is_found_is_read_from_its_files(vault: Vault, make: Make) -> None:
    draft = make(0)
    assert resolve(vault.root, "@latest").record["command"] == "work 0"
    rewrite(draft, command="another")
    assert resolve(vault.root, draft.id).record["command"] == "another"
    record = Path(draft.path, "capsule.json")
    record.chmod(0o600)
    record.write_text("{")
    assert resolve(vault.root, os.path.basename(draft.path)).status == "damaged"
    shutil.rmtree(draft.path)
    with pytest.raises(UsageError):
        resolve(vault.root, draft.id)
