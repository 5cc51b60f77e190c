"""Files written: all of it, also when the system takes a part at a time."""

import os
from pathlib import Path

import pytest

from capsula.store.files import write_pieces


def pieces(count: int) -> list[bytes]:
    return [b"%d," % number * (number % 7) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 2500])
def test_pieces_are_written_in_order(tmp_path: Path, count: int) -> None:
    with (tmp_path / "file").open("wb") as file:
        write_pieces(file.fileno(), pieces(count))
    assert (tmp_path / "file").read_bytes() == b"".join(pieces(count))


def test_what_the_system_leaves_is_written_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does when a disk fills up, or of more than 2 GiB."""
    writev = os.writev

    def a_part(fd: int, some: list[bytes]) -> int:
        return writev(fd, [b"".join(some)[:1000]])

    monkeypatch.setattr(os, "writev", a_part)
    with (tmp_path / "file").open("wb") as file:
        write_pieces(file.fileno(), pieces(2500))
    assert (tmp_path / "file").read_bytes() == b"".join(pieces(2500))
