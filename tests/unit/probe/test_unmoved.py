"""A repository that is as it was has the same state; whatever would be found anew has another, or none."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capsula.probe.unmoved import Watch
from clocks import next_tick

ENVIRON = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "me", "GIT_AUTHOR_EMAIL": "me@host",
    "GIT_COMMITTER_NAME": "me", "GIT_COMMITTER_EMAIL": "me@host",
}  # fmt: skip


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self("init", "-q", "-b", "main")
        for name in ("a", "b", "dirty"):
            (root / name).write_text(name)
        (root / ".gitignore").write_text("ignored\n")
        self("add", ".")
        self("commit", "-qm", "one")
        (root / "dirty").write_text("changed")
        (root / "new").write_text("new")

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.root, env=ENVIRON, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def watch(self, later_ns: int = 10_000_000_000) -> Watch:
        """As one sees it who comes ten seconds later: nothing is too fresh."""
        return Watch(str(self.root), ENVIRON, now_ns=lambda: time.time_ns() + later_ns)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_nothing_has_happened(repository: Repository) -> None:
    watch = repository.watch()
    first = watch.state()
    assert first is not None
    (repository.root / "ignored").write_text("x")
    assert watch.state() == first == repository.watch().state()


def replace(root: Path, name: str, text: str) -> None:
    (root / "aside").write_text(text)
    os.replace(root / "aside", root / name)


EVENTS: dict[str, Callable[[Repository], object]] = {
    "a file is edited": lambda r: (r.root / "a").write_text("x"),
    "an edited file is edited again, with the same size": lambda r: (r.root / "dirty").write_text("CHANGED"),
    "another file of the same size is put in its place": lambda r: replace(r.root, "new", "NEW"),
    "a mode": lambda r: (r.root / "a").chmod(0o755),
    "the mode of an edited file": lambda r: (r.root / "dirty").chmod(0o755),
    "a new file": lambda r: (r.root / "newer").write_text("x"),
    "a new file goes": lambda r: (r.root / "new").unlink(),
    "a file goes": lambda r: (r.root / "a").unlink(),
    "something is staged": lambda r: r("add", "dirty"),
    "a commit": lambda r: r("commit", "-qam", "two"),
    "another branch": lambda r: r("checkout", "-q", "-b", "other"),
    "no branch": lambda r: r("checkout", "-q", "--detach"),
    "a tag": lambda r: r("tag", "v1"),
    "a tag with a slash": lambda r: r("tag", "deep/v1"),
    "a remote": lambda r: r("remote", "add", "origin", "https://host/x.git"),
    "a file is left out by a rule": lambda r: (r.root / ".git/info/exclude").write_text("new\n"),
    "a file is assumed to be unchanged": lambda r: r("update-index", "--assume-unchanged", "a"),
    "references are packed": lambda r: r("pack-refs", "--all"),
}


@pytest.mark.parametrize("event", EVENTS)
def test_something_has_happened(repository: Repository, event: str) -> None:
    watch = repository.watch()
    first = watch.state()
    assert first is not None
    next_tick()
    EVENTS[event](repository)
    assert watch.state() != first


def test_a_moved_tag_is_another_state(repository: Repository) -> None:
    repository("tag", "v1")
    repository("commit", "-q", "--allow-empty", "-m", "two")
    watch = repository.watch()
    first = watch.state()
    next_tick()
    repository("tag", "-f", "v1")
    assert watch.state() != first


def test_what_changed_a_moment_ago_promises_nothing(repository: Repository) -> None:
    # A clock behind that of the files: however long git takes, they have just changed.
    watch = repository.watch(later_ns=-60_000_000_000)
    (repository.root / "dirty").write_text("just now")
    assert watch.state() is None


@pytest.mark.parametrize("option", ["--assume-unchanged", "--skip-worktree"])
def test_files_that_git_does_not_look_at_promise_nothing(repository: Repository, option: str) -> None:
    repository("update-index", option, "a")
    watch = repository.watch()
    assert watch.state() is None
    repository("update-index", option.replace("--", "--no-"), "a")
    assert watch.state() is not None


def test_a_changed_submodule_promises_nothing(repository: Repository, tmp_path: Path) -> None:
    Repository(tmp_path / "other")
    repository(
        "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "other"), "module"
    )
    repository("commit", "-qm", "module")
    watch = repository.watch()
    assert watch.state() is not None
    (repository.root / "module/a").write_text("changed within")
    assert watch.state() is None


def test_no_repository_and_no_git_have_no_state(tmp_path: Path) -> None:
    assert Watch(str(tmp_path), ENVIRON).state() is None
    assert Watch(str(tmp_path / "nowhere"), ENVIRON).state() is None
    assert Watch(str(tmp_path), {"PATH": str(tmp_path)}).state() is None


def test_a_look_does_not_touch_the_index(repository: Repository) -> None:
    index = repository.root / ".git/index"
    os.utime(repository.root / "a")
    before = index.stat()
    repository.watch().state()
    assert index.stat() == before
