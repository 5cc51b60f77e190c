"""The commit that is checked out, as git itself says it."""

import os
import subprocess
from pathlib import Path

import pytest

from capsula.probe.commit import checked_out

WHO = ("-c", "user.name=me", "-c", "user.email=me@host", "-c", "init.defaultBranch=main")


def git(where: Path, *words: str) -> str:
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    done = subprocess.run(["git", *WHO, *words], cwd=where, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "src" / "deep").mkdir(parents=True)
    git(root, "init", "-q")
    git(root, "commit", "-q", "--allow-empty", "-m", "first")
    git(root, "commit", "-q", "--allow-empty", "-m", "second")
    return root


def test_it_is_that_of_the_branch(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    for place in (repository, repository / "src" / "deep"):
        assert checked_out(str(place), {}) == head


def test_a_detached_one_is_told(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach", "HEAD~")
    assert checked_out(str(repository), {}) == git(repository, "rev-parse", "HEAD")


def test_a_branch_that_is_packed_is_found(repository: Path) -> None:
    git(repository, "branch", "remain/main", "HEAD~")
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git/refs/heads/main").exists()
    assert checked_out(str(repository), {}) == git(repository, "rev-parse", "HEAD")


def test_another_work_tree_has_its_own(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "other"), "-b", "feature/x", "HEAD~")
    assert checked_out(str(tmp_path / "other"), {}) == git(repository, "rev-parse", "HEAD~")


def test_a_submodule_has_its_own(repository: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(repository), "inner")
    assert checked_out(str(outer / "inner"), {}) == git(repository, "rev-parse", "HEAD")
    assert checked_out(str(outer), {}) == "", "it has no commit yet"


def test_without_a_repository_the_service_says_it(tmp_path: Path) -> None:
    assert checked_out(str(tmp_path), {}) == ""
    assert checked_out(str(tmp_path), {b"GITHUB_SHA": b"a" * 40}) == "a" * 40
    assert checked_out(str(tmp_path), {b"GIT_COMMIT": b"; rm -rf /"}) == ""


@pytest.mark.parametrize(
    "head",
    [b"", b"ref: ../secret", b"ref: refs/../../secret", b"ref: refs/heads/main", b"\xff\xfe", b"ref: HEAD"],
)
def test_what_cannot_be_read_is_nothing(tmp_path: Path, head: bytes) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "secret").write_text("a" * 40)
    (tmp_path / ".git/HEAD").write_bytes(head)
    (tmp_path / ".git/refs/heads").mkdir(parents=True)
    (tmp_path / ".git/refs/heads/main").write_bytes(b"ref: refs/heads/main")
    assert checked_out(str(tmp_path), {}) == ""
    (tmp_path / ".git/HEAD").unlink()
    assert checked_out(str(tmp_path), {}) == ""
