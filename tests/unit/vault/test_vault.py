"""The vault: a capsule is a directory of plain files that nobody else meets and nothing changes after it is sealed."""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from capsula.errors import CapsulaError
from capsula.vault import vault as module
from capsula.vault.record import read_capsule, verify
from capsula.vault.vault import Draft, Vault

WHEN = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.fixture
def draft(vault: Vault) -> Draft:
    return vault.begin("%Y%m%d_%H%M%S", WHEN, "capture")


def record(draft: Draft) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(draft.path) / "capsule.json").read_text())
    return found


def test_a_new_vault_is_closed_to_others_and_to_git(vault: Vault) -> None:
    place = Path(vault.root)
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / ".gitignore").read_text() == "*\n"
    vault.prepare()
    assert sorted(os.listdir(place)) == [".capsula-vault", ".gitignore"]


def test_two_may_make_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other is done with it, and has begun a capsule, between our looks."""
    one, other = Vault(str(tmp_path / "vault")), Vault(str(tmp_path / "vault"))
    listdir = os.listdir

    def meanwhile(path: str) -> list[str]:
        monkeypatch.undo()
        other.prepare()
        other.begin("", WHEN, "capture")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", meanwhile)
    one.prepare()
    one.begin("", WHEN, "capture")
    assert len(listdir(one.root)) == 4


@pytest.mark.parametrize("there", ["a file", "other things"])
def test_what_is_somebody_else_s_is_not_made_a_vault(tmp_path: Path, there: str) -> None:
    place = tmp_path / "vault"
    if there == "a file":
        place.write_text("x")
    else:
        place.mkdir()
        (place / "notes").write_text("x")
    with pytest.raises(CapsulaError):
        Vault(str(place)).prepare()
    assert (place if place.is_file() else place / "notes").read_text() == "x"


def test_a_capsule_says_from_its_first_moment_what_it_is(draft: Draft) -> None:
    said = record(draft)
    assert (said["status"], said["kind"], said["pid"]) == ("running", "capture", os.getpid())
    assert os.path.basename(draft.path) == f"20260102_030405-{draft.id[-6:]}"


def test_many_at_once_never_meet(vault: Vault) -> None:
    with ThreadPoolExecutor(8) as pool:
        drafts = list(pool.map(lambda _: vault.begin("same", WHEN, "capture"), range(100)))
    assert len({draft.path for draft in drafts}) == len({draft.id for draft in drafts}) == 100


def test_an_id_that_is_taken_is_drawn_again(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = ["0" * 18, "0" * 18, "0" * 17 + "1"]
    monkeypatch.setattr(module, "new_identity", lambda: drawn.pop(0))
    one, two = vault.begin("x", WHEN, "capture"), vault.begin("x", WHEN, "capture")
    assert (os.path.basename(one.path), os.path.basename(two.path)) == ("x-000000", "x-000001")


@pytest.mark.parametrize("template", ["%D", "../../out", "\0", "a" * 300, ".hidden", ""])
def test_no_template_leads_out_of_the_vault(vault: Vault, template: str) -> None:
    draft = vault.begin(template, WHEN, "capture")
    assert os.path.dirname(draft.path) == vault.root


@pytest.mark.parametrize("name", ["", "../x", "/etc/x", "a/../../x", ".", "a//b", "nul\0"])
def test_no_name_leads_out_of_the_capsule(draft: Draft, name: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("x")
    calls: list[Callable[[], None]] = [
        lambda: draft.write(name, b"x"),
        lambda: draft.take(str(tmp_path / "source"), name, move=True),
    ]
    for call in calls:
        with pytest.raises(CapsulaError):
            call()
    assert (tmp_path / "source").exists()


def test_names_that_are_taken_get_a_number(draft: Draft) -> None:
    names = [
        draft.free_name(name)
        for name in ("a.tar.gz", "a.tar.gz", "context.json", ".env", ".env", "plain", "plain")
    ]
    assert names == ["a.tar.gz", "a-2.tar.gz", "context-2.json", ".env", ".env-2", "plain", "plain-2"]


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("across", [False, True], ids=["renamed", "copied"])
def test_files_links_and_directories_are_taken_in(
    draft: Draft, tmp_path: Path, move: bool, across: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "in").mkdir(parents=True)
    (source / "in" / "file").write_bytes(b"x" * 3_000_000)
    (source / "link").symlink_to("in/file")
    if across:

        def refused(*args: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(module.os, "rename", refused)
    draft.take(str(source), "kept", move=move)
    kept = Path(draft.path) / "kept"
    assert (kept / "in" / "file").read_bytes() == b"x" * 3_000_000
    assert os.readlink(kept / "link") == "in/file"
    assert source.exists() is not move


def test_a_copy_that_fails_leaves_the_user_s_file_and_nothing_half(
    draft: Draft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_text("x")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "rename", full)
    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    monkeypatch.setattr(module, "clone_into", lambda source, target: False)
    with pytest.raises(OSError, match="No space"):
        draft.take(str(tmp_path / "source"), "kept", move=True)
    assert (tmp_path / "source").read_text() == "x"
    assert not (Path(draft.path) / "kept").exists()


def test_sealing_names_every_file_with_its_digest_and_closes_them(draft: Draft) -> None:
    draft.write("sub/a", b"one")
    draft.write_json("context.json", {"odd": "\ud800", "thing": object})
    os.symlink("sub/a", f"{draft.path}/link")
    draft.seal("finished", {"exit_code": 0})
    said = record(draft)
    assert (said["status"], said["exit_code"]) == ("finished", 0)
    files = {row["name"]: row for row in said["files"]}
    assert set(files) == {"sub/a", "context.json", "link"}
    assert files["sub/a"]["sha256"] == hashlib.sha256(b"one").hexdigest()
    assert files["link"]["link"] == "sub/a"
    for name in ("sub/a", "context.json", "capsule.json"):
        assert (Path(draft.path) / name).stat().st_mode & 0o222 == 0


def test_nothing_is_written_over(draft: Draft) -> None:
    draft.write("a", b"one")
    with pytest.raises(FileExistsError):
        draft.write("a", b"two")


def verified(draft: Draft) -> list[str]:
    capsule = read_capsule(draft.path)
    assert capsule is not None
    return verify(capsule)


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("kind", ["file", "directory", "directory/"])
def test_a_link_that_is_named_itself_stands_for_what_it_leads_to(
    draft: Draft, tmp_path: Path, kind: str, move: bool
) -> None:
    (tmp_path / "there/in").mkdir(parents=True)
    (tmp_path / "there/in/file").write_text("x")
    (tmp_path / "link").symlink_to("there/in/file" if kind == "file" else "there")
    draft.take(f"{tmp_path}/link" + "/" * kind.endswith("/"), "kept", move=move)
    kept = Path(draft.path) / "kept"
    assert not kept.is_symlink()
    assert (kept if kind == "file" else kept / "in/file").read_text() == "x"
    assert (tmp_path / "there/in/file").read_text() == "x"
    assert os.path.lexists(tmp_path / "link") is not move


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "socket", "missing", "deep"])
def test_what_is_neither_file_nor_link_nor_directory_is_refused(
    draft: Draft, tmp_path: Path, kind: str, move: bool
) -> None:
    source = tmp_path / "source"
    if kind == "pipe":
        os.mkfifo(source)
    elif kind == "socket":
        os.mknod(source, stat.S_IFSOCK | 0o600)
    elif kind == "deep":
        (source / "in").mkdir(parents=True)
        os.mkfifo(source / "in/pipe")
    with pytest.raises((CapsulaError, FileNotFoundError)):
        draft.take(str(source), "kept", move=move)
    assert not os.path.lexists(f"{draft.path}/kept")
    assert source.exists() is (kind != "missing")


def test_a_pipe_that_somebody_made_in_a_capsule_doesn_t_hold_up_the_seal(draft: Draft) -> None:
    os.mkfifo(f"{draft.path}/pipe")
    draft.write("a", b"one")
    draft.seal("finished", {})
    assert [row["name"] for row in record(draft)["files"]] == ["a"]
    assert verified(draft) == ["pipe: wasn't there when it was sealed"]


def test_names_of_any_bytes_are_sealed(draft: Draft, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xf4\x8f\xb8\x80 \\xff")
    (tmp_path / name).mkdir()
    (tmp_path / name / name).write_text("x")
    (tmp_path / name / "link").symlink_to(name)
    draft.take(str(tmp_path / name), name, move=False)
    draft.seal("finished", {})
    assert verified(draft) == []
    os.unlink(f"{draft.path}/{name}/link")
    os.symlink("elsewhere", f"{draft.path}/{name}/link")
    assert len(verified(draft)) == 1


def test_empty_directories_are_sealed(draft: Draft, tmp_path: Path) -> None:
    (tmp_path / "source/empty").mkdir(parents=True)
    draft.take(str(tmp_path / "source"), "kept", move=False)
    draft.seal("finished", {})
    assert record(draft)["files"] == [{"name": "kept/empty", "directory": True}]
    assert verified(draft) == []
    os.rmdir(f"{draft.path}/kept/empty")
    assert verified(draft) == ["kept/empty: No such file or directory"]


def test_a_file_in_place_of_which_is_a_link_to_the_same_bytes_is_not_as_sealed(
    draft: Draft, tmp_path: Path
) -> None:
    draft.write("a", b"one")
    draft.seal("finished", {})
    (tmp_path / "b").write_bytes(b"one")
    os.unlink(f"{draft.path}/a")
    os.symlink(tmp_path / "b", f"{draft.path}/a")
    assert verified(draft) == ["a: is no file any more"]


def test_all_of_it_is_on_the_disk_before_it_says_that_it_is_sealed(
    draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft.write("a", b"one")
    draft.write("b", b"x" * 5000)
    draft.write_json("context.json", {})
    flushed = []
    real = os.replace

    def flush(descriptor: int) -> None:
        flushed.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    def replace(source: str, target: str) -> None:
        if os.path.basename(target) == "capsule.json":
            assert sorted(flushed) == [".capsule.json.new", "a", "b", "context.json"]
            flushed.append("sealed")
        real(source, target)

    monkeypatch.setattr(module.os, "fsync", flush)
    monkeypatch.setattr(module.os, "replace", replace)
    draft.seal("finished", {})
    assert flushed[-1] == "sealed"


def test_what_can_t_be_got_to_the_disk_is_not_sealed(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    draft.write("a", b"one")

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module.os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        draft.seal("finished", {})
    assert record(draft)["status"] == "running"
    assert "files" not in record(draft)


def test_one_of_which_a_power_cut_left_a_name_alone_has_crashed(draft: Draft) -> None:
    Path(draft.path, "capsule.json").write_bytes(b"")
    capsule = read_capsule(draft.path)
    assert capsule is not None
    assert (capsule.status, dict(capsule.record)) == ("crashed", {})


def test_directories_that_are_moved_in_are_open_to_their_owner_alone(draft: Draft, tmp_path: Path) -> None:
    (tmp_path / "source/in/deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "source/in/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source/in").chmod(0o555)
    (tmp_path / "source").chmod(0o775)
    draft.take(str(tmp_path / "source"), "kept", move=True)
    for name in ("kept", "kept/in", "kept/in/deep"):
        assert Path(draft.path, name).stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755
