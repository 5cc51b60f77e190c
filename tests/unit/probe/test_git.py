"""The git probe against real repositories: the patch is all of the work tree, and nothing of the user's is touched."""

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.found import at
from capsula.core.names import from_text
from capsula.errors import CapsulaError, StoreError
from capsula.probe.git import GitProbe, free_stem
from capsula.probe.snapshot import Limits

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


def add_module(repository: Repository, tmp_path: Path) -> str:
    inner = Repository(tmp_path / "inner", repository.environ)
    inner.write("x", "1\n")
    inner.commit()
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.path), "module")
    return repository.commit()


def test_submodules_have_their_own_state(repository: Repository, tmp_path: Path) -> None:
    add_module(repository, tmp_path)
    section, files = repository.read()
    (module,) = section["submodules"]
    assert section["clean"]
    assert (module["path"], module["initialized"], module["modified"]) == ("module", True, False)
    assert files == {}
    repository.write("module/new", "3\n")
    section, files = repository.read()
    assert section["submodules"][0]["untracked"]
    assert b"+3" in files["me.module.diff"]
    repository.write("module/x", "2\n")
    before = touched(repository.path)
    section, files = repository.read()
    assert touched(repository.path) == before
    (module,) = section["submodules"]
    assert (module["modified"], module["untracked"], module["other_commit"]) == (True, True, False)
    assert (section["clean"], section["snapshot"]["patch"]) == (False, None)
    assert set(files) == {"me.module.diff", "me.module.files.json"}
    assert b"+2" in files["me.module.diff"]
    assert module["snapshot"]["untracked"] == ["new"]
    repository.git("commit", "-qam", "two", cwd=repository.path / "module")
    section, files = repository.read()
    assert b"Subproject commit" in files["me.diff"]
    assert section["submodules"][0]["sha"] in files["me.diff"].decode()


def test_a_submodule_that_is_gone_or_was_never_fetched_is_told(
    repository: Repository, tmp_path: Path
) -> None:
    add_module(repository, tmp_path)
    clone = Repository(tmp_path / "clone", repository.environ)
    clone.git("pull", "-q", str(repository.path), "HEAD")
    section, _ = clone.read()
    assert (section["submodules"][0]["initialized"], section["clean"]) == (False, True)
    shutil.rmtree(repository.path / "module")
    section, files = repository.read()
    assert b"deleted file mode 160000" in files["me.diff"]


def test_what_holds_credentials_or_is_too_large_stays_out_and_is_named(repository: Repository) -> None:
    repository.commit()
    for name in (".env", "sub/.env.local", "server.pem", "id_rsa"):
        repository.write(name, "canary7canary7")
    repository.write("large", b"x" * 2000)
    repository.write("fine", "y")
    repository.git("remote", "add", "origin", "https://me:canary7canary7@host/x.git")
    section, files = repository.read(limits=Limits(1000))
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
    assert list(found.files) == ["_.._x_y.diff", "_.._x_y.files.json"]


def test_the_list_of_files_makes_a_clean_checkout_the_very_work_tree(
    repository: Repository, tmp_path: Path
) -> None:
    sha = begin(repository)
    edits(repository)
    (repository.path / "ignored").unlink()
    section = check(repository, tmp_path, base=sha)
    assert section["snapshot"]["files"] == "me.files.json"


def unmerged(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "other", "HEAD")
    repository.write("same", "theirs\n")
    (repository.path / "staged").unlink()
    repository.commit()
    repository.git("checkout", "-q", "main")
    repository.write("same", "ours\n")
    repository.write("staged", "ours\n")
    repository.commit()
    done = subprocess.run(
        ["git", *WHO, "merge", "other"], cwd=repository.path, capture_output=True, env=repository.environ
    )
    assert done.returncode == 1, done


def locked(repository: Repository) -> None:
    repository.write("same", "changed\n")
    (repository.path / ".git/index.lock").touch()


def intended(repository: Repository) -> None:
    repository.write("planned", "to be added\n")
    repository.git("add", "-N", "planned")


def assumed(repository: Repository) -> None:
    """Files that git has been told not to look at."""
    repository.git("update-index", "--assume-unchanged", "same")
    repository.git("update-index", "--skip-worktree", "both")
    repository.write("same", "changed\n")
    repository.write("both", "changed too\n")


def same_size_at_once(repository: Repository) -> None:
    """Written in the very moment in which the index was, and nothing that the file system says tells it."""
    repository.git("config", "core.trustctime", "false")
    old = (1_000_000_000, 1_000_000_000)
    os.utime(repository.write("same", "SAME\n" * 5), old)
    repository.git("add", "same")
    os.utime(repository.write("same", "SOME\n" * 5), old)
    os.utime(repository.path / ".git/index", old)


def modes(repository: Repository) -> None:
    (repository.path / "same").chmod(0o755)
    repository.write("new script", "#!/bin/sh\n", 0o755)


def turned(repository: Repository) -> None:
    """A file that is a directory now, a directory that is a link, a link that is a file."""
    repository.write("d/e/f", "1\n")
    repository.commit()
    shutil.rmtree(repository.path / "d")
    (repository.path / "d").symlink_to("both")
    (repository.path / "same").unlink()
    repository.write("same/inner", "2\n")
    (repository.path / "link").unlink()
    repository.write("link", "no link\n")


def renamed_staged(repository: Repository) -> None:
    repository.git("mv", "same", "moved")
    repository.git("rm", "-q", "--cached", "both")


def no_index(repository: Repository) -> None:
    repository.write("same", "changed\n")
    (repository.path / ".git/index").unlink()


@pytest.mark.parametrize(
    "change",
    [unmerged, locked, intended, assumed, same_size_at_once, modes, turned, renamed_staged, no_index],
    ids=lambda change: change.__name__,
)
def test_whatever_state_the_index_is_in_the_snapshot_is_the_work_tree(
    repository: Repository, tmp_path: Path, change: Callable[[Repository], None]
) -> None:
    begin(repository)
    (repository.path / "ignored").unlink()
    change(repository)
    section = check(repository, tmp_path, base=repository.git("rev-parse", "HEAD"))
    assert not section["clean"]
    assert section["snapshot"]["left_out"] == []
    assert section["conflicts"] == (["same", "staged"] if change is unmerged else [])


def test_two_repositories_whose_names_are_alike_have_files_of_their_own() -> None:
    taken: set[str] = set()
    assert [free_stem(name, taken) for name in ("a b", "a_b", "a/b", "c")] == ["a_b", "a_b-2", "a_b-3", "c"]


def test_what_is_not_in_a_sparse_checkout_is_not_missing(repository: Repository, tmp_path: Path) -> None:
    repository.write("in/a", "1\n")
    repository.write("out/b", "2\n")
    sha = repository.commit()
    repository.git("sparse-checkout", "set", "in")
    assert not (repository.path / "out").exists()
    section, files = repository.read()
    assert (section["clean"], files) == (True, {})
    repository.write("in/a", "3\n")
    _, files = repository.read()
    assert b"out/b" not in files["me.diff"]
    assert repository.git("rev-parse", "HEAD") == sha


@pytest.mark.parametrize("how", ["autocrlf", "attributes"])
def test_line_ends_that_git_converts_are_no_change(tmp_path: Path, how: str) -> None:
    environ = {**os.environ, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_GLOBAL": os.devnull}
    repository = Repository(tmp_path / "work", environ)
    repository.write("a", "one\r\ntwo\r\n")
    repository.write("kept", "one\r\n")
    repository.git("add", "kept")
    if how == "autocrlf":
        repository.git("config", "core.autocrlf", "true")
    else:
        repository.write(".gitattributes", "a text eol=crlf\nkept text=auto\n")
    words = ("git", *WHO[:6])
    for more in (["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run([*words, *more], cwd=repository.path, env=environ, check=True)
    (repository.path / "a").touch()
    section, files = repository.read()
    assert (section["clean"], files) == (True, {})
    repository.write("a", "one\r\n2\r\n")
    repository.write("kept", "one\r\ntwo\r\n")
    held = Held()
    before = touched(repository.path)
    _, files = repository.read(contents=held)
    assert touched(repository.path) == before
    assert files["me.diff"].count(b"\n+") == 4  # two lines, two names: a as it is stored, the other as it was
    assert b"one\r\ntwo\r\n" in held.blobs.values()
    assert b"one\r\n2\r\n" in held.blobs.values()
    clone = tmp_path / "clone"
    settings = ["-c", "core.autocrlf=true"] if how == "autocrlf" else []
    subprocess.run([*words[:-2], "clone", "-q", *settings, repository.path, clone], env=environ, check=True)
    if how == "autocrlf":
        subprocess.run(["git", "config", "core.autocrlf", "true"], cwd=clone, check=True)
    (tmp_path / "x").write_bytes(files["me.diff"])
    subprocess.run(["git", "apply", str(tmp_path / "x")], cwd=clone, env=environ, check=True)
    assert pictured(clone) == pictured(repository.path)


def test_a_large_file_of_git_lfs_is_compared_with_its_pointer(repository: Repository, tmp_path: Path) -> None:
    content = b"large " * 100
    digest = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n"
    repository.write(".gitattributes", "*.big filter=lfs -text\n")
    repository.write("a.big", pointer)
    repository.write("b.big", pointer)
    sha = repository.commit()
    marker = tmp_path / "a filter was run"
    for name in ("clean", "smudge", "process"):
        repository.git("config", f"filter.lfs.{name}", f"touch '{marker}'; exit 1")
    repository.git("config", "filter.lfs.required", "true")
    repository.write("a.big", content)
    section, files = repository.read()
    assert (section["snapshot"]["patch"], files) == (None, {})
    repository.write("b.big", b"other " * 100)
    before = touched(repository.path)
    held = Held()
    section, files = repository.read(contents=held)
    assert touched(repository.path) == before
    assert not marker.exists()
    assert [row["path"] for row in json.loads(files["me.files.json"])["files"]] == ["b.big"]
    assert list(held.blobs.values()) == [b"other " * 100]
    assert section["sha"] == sha


def test_a_bare_repository_says_so(repository: Repository, tmp_path: Path) -> None:
    begin(repository)
    bare = tmp_path / "bare.git"
    repository.git("clone", "-q", "--bare", str(repository.path), str(bare), cwd=tmp_path)
    section, files = repository.read(path=bare)
    assert (section["bare"], section["branch"], section["clean"]) == (True, "main", None)
    assert section["sha"] == repository.git("rev-parse", "HEAD")
    assert files == {}
    section, _ = repository.read(path=repository.path / ".git")
    assert not section["bare"]
    assert section["root"] is None


def test_ahead_and_behind_are_counted(repository: Repository, tmp_path: Path) -> None:
    begin(repository)
    clone = Repository(tmp_path / "clone", repository.environ)
    clone.git("remote", "add", "up", str(repository.path))
    clone.git("fetch", "-q", "up")
    clone.git("checkout", "-q", "-b", "main", "--track", "up/main")
    clone.write("mine", "1")
    clone.commit()
    clone.commit()
    repository.commit()
    clone.git("fetch", "-q", "up")
    clone.git("tag", "v2")
    section, _ = clone.read()
    assert (section["upstream"], section["ahead"], section["behind"]) == ("up/main", 2, 1)
    assert (section["tags"], section["describe"]) == (["v2"], "v2")


def test_what_is_too_large_stays_out_whether_git_knows_it_or_not(
    repository: Repository, tmp_path: Path
) -> None:
    sha = begin(repository)
    (repository.path / "ignored").unlink()
    repository.write("same", "x" * 5000)
    repository.git("add", "same")
    repository.write("same", "y" * 5000)
    repository.write("new", "z" * 5000)
    repository.git("add", "new")
    repository.write("both", "small\n")
    repository.git("rm", "-q", "--cached", "old name")
    repository.write("old name", "w" * 5000)
    for number in range(5):
        repository.write(f"many/{number}", "m" * 900)
    section, files = repository.read(limits=Limits(1000, 3000))
    out = section["snapshot"]["left_out"]
    assert {text.partition(":")[0] for text in out if "larger than 1000" in text} == {
        "same", "new", "old name",
    }  # fmt: skip
    assert len([text for text in out if "together are larger than 3000" in text]) == 2
    assert [row["path"] for row in json.loads(files["me.files.json"])["files"]] == [
        "both", "many/0", "many/1", "many/2",
    ]  # fmt: skip
    assert json.loads(files["me.files.json"])["deleted"] == []
    assert not section["clean"]
    (tmp_path / "x").write_bytes(files["me.diff"])
    repository.git("stash", "-qu")
    repository.git("apply", "--check", str(tmp_path / "x"))
    assert repository.git("rev-parse", "HEAD") == sha


def test_a_file_that_git_refuses_does_not_cost_the_others(repository: Repository) -> None:
    repository.write(".gitattributes", "bad filter=bad\n")
    repository.commit()
    repository.git("config", "filter.bad.clean", "exit 1")
    repository.git("config", "filter.bad.required", "true")
    repository.write("bad", "1\n")
    repository.write("good", "2\n")
    section, files = repository.read()
    assert b"+2" in files["me.diff"]
    assert [text.partition(":")[0] for text in section["snapshot"]["left_out"]] == ["bad"]


def test_a_store_that_refuses_leaves_the_patch_and_says_so(repository: Repository) -> None:
    repository.commit()
    repository.write("a", "1\n")
    repository.write("b", "2\n")
    section, files = repository.read(contents=Held("the disk is full"))
    assert section["snapshot"]["left_out"] == ["the contents of files aren't in the store: the disk is full"]
    assert b"+2" in files["me.diff"]
    rows = json.loads(files["me.files.json"])["files"]
    assert [row["sha256"] for row in rows] == [digest_of(b"1\n").hash, digest_of(b"2\n").hash]


def test_key_facts_are_what_was_run_and_not_where(repository: Repository, tmp_path: Path) -> None:
    begin(repository)
    clone = tmp_path / "elsewhere"
    repository.git("clone", "-q", str(repository.path), str(clone), cwd=tmp_path)
    first = GitProbe("me", str(repository.path), ".", repository.environ).read()
    second = GitProbe("me", str(clone), ".", repository.environ).read()
    assert first.key_facts() == second.key_facts()
    (clone / "same").write_text("changed")
    third = GitProbe("me", str(clone), ".", repository.environ).read()
    assert at(third.sections, "/git/me/snapshot/tree") != at(second.sections, "/git/me/snapshot/tree")


def test_of_thousands_of_files_only_those_are_read_that_look_changed(
    repository: Repository, tmp_path: Path
) -> None:
    """One is changed in a way that git can't see without reading it: then it would be in the patch."""
    repository.git("config", "core.trustctime", "false")
    old = 1_000_000_000
    for number in range(3000):
        os.utime(repository.write(f"{number % 50}/{number}", f"{number}\n"), (old, old))
    repository.commit()
    with (repository.path / "8" / "8").open("r+") as file:
        file.write("9")
    os.utime(repository.path / "8" / "8", (old, old))
    repository.write("7/7", "changed\n")
    count = tmp_path / "count"
    tool = tmp_path / "bin" / "git"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$*" >> \'{count}\'\nexec {shutil.which("git")} "$@"\n')
    tool.chmod(0o755)
    repository.environ["PATH"] = f"{tool.parent}:{repository.environ['PATH']}"
    section, files = repository.read()
    assert files["me.diff"].count(b"diff --git") == 1
    assert section["snapshot"]["left_out"] == []
    assert len(count.read_text().splitlines()) < 16


@pytest.mark.parametrize("kind", ["sha256", "shared objects", "inside a submodule", "linked work tree"])
def test_wherever_its_objects_are_the_snapshot_is_the_work_tree(
    repository: Repository, tmp_path: Path, kind: str
) -> None:
    if kind == "sha256":
        shutil.rmtree(repository.path / ".git")
        repository.git("init", "-q", "--object-format=sha256")
        begin(repository)
    elif kind == "inside a submodule":
        add_module(repository, tmp_path)
        repository.path /= "module"
    else:
        begin(repository)
        made = tmp_path / "made"
        words = ("worktree", "add", "-q") if kind == "linked work tree" else ("clone", "-q", "--shared", ".")
        repository.git(*words, str(made))
        repository.path = made
    sha = repository.git("rev-parse", "HEAD")
    repository.write("same", "changed\n")
    repository.write("deep/er/new", "new\n")
    if (repository.path / "ignored").exists():
        (repository.path / "ignored").unlink()
    section = check(repository, tmp_path, base=sha)
    assert section["sha"] == sha


def test_random_edits_are_the_tree_that_git_makes_of_them(repository: Repository, tmp_path: Path) -> None:
    """Names next to each other in git's order (`a-b`, `a.b`, `a/b`, `ab`), files that become directories and back."""
    names = ["a", "a-b", "a.b", "a0", "ab", "b"]
    choose = random.Random(7)
    for step in range(12):
        for _ in range(6):
            path = repository.path / "/".join(choose.choices(names, k=choose.randint(1, 3)))
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
            elif not any(parent.is_file() for parent in path.parents):
                repository.write(
                    str(path.relative_to(repository.path)), f"{step}", choose.choice([0o644, 0o755])
                )
        section, _ = repository.read()
        index = {**repository.environ, "GIT_INDEX_FILE": str(tmp_path / f"index {step}")}
        mine = Repository.__new__(Repository)
        mine.path, mine.environ = repository.path, index
        mine.git("add", "-A")
        assert section["snapshot"]["tree"] == mine.git("write-tree")
        if choose.random() < 0.3:
            repository.commit()
