"""A store of its own for each test."""

import time
from pathlib import Path

import pytest

from capsula.store.disk import DiskStore


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(str(tmp_path / "store"), now=time.time)
