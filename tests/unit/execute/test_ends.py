"""A log of which beginning and end are kept."""

import errno
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capsula.execute.ends import EndsLog


def kept(log: EndsLog) -> bytes:
    captured = log.close()
    assert captured is not None
    content = captured.content
    if content is None:
        path = Path(captured.path or "")
        content = path.read_bytes()
        os.close(int(path.name))
    assert captured.size == len(content)
    assert captured.left_out == log.left_out
    return content


def test_a_log_within_the_limit_is_kept_whole(tmp_path: Path) -> None:
    log = EndsLog(10, str(tmp_path), 1000)
    for number in range(100):
        log.keep(b"%08d\n\n" % number)
    assert kept(log) == b"".join(b"%08d\n\n" % number for number in range(100))
    assert log.left_out == 0


def test_of_a_longer_one_beginning_and_end_are_kept_and_the_rest_is_said(tmp_path: Path) -> None:
    log = EndsLog(10, str(tmp_path), 1000)
    for number in range(1000):
        log.keep(b"%09d\n" % number)
    content = kept(log)
    assert content.startswith(b"000000000\n000000001\n")
    assert content.endswith(b"000000998\n000000999\n")
    said = re.search(rb"\n\[capsula: (\d+) bytes are left out here\]\n", content)
    assert said
    assert int(said[1]) == log.left_out == 10_000 - (len(content) - len(said[0]))
    assert len(content) < 1100


def test_one_piece_that_is_longer_than_all_is_no_trouble(tmp_path: Path) -> None:
    log = EndsLog(10, str(tmp_path), 100)
    log.keep(b"x" * 5000)
    assert kept(log)[:75] == b"x" * 75


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=60,
)
@given(st.lists(st.binary(max_size=60), max_size=30), st.integers(8, 200), st.integers(0, 100))
def test_nothing_is_lost_uncounted(tmp_path: Path, chunks: list[bytes], most: int, limit: int) -> None:
    log = EndsLog(limit, str(tmp_path), most)
    for chunk in filter(None, chunks):
        log.keep(chunk)
    whole = b"".join(chunks)
    content = kept(log)
    if not log.left_out:
        assert content == whole
        return
    mark = b"\n[capsula: %d bytes are left out here]\n" % log.left_out
    first, _, last = content.partition(mark)
    assert whole.startswith(first)
    assert whole.endswith(last)
    assert len(first) + len(last) + log.left_out == len(whole)


@pytest.mark.parametrize("folder", [None, "/nowhere"])
def test_where_it_cannot_be_kept_it_is_lost_with_the_reason(folder: str | None) -> None:
    log = EndsLog(10, folder, 1000)
    for _ in range(10):
        log.keep(b"x" * 500)
    assert log.close() is None
    assert "can't be kept" in log.lost


@pytest.mark.parametrize("has_nameless", [True, False])
def test_nothing_of_it_has_a_name_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_nameless: bool
) -> None:
    if not has_nameless:
        real = os.open

        def refusing(path: str, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "not here")
            return real(path, flags, mode)

        monkeypatch.setattr(os, "open", refusing)
    log = EndsLog(10, str(tmp_path), 0)
    log.keep(b"secret " * 1000)
    assert os.listdir(tmp_path) == []
    assert kept(log) == b"secret " * 1000
    log = EndsLog(10, str(tmp_path), 0)
    log.keep(b"secret " * 1000)
    log.drop("for a test")
    assert log.close() is None
