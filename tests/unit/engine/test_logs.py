"""The log of a command on its way into the capsule: nothing that `mask` would leave out gets past the quick look."""

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capsula.core.hiding import hide, traces
from capsula.engine import logs

VALUES = frozenset(["hunter22", "pa ss\tword", "two\nlines of it"])
SECRETS = logs.Hidden(VALUES)
KEY = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvAIBADANBgkqhkiG9w0BAQEFAASC\n" * 3 + "-----END PRIVATE KEY-----"
WORDS = st.sampled_from(
    [
        *traces(),
        *[trace.upper() for trace in traces()],
        *(
            "--token",
            "x1y2z3w4v5",
            "MY_TOKEN=x",
            "api-key=x",
            "X_ACCESS_KEY_2=1",
            "path=/usr",
            "X_PAT_Y=1",
            "passed",
        ),
        *(
            "Authorization:",
            "Bearer",
            "abcdefgh12",
            "https://me:x7y8z9@host/",
            "a@b",
            "://",
            "curl",
            "-u",
            "me:word",
        ),
        *(
            "ghp_aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3x",
            "AKIAIOSFODNN7ABCDEFG",
            "hf_aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3x",
        ),
        *("hunter22", "two", "\n", "lines of it", KEY, "", "=", "-", "\t", "\xff", "é", "K", '"', "'"),
    ]
)
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from([" ", "\n", "", "=", ":", '"', "_"])), max_size=30).map(
    lambda pairs: "".join(word + end for word, end in pairs)
)


@settings(max_examples=400)
@given(TEXTS)
@example("--token x1y2z3w4v5")
@example("x\n--password y\nz")
@example(f"a\n{KEY}\nb")
def test_the_quick_look_sees_all_that_the_long_one_would_leave_out(text: str) -> None:
    shown, count = SECRETS.leave_out(text.encode())
    assert (shown.decode(), count) == hide(text, VALUES)


def test_the_quick_look_takes_few_other_lines() -> None:
    ordinary = b"step=3 loss=0.12 path=/usr/lib/python passed the keys\ncompiled and patched; mail me@host\n"
    assert SECRETS.suspects(ordinary * 100) == set()
    assert SECRETS.suspects(ordinary + b"a token\n" + ordinary) == {len(ordinary)}


@given(st.binary(max_size=400))
def test_pieces_are_all_of_it(content: bytes) -> None:
    content = content.replace(b"\x07", b"\n")
    reading = io.BytesIO(content)
    assert b"".join(logs.pieces(lambda _: reading.read(20))) == content


def test_pieces_do_not_cut_a_line_in_two_or_else_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_PIECE", 10)
    assert list(logs.pieces(io.BytesIO(b"one\ntwo three\nfour\n").read)) == [b"one\n", b"two three\nfour\n"]
    assert list(logs.pieces(io.BytesIO(b"one two three four five").read)) == [
        b"one two ", b"three four ", b"five",
    ]  # fmt: skip
    assert b"".join(logs.pieces(io.BytesIO(bytes(95)).read)) == bytes(95)


def spooled(folder: Path, content: bytes, how: str = "named") -> Any:
    (folder / "spool").write_bytes(content)
    path = str(folder / "spool")
    if how == "nameless":
        number = os.open(folder, os.O_RDWR | os.O_TMPFILE, 0o600)
        os.write(number, content)
    elif how == "unlinked":
        number = os.open(path, os.O_RDWR)
    if how != "named":
        os.unlink(path)
        path = f"/proc/self/fd/{number}"
    return SimpleNamespace(content=None, path=path, size=len(content))


HOW = pytest.mark.parametrize("how", ["named", "nameless", "unlinked"])


@HOW
def test_a_long_log_without_secrets_becomes_the_file_itself(tmp_path: Path, how: str) -> None:
    captured = spooled(tmp_path, b"line\n" * 500_000, how)
    inode = os.stat(captured.path).st_ino
    kept = logs.keep(captured, str(tmp_path / "log"), SECRETS, 10)
    assert (kept.shown, kept.hidden) == (b"line\nline\n", 0)
    assert (os.stat(tmp_path / "log").st_ino == inode) is (how != "unlinked")
    assert (tmp_path / "log").read_bytes() == b"line\n" * 500_000
    assert not os.path.lexists(captured.path), "it is gone, or closed"


@HOW
def test_of_a_long_log_only_the_lines_with_secrets_change(tmp_path: Path, how: str) -> None:
    plain = b"\xffline\n" * 400_000
    captured = spooled(tmp_path, plain + b"it is hunter22\n" + plain + b"MY_TOKEN=abc", how)
    kept = logs.keep(captured, str(tmp_path / "log"), SECRETS, 10)
    assert kept.hidden == 2
    assert (tmp_path / "log").read_bytes() == plain + b"it is ***\n" + plain + b"MY_TOKEN=***"
    assert not (tmp_path / "spool").exists()


@HOW
@pytest.mark.parametrize("content", [b"short", b"hunter22"])
def test_what_is_there_already_is_not_overwritten(tmp_path: Path, content: bytes, how: str) -> None:
    (tmp_path / "log").write_text("another's")
    with pytest.raises(FileExistsError):
        logs.keep(SimpleNamespace(content=content, path=None, size=5), str(tmp_path / "log"), SECRETS, 10)
    with pytest.raises(FileExistsError):
        logs.keep(spooled(tmp_path, content, how), str(tmp_path / "log"), SECRETS, 10)
    assert (tmp_path / "log").read_text() == "another's"
    assert not (tmp_path / "spool").exists()
