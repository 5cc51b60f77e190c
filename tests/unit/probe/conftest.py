"""A repository of git's, as those have it who have set nothing and those who have set everything."""

import os
from pathlib import Path

import pytest

from unit.probe.repositories import HOSTILE, Repository


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
