"""The snapshot is the work tree, whatever state the repository is in and whatever is too large or refused."""

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from capsula.core.digest import digest_of
from capsula.probe.snapshot import Limits
from unit.probe.repositories import WHO, Held, Repository, add_module, begin, check, edits, pictured, touched


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
