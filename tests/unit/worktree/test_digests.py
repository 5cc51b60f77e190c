"""Contents: read once, kept while the look is the same, and read again when the look proves nothing."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from capsula.core.digest import digest_of
from capsula.core.recipe import Recipe, place
from capsula.core.tree import build, leaves
from capsula.errors import InputError
from capsula.worktree import digests
from capsula.worktree.digests import CHUNK, Contents, hash_file, read_contents, still_same
from capsula.worktree.listing import UNSEEN
from capsula.worktree.survey import Survey, survey

LATER = 10**9


def look(base: Path, *patterns: str) -> Survey:
    return survey(place(Recipe(capsule_id="x", argv=(), root=str(base), cwd=str(base)), patterns)[0])


def read(base: Path, kept: dict[str, Any], *patterns: str, wait: int = LATER) -> Contents:
    """As if `wait` ns had passed since now."""
    return read_contents(look(base, *(patterns or ("**",))), kept, time.time_ns() + wait)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name, content in {"a": b"1", "d/b": b"2", "d/c": b"", "d/e/f": b"3"}.items():
        path = tmp_path / "base" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "base"


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, in order."""
    names: list[str] = []
    small = digests._hash_small

    def counted(jobs: "list[digests.Job]") -> None:
        names.extend([job[1] for job in jobs])
        small(jobs)

    monkeypatch.setattr(digests, "_hash_small", counted)
    return names


def test_every_file_is_digested_and_the_tree_is_theirs(base: Path, read_files: list[str]) -> None:
    (base / "d/b").chmod(0o755)
    (base / "d/l").symlink_to("b")
    contents = read(base, {})
    assert contents.hashes == {
        "": {"a": digest_of(b"1").hash},
        "d": {"b": digest_of(b"2").hash, "c": digest_of(b"").hash},
        "d/e": {"f": digest_of(b"3").hash},
    }
    assert (
        build(contents.leaves)[0]
        == build(
            {
                "": leaves([("a", digest_of(b"1").hash, 1, False)], [], declared=False),
                "d": leaves(
                    [("b", digest_of(b"2").hash, 1, True), ("c", digest_of(b"").hash, 0, False)],
                    [("l", "b")],
                    declared=True,
                ),
                "d/e": leaves([("f", digest_of(b"3").hash, 1, False)], [], declared=True),
            }
        )[0]
    )
    assert sorted(read_files) == ["a", "b", "c", "f"]


def test_what_looks_the_same_is_not_read_again(base: Path, read_files: list[str]) -> None:
    first = read(base, {})
    read_files.clear()
    again = read(base, first.kept)
    assert (read_files, again.fresh) == ([], [])
    assert again.hashes == first.hashes
    assert build(again.leaves) == build(first.leaves)


@pytest.mark.parametrize("size", ["same", "other"])
def test_only_what_changed_is_read_again(base: Path, size: str, read_files: list[str]) -> None:
    first = read(base, {})
    read_files.clear()
    (base / "d/b").write_bytes(b"9" if size == "same" else b"99")
    os.utime(base / "d/b", ns=(1, 1))  # a time that no look had before
    again = read(base, first.kept)
    assert read_files == ["b"]
    assert again.hashes["d"] == {
        "b": digest_of(b"9" if size == "same" else b"99").hash,
        "c": digest_of(b"").hash,
    }


def test_a_mode_alone_changes_the_tree_and_not_the_content(base: Path) -> None:
    first = read(base, {})
    (base / "a").chmod(0o755)
    again = read(base, first.kept)
    assert again.hashes == first.hashes
    assert build(again.leaves)[0] != build(first.leaves)[0]


def test_a_fresh_look_is_not_kept_and_is_named(base: Path, read_files: list[str]) -> None:
    """The file may change once more in the same tick of the clock, and look the same."""
    first = read(base, {}, wait=0)
    assert sorted(first.fresh) == sorted(
        [(str(base / name), digest_of(content).hash) for name, content in
         (("a", b"1"), ("d/b", b"2"), ("d/c", b""), ("d/e/f", b"3"))]
    )  # fmt: skip
    read_files.clear()
    read(base, first.kept)
    assert len(read_files) == 4
    # A real look has five numbers, that of a directory none.
    assert not [name for kept in first.kept.values() for name, seen in kept[0].items() if len(seen) == 5]


@pytest.mark.parametrize("name", ["d/new", "a", "d/e/f"])
def test_a_fresh_file_that_is_gone_is_not_remembered(base: Path, name: str) -> None:
    """The folder without it must not look like the folder that had it."""
    first = read(base, {})
    (base / name).write_bytes(b"new")
    fresh = read(base, first.kept, wait=0)
    (base / name).unlink()
    assert build(read(base, fresh.kept).leaves) == build(read(base, {}).leaves)


def test_a_fresh_file_is_read_again_and_only_that(base: Path) -> None:
    first = read(base, {})
    (base / "d/b").write_bytes(b"x")
    fresh = read(base, first.kept, wait=0)
    assert fresh.fresh == [(str(base / "d/b"), digest_of(b"x").hash)]
    (base / "d/b").write_bytes(b"y")
    assert read(base, fresh.kept).hashes["d"]["b"] == digest_of(b"y").hash


def test_a_fresh_link_is_not_kept_and_is_named(base: Path) -> None:
    """It can be turned within the tick too, and get the same inode."""
    first = read(base, {})
    (base / "d/l").symlink_to("b")
    fresh = read(base, first.kept, wait=0)
    assert [path for path, _ in fresh.fresh] == [str(base / "d/l")]
    assert len(fresh.kept["d"][0]["l"]) != 5
    assert still_same(fresh.fresh) == ""
    (base / "d/l").unlink()
    (base / "d/l").symlink_to("c")
    assert still_same(fresh.fresh) == str(base / "d/l")


def test_still_same_reads_again(base: Path) -> None:
    fresh = [(str(base / "a"), digest_of(b"1").hash), (str(base / "d/b"), digest_of(b"2").hash)]
    assert still_same([]) == still_same(fresh) == ""
    (base / "d/b").write_bytes(b"9")
    assert still_same(fresh) == str(base / "d/b")
    (base / "a").unlink()
    assert still_same(fresh) == str(base / "a")


@pytest.mark.parametrize("kept_of", [("a",), ("d/*",), ("**", "!a"), ("d",)])
def test_what_was_kept_for_other_patterns_is_never_wrong(base: Path, kept_of: tuple[str, ...]) -> None:
    kept = read(base, {}, *kept_of).kept
    for patterns in (("**",), ("d/b", "a"), ("d/**", "!d/c")):
        assert build(read(base, kept, *patterns).leaves) == build(read(base, {}, *patterns).leaves)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
@pytest.mark.parametrize("guess", ["right", 0, 1, 10 * CHUNK])
def test_a_file_of_any_size_is_hashed_whatever_was_expected(
    tmp_path: Path, size: int, guess: "str | int"
) -> None:
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    expected = size if isinstance(guess, str) else guess
    assert hash_file(str(tmp_path / "f"), expected) == (digest_of(content).hash, size)


def test_big_files_are_hashed_in_threads(tmp_path: Path) -> None:
    names = [f"{number}" for number in range(5)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([number]) * (digests._BIG + number))
    contents = read(tmp_path, {})
    assert contents.hashes[""] == {
        name: digest_of(bytes([number]) * (digests._BIG + number)).hash for number, name in enumerate(names)
    }


@pytest.mark.parametrize("size", [1, 1 << 17, digests._BIG])
@pytest.mark.parametrize("what", ["vanished", "grew", "shrank", "unreadable"])
def test_a_file_that_moves_under_our_eyes_is_an_error(tmp_path: Path, size: int, what: str) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"x" * size)
    found = look(tmp_path, "**")
    if what == "vanished":
        (tmp_path / "b").unlink()
    elif what == "grew":
        (tmp_path / "b").write_bytes(b"x" * (size + 1))
    elif what == "shrank":
        (tmp_path / "b").write_bytes(b"")
    else:
        (tmp_path / "b").unlink()
        (tmp_path / "b").symlink_to("b")
    with pytest.raises(InputError, match=r"vanished|changed its size|can't read"):
        read_contents(found, {}, time.time_ns())


def test_a_link_that_stops_being_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to("x")
    found = look(tmp_path, "**")
    (tmp_path / "l").unlink()
    (tmp_path / "l").touch()
    with pytest.raises(InputError, match="stopped being a link"):
        read_contents(found, {}, time.time_ns())


def test_pipes_and_sockets_are_left_out_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.mkfifo(tmp_path / "pipe")
    found = look(tmp_path, "**")
    contents = read_contents(found, {}, time.time_ns())
    assert set(contents.hashes[""]) == {"f"}
    assert any("pipe" in note for note in found.notes)


def test_a_file_that_became_a_pipe_does_not_hang_us(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    found = look(tmp_path, "**")
    (tmp_path / "f").unlink()
    os.mkfifo(tmp_path / "f")
    with pytest.raises(InputError):
        read_contents(found, {}, time.time_ns())


def unseen(base: Path) -> Survey:
    return survey(
        place(Recipe(capsule_id="x", argv=(), root=str(base), cwd=str(base)), ("**",))[0], (), known=()
    )


def test_an_unseen_file_is_seen_when_it_is_read(base: Path) -> None:
    sizes = {
        "small": digests._SMALL - 1,
        "middle": digests._SMALL,
        "big": digests._BIG,
        "bigger": digests._BIG + 1,
    }
    for name, size in sizes.items():
        (base / "d" / name).write_bytes(os.urandom(size))
    (base / "d/l").symlink_to("b")
    found = unseen(base)
    assert {seen for folder in found.folders.values() for seen in folder.listing.values()} >= {UNSEEN}
    now = time.time_ns() + LATER
    contents, expected = read_contents(found, {}, now), read(base, {})
    assert found.same_as(look(base, "**"))
    assert contents.hashes == expected.hashes
    assert contents.kept == expected.kept
    assert build(contents.leaves) == build(expected.leaves)
    # And what was kept of it vouches for the files the next time.
    assert read_contents(look(base, "**"), contents.kept, now).kept == contents.kept


@pytest.mark.parametrize("kind", ["pipe", "link", "directory", "nothing"])
def test_an_unseen_file_that_stops_being_one_is_an_error(base: Path, kind: str) -> None:
    found = unseen(base)
    (base / "d/b").unlink()
    if kind == "pipe":
        os.mkfifo(base / "d/b")
    elif kind == "link":
        (base / "d/b").symlink_to("c")
    elif kind == "directory":
        (base / "d/b").mkdir()
    with pytest.raises(InputError, match=r"d/b (stopped being a file|vanished)|can't read .*d/b"):
        read_contents(found, {}, time.time_ns())


@pytest.mark.parametrize("folders", [(12,), (1, 10, 1), (6, 6), (1,) * 12, (11, 1), (0, 12)])
@pytest.mark.parametrize("wait", [0, LATER])
def test_wherever_two_processes_share_the_work_the_result_is_the_same(
    tmp_path: Path, folders: tuple[int, ...], wait: int, monkeypatch: pytest.MonkeyPatch, forked: list[int]
) -> None:
    for number, count in enumerate(folders):
        folder = tmp_path / f"d{number}"
        folder.mkdir()
        for name in range(count):
            (folder / f"\udc80{name}").write_bytes(b"%d" % name * (1 if name % 3 else digests._BIG))
        (folder / "link").symlink_to("0")
    now = time.time_ns() + wait
    alone = read_contents(unseen(tmp_path), {}, now)
    monkeypatch.setattr(digests, "_MANY", 4)
    monkeypatch.setattr(digests, "_processors", lambda: 2)
    found = unseen(tmp_path)
    shared = read_contents(found, {}, now)
    assert len(forked) == 1
    assert found.same_as(look(tmp_path, "**"))
    assert (shared.hashes, shared.kept, sorted(shared.fresh)) == (
        alone.hashes,
        alone.kept,
        sorted(alone.fresh),
    )
    assert build(shared.leaves) == build(alone.leaves)


@pytest.mark.parametrize(
    "trouble",
    [
        "none",
        "no fork",
        "no memfd_create",
        "child dies",
        "child is cut short",
        "vanished here",
        "vanished there",
    ],
)
def test_thousands_of_small_files_are_hashed_by_two_processes(
    base: Path, trouble: str, monkeypatch: pytest.MonkeyPatch, forked: list[int]
) -> None:
    monkeypatch.setattr(digests, "_MANY", 4)
    monkeypatch.setattr(digests, "_processors", lambda: 2)
    expected = read(base, {}).hashes

    def refused(*_: str) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    found, names = look(base, "**"), ["a", "d/b", "d/c", "d/e/f"]
    if trouble in ("no fork", "no memfd_create"):
        monkeypatch.setattr(digests.posix, trouble[3:], refused)
    elif trouble == "child dies":
        parent = os.getpid()
        small = digests._hash_small
        monkeypatch.setattr(
            digests, "_hash_small", lambda jobs: small(jobs) if os.getpid() == parent else os._exit(9)
        )
    elif trouble == "child is cut short":
        # Some of it is there, and looks like all of it to who doesn't count.
        monkeypatch.setattr(
            digests.posix, "pwrite", lambda fd, told, at: os._exit(os.pwritev(fd, [told[:-5]], at) * 0)
        )
    elif trouble != "none":
        (base / names[0 if trouble == "vanished here" else -1]).unlink()
        with pytest.raises(InputError, match="vanished"):
            read_contents(found, {}, time.time_ns())
    if "vanished" not in trouble:
        assert read_contents(found, {}, time.time_ns() + LATER).hashes == expected
    assert len(forked) == (1 if trouble.startswith("no ") else 2)
