"""What enters the key and what doesn't: the same facts decide a hit everywhere, and no other."""

import os
import shutil

import pytest

COPY = ("-i", "in", "-o", "out")
DO = "cat in > out"


# ---------------------------------------------------------------------------------------------------- variables


def test_a_variable_that_nobody_declared_changes_nothing(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    assert ws.capsule(*COPY, do=DO, env={"COLOUR": "red", "LANG": "de_DE", "USER": "me"}).ran == 0


def test_a_declared_variable_changes_the_key_and_unset_is_not_empty(ws, first):
    options = (*COPY, "-e", "COLOUR", "--env", "SHAPE")
    do = 'echo "${COLOUR-none}" > out'
    ws.write("in", "one")
    first(*options, do=do)
    for colour, shown in (("red", "red\n"), ("", "\n"), ("blue", "blue\n")):
        assert ws.capsule(*options, do=do, env={"COLOUR": colour}).ran == 1
        assert ws.read("out") == shown
    for colour, shown in (
        (None, "none\n"),
        ("", "\n"),
        ("red", "red\n"),
        ("blue", "blue\n"),
        (None, "none\n"),
    ):
        assert ws.capsule(*options, do=do, env={"COLOUR": colour}).ran == 0
        assert ws.read("out") == shown
    assert ws.capsule(*options, do=do, env={"SHAPE": "round"}).ran == 1


def test_a_declared_variable_may_hold_any_bytes(ws, first):
    options = (*COPY, "-e", "ODD")
    ws.environ["ODD"] = os.fsdecode(b"a\xff\n=\xc3\xa4")
    do = 'printf %s "$ODD" > out'
    ws.write("in", "one")
    first(*options, do=do)
    ws.path("out").unlink()
    assert ws.capsule(*options, do=do).ran == 0
    assert ws.path("out").read_bytes() == b"a\xff\n=\xc3\xa4"


def test_a_variable_that_is_no_longer_declared_is_another_action(ws):
    ws.write("in", "one")
    assert ws.capsule(*COPY, "-e", "COLOUR", do=DO, env={"COLOUR": "red"}).ran == 1
    assert ws.capsule(*COPY, do=DO, env={"COLOUR": "red"}).ran == 1


# ---------------------------------------------------------------------------------------------------- the recipe


@pytest.mark.parametrize(
    ("what", "options", "do"),
    [
        ("argv", COPY, "cat in > out; :"),
        ("id", (*COPY, "-c", "other"), DO),
        ("tag", (*COPY, "-t", "gcc 13"), DO),
        ("tool command", (*COPY, "--tool_command", "echo gcc 13"), DO),
        ("a further input", (*COPY, "-i", "more"), DO),
        ("a further output", (*COPY, "-o", "in*"), DO),
        ("output pattern", ("-i", "in", "-o", "ou?"), DO),
        ("capture", (*COPY, "--no_capture_stdout"), DO),
        ("name of the hash's variable", (*COPY, "--inputs_hash_var", "VERSION"), DO),
    ],
)
def test_another_recipe_is_another_action(ws, what, options, do):
    ws.write("in", "one")
    ws.write("more", "")
    assert ws.capsule("-c", "id", *COPY, do=DO).ran == 1
    assert ws.capsule("-c", "id", *options, do=do).ran == 1
    assert ws.capsule("-c", "id", *COPY, do=DO).ran == 0


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("job", ("-j", "https://ci/1")),
        ("verbose", ("-v",)),
        ("explain", ("--explain",)),
        ("cache_failure", ("--cache_failure", "--cache_failure_ttl", "1h")),
        ("strict", ("--strict",)),
        ("store size", ("--store_size", "1GiB")),
        ("the same pattern twice", ("-i", "in", "-i", "i*", "-i", "./in")),
        ("tracing", ("--honeycomb_dataset", "x", "--honeycomb_kv", "a=b")),
    ],
)
def test_what_can_t_change_the_result_isn_t_in_the_key(ws, what, options):
    ws.write("in", "one")
    assert ws.capsule(*COPY, do=DO).ran == 1
    assert ws.capsule(*options, *COPY, do=DO).ran == 0


def test_what_a_tool_command_prints_is_in_the_key(ws):
    options = (*COPY, "--tool_command", "cat ../version >&2")
    ws.write("in", "one")
    ws.write("../version", "1")
    assert [ws.capsule(*options, do=DO).ran for _ in range(3)] == [1, 0, 0]
    ws.write("../version", "2")
    assert ws.capsule(*options, do=DO).ran == 1
    ws.write("../version", "1")
    assert ws.capsule(*options, do=DO).ran == 0
    ws.path("../version").unlink()
    assert [ws.capsule(*options, do=DO).ran for _ in range(2)] == [1, 0], (
        "a tool that fails is a fact as well"
    )


def test_a_tool_command_that_is_no_command_is_said_and_nothing_is_cached(ws):
    ws.write("in", "one")
    for _ in range(2):
        done = ws.capsule(*COPY, "--tool_command", "gc-13 --version", do="cat in > out")
        assert (done.code, done.ran) == (0, 1)
        assert done.says("the tool command 'gc-13 --version' can't be run (exit code 127)")
    # One that fails in its own way is a fact as good as any.
    assert [ws.capsule(*COPY, "--tool_command", "exit 3", do="cat in > out").ran for _ in range(2)] == [1, 0]


def test_a_tool_command_does_not_eat_the_command_s_input(ws):
    ws.write("in", "one")
    done = ws.capsule(*COPY, "--tool_command", "cat", do="cat > out", stdin=b"typed")
    assert (done.ran, ws.read("out")) == (1, "typed")


def test_the_working_directory_is_in_the_key(ws):
    ws.write(".git/HEAD")
    ws.write("in", "one")
    for name in "a", "b":
        ws.path(name).mkdir()
    options, do = ("-c", "id", "-i", "//in"), "basename $(pwd)"
    assert [ws.capsule(*options, do=do, cwd=ws.path(name)).ran for name in "abab"] == [1, 1, 0, 0]
    assert ws.capsule(*options, do=do, cwd=ws.path("b")).out == "b\n"


# ---------------------------------------------------------------------------------------------------- other places


@pytest.mark.parametrize("how", ["copied", "moved"])
def test_another_checkout_hits(ws, first, how):
    ws.write("src/in", "one")
    options, do = ("-c", "id", "-i", "src", "-o", "out/*"), "mkdir -p out; cat src/in > out/made"
    first(*options, do=do)
    shutil.rmtree(ws.path("out"))
    other = ws.base / "an other/check out"
    other.parent.mkdir()
    (shutil.copytree if how == "copied" else shutil.move)(ws.root, other)
    done = ws.capsule(*options, do=do, cwd=other)
    assert (done.ran, (other / "out/made").read_text()) == (0, "one")


def test_a_checkout_hits_from_below_its_root_too(ws):
    for place in ws.root / "one", ws.root / "two/deep":
        (place / ".git").mkdir(parents=True)
        (place / "src").mkdir()
        (place / "lib.h").write_text("lib")
    options, do = ("-c", "id", "-i", "//lib.h", "-o", "made"), "cat ../lib.h > made"
    assert ws.capsule(*options, do=do, cwd=ws.root / "one/src").ran == 1
    assert ws.capsule(*options, do=do, cwd=ws.root / "two/deep/src").ran == 0
    assert (ws.root / "two/deep/src/made").read_text() == "lib"


def test_another_user_with_the_same_store_hits(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    home = ws.base / "another home"
    home.mkdir()
    store = {"HOME": str(home), "XDG_CACHE_HOME": str(ws.cache), "USER": "other", "LOGNAME": "other"}
    assert ws.capsule(*COPY, do=DO, env=store).ran == 0
    elsewhere = {"HOME": str(home), "XDG_CACHE_HOME": None}
    assert ws.capsule("--store", str(ws.store), *COPY, do=DO, env=elsewhere).ran == 0


def test_times_owners_and_umask_are_not_in_the_key(ws, first):
    ws.write("in", "one")
    ws.write("src/file", "x", mode=0o600)
    options = ("-i", "src", *COPY)
    first(*options, do=DO)
    os.utime(ws.path("src/file"), (1, 1))
    ws.path("src/file").chmod(0o644)
    assert ws.capsule(*options, do=DO, umask=0o077).ran == 0


# ---------------------------------------------------------------------------------------------------- configuration


def test_a_changed_configuration_is_seen_by_every_way_to_a_hit(ws, first):
    (ws.home / ".capsules.toml").write_text('input = ["in"]\n')
    ws.write("Capsule.toml", '[build]\noutput = "out"\n')
    ws.write("in", "one")
    ws.write("more", "two")
    first(do=DO)
    (ws.home / ".capsules.toml").write_text('input = ["in", "more"]\n')
    assert ws.capsule(do=DO).ran == 1
    ws.write("Capsule.toml", '[build]\noutput = "out"\ntool_tag = ["x"]\n')
    assert ws.capsule(do=DO).ran == 1
    ws.path("Capsule.toml").unlink()
    assert ws.capsule(do=DO).ran == 1


def test_a_new_marker_of_the_workspace_root_is_seen_by_every_way_to_a_hit(ws, first):
    ws.write("capsula.toml")
    ws.write("sub/in", "sub")
    ws.write("in", "top")
    options, do = ("-i", "//in", "-o", "out"), "cat ../in > out; test ! -e .git || cat in > out"
    sub = ws.path("sub")
    first(*options, do=do, cwd=sub)
    assert ws.read("sub/out") == "top"
    (sub / ".git").mkdir()
    assert ws.capsule(*options, do=do, cwd=sub).ran == 1
    assert ws.read("sub/out") == "sub"


def test_capsule_args_of_another_value_is_not_recalled(ws, first):
    ws.write("in", "one")
    first(*COPY, do=DO)
    assert ws.capsule(*COPY, do=DO, env={"CAPSULE_ARGS": "-t x"}).ran == 1
    assert ws.capsule(*COPY, do=DO, env={"CAPSULE_ARGS": ""}).ran == 0
    assert ws.capsule(*COPY, do=DO, env={"CAPSULE_ARGS": "--passive"}).ran == 1


def test_a_regular_file_on_stdin_is_in_the_key_from_where_it_stands(ws):
    ws.write("in", "one")
    file = ws.write("../typed", "first\nsecond\n")

    def run() -> tuple[int, str]:
        with file.open("rb", buffering=0) as stdin:
            stdin.read(skipped)
            done = ws.capsule(*COPY, do="cat > out", stdin=stdin)
            return done.ran, ws.read("out")

    skipped = 0
    assert [run() for _ in range(3)] == [
        (1, "first\nsecond\n"),
        (0, "first\nsecond\n"),
        (0, "first\nsecond\n"),
    ]
    file.write_text("other\nsecond\n")
    assert run() == (1, "other\nsecond\n")
    skipped = 6
    assert run() == (1, "second\n")
    file.write_text("first\nsecond\n")
    assert run() == (0, "second\n"), "only what is left to read counts"
    assert ws.capsule(*COPY, do="cat > out").ran == 1, "no file is another input"
