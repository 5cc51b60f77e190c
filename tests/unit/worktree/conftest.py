"""A bench for restoring, and who makes processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.worktree.benches import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(str(tmp_path))


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The processes that were made; in the end all of them have been waited for."""
    fork, made = os.fork, list[int]()

    def noted() -> int:
        pid = fork()
        made.append(pid)
        return pid

    monkeypatch.setattr("posix.fork", noted)
    yield made
    for pid in made:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
