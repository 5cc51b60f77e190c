"""Files get to the disk: each, or where there are many all that its file system is writing."""

import os
from pathlib import Path

import pytest

from capsula.vault import durability


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    real = os.fsync

    def flush(descriptor: int) -> None:
        found.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(durability.os, "fsync", flush)
    return found


def files(place: Path, count: int) -> list[str]:
    for at in range(count):
        (place / str(at)).write_bytes(b"x")
    return [str(place / str(at)) for at in range(count)]


def test_a_few_go_one_by_one(tmp_path: Path, flushed: list[str]) -> None:
    durability.flush(files(tmp_path, 150))
    assert flushed == [str(at) for at in range(150)]


@pytest.mark.parametrize("can", [True, False])
def test_many_go_together_where_that_can_be(
    tmp_path: Path, flushed: list[str], can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can:
        monkeypatch.setattr(durability, "_sync", lambda place: False)
    before = len(os.listdir("/proc/self/fd"))
    durability.flush(files(tmp_path, 1500))
    assert len(flushed) == (0 if can else 1500)
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_can_t_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durability.os, "fsync", broken)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Input/output"):
        durability.flush(files(tmp_path, 3))
    assert len(os.listdir("/proc/self/fd")) == before
