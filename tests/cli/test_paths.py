"""Paths and patterns: what they find, what they never find, and names that no sane person gives to a file."""

import json
import os
import shutil
import subprocess

import pytest

ODD = {
    "spaces": " a  b ",
    "newline": "a\nb",
    "stars": "a*b",
    "question": "a?b",
    "class": "a[1].txt",
    "bang": "!important",
    "dash": "-rf",
    "two dashes": "--output=x",
    "not UTF-8": os.fsdecode(b"a\xff\xfeb"),
    "backslash": "a\\b",
    "quotes": "a'b\"c",
    "beyond": "\u00fc\u65e5\U0001f600",
    "two spellings": "u\u0308",
    "control": "\x1b[1m\x7f",
    "private": "\U0010fe41",
    "dots": "...",
    "long": "n" * 255,
}


def inputs(ws, *options, **keywords):
    """The paths of the inputs that these options find."""
    done = ws.capsule(*options, do=":", report=True, **keywords)
    assert done.err == ""
    return [row["path"] for row in done.report["inputs"]]


def a_tree(ws):
    for name in (
        "a.c",
        "b.c",
        "a.h",
        ".hidden.c",
        "sub/c.c",
        "sub/.dot/d.c",
        "sub/deep/er/e.c",
        "other/f.txt",
    ):
        ws.write(name, name)


# ---------------------------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["a.c"], ["a.c"]),
        (["./a.c", "sub/../a.c", "a.c", "*.c"], [".hidden.c", "a.c", "b.c"]),
        (["*.c"], [".hidden.c", "a.c", "b.c"]),
        (["[ab].?"], ["a.c", "a.h", "b.c"]),
        (["**/*.c"], [".hidden.c", "a.c", "b.c", "sub/.dot/d.c", "sub/c.c", "sub/deep/er/e.c"]),
        (["sub/*"], ["sub/c.c"]),
        (["sub/**"], ["sub/.dot/d.c", "sub/c.c", "sub/deep/er/e.c"]),
        (["sub/**/*"], ["sub/.dot/d.c", "sub/c.c", "sub/deep/er/e.c"]),
        (["sub"], ["sub/.dot/d.c", "sub/c.c", "sub/deep/er/e.c"]),
        (["sub/"], ["sub/.dot/d.c", "sub/c.c", "sub/deep/er/e.c"]),
        (["s*/d*/"], ["sub/deep/er/e.c"]),
        (["**/er"], ["sub/deep/er/e.c"]),
        (["*/*.[!c]*"], ["other/f.txt"]),
        (["**", "!sub", "!*.h"], [".hidden.c", "a.c", "b.c", "other/f.txt"]),
        (["!**/.*", "."], ["a.c", "a.h", "b.c", "other/f.txt", "sub/c.c", "sub/deep/er/e.c"]),
        (["sub", "!sub/**/e*"], ["sub/.dot/d.c", "sub/c.c"]),
    ],
)
def test_patterns_find(ws, patterns, found):
    a_tree(ws)
    options = [word for pattern in patterns for word in ("-i", pattern)]
    assert inputs(ws, *options) == found


def test_a_file_that_two_patterns_match_counts_once(ws):
    a_tree(ws)
    once = ws.capsule("--inputs_hash", "-i", "sub").out
    twice = ws.capsule("--inputs_hash", "-i", "sub/**", "-i", "sub/c.c", "-i", "./sub/*", "-i", "**/e.c").out
    assert once == twice


@pytest.mark.parametrize("pattern", ["none.c", "no*.c", "none/", "**/*.rs", "a.c/below", "//none", "../none"])
def test_a_pattern_that_matches_nothing_is_named_and_the_run_is_not_cached(ws, pattern):
    a_tree(ws)
    for _ in range(2):
        done = ws.capsule("-i", "a.c", "-i", pattern, do="exit 3")
        assert (done.ran, done.code, len(done.said)) == (1, 3, 1)
        assert done.says("not cached", f"no input matches '{pattern}'")
    assert ws.entries() == []


def test_a_pattern_whose_finds_are_all_excluded_matches_nothing(ws):
    a_tree(ws)
    assert ws.capsule("-i", "*.h", "-i", "a.c", "-i", "!a*", do=":").says(
        "no input matches", "'*.h'", "'a.c'"
    )


def test_git_and_our_own_stores_match_only_where_they_are_spelled(ws):
    a_tree(ws)
    ws.write(".git/config", "git")
    ws.write("sub/.git", "gitdir: elsewhere")
    own = {"XDG_CACHE_HOME": str(ws.path(".cache"))}
    seen = inputs(ws, "-i", "**", env=own)
    assert seen == inputs(ws, "-i", "**", "-i", "**/*", env=own)
    assert not [path for path in seen if ".git" in path or ".cache" in path]
    assert ".git/config" in inputs(ws, "-i", "**", "-i", ".git/config", env=own)
    assert "sub/.git" in inputs(ws, "-i", "**/.git", env=own)
    named = ("-i", "**", "--store", "mine")
    assert not [path for path in inputs(ws, *named, env=own) if "mine" in path or ".cache" in path]
    assert [ws.capsule(*named, do=": 2", env=own).ran for _ in range(4)] == [1, 0, 0, 0]


def test_recorded_runs_are_no_inputs_wherever_the_vault_is(ws):
    a_tree(ws)
    ws.write("capsula.toml", 'vault-directory = "sub/runs"\n')
    assert ws.tool("monitor", "-q", "true").code == 0
    seen = inputs(ws, "-i", ".")
    assert not [path for path in seen if "runs" in path]
    ws.warm("-i", ".", do=":")
    for _ in range(2):
        assert ws.tool("monitor", "-q", "true").code == 0
        assert ws.capsule("-i", ".", do=":").ran == 0
    assert "sub/runs/.gitignore" in inputs(ws, "-i", ".", "-i", "sub/runs/.gitignore")
    ws.path("sub/runs/.capsula-vault").unlink()
    assert ws.capsule("-i", ".", do=":").ran == 1


def test_our_own_store_is_known_by_whatever_way_leads_to_it(ws):
    a_tree(ws)
    os.symlink(ws.root, ws.base / "by link")
    for cache in f"{ws.root}//.cache/", f"{ws.base}/by link/.other":
        env = {"XDG_CACHE_HOME": cache, "MARK": str(ws.mark)}
        options = ("-i", "**", "-t", cache)
        assert [ws.capsule(*options, do=":", env=env).ran for _ in range(3)] == [1, 0, 0]
        shutil.rmtree(cache)


# ---------------------------------------------------------------------------------------------------- the root


@pytest.mark.parametrize("mark", ["capsula.toml", ".git/HEAD", ".git"])
def test_two_slashes_start_at_the_nearest_marker(ws, mark):
    ws.write("capsula.toml")
    ws.write("lib.h", "far")
    ws.write(f"project/{mark}")
    ws.write("project/lib.h", "near")
    ws.path("project/src/deep").mkdir(parents=True)
    options = ("-i", "//lib.h", "-i", "//*.h", "-o", "//out/made")
    done = ws.capsule(*options, do="mkdir -p ../../out; cat ../../lib.h > ../../out/made", report=True,
                      cwd=ws.path("project/src/deep"))  # fmt: skip
    assert [row["path"] for row in done.report["inputs"]] == ["lib.h"]
    assert ws.read("project/out/made") == "near"
    shutil.rmtree(ws.path("project/out"))
    done = ws.capsule(*options, do="mkdir -p ../../out; cat ../../lib.h > ../../out/made",
                      cwd=ws.path("project/src/deep"))  # fmt: skip
    assert (done.ran, ws.read("project/out/made")) == (0, "near")


def test_two_slashes_without_a_marker_start_here_and_with_w_there(ws):
    ws.write("sub/lib.h", "sub")
    ws.write("lib.h", "top")
    assert inputs(ws, "-i", "//lib.h", cwd=ws.path("sub")) == ["lib.h"]
    assert inputs(ws, "-w", "..", "-i", "//sub/lib.h", "-i", "//lib.h", cwd=ws.path("sub")) == [
        "lib.h",
        "sub/lib.h",
    ]


# ---------------------------------------------------------------------------------------------------- links


@pytest.fixture
def linked(ws):
    """A declared link to a file that isn't declared."""
    ws.write("../elsewhere/target", "one")
    os.symlink("../elsewhere/target", ws.path("link"))
    return ws


def test_what_a_declared_link_leads_to_joins_the_key(linked, first):
    ws, options, do = linked, ("-i", "link", "-o", "out"), "cat link > out"
    first(*options, do=do)
    ws.write("../elsewhere/target", "two")
    assert ws.capsule(*options, do=do).ran == 1
    assert ws.read("out") == "two"
    ws.write("../elsewhere/target", "one")
    assert ws.capsule(*options, do=do).ran == 0


def test_a_link_is_recorded_as_a_link(linked, first):
    ws, options, do = linked, ("-i", "*", "-o", "out"), "readlink link > out"
    first(*options, do=do)
    ws.path("link").unlink()
    ws.write("../elsewhere/same", "one")
    os.symlink("../elsewhere/same", ws.path("link"))
    assert ws.capsule(*options, do=do).ran == 1, "the same content by another way"
    ws.path("link").unlink()
    ws.write("link", "one")
    assert ws.capsule(*options, do=do).ran == 1, "the same content, and no link"


def test_a_dangling_link_is_an_input_and_so_is_what_it_begins_to_lead_to(ws, first):
    os.symlink("nowhere", ws.path("link"))
    options, do = ("-i", "link", "-o", "out"), "cat link > out 2>&1 || :"
    first(*options, do=do)
    assert ws.capsule(*options, do=do).ran == 0
    ws.write("nowhere", "now")
    assert ws.capsule(*options, do=do).ran == 1
    assert ws.read("out") == "now"
    ws.path("nowhere").unlink()
    assert ws.capsule(*options, do=do).ran == 0


def test_a_link_to_a_directory_is_not_walked_and_verbose_says_so(ws, first):
    ws.write("dir/file", "one")
    ws.path("in").mkdir()
    os.symlink("../dir", ws.path("in/link"))
    first("-i", "in", do=":")
    done = ws.capsule("-v", "-i", "in", do=":")
    assert done.says("in/link", "link to a directory", "not walked")
    assert done.says("input  -> ../dir  in/link")
    ws.write("dir/file", "two")
    assert ws.capsule("-i", "in", do=":").ran == 0


def test_a_link_on_the_way_that_the_pattern_spells_is_gone_through(ws, first):
    ws.write("../real/src/a", "one")
    os.symlink("../real", ws.path("pkg"))
    options = ("-i", "pkg/src/**", "-o", "out")
    first(*options, do="cat pkg/src/a > out")
    ws.write("../real/src/a", "two")
    assert ws.capsule(*options, do="cat pkg/src/a > out").ran == 1


# ---------------------------------------------------------------------------------------------------- odd names


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_odd_names_work_as_inputs_and_outputs(ws, first, name):
    ws.write("in/" + name, "one")
    ws.path("dist").mkdir()
    options = ("-i", f"in/{name}", "-o", f"dist/{name}", "-o", "tree")
    ws.environ["NAME"] = name
    do = 'cat "in/$NAME" > "dist/$NAME"; mkdir -p "tree/$NAME"; ln -sf -- "$NAME" "tree/$NAME/$NAME"'
    first(*options, do=do)
    shutil.rmtree(ws.path("tree"))
    ws.path("dist/" + name).unlink()
    assert ws.capsule(*options, do=do).ran == 0
    assert ws.read("dist/" + name) == "one"
    assert os.readlink(ws.path(f"tree/{name}/{name}")) == name
    ws.write("in/" + name, "two")
    done = ws.capsule(*options, "-v", do=do)
    assert (done.ran, ws.read("dist/" + name)) == (1, "two")
    assert "\x1b" not in done.err


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_odd_names_work_at_the_top_too(ws, name):
    ws.write(name, "one")
    pattern = name
    if name.startswith("!"):
        ws.write(name[1:], "another")
        pattern = f"./{name}"
    assert inputs(ws, f"-i={pattern}") == [name]
    assert name in inputs(ws, "-i", ".", f"--input={pattern}")


@pytest.mark.parametrize("where", ["home", "file", "variable"])
def test_odd_names_work_in_every_place(ws, where):
    name = " \u00fc a'\"\\*[1]\n\t-x"
    ws.write(name, "one")
    text = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    if where == "variable":
        ws.environ["CAPSULE_ARGS"] = "-i '" + name.replace("'", "'\\''") + "'"
    else:
        path = ws.home / ".capsules.toml" if where == "home" else ws.path("Capsule.toml")
        path.write_text(f'input = ["{text}"]\n')
    assert inputs(ws) == [name]


def test_arguments_reach_the_command_as_they_are(ws):
    words = ["", " ", "a b", "-i", "--", "*", "$HOME", "\n", os.fsdecode(b"\xff"), "\\"]
    script = 'for w; do printf "%s|" "$w"; done'
    done = ws.capsule("-i", ".", "-c", "x", command=("sh", "-c", script, "sh", *words))
    assert done.out == "".join([f"{word}|" for word in words])


def test_any_command_gets_a_line_in_the_journal(ws):
    ws.write("in")
    words = ['"quoted"', "back\\slash", "\n\x1b", "\u00fc\U0001f600", os.fsdecode(b"\xff")]
    for _ in range(2):
        ws.capsule("-i", "in", command=("echo", *words))
    lines = (ws.store / "journal/journal.jsonl").read_text("ascii").splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["miss", "hit"]
    assert json.loads(lines[0])["command"] == " ".join(["echo", *words])
    assert ws.tool("history").code == 0
    assert ws.capsule("-i", "in", command=("/",), report=True).report["capsule_id"] == "/"


# ---------------------------------------------------------------------------------------------------- outside


def test_inputs_outside_of_the_root_count_and_are_called_as_given(ws, first):
    ws.write("../outer/a", "one")
    ws.write("../outer/b", "b")
    options, do = ("-i", "../outer/*", "-i", str(ws.base / "outer/a"), "-o", "out"), "cat ../outer/* > out"
    first(*options, do=do)
    ws.write("../outer/a", "two")
    assert ws.capsule(*options, do=do).ran == 1
    ws.write("../outer/a", "one")
    assert ws.capsule(*options, do=do).ran == 0
    ws.write("../outer/c")
    assert ws.capsule(*options, do=do).ran == 1
    ws.path("../outer/c").unlink()
    ws.path("../outer/a").chmod(0o755)
    assert ws.capsule(*options, do=do).ran == 1


def test_absolute_outputs_and_outputs_above_come_back(ws, first):
    absolute = str(ws.base / "away/made")
    options = ("-i", "in", "-o", absolute, "-o", "../up/*")
    do = f"mkdir -p ../away ../up; tee '{absolute}' < in > ../up/m"
    ws.write("in", "one")
    first(*options, do=do)
    shutil.rmtree(ws.base / "away")
    ws.write("../up/m", "spoilt")
    ws.write("../up/stale")
    assert ws.capsule(*options, do=do).ran == 0
    assert (ws.read("../away/made"), ws.read("../up/m"), ws.exists("../up/stale")) == ("one", "one", False)


def test_outputs_do_not_become_inputs_of_a_wildcard(ws, first):
    ws.write("in", "one")
    options, do = ("-i", "**", "-o", "dist", "-o", "*.log"), "mkdir -p dist; cat in > dist/made; echo > x.log"
    first(*options, do=do)
    for _ in range(2):
        assert ws.capsule(*options, do=do).ran == 0
    ws.write("in", "two")
    assert ws.capsule(*options, do=do).ran == 1
    assert ws.read("dist/made") == "two"


def test_an_output_exclude_is_left_alone(ws, first):
    ws.write("in", "one")
    options = ("-i", "in", "-o", "dist", "-o", "!dist/*.log")
    do = "mkdir -p dist; cat in > dist/made; date > dist/a.log"
    first(*options, do=do)
    ws.write("dist/a.log", "mine")
    ws.path("dist/made").unlink()
    assert ws.capsule(*options, do=do).ran == 0
    assert ws.names("dist") == ["a.log", "made"]
    assert ws.read("dist/a.log") == "mine"


def test_pipes_and_sockets_among_the_inputs_hold_nobody_up(ws):
    ws.write("in/a", "one")
    os.mkfifo(ws.path("in/pipe"))
    for ran in (1, 0, 0):
        done = ws.capsule("-v", "-i", "in", do=":")
        assert done.ran == ran
        assert done.says("in/pipe")


def test_what_is_no_file_is_neither_an_input_nor_an_output_by_its_name(ws):
    ws.write("in")
    os.mkfifo(ws.path("pipe"))
    for pattern in "/dev/null", "pipe", "p*":
        assert ws.capsule("-i", "in", "-i", pattern, do=":").says("no input matches", pattern)
    done = ws.capsule("-i", "in", "-o", "pipe", do=":")
    assert done.says("the result is not cached", "pipe is no file, link or directory")


def test_thousands_of_inputs_in_one_directory_are_all_seen(ws):
    subprocess.run(["sh", "-c", "mkdir many; cd many; seq 3000 | xargs touch"], cwd=ws.root, check=True)
    assert len(inputs(ws, "-i", "many/*")) == 3000
    ws.write("many/2999", "x")
    assert ws.capsule("-i", "many/*", do=":").ran == 1
