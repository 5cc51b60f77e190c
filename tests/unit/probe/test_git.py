"""The git probe against real repositories: the patch is all of the work tree, and nothing of the user's is touched."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from capsula.core.found import at
from capsula.errors import CapsulaError
from capsula.probe.git import GitProbe, free_stem
from capsula.probe.snapshot import Limits
from unit.probe.repositories import Repository, add_module, begin, edits, pictured, touched


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


def test_two_repositories_whose_names_are_alike_have_files_of_their_own() -> None:
    taken: set[str] = set()
    assert [free_stem(name, taken) for name in ("a b", "a_b", "a/b", "c")] == ["a_b", "a_b-2", "a_b-3", "c"]


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
