"""Files that capsules share: equal bytes are there once, and nothing that happens to one capsule reaches another."""

import errno
import hashlib
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from capsula.vault import blobs as module
from capsula.vault.blobs import SMALLEST, Blobs
from capsula.vault.record import read_capsule, verify
from capsula.vault.vault import Vault

WHEN = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
CONTENT = b"the same in all of them " * 100


@pytest.fixture(autouse=True)
def on_a_file_system_without_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "clone_into", lambda source, target: False)


def sealed(vault: Vault, *, content: bytes = CONTENT, name: str = "file", mode: int = 0o644) -> Path:
    draft = vault.begin("x", WHEN, "capture")
    draft.write(name, content)
    os.chmod(f"{draft.path}/{name}", mode)
    draft.seal("finished", {})
    return Path(draft.path) / name


def blobs(vault: Vault) -> list[Path]:
    return [path for path in Path(vault.root, ".capsula/blobs").rglob("*") if path.is_file()]


def wrong(file: Path) -> list[str]:
    capsule = read_capsule(str(file.parent))
    assert capsule is not None
    return verify(capsule)


def test_equal_files_of_two_capsules_are_one(vault: Vault) -> None:
    one, two, other = sealed(vault), sealed(vault, name="b"), sealed(vault, content=CONTENT + b".")
    assert one.samefile(two)
    assert not one.samefile(other)
    assert [path.name for path in blobs(vault) if path.samefile(one)] == [hashlib.sha256(CONTENT).hexdigest()]
    assert two.read_bytes() == CONTENT
    assert (wrong(one), wrong(two), wrong(other)) == ([], [], [])


def test_equal_files_of_one_capsule_are_one(vault: Vault) -> None:
    draft = vault.begin("x", WHEN, "capture")
    draft.write("a", CONTENT)
    draft.write("b/c", CONTENT)
    draft.seal("finished", {})
    assert Path(draft.path, "a").samefile(Path(draft.path, "b/c"))


def test_what_may_be_executed_is_not_the_same_as_what_may_not(vault: Vault) -> None:
    one, two, three = sealed(vault), sealed(vault, mode=0o755), sealed(vault, mode=0o700)
    assert [each.stat().st_mode & 0o777 for each in (one, two, three)] == [0o400, 0o500, 0o500]
    assert two.samefile(three)


@pytest.mark.parametrize("name", ["context.json", "pre-run-info.json", "post-run-info.json"])
def test_what_tells_of_one_run_alone_is_not_shared(vault: Vault, name: str) -> None:
    assert sealed(vault, name=name).stat().st_nlink == 1
    assert blobs(vault) == []


def test_small_files_are_not_shared(vault: Vault) -> None:
    assert sealed(vault, content=b"x" * (SMALLEST - 1)).stat().st_nlink == 1
    assert sealed(vault, content=b"x" * SMALLEST).stat().st_nlink == 2


def test_a_file_that_somebody_changed_is_not_handed_on(vault: Vault) -> None:
    one = sealed(vault)
    one.chmod(0o600)
    one.write_bytes(CONTENT.replace(b"same", b"SAME"))
    two = sealed(vault)
    assert two.read_bytes() == CONTENT
    assert wrong(one) == ["file: other bytes than were sealed"]
    assert wrong(two) == []
    assert sealed(vault).samefile(two)


def test_one_that_was_made_writable_is_closed_again(vault: Vault) -> None:
    sealed(vault).chmod(0o644)
    two = sealed(vault)
    assert (two.stat().st_nlink, two.stat().st_mode & 0o777) == (3, 0o400)


def test_what_lies_under_a_digest_and_is_no_file_of_ours_is_not_followed(
    vault: Vault, tmp_path: Path
) -> None:
    (tmp_path / "theirs").write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    place = Path(vault.root, ".capsula/blobs", digest[:2])
    place.mkdir(parents=True)
    (place / digest).symlink_to(tmp_path / "theirs")
    one = sealed(vault)
    assert not one.is_symlink()
    assert not one.samefile(tmp_path / "theirs")
    assert one.read_bytes() == CONTENT


def test_a_file_of_another_user_is_not_taken_for_ours(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    one = sealed(vault)
    monkeypatch.setattr(module.os, "geteuid", lambda: one.stat().st_uid + 1)
    assert not sealed(vault).samefile(one)


def test_removing_a_capsule_leaves_the_others(vault: Vault) -> None:
    one, two = sealed(vault), sealed(vault)
    subprocess.run(["rm", "-rf", one.parent], check=True)
    assert Blobs(vault.root).sweep().files == 0
    assert (two.read_bytes(), wrong(two)) == (CONTENT, [])
    subprocess.run(["rm", "-rf", two.parent], check=True)
    swept = Blobs(vault.root).sweep()
    assert swept.files == 1
    assert swept.bytes > 0
    assert blobs(vault) == []


def refuse(code: int) -> Callable[..., None]:
    def refused(*args: object, **more: object) -> None:
        raise OSError(code, os.strerror(code))

    return refused


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSPC, errno.EROFS])
def test_without_links_every_capsule_has_its_own(
    vault: Vault, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "link", refuse(code))
    one, two = sealed(vault), sealed(vault)
    assert (one.stat().st_nlink, two.stat().st_nlink, two.read_bytes()) == (1, 1, CONTENT)
    assert (wrong(one), wrong(two)) == ([], [])


def test_a_file_with_as_many_names_as_it_can_have_is_begun_anew(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, one = os.link, sealed(vault)
    full = one.stat().st_ino

    def link(source: str, target: str) -> None:
        if os.stat(source).st_ino == full:
            raise OSError(errno.EMLINK, "Too many links")
        real(source, target)

    monkeypatch.setattr(module.os, "link", link)
    two, three = sealed(vault), sealed(vault)
    assert not two.samefile(one)
    assert three.samefile(two)
    assert wrong(one) == wrong(two) == wrong(three) == []


def test_where_blocks_can_be_shared_each_capsule_has_a_file_of_its_own(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(source: int, target: int) -> bool:
        os.write(target, os.pread(source, 1 << 20, 0))
        return True

    monkeypatch.setattr(module, "clone_into", clone)
    one, two = sealed(vault), sealed(vault)
    assert not one.samefile(two)
    assert (two.read_bytes(), two.stat().st_mode & 0o777, wrong(two)) == (CONTENT, 0o400, [])
    assert not list(two.parent.glob(".*"))


@pytest.mark.parametrize("move", [False, True])
def test_a_large_file_that_is_there_already_is_not_copied_again(
    vault: Vault, tmp_path: Path, move: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from capsula.vault import vault as taking

    content = os.urandom(2 << 20)
    (tmp_path / "large").write_bytes(content)
    paths = []
    for turn in range(2):
        draft = vault.begin("x", WHEN, "capture")
        if turn:
            monkeypatch.setattr(taking, "_copy_file", refuse(errno.EIO))
            monkeypatch.setattr(taking.os, "rename", refuse(errno.EXDEV))
        draft.take(str(tmp_path / "large"), "large", move=move and turn == 1)
        draft.seal("finished", {})
        paths.append(Path(draft.path) / "large")
    assert paths[0].samefile(paths[1])
    assert paths[0].stat().st_nlink == 3
    assert wrong(paths[1]) == []
    assert (tmp_path / "large").exists() is not move


@pytest.mark.parametrize("size", [10, 2 << 20])
def test_the_vault_has_no_name_of_a_file_of_the_user_s(vault: Vault, tmp_path: Path, size: int) -> None:
    (tmp_path / "theirs").write_bytes(b"x" * size)
    os.link(tmp_path / "theirs", tmp_path / "moved")
    draft = vault.begin("x", WHEN, "capture")
    draft.take(str(tmp_path / "moved"), "moved", move=True)
    draft.seal("finished", {})
    mode = (tmp_path / "theirs").stat().st_mode
    assert (tmp_path / "theirs").stat().st_nlink == 1
    (tmp_path / "theirs").write_bytes(b"changed")
    assert mode & 0o200
    assert wrong(Path(draft.path) / "moved") == []


def test_a_second_capsule_of_the_same_environment_takes_less_than_a_hundredth(
    vault: Vault, tmp_path: Path
) -> None:
    """In blocks, on whatever file system this is, but for what it has of its own."""
    (tmp_path / "model.bin").write_bytes(os.urandom(4 << 20))
    (tmp_path / "table.csv").write_bytes(b"1,2,3\n" * 50_000)

    def used() -> int:
        listed = subprocess.run(["du", "-s", "--block-size=1", vault.root], capture_output=True, check=True)
        return int(listed.stdout.split()[0])

    sizes = [used()]
    for turn in range(3):
        draft = vault.begin("x", WHEN, "capture")
        draft.take(str(tmp_path / "model.bin"), "model.bin", move=False)
        draft.take(str(tmp_path / "table.csv"), "table.csv", move=False)
        draft.write("pylock.toml", b"[[packages]]\n" * 1000)
        draft.write("repository.diff", b"+ a line\n" * 30_000)
        draft.write_json("packages.json", {"distributions": ["what is known of it"] * 3000})
        draft.write_json("context.json", {"turn": turn, "packages": ["name and version"] * 500})
        draft.write_json("pre-run-info.json", {"turn": turn})
        draft.write_json("post-run-info.json", {"turn": turn})
        draft.seal("finished", {})
        sizes.append(used())
    first, second, third = (after - before for before, after in pairwise(sizes))
    assert max(second, third) < first / 100


STEPS = ("chmod", "link", "replace", "open", "lstat", "stat", "readlink", "fsync", "makedirs", "fchmod")


class Broken(OSError):
    pass


@pytest.mark.parametrize(
    "error", [Broken(5, "Input/output error"), KeyboardInterrupt()], ids=["error", "end"]
)
def test_whatever_ends_a_seal_it_is_sealed_and_whole_or_not_sealed(
    vault: Vault, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that a seal makes fails once. A process that dies there leaves the same."""
    first = sealed(vault)
    for at in range(1000):
        draft = vault.begin("x", WHEN, "capture")
        draft.write("file", CONTENT)
        draft.write("other", b"%d" % at * 1000)
        draft.write_json("context.json", {})
        os.symlink("file", f"{draft.path}/link")
        calls = 0

        def call(real: Callable[..., object], at: int = at) -> Callable[..., object]:
            def counted(*args: object, **more: object) -> object:
                nonlocal calls
                calls += 1
                if calls == at + 1:
                    raise error
                return real(*args, **more)

            return counted

        with monkeypatch.context() as patched:
            for name in STEPS:
                patched.setattr(module.os, name, call(getattr(os, name)))
            try:
                draft.seal("finished", {})
            except BaseException as ended:
                if ended is not error:
                    raise
        capsule = read_capsule(draft.path)
        assert capsule is not None
        assert capsule.status in ("running", "finished")
        assert ("files" in capsule.record) is (capsule.status == "finished")
        if capsule.status == "finished":
            assert [text for text in verify(capsule) if not text.startswith(".")] == []
        assert (wrong(first), first.read_bytes()) == ([], CONTENT)
        if calls <= at:  # it came to its end
            assert capsule.status == "finished"
            assert at > 20
            return
    raise AssertionError("it never came to its end")


def test_many_that_seal_at_once_while_others_are_removed_all_have_their_own_bytes(vault: Vault) -> None:
    def work(turn: int) -> Path:
        file = sealed(vault, content=CONTENT * (turn % 3 + 1))
        if turn % 4 == 0:
            subprocess.run(["rm", "-rf", file.parent], check=True)
        if turn % 5 == 0:
            Blobs(vault.root).sweep()
        return file

    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(work, range(120)))
    left = [(turn, file) for turn, file in enumerate(files) if turn % 4]
    assert all(file.read_bytes() == CONTENT * (turn % 3 + 1) and not wrong(file) for turn, file in left)
    assert len({file.stat().st_ino for _, file in left}) < len(left)
