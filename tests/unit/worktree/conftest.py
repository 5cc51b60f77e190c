"""Fixtures for those that make processes."""

import os
from collections.abc import Iterator

import pytest


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
