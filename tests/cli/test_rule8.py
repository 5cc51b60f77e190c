"""Infrastructure never fails the build: whatever is wrong with us, the command runs once, as if it were alone, and one
line says why it wasn't cached."""

import hashlib
import json
import os
import shutil

import pytest

COPY = ("-i", "in", "-o", "out")
DO = "cat in > out"


def runs_once_as_if_alone(ws, *options, told, env=None, **keywords):
    """With its own stdin, stdout, stderr and exit code; and one line of ours holds all of `told`."""
    do = "cat; echo out; echo err >&2; exit 7"
    done = ws.capsule(*options, do=do, stdin=b"typed\n", env=env, **keywords)
    assert (done.ran, done.code, done.out) == (1, 7, "typed\nout\n"), done
    assert len(done.err.splitlines()) == 2, done.err
    assert "err" in done.err.splitlines()
    assert done.says("not cached", *told), done.err


def spoil(path, how, other=None):
    content = path.read_bytes()
    path.chmod(0o600)
    if how == "emptied":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(content[:-1])
    elif how == "longer":
        path.write_bytes(content + b"x")
    elif how == "one bit":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "gone":
        path.unlink()
    elif how == "a directory":
        path.unlink()
        path.mkdir()
    elif how == "a link":
        path.unlink()
        path.symlink_to("/etc/passwd")
    else:
        other.chmod(0o600)
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)


SPOILT = ["emptied", "truncated", "longer", "one bit", "gone", "a directory", "a link", "swapped"]


# ---------------------------------------------------------------------------------------------------- options

BAD_OPTIONS = (
    ("unknown", ("--no_such_option",), ("no option --no_such_option",)),
    ("misspelt", ("--ouput", "out"), ("--ouput", "did you mean --output?")),
    ("short", ("-z",), ("no option -z",)),
    ("no value", ("-i",), ("-i needs a value",)),
    ("bad number", ("--verify_hits=many",), ("--verify_hits",)),
    ("bad size", ("--store_size", "big"), ("--store_size",)),
    ("bad time", ("--cache_failure_ttl", "soon"), ("--cache_failure_ttl",)),
    ("a switch with a value", ("--verbose=yes",), ("--verbose takes no value",)),
    ("the shell's doing", ("-i", "a.c", "b.c"), ("b.c is no option",)),
    ("no such file", ("-f", "missing.toml"), ("missing.toml",)),
    ("no such backend", ("-b", "clouds"), ("-b", "clouds")),
    ("an empty pattern", ("-i", ""), ("-i",)),
    ("no input", ("-i", "nothing"), ("no input matches 'nothing'",)),
    ("nothing at all", (), ("nothing says what the result depends on",)),
)


@pytest.mark.parametrize(("what", "options", "told"), BAD_OPTIONS, ids=[row[0] for row in BAD_OPTIONS])
def test_a_bad_option_costs_one_line(ws, what, options, told):
    runs_once_as_if_alone(ws, *options, told=told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("verbose = true\ninput == 1", (":2",)),
        ('input = "in"\n\ninptu = "x"\n', (":3", "inptu", "input")),
        ("\ninput = 7\n", (":2", "input")),
        ('verbose = "yes"\n', (":1", "verbose")),
        ("store_size = 1.5.2\n", (":1",)),
        ("version = true\n", (":1", "version")),
        (b'input = "\xff"\n', ("UTF-8",)),
    ],
)
@pytest.mark.parametrize("place", ["home", "local", "file"])
def test_a_bad_configuration_costs_one_line_with_file_and_line(ws, content, told, place):
    path = {"home": ws.home / ".capsules.toml", "local": ws.path("Capsule.toml"), "file": ws.path("x.toml")}[
        place
    ]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    runs_once_as_if_alone(ws, *(("-f", "x.toml") if place == "file" else ()), told=(path.name, *told))


@pytest.mark.parametrize("variable", ["-i 'in", "--no_such_option", "-- other command", "--help", "stray"])
def test_a_bad_variable_costs_one_line(ws, variable):
    runs_once_as_if_alone(ws, "-i", "in", env={"CAPSULE_ARGS": variable}, told=("CAPSULE_ARGS",))


def test_a_section_that_is_not_there_or_not_chosen_costs_one_line(ws):
    ws.write("x.toml", "[one]\n[two]\n")
    runs_once_as_if_alone(ws, "-f", "x.toml:tow", told=("x.toml", "[tow]", "two"))
    runs_once_as_if_alone(ws, "-f", "x.toml", told=("x.toml", "one", "two"))


@pytest.mark.parametrize("name", [".capsules.toml", "x.toml"])
def test_a_configuration_that_can_t_be_read_costs_one_line(ordinary, name):
    path = ordinary.home / name
    path.write_text("")
    path.chmod(0)
    runs_once_as_if_alone(ordinary, *(("-f", str(path)) if name == "x.toml" else ()), told=(name,))


@pytest.mark.parametrize("wrong", [("--store_size", "big"), ("--no_such_option",)], ids="".join)
def test_a_run_that_something_kept_from_the_store_is_in_the_journal(ws, wrong):
    ws.write("in")
    assert ws.capsule("-i", "in", *wrong, do=":").ran == 1
    assert not ws.store.exists(), "and no store is made for it"
    ws.capsule("-i", "in", do=":")
    done = ws.capsule("-i", "in", *wrong, do=":")
    [_, row] = [json.loads(line) for line in ws.tool("history", "--json").out.splitlines()]
    assert (row["outcome"], row["exit_code"]) == ("uncached", 0)
    assert row["why"] in done.said[0]


def test_options_without_two_hyphens_before_the_command_run_the_command_all_the_same(ws):
    for words in (("sh", "-c", "echo $0 $1", "a", "--b"), ("-v", "sh", "-c", "echo $0 $1", "a", "--b")):
        done = ws.capsule(*words)
        assert (done.code, done.out, len(done.said)) == (0, "a --b\n", 1)


def test_without_a_command_there_is_nothing_to_run(ws):
    for words in ((), ("--",), ("-i", "in"), ("-i", "in", "--")):
        done = ws.capsule(*words)
        assert (done.code, len(done.err.splitlines())) == (125, 1)
        assert done.says("no command")


# ---------------------------------------------------------------------------------------------------- the store


def test_without_a_home_there_is_no_store(ws):
    ws.write("in")
    runs_once_as_if_alone(ws, "-i", "in", env={"HOME": None, "XDG_CACHE_HOME": None}, told=("HOME",))
    runs_once_as_if_alone(ws, "-i", "in", env={"HOME": "", "XDG_CACHE_HOME": ""}, told=("HOME",))


@pytest.mark.parametrize("name", ["cache", "cache/capsula", "cache/capsula/cas", "cache/capsula/ac"])
def test_a_file_where_the_store_should_be_costs_one_line(ws, name):
    ws.write("in", "one")
    ws.write(f"../{name}", "something else")
    for _ in range(2):
        done = ws.capsule(*COPY, do=DO)
        assert (done.ran, done.code, ws.read("out"), len(done.said)) == (1, 0, "one", 1), done
        assert done.says("not cached", "cache/capsula")
    assert ws.read(f"../{name}") == "something else"


@pytest.mark.parametrize("name", ["cache", "cache/capsula"])
def test_a_new_store_that_can_t_be_made_costs_one_line(ordinary, name):
    ws = ordinary
    ws.write("in", "one")
    (ws.base / name).mkdir(parents=True)
    (ws.base / name).chmod(0o500)
    for _ in range(2):
        done = ws.capsule(*COPY, do=DO)
        assert (done.ran, done.code, ws.read("out"), len(done.said)) == (1, 0, "one", 1), done
        assert done.says("not cached", "can't be written")


def test_a_store_that_can_only_be_read_still_gives_hits_and_takes_nothing(ordinary, first):
    ws = ordinary
    ws.write("in", "one")
    first(*COPY, do=DO)
    for path, _, _ in os.walk(ws.cache):
        os.chmod(path, 0o500)
    ws.path("out").unlink()
    for _ in range(2):
        assert ws.capsule(*COPY, do=DO).ran == 0
        assert ws.read("out") == "one"
    ws.write("in", "two")
    done = ws.capsule(*COPY, do=DO)
    assert (done.ran, done.code, ws.read("out"), len(done.said)) == (1, 0, "two", 1)
    assert done.says("not cached", "can't be written")


def test_a_file_of_the_user_s_that_can_t_go_to_the_trash_stays_and_the_command_runs(ordinary, first):
    ws = ordinary
    ws.write("in", "one")
    first(*COPY, do=f"test -e out || {DO}")
    for path, _, _ in os.walk(ws.cache):
        os.chmod(path, 0o500)
    ws.write("out", "a day's work")
    done = ws.capsule(*COPY, do=f"test -e out || {DO}")
    assert (done.ran, done.code, ws.read("out"), len(done.said)) == (1, 0, "a day's work", 1)
    assert done.says("not cached")


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_entry_is_no_hit_and_the_next_run_heals_it(ws, how):
    ws.write("in", "one")
    assert ws.capsule(*COPY, do=DO, report=True).ran == 1
    (entry,) = ws.entries()
    ws.write("in", "two")
    assert ws.capsule(*COPY, do=DO, report=True).ran == 1
    (other,) = [path for path in ws.entries() if path != entry]
    spoil(entry, how, other)
    ws.write("in", "one")
    done = ws.capsule(*COPY, do=DO, report=True)
    assert (done.ran, done.code, ws.read("out")) == (1, 0, "one")
    assert len(done.said) == (0 if how == "gone" else 1), done.err
    ws.path("out").unlink()
    assert ws.capsule(*COPY, do=DO, report=True).ran == 0
    assert ws.read("out") == "one"
    ws.write("in", "two")
    done = ws.capsule(*COPY, do=DO, report=True)
    assert (done.ran, ws.read("out")) == (1 if how == "swapped" else 0, "two")


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_blob_is_no_hit_and_the_next_run_heals_it(ws, first, how, size):
    content = "one" if size == "small" else "one" * 1_000_000
    ws.write("in", content)
    do = f"{DO}; echo other > out2"
    options = (*COPY, "-o", "out2")
    first(*options, do=do)
    other = ws.blob(b"other\n")
    spoil(ws.blob(content.encode()), how, other)
    ws.path("out").unlink()
    done = ws.capsule(*options, do=do)
    assert (done.ran, done.code, ws.read("out") == content) == (1, 0, True)
    assert len(done.said) == 1
    for name in "out", "out2":
        ws.path(name).unlink()
        assert ws.capsule(*options, do=do).ran == 0
        assert (ws.read("out") == content, ws.read("out2")) == (True, "other\n")


def test_a_spoilt_log_is_no_hit(ws):
    ws.write("in", "one")
    do = "yes | head -c 50000"
    made = ws.capsule("-i", "in", do=do)
    spoil(ws.blob(made.out.encode()), "one bit")
    done = ws.capsule("-i", "in", do=do, report=True)
    assert (done.ran, done.out, len(done.said)) == (1, made.out, 1)
    assert ws.capsule("-i", "in", do=do, report=True).ran == 0


@pytest.mark.parametrize("what", ["recall", "state", "ids", "journal", "locks", "size", "tmp"])
@pytest.mark.parametrize("how", ["gone", "emptied", "rubbish", "a file"])
def test_what_is_remembered_may_be_lost_or_rubbish(ws, what, how):
    ws.write("in", "one")
    ws.capsule(*COPY, do=DO)
    ws.warm(*COPY, do=DO)
    place = ws.store / what
    assert place.exists()
    found = [path for path in (place, *place.rglob("*")) if path.is_file()]
    if how in ("gone", "a file"):
        os.system(f"rm -rf '{place}'")
        if how == "a file":
            place.write_bytes(b"x")
    for path in found if how in ("emptied", "rubbish") else ():
        path.write_bytes(b"" if how == "emptied" else path.read_bytes()[:20] + b"\xff rubbish \n" * 3)
    ws.path("out").unlink()
    done = ws.capsule(*COPY, do=DO)
    assert (done.ran, ws.read("out"), done.err) == (0, "one", "")
    ws.write("in", "two")
    done = ws.capsule(*COPY, do=DO)
    assert (done.ran, done.code, ws.read("out")) == (1, 0, "two")
    assert ws.capsule(*COPY, do=DO).ran == (1 if how == "a file" and what == "tmp" else 0)


@pytest.mark.parametrize("what", ["recall", "state"])
def test_what_is_remembered_is_not_believed_when_the_disk_has_spoilt_it(ws, what):
    do, hashes = f"{DO}; echo told", [hashlib.sha256(word).hexdigest().encode() for word in (b"one", b"two")]
    for word in "two", "one":
        ws.write("in", word)
        assert ws.capsule(*COPY, do=do).ran == 1
    ws.warm(*COPY, do=do)
    spoilt = 0
    for path in (ws.store / what).iterdir():
        content = path.read_bytes()
        spoilt += hashes[0] in content
        path.write_bytes(content.replace(b"told", b"lies").replace(*hashes))
    assert spoilt
    if what == "state":
        shutil.rmtree(ws.store / "recall")
    done = ws.capsule(*COPY, do=do)
    assert (done.out, ws.read("out"), done.err) == ("told\n", "one", "")
    ws.path("out").unlink()
    assert ws.capsule(*COPY, do=do).out == "told\n"
    assert ws.read("out") == "one"


def test_the_record_of_another_command_is_not_believed(ws):
    ws.write("in", "one")
    for do in "echo this", "echo that":
        assert ws.capsule("-i", "in", do=do).ran == 1
        ws.warm("-i", "in", do=do)
    this, that = (ws.store / "recall").iterdir()
    contents = this.read_bytes(), that.read_bytes()
    this.write_bytes(contents[1])
    that.write_bytes(contents[0])
    assert [ws.capsule("-i", "in", do=f"echo {word}").out for word in ("this", "that")] == [
        "this\n",
        "that\n",
    ]


# ---------------------------------------------------------------------------------------------------- the work tree


@pytest.mark.parametrize("name", ["in/file", "in/dir/"])
def test_an_input_that_can_t_be_read_costs_one_line(ordinary, name):
    ws = ordinary
    ws.write("in/other", "one")
    (ws.path(name).mkdir if name.endswith("/") else lambda: ws.write(name))()
    ws.path(name).chmod(0)
    runs_once_as_if_alone(ws, "-i", "in", told=(name.rstrip("/"), "Permission denied"))
    assert ws.capsule("-i", "in", "-i", f"!{name.rstrip('/')}", do=":").err == ""


def test_an_output_that_can_t_be_read_is_not_stored(ordinary):
    ws = ordinary
    ws.write("in", "one")
    done = ws.capsule(*COPY, do="cat in > out; chmod 000 out; exit 0")
    assert (done.ran, done.code, len(done.said)) == (1, 0, 1)
    assert done.says("not cached", "out", "Permission denied")


def test_what_can_t_be_restored_whole_is_not_restored_at_all_and_the_command_runs(ws, first):
    options, do = (
        ("-i", "in", "-o", "dist"),
        "mkdir -p dist; cat in > dist/large 2> /dev/null || exit 7; echo > dist/a",
    )
    ws.write("in", "x" * 200_000)
    first(*options, do=do)
    ws.path("dist/large").unlink()
    ws.write("dist/a", "edited by hand")
    ws.prefix = ("sh", "-c", 'ulimit -f 128; exec "$@"', "sh")
    done = ws.capsule(*options, do=do)
    assert (done.ran, done.code) == (1, 7)
    assert done.says("not cached", "File too large")
    assert (ws.names("dist"), ws.read("dist/a")) == (["a", "large"], "edited by hand")
    ws.prefix = ()
    assert ws.capsule(*options, do=do).ran == 0
    assert (ws.names("dist"), ws.path("dist/large").stat().st_size) == (["a", "large"], 200_000)


def test_a_current_directory_that_is_gone_costs_one_line(ws):
    ws.path("gone").mkdir()
    script = 'cd gone; rmdir ../gone; exec capsule -i x -- sh -c "echo ran >> \\"$MARK\\"; exit 7"'
    import subprocess

    done = subprocess.run(["sh", "-c", script], cwd=ws.root, env=ws.environ, capture_output=True, text=True)
    own = [line for line in done.stderr.splitlines() if line.startswith("capsule: ")]
    assert (ws.marks(), done.returncode, len(own)) == (1, 7, 1)
    assert "no current directory" in own[0]


@pytest.mark.parametrize("limit", ["-n 5", "-n 6", "-n 7", "-n 8", "-n 10", "-f 0", "-s 100"])
def test_limits_that_starve_us_do_not_starve_the_command(ws, limit):
    import subprocess

    ws.write("in", "one")
    command = "echo out; exec sh -c 'exit 7'"
    script = f'ulimit {limit}; exec capsule -i in -- sh -c "$COMMAND"'
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=ws.root,
        env={**ws.environ, "COMMAND": command},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (7, "out\n"), done
