"""Repositories with all kinds of edits, and whether a snapshot makes a clean checkout the very work tree."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from capsula.core.digest import Digest, digest_of
from capsula.core.names import from_text
from capsula.errors import StoreError
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


class Held:
    """Contents in memory. `refusal` is what it says to all."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.blobs: dict[str, bytes] = {}
        self.held: dict[bytes, list[tuple[str, Digest, bool]]] = {}

    def put_file(self, path: str) -> Digest:
        if self.refusal:
            raise StoreError(self.refusal)
        content = Path(path).read_bytes()
        digest = digest_of(content)
        self.blobs[digest.hash] = content
        return digest

    def hold(self, listed: bytes, files: list[tuple[str, Digest, bool]]) -> None:
        self.held[listed] = files


def rebuild(listed: bytes, blobs: dict[str, bytes], base: Path) -> None:
    """What the list says, made in a directory that has what HEAD has."""
    told = json.loads(listed)
    for path in told["deleted"]:
        gone = base / from_text(path)
        gone.unlink()
        while gone.parent != base and not any(gone.parent.iterdir()):
            gone = gone.parent
            gone.rmdir()
    for row in told["files"]:
        path = base / from_text(row["path"])
        if os.path.lexists(path) and not path.is_dir():
            path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        if row["mode"] == "120000":
            path.symlink_to(from_text(row["target"]))
        else:
            path.write_bytes(blobs[row["sha256"]])
            path.chmod(0o755 if row["mode"] == "100755" else 0o644)


def check(repository: Repository, tmp_path: Path, *, base: str | None = None) -> dict[str, Any]:
    """The snapshot makes a fresh checkout the very work tree, by the patch and by the list; the repository wasn't
    touched. `base` is the commit that is checked out."""
    before = touched(repository.path)
    held = Held()
    section, files = repository.read(contents=held)
    assert touched(repository.path) == before
    for way in ("patch", "list"):
        fresh = tmp_path / f"fresh {way}"
        if base is None:
            fresh.mkdir()
        else:
            repository.git("clone", "-q", "-n", str(repository.path), str(fresh), cwd=tmp_path)
            repository.git("checkout", "-q", base, cwd=fresh)
        if way == "patch" and "me.diff" in files:
            (tmp_path / "me.diff").write_bytes(files["me.diff"])
            repository.git("apply", str(tmp_path / "me.diff"), cwd=fresh)
        if way == "list" and "me.files.json" in files:
            assert list(held.held) == [files["me.files.json"]]
            rebuild(files["me.files.json"], held.blobs, fresh)
        assert pictured(fresh) == pictured(repository.path), way
        if base is not None:
            repository.git("add", "-A", cwd=fresh)
            assert repository.git("write-tree", cwd=fresh) == section["snapshot"]["tree"]
    return section


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
        rows[str(path)] = (look.st_mode, look.st_mtime_ns, look.st_ctime_ns, look.st_ino, digest)
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


def add_module(repository: Repository, tmp_path: Path) -> str:
    inner = Repository(tmp_path / "inner", repository.environ)
    inner.write("x", "1\n")
    inner.commit()
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.path), "module")
    return repository.commit()
