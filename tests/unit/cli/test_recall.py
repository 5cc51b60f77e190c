"""Recall: what it hangs on, when it gives up, and that giving up leaves everything as it was."""

import os
import posix
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsula import engine
from capsula.cli import recall as recalling
from capsula.cli import recalled
from capsula.observe import journal
from capsula.store import layout, trash
from capsula.worktree import digests, listing

Scene = Any

ONE = ["-c", "one", "-i", "src", "-e", "VAR", "-o", "dist", "-o", "*.out", "--", "cmd"]


def gives_up(scene: Scene, argv: list[str] = ONE) -> bool:
    """Whether recall has no answer. Then it has changed nothing and said nothing."""
    before = scene.shot()
    code, out, err = scene.recall(argv)
    if code is None:
        assert scene.shot() == before
        assert (out, err) == (b"", b"")
    return code is None


# ---------------------------------------------------------------------------------------------------- the record


def test_without_a_record_there_is_no_answer(scene: Scene) -> None:
    assert gives_up(scene)
    scene.settled(ONE)
    for record in scene.records():
        record.unlink()
    assert gives_up(scene)


def test_a_record_is_found_by_all_that_chooses_options_and_places(scene: Scene, monkeypatch: Any) -> None:
    def path(program: str = "capsule", argv: "list[str] | None" = None) -> "str | None":
        return recalling.record_path(program, ONE if argv is None else argv)

    names = [path(), path("placebo"), path(argv=[*ONE, "x"]), path(argv=["-c one", *ONE[2:]]), path(argv=[])]
    for name, value in ((b"CAPSULE_ARGS", b""), (b"CAPSULE_ARGS", b"-v"), (b"HOME", b"/elsewhere")):
        monkeypatch.setitem(posix.environ, name, value)
        names.append(path())
    os.chdir(scene.base)
    names.append(path())
    for machine in (("linux", "arm"), ("other", "x86_64")):
        found = SimpleNamespace(sysname=machine[0], machine=machine[1])
        monkeypatch.setattr(recalling.posix, "uname", lambda found=found: found)
        names.append(path())
    monkeypatch.setattr(recalling, "__version__", "another")
    names.append(path())
    assert None not in names
    assert len(set(names)) == len(names)
    assert all(os.path.dirname(name or "") == f"{scene.store}/recall" for name in names)


def test_without_a_place_there_is_no_record(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(posix.environ, b"XDG_CACHE_HOME", b"relative")
    assert recalling.record_path("capsule", ONE) == (
        f"{scene.home}/.cache/capsula/recall/{os.path.basename(recalling.record_path('capsule', ONE) or '')}"
    )
    monkeypatch.delitem(posix.environ, b"XDG_CACHE_HOME")
    monkeypatch.setitem(posix.environ, b"HOME", b"relative")
    assert recalling.record_path("capsule", ONE) is None


def test_a_file_on_standard_input_is_never_recalled(scene: Scene) -> None:
    scene.settled(ONE)
    saved = os.dup(0)
    try:
        with open("src/a.c", "rb") as file:
            os.dup2(file.fileno(), 0)
            assert recalling.record_path("capsule", ONE) is None
            assert gives_up(scene)
        os.close(0)
        assert recalling.record_path("capsule", ONE) is None
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert not gives_up(scene)


@pytest.mark.parametrize(
    "damage", ["empty", "short", "flipped", "old", "zeros", "directory", "other", "longer"]
)
def test_a_damaged_record_is_none(scene: Scene, damage: str) -> None:
    scene.settled(ONE)
    [path] = scene.records()
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 4
    elif damage == "old":
        record = recalling.to_bytes(str(path), (recalling.VERSION - 1, [], [], ([], []), None, [], (), ()))  # type: ignore[arg-type]
        content = bytearray(record)
    new = {
        "empty": b"",
        "short": content[: len(content) // 2],
        "zeros": bytes(len(content)),
        "other": b"x" * 500,
    }
    new["longer"] = content + b"x"
    path.unlink()
    if damage == "directory":
        path.mkdir()
    else:
        path.write_bytes(new.get(damage, bytes(content)))
    assert gives_up(scene)
    if damage != "directory":
        scene.full(ONE)
        assert not gives_up(scene)


def test_any_flipped_byte_of_a_record_shows(scene: Scene) -> None:
    scene.settled(ONE)
    [path] = scene.records()
    content = path.read_bytes()
    for at in range(0, len(content), 41):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        assert gives_up(scene)


def test_no_secret_is_in_a_record_or_in_its_name(scene: Scene) -> None:
    argv = ["-c", "one", "-i", "src", "-e", "API_TOKEN", "-o", "dist", "--", "cmd", "--token=s3cret-arg"]
    posix.environ[b"API_TOKEN"] = b"s3cret-value"
    scene.settled(argv)
    assert not gives_up(scene, argv)
    [path] = scene.records()
    assert b"s3cret" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    posix.environ[b"API_TOKEN"] = b"another"
    assert gives_up(scene, argv)


@pytest.mark.parametrize(
    "extra",
    [
        ["-v"],
        ["--explain"],
        ["--json", "report"],
        ["-p"],
        ["--verify_hits", "0.5"],
        ["--tool_command", "true"],
        ["--store", "~/store"],
    ],
)
def test_what_says_or_asks_more_is_not_recalled(scene: Scene, extra: list[str]) -> None:
    argv = [*extra, *ONE]
    scene.settled(argv)
    assert scene.records() == []


def test_long_logs_are_not_recalled(scene: Scene) -> None:
    scene.streams = b"x" * 70_000, b""
    scene.settled(ONE)
    assert scene.records() == []


def test_a_run_that_is_not_kept_leaves_no_record(scene: Scene) -> None:
    scene.fails = True
    scene.settled(ONE)
    assert scene.runs == 3
    assert scene.records() == []


# ---------------------------------------------------------------------------------------------------- the answer


def test_the_answer_is_that_of_the_full_path(scene: Scene) -> None:
    scene.streams = b"more\n", b"warning\n"
    scene.settled(ONE)
    ran, out, err = scene.full(ONE)
    assert not ran
    assert scene.recall(ONE) == (0, out, err)
    assert out.startswith(b"out ")
    assert err == b"warning\n"


@pytest.mark.parametrize(
    "streams", [(b"", b""), (b"x" * 5000, b""), (b"", b"e" * 5000), (b"a" * 30_000, b"b" * 30_000)]
)
def test_logs_of_any_shape_are_replayed(scene: Scene, streams: tuple[bytes, bytes]) -> None:
    scene.streams = streams
    scene.settled(ONE)
    _, out, err = scene.full(ONE)
    assert scene.recall(ONE) == (0, out, err)
    assert len(out) > len(streams[0])
    assert err == streams[1]


def test_a_cached_failure_is_answered_with_its_exit_code(scene: Scene) -> None:
    scene.fails = True
    argv = ["--cache_failure", *ONE]
    scene.settled(argv)
    assert scene.recall(argv)[0] == 3


def test_the_job_that_made_it_is_named(scene: Scene) -> None:
    scene.full(["-j", "night\x1bly", *ONE])
    scene.settled(ONE)
    _, _, err = scene.full(ONE)
    assert err == b"capsule: hit, made by job night\\x1bly\n"
    assert scene.recall(ONE)[2] == err


def test_an_answer_counts_as_a_use_of_the_entry(scene: Scene) -> None:
    scene.settled(ONE)
    [entry] = Path(scene.store, "ac").rglob("*/*")
    os.utime(entry, (1, 1))
    assert not gives_up(scene)
    assert entry.stat().st_mtime > time.time() - 60


def test_a_store_that_cannot_be_written_still_answers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.settled(ONE)

    def refused(*args: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(recalling.posix, "utime", refused)
    assert scene.recall(ONE)[0] == 0


def test_the_journal_has_the_line_that_the_full_path_writes(scene: Scene) -> None:
    scene.settled(ONE)
    scene.full(ONE)
    scene.recall(ONE)
    before, last = list(journal.read(scene.store))[-2:]
    assert last["time"] >= before["time"]  # type: ignore[operator]
    for row in (before, last):
        del row["time"], row["run"]
    assert last == before
    assert last["outcome"] == engine.HIT


def test_the_beginning_of_an_entry_is_its_checksum() -> None:
    assert layout.seal("key", b"payload")[recalling.ENTRY_HEAD :] == b"payload"


# ---------------------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    "change", ["deleted", "edited", "extra", "mode", "directory mode", "type", "empty gone"]
)
def test_outputs_are_put_right(scene: Scene, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.settled(ONE)
    before = scene.shot()
    path = Path("dist/a.bin")
    if change == "deleted":
        scene.remove("dist")
    elif change == "edited":
        path.write_text("edited")
    elif change == "extra":
        Path("dist/extra").touch()
    elif change == "mode":
        path.chmod(0o600)
    elif change == "directory mode":
        Path("dist/sub").chmod(0o700)
    elif change == "type":
        path.unlink()
        path.mkdir()
    else:
        Path("dist/empty").rmdir()
    scene.wait()
    assert not gives_up(scene)
    assert scene.shot() == before
    # The next one has to look once more, and then knows them again.
    scene.wait()
    assert not gives_up(scene)
    monkeypatch.setattr(recalled, "restore_recalled", lambda *args: pytest.fail("looked again"))
    assert not gives_up(scene)


def test_the_users_files_go_to_the_trash_with_a_word(scene: Scene) -> None:
    scene.settled(ONE)
    Path("dist/mine").write_text("precious")
    code, _, err = scene.recall(ONE)
    assert code == 0
    assert b"dist/mine (capsula cache trash)" in err
    assert [os.path.basename(item.path) for item in trash.items(scene.store)] == ["mine"]


def test_a_closed_standard_error_is_no_reason_to_run(scene: Scene) -> None:
    scene.settled(ONE)
    Path("dist/mine").write_text("precious")
    child = os.fork()
    if child == 0:
        os.close(2)
        os._exit(recalling.recall("capsule", ONE) or 0 if not os.path.exists("nothing") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not Path("dist/mine").exists()


def test_what_is_listed_beside_an_input_is_no_input(scene: Scene) -> None:
    """`gen.out` is an input, named as such, and matches an output pattern; `old.out` lies beside it and is stale."""
    argv = ["-c", "x", "-i", "gen.out", "-i", "*/sub/c.c", "-o", "dist", "-o", "*.out", "--", "cmd"]
    scene.settled(argv)
    Path("old.out").write_text("stale")
    scene.settled(argv)
    assert not Path("old.out").exists()
    # Now it is there while the record is made, and afterwards not known as an output.
    [record] = scene.records()
    record.unlink()
    scene.full(argv)
    Path("old.out").write_text("stale")
    scene.recall(argv)
    scene.full(argv)
    assert not Path("old.out").exists()
    assert Path("gen.out").exists()


def test_a_lost_blob_sends_us_the_full_way(scene: Scene) -> None:
    scene.settled(ONE)
    for path in Path(scene.store, "cas").rglob("*/*"):
        path.unlink()
    assert not gives_up(scene)  # with everything in place, no blob is needed
    scene.remove("dist")
    assert gives_up(scene)


# ---------------------------------------------------------------------------------------------------- giving up


def test_an_entry_that_was_replaced_is_not_recalled(scene: Scene) -> None:
    """A placebo, or another checkout, ran a command that isn't deterministic: its result is what a hit gives now."""
    scene.settled(ONE)
    before = scene.full(ONE)[1]
    scene.nonce = b"n"
    scene.full(ONE, "placebo")
    scene.wait()
    assert gives_up(scene)
    ran, out, _ = scene.full(ONE)
    assert not ran
    assert out != before


@pytest.mark.parametrize("in_place", [True, False])
def test_an_expired_failure_is_not_recalled(
    scene: Scene, in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.fails = True
    argv = ["--cache_failure", "--cache_failure_ttl", "1h", *ONE]
    scene.settled(argv)
    assert not gives_up(scene, argv)
    if not in_place:
        scene.remove("dist")
    later = time.time_ns() + 2 * 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert gives_up(scene, argv)


def test_a_failure_that_was_stored_just_now_expires_too(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.fails = True
    argv = ["--cache_failure", "--cache_failure_ttl", "1h", *ONE]
    scene.full(argv)
    later = time.time_ns() + 2 * 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert gives_up(scene, argv)
    assert scene.full(argv)[0]


def test_a_vault_that_ceases_to_be_one_shows(scene: Scene) -> None:
    argv = ["-i", "**", "-o", "dist", "-o", "*.out", "--", "cmd"]
    scene.write("vault/.capsula-vault", "")
    scene.write("vault/notes", "not an input")
    scene.settled(argv)
    assert not gives_up(scene, argv)
    scene.remove("vault/.capsula-vault")
    assert gives_up(scene, argv)
    assert scene.full(argv)[0]


def test_a_link_on_the_way_to_the_root_is_not_trusted(scene: Scene) -> None:
    os.symlink(f"{scene.base}/up/root", f"{scene.base}/link")
    for root, records in ((f"{scene.base}/up/root", 1), ("..", 1), (f"{scene.base}/link", 0)):
        for record in scene.records():
            record.unlink()
        scene.settled(["--workspace_root", root, *ONE])
        assert len(scene.records()) == records, root


@pytest.mark.parametrize("which", ["src/l", "src/to-file"])
def test_what_a_declared_link_leads_to_is_watched(scene: Scene, which: str) -> None:
    os.symlink("../note.txt", "src/l")
    os.symlink("l", "src/to-file")
    scene.settled(ONE)
    assert not gives_up(scene)
    Path("note.txt").write_text("edited")
    assert gives_up(scene)
    assert scene.full(ONE)[0]


def test_a_link_on_the_way_is_watched(scene: Scene) -> None:
    argv = ["-c", "x", "-i", "pkg/sub/**", "-o", "dist", "--", "cmd"]
    shutil.copytree("real", "other")
    scene.settled(argv)
    assert not gives_up(scene, argv)
    scene.remove("pkg")
    os.symlink("other", "pkg")
    assert gives_up(scene, argv)


CHANGES = {
    "configuration removed": lambda scene: scene.remove("Capsule.toml"),
    "configuration made": lambda scene: scene.write("../../../home/.capsules.toml", 'tool_tag = ["t"]'),
    "configuration edited": lambda scene: scene.write("Capsule.toml", 'tool_tag = ["u"]'),
    "configuration replaced": lambda scene: os.rename("other.toml", "Capsule.toml"),
    "root made": lambda scene: os.mkdir(".git"),
    "root removed": lambda scene: scene.remove("../capsula.toml"),
    "vault made": lambda scene: scene.write("vault/.capsula-vault", ""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_while_the_command_runs_is_not_recalled(scene: Scene, change: str) -> None:
    """`capsule -- git init`: the run that is recorded isn't the one that would come next."""
    scene.write("other.toml", 'tool_tag = ["older"]')
    os.utime("other.toml", ns=(1, 1))
    scene.write("Capsule.toml", 'tool_tag = ["t"]')
    scene.wait()
    argv = ["-i", "src", "-o", "dist", "--", "cmd"]
    scene.meanwhile = lambda: CHANGES[change](scene)
    assert scene.full(argv)[0]
    assert scene.records() == []
    scene.meanwhile = lambda: None
    assert gives_up(scene, argv)


# ---------------------------------------------------------------------------------------------------- freshness


def test_nothing_fresh_is_recorded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit within the same tick of the clock can leave the same look."""
    tick = 50_000_000
    monkeypatch.setattr(listing, "TICK_NS", tick)
    monkeypatch.setattr(listing, "COARSE_TICK_NS", 10**10)
    newest = 0

    def aged(by: int) -> None:
        monkeypatch.setattr(digests, "time", SimpleNamespace(time_ns=lambda: newest + by))

    scene.settled(ONE)
    for path in scene.records():
        path.unlink()
    for fresh in ("src/a.c", "src/l", "../capsula.toml", "src/b"):
        if fresh == "src/l":
            os.symlink("a.c", fresh)
        elif fresh == "src/b":
            os.symlink("../note.txt", "src/b")
        else:
            os.utime(fresh)
        newest = os.lstat(fresh).st_ctime_ns
        aged(tick // 2)
        scene.full(ONE)
        assert scene.records() == [], fresh
        aged(tick * 2)
        scene.full(ONE)
        assert len(scene.records()) == 1, fresh
        scene.records()[0].unlink()
        newest += tick * 2
        time.sleep(0.01)
    os.utime("note.txt")
    newest = os.stat("note.txt").st_ctime_ns
    aged(tick // 2)
    scene.full(ONE)
    assert scene.records() == [], "behind a link"


def test_fresh_outputs_are_looked_at_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.settled(ONE)
    [record] = scene.records()
    record.unlink()
    os.utime("dist/a.bin")
    made = os.stat("dist/a.bin").st_ctime_ns
    tick = (made - os.stat("src/a.c").st_ctime_ns) // 2  # the inputs are older than that
    monkeypatch.setattr(listing, "TICK_NS", tick)
    monkeypatch.setattr(listing, "COARSE_TICK_NS", 10**10)
    monkeypatch.setattr(digests, "time", SimpleNamespace(time_ns=lambda: made + 1))
    scene.full(ONE)
    looked = []
    restore = recalled.restore_recalled
    monkeypatch.setattr(recalled, "restore_recalled", lambda *args: looked.append(1) or restore(*args))
    for _ in range(2):
        assert not gives_up(scene)
    assert len(looked) == 2
    monkeypatch.setattr(digests, "time", SimpleNamespace(time_ns=lambda: made + 2 * tick))
    for _ in range(2):
        assert not gives_up(scene)
    assert len(looked) == 3


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_jumps_costs_a_look_and_no_more(scene: Scene, hours: int) -> None:
    scene.settled(ONE)
    scene.offset = hours * 3600 * 10**9
    assert not gives_up(scene)  # nothing has changed
    scene.write("src/a.c", "edited")
    assert gives_up(scene)
    assert scene.full(ONE)[0]
    assert scene.full(ONE)[0] is False
    assert gives_up(scene) is (hours < 0)  # what was changed in the future proves nothing
    scene.offset = 0
    scene.full(ONE)
    assert not gives_up(scene)
