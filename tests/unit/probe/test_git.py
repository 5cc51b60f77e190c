"""The git probe against real repositories: the patch is all of the work tree, and nothing of the user's is touched."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsula.errors import CapsulaError
from capsula.probe.git import GitProbe

WHO = (
    "-c",
    "user.name=me",
    "-c",
    "user.email=me@host",
    "-c",
    "init.defaultBranch=main",
    "-c",
    "core.autocrlf=false",
)
HOSTILE = """
[color]
  ui = always
[diff]
  external = /bin/false
  noprefix = true
  mnemonicPrefix = true
  renames = copies
  ignoreSubmodules = all
  relative = true
  context = 0
[core]
  autocrlf = true
  quotePath = true
[status]
  showUntrackedFiles = no
"""


class Repository:
    def __init__(self, path: Path, environ: dict[str, str]) -> None:
        self.path = path
        self.environ = environ
        path.mkdir()
        self.git("init", "-q")

    def git(self, *words: str, cwd: Path | None = None) -> str:
        environ = {**self.environ, "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(["git", *WHO, *words], cwd=cwd or self.path, env=environ, capture_output=True)
        assert done.returncode == 0, done
        return os.fsdecode(done.stdout).strip()

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", "one", "--allow-empty")
        return self.git("rev-parse", "HEAD")

    def write(self, name: str, content: bytes | str, mode: int = 0o644) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def read(self, **more: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
        found = GitProbe("me", str(more.pop("path", self.path)), ".", self.environ, **more).read()
        section: Any = found.sections["git"]
        return section["me"], dict(found.files)


@pytest.fixture(params=["plain", "hostile"])
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Repository:
    """With no configuration, and with one of all that could change a diff."""
    environ = {
        **os.environ,
        "HOME": str(tmp_path),
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    if request.param == "hostile":
        (tmp_path / "config").write_text(HOSTILE)
        environ["GIT_CONFIG_GLOBAL"] = str(tmp_path / "config")
    return Repository(tmp_path / "work", environ)


def pictured(root: Path) -> dict[str, Any]:
    """What is below, without .git: content, executable bit, links."""
    seen: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.split("/", maxsplit=1)[0] == ".git" or "/.git" in name:
            continue
        if path.is_symlink():
            seen[name] = ("link", os.readlink(path))
        elif path.is_file():
            seen[name] = (path.read_bytes(), path.stat().st_mode & 0o100)
    return seen


def touched(root: Path) -> dict[str, Any]:
    """Everything, .git included, with times."""
    rows = {}
    for path in sorted(root.rglob("*")):
        look = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        digest = hashlib.sha256(content).hexdigest()
        # Git renews the time of an object that it would have written.
        when = 0 if "/.git/objects/" in str(path) else look.st_mtime_ns
        rows[str(path)] = (look.st_mode, when, look.st_ino, digest)
    return rows


def edits(repository: Repository) -> None:
    path = repository.path
    repository.write("staged", "changed\n")
    repository.git("add", "staged")
    repository.write("unstaged", "changed too\nwithout an end")
    repository.write("both", "first\n")
    repository.git("add", "both")
    repository.write("both", "second\n")
    repository.write("binary", bytes(range(256)) * 9)
    repository.write("crlf", "a\r\nb\r\nc\r\n")
    (path / "script").chmod(0o755)
    (path / "link").unlink()
    (path / "link").symlink_to("elsewhere\n")
    (path / "gone").unlink()
    (path / "old name").rename(path / "new name")
    repository.write("now a directory/in it", "x")
    (path / "empty").touch()
    for name in (
        "with space",
        "new\nline",
        'quo"te',
        "-dash",
        "ümlaut",
        "tab\t",
        "[glob]*",
        ":(top)odd",
        os.fsdecode(b"\xff"),
    ):
        repository.write(name, f"untracked {name!a}\n")
    repository.write("sub/deep/untracked.bin", b"\0\1\2" * 100)


def begin(repository: Repository) -> str:
    for name in ("staged", "unstaged", "both", "crlf", "script", "gone", "old name", "same"):
        repository.write(name, f"{name}\n" * 5)
    repository.write("binary", bytes(range(255)))
    repository.write("crlf", "a\r\nb\r\n")
    repository.write(".gitignore", "ignored\n")
    repository.write("ignored", "not in it")
    (repository.path / "link").symlink_to("same")
    return repository.commit()


def test_the_patch_makes_a_clean_checkout_the_very_work_tree(repository: Repository, tmp_path: Path) -> None:
    sha = begin(repository)
    edits(repository)
    before = touched(repository.path)
    section, files = repository.read()
    assert touched(repository.path) == before
    assert (section["sha"], section["branch"], section["clean"]) == (sha, "main", False)
    patch = tmp_path / "me.diff"
    patch.write_bytes(files["me.diff"])
    repository.git("clone", "-q", str(repository.path), str(tmp_path / "clone"), cwd=tmp_path)
    repository.git("apply", str(patch), cwd=tmp_path / "clone")
    expected = pictured(repository.path)
    del expected["ignored"]
    assert pictured(tmp_path / "clone") == expected
    repository.git("add", "-A", cwd=tmp_path / "clone")
    assert repository.git("write-tree", cwd=tmp_path / "clone") == section["snapshot"]["tree"]


def test_a_clean_tree_has_no_patch(repository: Repository) -> None:
    begin(repository)
    section, files = repository.read()
    assert (section["clean"], section["snapshot"]["patch"], files) == (True, None, {})


def test_before_the_first_commit_all_is_in_the_patch(repository: Repository, tmp_path: Path) -> None:
    repository.write("a", "one\n")
    section, files = repository.read()
    assert (section["sha"], section["branch"]) == (None, "main")
    (tmp_path / "fresh").mkdir()
    (tmp_path / "x.diff").write_bytes(files["me.diff"])
    repository.git("apply", str(tmp_path / "x.diff"), cwd=tmp_path / "fresh")
    assert (tmp_path / "fresh" / "a").read_text() == "one\n"


@pytest.mark.parametrize("state", ["detached", "subdirectory", "worktree"])
def test_where_a_repository_stands(repository: Repository, state: str, tmp_path: Path) -> None:
    repository.write("sub/a", "one\n")
    sha = repository.commit()
    place = repository.path
    if state == "detached":
        repository.git("checkout", "-q", "--detach")
        repository.git("tag", "v1")
    elif state == "subdirectory":
        place = repository.path / "sub"
        repository.write("above", "not below it\n")
    else:
        place = tmp_path / "tree"
        repository.git("worktree", "add", "-q", str(place))
        (place / "sub/a").write_text("two\n")
    section, files = repository.read(path=place)
    assert section["sha"] == sha
    if state == "detached":
        assert (section["branch"], section["detached"], section["tags"]) == (None, True, ["v1"])
    elif state == "subdirectory":
        assert section["subdirectory"] == "sub"
        assert b"not below it" in files["me.diff"]
    else:
        assert b"+two" in files["me.diff"]


def test_a_submodule_is_there_by_its_commit(repository: Repository, tmp_path: Path) -> None:
    inner = Repository(tmp_path / "inner", repository.environ)
    inner.write("x", "1")
    inner.commit()
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.path), "module")
    repository.commit()
    (repository.path / "module" / "x").write_text("2")
    section, _ = repository.read()
    assert section["clean"]
    repository.git(*WHO, "commit", "-qam", "two", cwd=repository.path / "module")
    section, files = repository.read()
    assert b"Subproject commit" in files["me.diff"]


def test_what_holds_credentials_or_is_too_large_stays_out_and_is_named(repository: Repository) -> None:
    repository.commit()
    for name in (".env", "sub/.env.local", "server.pem", "id_rsa"):
        repository.write(name, "canary7canary7")
    repository.write("large", b"x" * 2000)
    repository.write("fine", "y")
    repository.git("remote", "add", "origin", "https://me:canary7canary7@host/x.git")
    section, files = repository.read(file_limit=1000)
    assert "canary7" not in repr((section, files))
    assert section["remotes"] == [{"name": "origin", "url": "https://***@host/x.git"}]
    assert section["snapshot"]["untracked"] == ["fine"]
    assert len(section["snapshot"]["left_out"]) == 5


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (lambda base: base, "not a git repository"),
        (lambda base: base / "nowhere", "there is no"),
    ],
)
def test_no_repository_is_said(tmp_path: Path, path: Callable[[Path], Path], said: str) -> None:
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    with pytest.raises(CapsulaError, match=said):
        GitProbe("me", str(path(tmp_path)), ".", environ).read()


def test_a_name_cannot_lead_out_of_the_capsule(repository: Repository) -> None:
    repository.write("a", "1")
    found = GitProbe("../../x y", str(repository.path), ".", repository.environ).read()
    assert list(found.files) == ["_.._x_y.diff"]
