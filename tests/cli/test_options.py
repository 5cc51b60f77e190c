"""Every option, in each of the four places where it can be set, seen by what it does."""

import json
import re
import shlex

import pytest

PLACES = ("home", "file", "variable", "line")
DO = "cat in > out; echo told; echo warned >&2"
S3 = ("bucket", "bucket_objects", "region", "uploads_region", "downloads_region")
ENDPOINTS = ("endpoint", "uploads_endpoint", "downloads_endpoint")
HEX = re.compile(r"[0-9a-f]{64}")


class Asking:
    """Runs with one option set in one place; what else a scenario needs is given on the command line."""

    def __init__(self, ws, place):
        self.ws = ws
        self.place = place
        self.options = ()
        ws.write("in", "one")

    def ask(self, **settings):
        if self.place in ("home", "file"):
            lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
            path = self.ws.home / ".capsules.toml" if self.place == "home" else self.ws.base / "options.toml"
            path.write_text("".join(lines if self.place == "home" else ["[a-capsule]\n", *lines]))
            self.options = ("-f", f"{path}:a-capsule") if self.place == "file" else ()
            return
        words = []
        for name, value in settings.items():
            if isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no_{name}")
            else:
                words += [f"--{name}={item}" for item in (value if isinstance(value, list) else [value])]
        if self.place == "variable":
            self.ws.environ["CAPSULE_ARGS"] = shlex.join(words)
        else:
            self.options = tuple(words)

    def run(self, *options, do=DO, **keywords):
        return self.ws.capsule(*self.options, *options, do=do, **keywords)

    def cached(self, *options, do=DO, **keywords):
        """How often the command ran in two runs."""
        return (
            self.run("-i", "in", *options, do=do, **keywords).ran + self.run("-i", "in", *options, do=do).ran
        )


@pytest.fixture(params=PLACES)
def asking(ws, request):
    return Asking(ws, request.param)


def capsule_id(asking):
    asking.ask(capsule_id="mine")
    assert asking.run("-i", "in", report=True).report["capsule_id"] == "mine"


def workspace_root(asking):
    asking.ws.write("sub/in")
    asking.ask(workspace_root="sub")
    assert asking.run("-i", "//in", report=True).report["inputs"][0]["path"] == "sub/in"


def passive(asking):
    asking.ask(passive=True)
    assert asking.cached() == 2
    assert not asking.ws.store.exists()


def placebo(asking):
    asking.ask(placebo=True)
    assert asking.cached() == 2
    assert asking.run("-i", "in").says("deterministic")


def placebo_exit(asking):
    asking.ask(placebo_exit=9)
    do = "date +%N > out"
    assert [asking.run("-p", "-i", "in", "-o", "out", do=do).code for _ in range(2)] == [0, 9]


def dry_run(asking):
    asking.ask(dry_run=True)
    assert asking.cached() == 0


def inputs_hash(asking):
    asking.ask(inputs_hash=True)
    done = asking.run("-i", "in")
    assert (done.ran, done.err) == (0, "")
    assert HEX.fullmatch(done.out.strip())


def inputs_hash_var(asking):
    asking.ask(inputs_hash_var="VERSION")
    done = asking.run("-i", "in", do='echo "${CAPSULE_INPUTS_HASH-none} $VERSION"')
    assert HEX.fullmatch(done.out.split()[1])
    assert done.out.split()[0] == "none"


def strict(asking):
    asking.ask(strict=True)
    done = asking.run("-i", "no such file")
    assert (done.ran, done.code) == (0, 125)


def input(asking):  # noqa: A001 — named like the option
    asking.ws.write("in2")
    asking.ask(input=["in", "in?"])
    assert [row["path"] for row in asking.run(report=True).report["inputs"]] == ["in", "in2"]


def output(asking):
    asking.ask(output=["out"])
    assert asking.run("-i", "in", report=True).report["outputs"][0]["path"] == "out"


def env(asking):
    asking.ask(env=["A", "B"])
    assert asking.cached() == 1
    assert asking.run("-i", "in", env={"B": "1"}).ran == 1


def tool_tag(asking):
    plain = asking.run("--inputs_hash", "-i", "in").out
    asking.ask(tool_tag=["gcc 13", "-O2"])
    tagged = asking.run("--inputs_hash", "-i", "in").out
    assert tagged != plain
    asking.ask(tool_tag=["-O2", "gcc 13", "-O2"])
    assert asking.run("--inputs_hash", "-i", "in").out == tagged, "neither order nor repetition counts"


def tool_command(asking):
    asking.ask(tool_command=["cat ../version"])
    assert asking.cached() == 1
    asking.ws.write("../version", "2")
    assert asking.cached() == 1


def capture_stdout(asking):
    asking.ask(capture_stdout=False)
    assert asking.cached() == 1
    done = asking.run("-i", "in")
    assert (done.out, done.err) == ("", "warned\n")


def capture_stderr(asking):
    asking.ask(capture_stderr=False)
    assert asking.cached() == 1
    done = asking.run("-i", "in")
    assert (done.out, done.err) == ("told\n", "")


def backend(asking):
    asking.ask(backend="dummy")
    assert asking.cached() == 2
    assert not asking.ws.store.exists()


def store(asking):
    asking.ask(store=str(asking.ws.base / "elsewhere"))
    assert asking.cached() == 1
    assert (asking.ws.base / "elsewhere/ac").is_dir()
    assert not asking.ws.entries()


def store_size(asking):
    asking.ask(store_size="0.5 parsecs")
    done = asking.run("-i", "in")
    assert done.ran == 1
    assert done.says("not cached", "store_size")
    asking.ask(store_size="2GiB")
    assert asking.cached() == 1


def cache_failure(asking):
    asking.ask(cache_failure=True)
    assert asking.cached(do="exit 3") == 1


def cache_failures(asking):
    asking.ask(cache_failures=True)
    assert asking.cached(do="exit 3") == 1


def cache_failure_ttl(asking):
    asking.ask(cache_failure_ttl="0s")
    assert asking.cached("--cache_failure", do="exit 3") == 2
    asking.ask(cache_failure_ttl="7d")
    assert asking.cached("--cache_failure", do="exit 3") == 0


def verify_hits(asking):
    asking.ask(verify_hits=1.0)
    assert asking.cached() == 2


def verbose(asking):
    asking.ask(verbose=True)
    assert asking.run("-i", "in").says("input", "  in")


def explain(asking):
    asking.ask(explain=True)
    assert asking.run("-i", "in").says("miss: it is the first run")


def json_(asking):
    asking.ask(json=str(asking.ws.base / "told.json"))
    asking.run("-i", "in")
    assert json.loads((asking.ws.base / "told.json").read_text())["outcome"] == "miss"


def capsule_job(asking):
    asking.ask(capsule_job="https://ci/job/1")
    assert asking.cached() == 1
    assert asking.run("-i", "in").said == ["hit, made by job https://ci/job/1"]


def s3(asking):
    texts = {f"s3_{name}": "a-name" for name in S3}
    asking.ask(**texts, **{f"s3_{name}": "http://127.0.0.1:9" for name in ENDPOINTS})
    assert asking.cached() == 1, "accepted, and of no effect on another backend"
    asking.ws.write("in", "another")
    done = asking.run("-b", "s3", "-i", "in")
    assert (done.ran, done.code) == (1, 0)
    assert done.says("s3", "going on without it")
    for name in ENDPOINTS:
        asking.ask(**{f"s3_{name}": "no address"})
        done = asking.run("-i", "in")
        assert done.ran == 1
        assert done.says("not cached", f"s3_{name}")


def honeycomb(asking):
    names = ("dataset", "token", "trace_id", "parent_id")
    asking.ask(**{f"honeycomb_{name}": "x y" for name in names}, honeycomb_kv=["branch=main", "a="])
    done = asking.run("-i", "in", "-v")
    assert (done.ran, "x y" in done.err) == (1, False)
    assert asking.cached() == 0
    asking.ask(honeycomb_kv=["no equals sign"])
    assert asking.run("-i", "in").says("not cached", "honeycomb_kv")


# fmt: off
OPTIONS = (
    capsule_id, workspace_root, passive, placebo, placebo_exit, dry_run, inputs_hash, inputs_hash_var, strict, input,
    output, env, tool_tag, tool_command, capture_stdout, capture_stderr, backend, store, store_size, cache_failure,
    cache_failures, cache_failure_ttl, verify_hits, verbose, explain, json_, capsule_job, s3, honeycomb,
)
# fmt: on


@pytest.mark.parametrize("shows", OPTIONS, ids=lambda shows: shows.__name__.rstrip("_"))
def test_the_option_works_wherever_it_is_set(asking, shows):
    shows(asking)


@pytest.mark.parametrize("place", ["variable", "line"])
def test_the_file_is_named_in_words(ws, place):
    asking = Asking(ws, place)
    ws.write("dir/x.toml", '[one]\ninput = "in"\n[two]\ninput = "dir/x.toml"\n')
    ws.write("capsula.toml")
    for name in "dir/x.toml:two", "//dir/x.toml:two", str(ws.path("dir/x.toml:two")):
        asking.ask(file=name)
        report = asking.run(report=True).report
        assert (report["capsule_id"], report["inputs"][0]["path"]) == ("two", "dir/x.toml")


# ---------------------------------------------------------------------------------------------------- together


def test_later_places_win_and_lists_append(ws):
    for name in ("a", "b", "c", "d"):
        ws.write(name)
    (ws.home / ".capsules.toml").write_text('input = "a"\ncapsule_job = "home"\nverbose = true\n')
    ws.write("x.toml", 'input = ["b"]\n[section]\ncapsule_job = "file"\n')
    ws.environ["CAPSULE_ARGS"] = "--input c -j variable --no_verbose"
    done = ws.capsule("-f", "x.toml", "-i", "d", "-jline", do=":", report=True)
    assert [row["path"] for row in done.report["inputs"]] == ["a", "b", "c", "d"]
    assert (done.report["capsule_id"], done.err) == ("section", "")
    for taken, wins in (("line", "line"), ("variable", "variable"), ("file", "file"), ("home", "home")):
        options = ("-f", "x.toml", "-c", taken, "-i", "d", *(("-jline",) if taken == "line" else ()))
        if taken == "file":
            ws.environ["CAPSULE_ARGS"] = "-i c"
        if taken == "home":
            ws.write("x.toml", "[other]\n")
        ws.capsule(*options, do=":")
        assert ws.capsule(*options, "--no_verbose", do=":").said == [f"hit, made by job {wins}"]


def test_without_f_and_without_an_id_the_local_file_is_read(ws):
    ws.write("in", "one")
    ws.write("Capsule.toml", '[build]\ninput = "in"\n')
    assert ws.capsule(do=":", report=True).report["capsule_id"] == "build"
    assert ws.capsule("-c", "mine", do=":", report=True).report["inputs"] == []


def test_hyphens_and_underscores_are_the_same_in_every_place(ws):
    (ws.home / ".capsules.toml").write_text('tool-tag = ["t"]\n')
    ws.environ["CAPSULE_ARGS"] = "--capsule-job=job"
    ws.write("in")
    assert ws.capsule("--no-capture-stdout", "--capsule-id", "x", "-i", "in", do=":").ran == 1
    assert ws.capsule("--no_capture_stdout", "--capsule_id", "x", "-i", "in", do=":").said == [
        "hit, made by job job"
    ]


# ---------------------------------------------------------------------------------------------------- on their own


@pytest.mark.parametrize("spelled", ["-h", "--help"])
def test_help_lists_every_option_and_runs_nothing(ws, spelled):
    ws.write("Capsule.toml", "not toml at all [")
    done = ws.capsule(spelled, do=":")
    assert (done.code, done.ran, done.err) == (0, 0, "")
    aliases = {"cache_failures", "s3", "honeycomb"}
    names = {shows.__name__.rstrip("_") for shows in OPTIONS} - aliases
    for name in {*names, "file", "honeycomb_kv", *[f"s3_{name}" for name in S3 + ENDPOINTS]}:
        assert re.search(rf"--(\[no_\])?{name}\b", done.out), name


def test_the_version_is_shown_without_home_or_directory(ws):
    gone = ws.path("gone")
    gone.mkdir()
    done = ws.capsule("--version", env={"HOME": None, "XDG_CACHE_HOME": None})
    assert re.fullmatch(r"capsule \d+\.\d+\S*\n", done.out)
    assert (done.code, done.err) == (0, "")


def test_passive_does_nothing_but_run(ws):
    ws.write("in")
    do = 'echo "${CAPSULE_INPUTS_HASH-none}"; cat; exit 7'
    done = ws.capsule("--passive", "-i", "nothing", "--no_such_option", do=do, stdin=b"typed\n")
    assert (done.ran, done.code, done.out, done.err) == (1, 7, "none\ntyped\n", "")
    assert not ws.store.exists()
    assert ws.capsule("--passive", "--no_passive", "-i", "in", do=":").ran == 1
    assert ws.store.exists()


@pytest.mark.parametrize(
    "how", ["plain", "dummy backend", "no store", "unwritable store", "unmatched input", "s3"]
)
@pytest.mark.parametrize("var", ["CAPSULE_INPUTS_HASH", "BUILD_ID"])
def test_the_inputs_hash_is_always_in_the_command_s_environment(ordinary, how, var):
    ws, env, options = ordinary, {}, ()
    ws.write("in", "one")
    if how == "unwritable store":
        ws.cache.mkdir()
        ws.cache.chmod(0o500)
    elif how == "no store":
        env = {"HOME": None, "XDG_CACHE_HOME": None}
    elif how == "unmatched input":
        options = ("-i", "no such file")
    elif how != "plain":
        options = ("-b", how.partition(" ")[0])
    if var == "BUILD_ID":
        env["CAPSULE_ARGS"] = "--inputs_hash_var=BUILD_ID"
    do = f'echo "${var}"'
    done = ws.capsule("-i", "in", *options, do=do, env={**env, var: "the caller's"})
    assert done.ran == 1
    printed = ws.capsule("--inputs_hash", "-i", "in", *options, env=env)
    assert (done.out, printed.code) == (printed.out, 0)
    assert HEX.fullmatch(done.out.strip())
    assert printed.out.endswith("\n")


PARTLY_WRONG = {
    "a value": ("--store_size", "banana"),
    "an option": ("--no_such",),
    "an option with a value": ("--colour", "red"),
    "a short one": ("-x",),
    "a switch": ("--verbose=3",),
    "a backend": ("-b", "clouds"),
}


@pytest.mark.parametrize("wrong", PARTLY_WRONG.values(), ids=PARTLY_WRONG)
@pytest.mark.parametrize("place", ["line", "variable"])
def test_the_inputs_hash_is_there_when_other_options_are_wrong(ws, wrong, place):
    ws.write("in", "one")
    right = ("-i", "in", "-t", "tag", "--inputs_hash_var", "VERSION")
    printed = ws.capsule("--inputs_hash", *right).out
    if place == "variable":
        ws.environ["CAPSULE_ARGS"] = shlex.join(wrong)
        wrong = ()
    done = ws.capsule(*right[:2], *wrong, *right[2:], do='echo "$VERSION"; exit 7', report=True)
    assert (done.ran, done.code, done.out) == (1, 7, printed), done
    assert len(done.said) == 1
    assert done.says("not cached")
    assert (done.report["outcome"], done.report["exit_code"]) == ("uncached", 7)
    assert done.report["problem"] in done.said[0]
    assert not ws.entries()
    done = ws.capsule(*right, *wrong, "--strict", do=":")
    assert (done.ran, done.code) == (0, 125)


@pytest.mark.parametrize("name", [".capsules.toml", "x.toml"])
def test_the_inputs_hash_is_there_when_another_key_of_a_file_is_wrong(ws, name):
    ws.write("in", "one")
    path = ws.home / name if name[0] == "." else ws.path(name)
    options = () if name[0] == "." else ("-f", name)
    path.write_text('input = "in"\ninputs_hash_var = "VERSION"\nno_such = 1\nstore_size = "banana"\n')
    done = ws.capsule(*options, do='echo "$VERSION"')
    assert (done.ran, len(done.said)) == (1, 1)
    assert done.out == ws.capsule("--inputs_hash", "-i", "in", env={"HOME": None}).out
    path.write_text('verbose = true\nstrict = true\ninput = "in"\nstore_size = "banana"\n')
    done = ws.capsule(*options, do=":")
    assert (done.ran, done.code, len(done.said)) == (0, 125, 1)


@pytest.mark.parametrize(
    "wrong",
    [("--inptu", "x"), ("-i", "in", "x"), ("-i",), ("--inputs_hash_var", "="), ("-f", "gone.toml"), ("-t",)],
    ids=" ".join,
)
def test_a_hash_of_other_inputs_than_those_that_were_meant_is_never_there(ws, wrong):
    ws.write("in", "one")
    ws.write("x", "one")
    do = 'echo "${CAPSULE_INPUTS_HASH-none}"'
    done = ws.capsule("-i", "in", *wrong, do=do, env={"CAPSULE_INPUTS_HASH": "an enclosing capsule's"})
    assert (done.ran, done.out, len(done.said)) == (1, "none\n", 1)


def test_the_report_does_not_go_where_the_command_s_output_goes(ws):
    ws.write("in", "one")
    for number in "012":
        done = ws.capsule("-i", "in", "--json", f"fd:{number}", do="echo told")
        assert (done.ran, done.out, len(done.said)) == (1, "told\n", 1)
        assert done.says("--json", "the command's own")
