"""A hit gives back exactly what a run would have made, or it is no hit: where other task caches fail."""

import os
import shutil
from pathlib import Path

import pytest

COPY = ("-i", "in", "-o", "out")
DO = "cat in > out"
# A directory with a bit of everything.
TREE = ("-i", "in", "-o", "dist")
MAKE_TREE = (
    "rm -rf dist; mkdir -p dist/empty dist/deep/er; cat in > dist/plain; cat in > dist/deep/er/file;"
    "echo '#!/bin/sh' > dist/tool; chmod 755 dist/tool; echo s > dist/private; chmod 600 dist/private;"
    "ln -s plain dist/link; ln -s nowhere dist/dangling; ln -s deep dist/todeep; ln -s /etc/passwd dist/away"
)


def picture(top: Path) -> dict[str, tuple[str, object]]:
    """Everything below a directory: modes, contents, targets."""
    seen: dict[str, tuple[str, object]] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        mode = f"{path.lstat().st_mode:o}"
        if path.is_symlink():
            seen[str(path)] = ("link", os.readlink(path))
        else:
            seen[str(path)] = (mode, "" if path.is_dir() else path.read_bytes())
    return seen


def test_a_hit_leaves_intact_outputs_as_they_are(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    before = ws.path("out").stat()
    assert ws.capsule(*COPY, do=DO).ran == 0
    after = ws.path("out").stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


def test_a_quiet_hit_says_nothing_of_its_own(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    done = ws.capsule(*COPY, do=DO)
    assert (done.ran, done.code, done.out, done.err) == (0, 0, "", "")


def test_a_deleted_output_comes_back(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    ws.path("out").unlink()
    assert ws.capsule(*COPY, do=DO).ran == 0
    assert ws.read("out") == "one"


def test_a_deleted_directory_of_outputs_comes_back_exactly(ws, first):
    ws.write("in", "one")
    first(*TREE, do=MAKE_TREE)
    made = picture(ws.path("dist"))
    shutil.rmtree(ws.path("dist"))
    assert ws.capsule(*TREE, do=MAKE_TREE).ran == 0
    assert picture(ws.path("dist")) == made


def test_an_edited_output_is_repaired(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    ws.write("out", "edited by hand")
    assert ws.capsule(*COPY, do=DO).ran == 0
    assert ws.read("out") == "one"


def test_an_output_edited_by_hand_with_size_and_time_kept_is_repaired(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    before = ws.path("out").stat()
    ws.write("out", "two")
    os.utime(ws.path("out"), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ws.path("out").stat().st_mtime_ns == before.st_mtime_ns
    assert ws.capsule(*COPY, do=DO).ran == 0
    assert ws.read("out") == "one"


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("a link points elsewhere", "rm dist/link; ln -s tool dist/link"),
        ("a link became the file that it led to", "rm dist/link; cp dist/plain dist/link"),
        ("a link that dangled is gone", "rm dist/dangling"),
        ("a link to a directory became a directory", "rm dist/todeep; cp -r dist/deep dist/todeep"),
        ("a file became a link to the same content", "mv dist/plain dist/moved; ln -s moved dist/plain"),
        ("a file became a directory", "rm dist/plain; mkdir dist/plain; echo x > dist/plain/x"),
        ("a directory became a file", "rm -r dist/deep; echo x > dist/deep"),
        ("the executable bit is gone", "chmod 644 dist/tool"),
        ("a private file is open to all", "chmod 644 dist/private"),
        ("an empty directory is gone", "rmdir dist/empty"),
        ("the empty directory isn't empty", "echo x > dist/empty/x"),
        ("a file is left over from another result", "echo x > dist/deep/stale; ln -s x dist/stale"),
        ("a directory is left over from another result", "mkdir -p dist/stale/stale"),
        ("the mode of a directory", "chmod 700 dist/deep"),
        ("much at once", "rm dist/plain dist/link; mkdir dist/link; chmod 600 dist/tool; echo y > dist/y"),
    ],
)
def test_a_hit_repairs_what_became_of_the_outputs(ws, first, what, spoil):
    ws.write("in", "one")
    first(*TREE, do=MAKE_TREE)
    made = picture(ws.path("dist"))
    assert os.system(f"cd '{ws.root}' && {spoil}") == 0
    assert picture(ws.path("dist")) != made
    assert ws.capsule(*TREE, do=MAKE_TREE).ran == 0
    assert picture(ws.path("dist")) == made


def test_read_only_files_and_directories_come_back_exactly(ordinary, first):
    ws = ordinary
    make = "mkdir -p dist/shut; cat in > dist/shut/file; chmod 400 dist/shut/file; chmod 500 dist/shut dist"
    ws.write("in", "one")
    first(*TREE, do=make)
    made = picture(ws.path("dist"))
    ws.path("dist").chmod(0o700)
    ws.path("dist/shut").chmod(0o700)
    shutil.rmtree(ws.path("dist"))
    assert ws.capsule(*TREE, do=make).ran == 0
    assert picture(ws.path("dist")) == made
    # Now that they are read-only, one file in them is gone, and one too many.
    for name in ("dist", "dist/shut"):
        ws.path(name).chmod(0o700)
    ws.path("dist/shut/file").unlink()
    ws.write("dist/extra")
    for name in ("dist/shut", "dist"):
        ws.path(name).chmod(0o500)
    assert ws.capsule(*TREE, do=make).ran == 0
    assert picture(ws.path("dist")) == made


def test_outputs_by_pattern_have_no_stale_ones_left(ws, first):
    options, do = ("-i", "in", "-o", "gen/*.c"), "mkdir -p gen; cat in > gen/a.c; cat in > gen/b.c"
    ws.write("in", "one")
    first(*options, do=do)
    ws.write("gen/stale.c")
    ws.write("gen/stale.h", "no output")
    ws.path("gen/a.c").unlink()
    assert ws.capsule(*options, do=do).ran == 0
    assert ws.names("gen") == ["a.c", "b.c", "stale.h"]


def test_what_the_old_result_made_does_not_stay_under_the_new(ws, first):
    do = "rm -rf dist; mkdir dist; for name in $(cat in); do echo $name > dist/$name; done"
    ws.write("in", "a b")
    first(*TREE, do=do)
    ws.write("in", "b c")
    assert ws.capsule(*TREE, do=do).ran == 1
    ws.write("in", "a b")
    done = ws.capsule(*TREE, do=do)
    assert (done.ran, ws.names("dist")) == (0, ["a", "b"])
    assert done.err == "", "what a run of this capsule made can be made again: no word about the trash"
    ws.write("in", "b c")
    assert ws.capsule(*TREE, do=do).ran == 0
    assert ws.names("dist") == ["b", "c"]


# ---------------------------------------------------------------------------------------------------- the trash


def test_a_file_of_the_user_s_in_the_way_goes_to_the_trash_and_comes_back(ws, first):
    ws.write("in", "one")
    first(*TREE, do=MAKE_TREE)
    ws.write("dist/notes", "a day's work")
    done = ws.capsule(*TREE, do=MAKE_TREE)
    assert (done.ran, ws.exists("dist/notes")) == (0, False)
    assert done.says("moved to the trash", "dist/notes", "capsula cache trash")
    assert len(done.err.splitlines()) == 1

    listed = ws.tool("cache", "trash")
    assert listed.code == 0
    row = next(line for line in listed.out.splitlines() if "dist/notes" in line)
    restored = ws.tool("cache", "trash", "restore", row.split()[0])
    assert restored.code == 0, restored
    assert ws.read("dist/notes") == "a day's work"


def test_an_output_that_the_user_edited_goes_to_the_trash(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    ws.write("out", "edited by hand")
    assert ws.capsule(*COPY, do=DO).says("moved to the trash", "out")
    assert [path.read_text() for path in ws.store.glob("trash/*/item")] == ["edited by hand"]


def test_a_declared_input_is_never_removed_though_it_lies_under_an_output(ws, first):
    options = ("-i", "dist/keep.txt", "-o", "dist/*")
    do = "cat dist/keep.txt > dist/made"
    ws.write("dist/keep.txt", "kept")
    first(*options, do=do)
    ws.path("dist/made").unlink()
    ws.write("dist/stale")
    assert ws.capsule(*options, do=do).ran == 0
    assert ws.names("dist") == ["keep.txt", "made"]
    assert ws.read("dist/keep.txt") == "kept"


# ---------------------------------------------------------------------------------------------------- inputs


def test_the_old_input_brings_the_old_result(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    ws.write("in", "two")
    assert ws.capsule(*COPY, do=DO).ran == 1
    assert ws.read("out") == "two"
    ws.write("in", "one")
    assert ws.capsule(*COPY, do=DO).ran == 0
    assert ws.read("out") == "one"


def test_an_input_edited_with_size_and_time_kept_is_a_miss(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    before = ws.path("in").stat()
    ws.write("in", "two")
    os.utime(ws.path("in"), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ws.capsule(*COPY, do=DO).ran == 1
    assert ws.read("out") == "two"


def test_only_touching_an_input_is_a_hit(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    os.utime(ws.path("in"), (1, 1))
    assert ws.capsule(*COPY, do=DO).ran == 0


def test_an_input_written_anew_with_the_same_content_is_a_hit(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    ws.path("in").unlink()
    ws.write("in", "one")
    assert ws.capsule(*COPY, do=DO).ran == 0


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("added", "echo > src/c"),
        ("added, empty and hidden", ": > src/.c"),
        ("added deep down", "mkdir -p src/x/y; echo > src/x/y/z"),
        ("an empty directory", "mkdir src/empty"),
        ("removed", "rm src/b"),
        ("renamed", "mv src/b src/c"),
        ("swapped", "mv src/a src/x; mv src/b src/a; mv src/x src/b"),
        ("made executable", "chmod 755 src/a"),
        ("replaced by a link", "rm src/b; ln -s a src/b"),
        ("replaced by a directory", "rm src/b; mkdir src/b"),
    ],
)
def test_a_change_among_the_inputs_is_a_miss_and_taken_back_a_hit(ws, first, what, change):
    options, do = ("-i", "src", "-o", "out"), "ls -lR src > out"
    ws.write("src/a", "1")
    ws.write("src/b", "2")
    first(*options, do=do)
    shutil.copytree(ws.path("src"), ws.base / "before")
    assert os.system(f"cd '{ws.root}' && {change}") == 0
    assert ws.capsule(*options, do=do).ran == 1
    shutil.rmtree(ws.path("src"))
    shutil.copytree(ws.base / "before", ws.path("src"))
    assert ws.capsule(*options, do=do).ran == 0


@pytest.mark.parametrize("pattern", ["src", "src/**", "**/*", "src/*", "src/?"])
def test_an_input_that_was_new_at_the_last_run_and_is_gone_now_is_gone(ws, pattern):
    options, do = ("-i", pattern, "-o", "out"), "LC_ALL=C ls src > out"
    ws.write("src/a", "1")
    ws.write("src/z", "1")
    assert ws.capsule(*options, do=do).ran == 1
    ws.warm(*options, do=do)
    # What is so new that its time proves nothing is read anew each time; what is gone must not be remembered with it.
    for new in ("b", "c", "a"):
        ws.write(f"src/{new}", "2")
        assert ws.capsule(*options, do=do).ran == 1
        assert ws.read("out").split() == sorted({"a", new, "z"})
        ws.path(f"src/{new}").unlink()
        ran = ws.capsule(*options, do=do).ran
        assert (ran, ws.read("out").split()) == ((1, ["z"]) if new == "a" else (0, ["a", "z"]))


# ---------------------------------------------------------------------------------------------------- no success


@pytest.mark.parametrize("made", ["", "echo > other", "mkdir dist"])
def test_a_declared_output_that_was_not_made_is_said_and_nothing_is_stored(ws, made):
    options = ("-i", "in", "-o", "dist/*.js", "-o", "*er")
    ws.write("in")
    for _ in range(2):
        done = ws.capsule(*options, do=made)
        assert (done.ran, done.code) == (1, 0)
        assert done.says("not cached", "'dist/*.js'")
        shutil.rmtree(ws.path("dist"), ignore_errors=True)
    assert ws.entries() == []


def test_a_failed_command_is_not_cached(ws):
    ws.write("in")
    for _ in range(2):
        done = ws.capsule(*COPY, do="echo partial > out; echo broken >&2; exit 3")
        assert (done.ran, done.code, done.err) == (1, 3, "broken\n")
    assert ws.entries() == []


def test_an_earlier_success_is_no_answer_to_other_inputs_that_fail(ws, first):
    do = 'cat in > out; test "$(cat in)" = good'
    ws.write("in", "good")
    first(*COPY, do=do)
    ws.write("in", "bad")
    assert [ws.capsule(*COPY, do=do).code for _ in range(2)] == [1, 1]
    ws.write("in", "good")
    done = ws.capsule(*COPY, do=do)
    assert (done.ran, done.code, ws.read("out")) == (0, 0, "good")
