"""What a run says of itself: with -v, --explain, --dry_run, --json and --strict, and as a placebo."""

import hashlib
import json
import os

import pytest

COPY = ("-i", "in", "-o", "out")
DO = "cat in > out; echo told"
# Another result each time, of the same size: the eighth byte differs.
OTHER = 'n=$(cat ../n); n=$((n+1)); echo $n > ../n; printf "line\\nxx$n tail\\n" > out'


def sha256(content):
    return hashlib.sha256(content.encode()).hexdigest()


def test_verbose_prints_the_hash_of_every_input_and_output(ws):
    ws.write("in", "one")
    ws.write("sub/in", "two")
    os.symlink("in", ws.path("link"))
    options = ("-v", "-i", "in", "-i", "sub", "-i", "link", "-o", "out", "-o", "made/*")
    do = "cat in > out; mkdir -p made; ln -s x made/link; cat sub/in > made/file"
    for _ in range(2):
        done = ws.capsule(*options, do=do)
        for line in (
            f"input  {sha256('one')}  in",
            f"input  {sha256('two')}  sub/in",
            "input  -> in  link",
            f"output {sha256('one')}  out",
            f"output {sha256('two')}  made/file",
            "output -> x  made/link",
        ):
            assert line in done.said
    assert done.ran == 0
    assert done.says("hit", "saves")
    assert done.says("made by run")
    assert ws.capsule("--inputs_hash", *options).says(f"input  {sha256('one')}  in")


def test_verbose_says_that_what_a_pipe_brings_does_not_count(ws):
    ws.write("in", "one")
    said = "what comes through a pipe on standard input isn't part of the key"
    reading, writing = os.pipe()
    try:
        assert ws.capsule("-v", *COPY, do=DO, stdin=reading).says(said)
        assert ws.capsule("-v", *COPY, do=DO, stdin=reading).says(said)
        assert not ws.capsule(*COPY, do=DO, stdin=reading).says(said)
    finally:
        os.close(reading)
        os.close(writing)
    assert not ws.capsule("-v", *COPY, do=DO).says(said)


# ---------------------------------------------------------------------------------------------------- explain

EXPLAINED = (
    ("a file edited", "echo two > in", (), None, "in was edited"),
    ("a file added", "echo > src/new", (), None, "src/new was added"),
    ("a file removed", "rm src/a", (), None, "src/a was removed"),
    ("a mode", "chmod +x src/a", (), None, "src/a became executable"),
    ("a link", "ln -sf b src/link", (), None, "src/link points to b now"),
    ("an empty directory", "mkdir src/empty", (), None, "src/empty/ was added"),
    ("argv", "", (), "cat in > out; echo other", "argv"),
    ("a variable", "", ("-e", "HOME"), None, "variable HOME is set now"),
    ("a tag", "", ("-t", "gcc"), None, "tag gcc was added"),
    ("a tool", "", ("--tool_command", "echo 1"), None, "tool echo 1 was added"),
    ("an option", "", ("--no_capture_stderr",), None, "option stderr is no longer captured"),
    ("an output", "", ("-o", "in"), None, "output pattern 'in' is declared now"),
    ("an outer input", "", ("-i", "../outer"), None, "../outer was added"),
)


@pytest.mark.parametrize(
    ("what", "change", "more", "do", "told"), EXPLAINED, ids=[row[0] for row in EXPLAINED]
)
def test_a_miss_is_explained_fact_by_fact(ws, what, change, more, do, told):
    ws.write("in", "one")
    ws.write("src/a", "a")
    ws.write("../outer")
    os.symlink("a", ws.path("src/link"))
    options = ("-c", "id", "--explain", *COPY, "-i", "src")
    assert ws.capsule(*options, do=DO).says("miss: it is the first run of this capsule")
    assert ws.capsule(*options, do=DO).says("hit", "nothing that it depends on has changed")
    assert os.system(f"cd '{ws.root}' && {change or ':'}") == 0
    done = ws.capsule(*options, *more, do=do or DO, report=True)
    assert done.ran == 1
    assert done.says("miss", told)
    assert len(done.report["differences"]) == 1


def test_a_miss_is_explained_against_the_nearest_earlier_run(ws):
    for name in "abcd":
        ws.write(name, "1")
    options = ("-c", "id", "-i", "[a-d]")
    ws.capsule(*options, do=":")
    for name in "abc":
        ws.write(name, "2")
    ws.capsule(*options, do=":")
    ws.write("d", "2")
    assert ws.capsule(*options, "--explain", do=":").said[0] == "miss: d was edited"
    ws.write("a", "3")
    ws.write("b", "1")
    done = ws.capsule(*options, "--explain", do=":")
    assert done.said[0].startswith("miss: a was edited; b was edited")


def test_why_a_cached_result_is_no_answer_is_explained(ws):
    ws.write("in", "one")
    ws.capsule("--cache_failure", *COPY, do="exit 3")
    assert ws.capsule("--explain", *COPY, do="exit 3").said[0].startswith("miss: it failed the last time")
    expired = ("--explain", "--cache_failure", "--cache_failure_ttl", "0")
    assert ws.capsule(*expired, *COPY, do="exit 3").said[0].startswith("miss: the cached failure has expired")


def test_the_value_of_a_secret_variable_is_not_shown(ws):
    ws.write("in", "one")
    options = (*COPY, "-e", "API_TOKEN", "--explain")
    ws.capsule(*options, do=DO, env={"API_TOKEN": "hunter2"})
    done = ws.capsule(*options, do=DO, env={"API_TOKEN": "hunter3"}, report=True)
    assert "hunter" not in done.err + json.dumps(done.report)
    stored = b"".join([path.read_bytes() for path in ws.store.rglob("*") if path.is_file()])
    assert b"hunter" not in stored


# ---------------------------------------------------------------------------------------------------- dry run


def test_a_dry_run_says_hit_or_miss_and_why_and_changes_nothing(ws):
    ws.write("in", "one")
    options = ("--dry_run", *COPY)
    done = ws.capsule(*options, do=DO)
    assert (done.ran, done.code, done.out) == (0, 0, "")
    assert done.says("would miss", "first run")
    assert not ws.exists("out")
    ws.capsule(*COPY, do=f"{DO}; echo broken >&2")
    ws.capsule(*COPY, do=DO)
    ws.path("out").unlink()
    done = ws.capsule(*options, do=DO)
    assert (done.ran, done.out, ws.exists("out")) == (0, "", False)
    assert done.says("would hit")
    ws.write("in", "two")
    assert ws.capsule(*options, do=DO).says("would miss", "in was edited")
    assert ws.capsule(*options, "-i", "nothing", do=DO).says("no input matches 'nothing'")
    assert ws.capsule("--dry_run", *COPY, do=DO, report=True).report["dry_run"] is True
    assert ws.capsule(*COPY, do=DO).ran == 1
    assert ws.capsule("-p", *options, do=DO).says("would miss", "to be compared")


# ---------------------------------------------------------------------------------------------------- json


def test_the_report_to_a_file(ws):
    ws.write("in", "one")
    miss = ws.capsule("-j", "job", *COPY, do=f"{DO}; exit 0", report=True).report
    assert (miss["outcome"], miss["ran"], miss["exit_code"], miss["stored"]) == ("miss", True, 0, True)
    assert miss["why"] == "it is the first run of this capsule"
    hit = ws.capsule("-j", "job", *COPY, do=f"{DO}; exit 0", report=True).report
    assert (hit["outcome"], hit["ran"], hit["key"]) == ("hit", False, miss["key"])
    assert hit["made_by"]["run"] == miss["run"] != hit["run"]
    assert hit["made_by"]["job"] == "job"
    assert hit["inputs"] == [{"path": "in", "hash": sha256("one")}]
    assert [(row["path"], row["hash"]) for row in hit["outputs"]] == [("out", sha256("one"))]
    assert hit["inputs_hash"] == ws.capsule("--inputs_hash", "-i", "in").out.strip()
    assert hit["seconds_saved"] == pytest.approx(miss["seconds_run"], abs=1e-5)


def test_the_report_to_a_descriptor_is_never_mixed_into_the_output(ws):
    ws.write("in", "one")
    for ran in (1, 0, 0):
        reading, writing = os.pipe()
        with open(reading) as told:
            done = ws.capsule("--json", f"fd:{writing}", *COPY, do=DO, pass_fds=[writing])
            os.close(writing)
            report = json.load(told)
        assert (done.ran, done.out, done.err) == (ran, "told\n", "")
        assert report["ran"] is bool(ran)


@pytest.mark.parametrize("target", ["no/such/directory", "fd:99"])
def test_a_report_that_can_t_be_written_costs_one_line(ws, target):
    ws.write("in", "one")
    for ran in (1, 0):
        done = ws.capsule("--json", target, *COPY, do=f"{DO}; exit 0")
        assert (done.ran, done.code, len(done.said)) == (ran, 0, 1), done
    assert ws.capsule("--json", target, *COPY, do="exit 5").code == 5


def test_the_report_of_a_failure_and_of_what_was_not_cached(ws):
    ws.write("in", "one")
    report = ws.capsule(*COPY, do="exit 3", report=True).report
    assert (report["exit_code"], report["stored"]) == (3, False)
    assert "failed" in report["not_stored"]
    report = ws.capsule("-i", "nothing", do="exit 3", report=True).report
    assert (report["outcome"], report["exit_code"], report["ran"]) == ("uncached", 3, True)
    assert "nothing" in report["problem"]


def test_a_report_file_keeps_its_mode(ws):
    target = ws.base / "report"
    target.write_text("")
    for mode in (0o600, 0o664):
        target.chmod(mode)
        ws.capsule("--json", str(target), *COPY, do=DO)
        assert target.stat().st_mode & 0o777 == mode
        assert json.loads(target.read_text())["exit_code"] == 0


def test_a_report_into_a_pipe_that_nobody_reads_is_not_waited_for(ws):
    target = ws.base / "fifo"
    os.mkfifo(target)
    done = ws.capsule("--json", str(target), *COPY, do=DO)
    assert (done.code, done.ran) == (0, 1)
    assert done.says(f"can't write the report to {target}")


# ---------------------------------------------------------------------------------------------------- strict


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("an unknown option", ("--no_such_option",)),
        ("a bad value", ("--verify_hits", "many")),
        ("a missing value", ("-o",)),
        ("a missing file", ("-f", "missing.toml")),
        ("a backend that isn't there", ("-b", "s3")),
        ("a pattern that matches nothing", ("-i", "nothing*")),
    ],
)
def test_strict_exits_with_125_where_the_command_would_just_run(ws, what, options):
    ws.write("in", "one")
    done = ws.capsule(*COPY, *options, do="exit 7")
    assert (done.ran, done.code, len(done.said)) == (1, 7, 1)
    strict = ws.capsule("--strict", *COPY, *options, do="exit 7")
    # Without a remote store the run goes on with the one on this machine, and says so; strictly it doesn't.
    said = [line.removesuffix("; going on without it").removeprefix("not cached: ") for line in done.said]
    assert (strict.ran, strict.code) == (0, 125)
    assert [line.removeprefix("not cached: ") for line in strict.said] == said


def test_strict_leaves_alone_what_goes_well(ws):
    ws.write("in", "one")
    assert [ws.capsule("--strict", *COPY, do=DO).ran for _ in range(2)] == [1, 0]
    assert ws.capsule("--strict", *COPY, do="exit 7").code == 7


# ---------------------------------------------------------------------------------------------------- placebo


@pytest.fixture(params=["-p", "--placebo", "placebo", "link"])
def placebo(ws, request):
    """Each way to ask for a placebo, as the keywords of a run."""
    if request.param.startswith("-"):
        return lambda *options, **keywords: ws.capsule(request.param, *options, **keywords)
    program = request.param
    if program == "link":
        (ws.base / "else where").mkdir()
        program = str(ws.base / "else where/placebo")
        found = next(d for d in ws.environ["PATH"].split(":") if os.path.exists(f"{d}/capsule"))
        os.symlink(f"{found}/capsule", program)
    return lambda *options, **keywords: ws.capsule(*options, program=program, **keywords)


def test_a_placebo_always_runs_and_agrees(ws, placebo):
    ws.write("in", "one")
    done = placebo(*COPY, do=DO)
    assert done.ran == 1
    assert done.says("nothing cached to compare with")
    for _ in range(3):
        done = placebo(*COPY, do=DO)
        assert (done.ran, done.code, done.out) == (1, 0, "told\n")
        assert done.says("deterministic")
    assert ws.capsule(*COPY, do=DO).ran == 0


def test_a_placebo_names_the_file_and_its_first_differing_byte(ws, placebo):
    ws.write("in", "one")
    ws.write("../n", "1")
    ws.capsule(*COPY, do=OTHER)
    done = placebo(*COPY, do=OTHER)
    assert (done.ran, done.code) == (1, 0)
    assert done.says("not deterministic: 1 difference")
    assert done.says("out differs from byte 7 on", "line 2")
    assert placebo("--placebo_exit", "9", *COPY, do=OTHER).code == 9
    assert placebo("--placebo_exit", "9", *COPY, do=f"{OTHER}; exit 3").code == 3


@pytest.mark.parametrize(
    ("do", "told"),
    [
        ("ls > dist/new", "dist/new is new"),
        ("rm dist/file", "dist/file is missing"),
        ("chmod +x dist/file", "dist/file has mode 755, 644 in the cached result"),
        ("ln -sf other dist/link", "dist/link points to other, to file in the cached result"),
        ("rm dist/file; ln -s x dist/file", "dist/file is a link, a file in the cached result"),
        ("rmdir dist/empty", "dist/empty is missing"),
        ("exit 4", "exit code 4, 0 in the cached result"),
    ],
)
def test_a_placebo_compares_names_modes_links_and_the_exit_code(ws, do, told):
    ws.write("in", "one")
    make = "umask 022; rm -rf dist; mkdir -p dist/empty; echo > dist/file; ln -s file dist/link; test ! -e ../now ||"
    options, do = ("-i", "in", "-o", "dist"), f"{make} {{ {do}; }}"
    ws.capsule(*options, do=do)
    ws.write("../now")
    done = ws.capsule("-p", *options, do=do)
    assert done.ran == 1
    assert done.says(told)
    assert done.says("not deterministic: 1 difference")


def test_a_placebo_reports_logs_on_their_own(ws):
    ws.write("in", "one")
    do = "cat in > out; cat ../log"
    ws.write("../log", "12:01")
    ws.capsule(*COPY, do=do)
    ws.write("../log", "12:02")
    done = ws.capsule("-p", "--placebo_exit", "9", *COPY, do=do, report=True)
    assert done.code == 0, "logs often hold times: they make nothing fail"
    assert done.says("(log) stdout differs from byte 4 on")
    assert done.report["placebo"]["outputs"] == []


def test_the_verdict_stays_with_the_entry_and_is_shown_on_later_hits(ws):
    ws.write("in", "one")
    ws.write("../n", "1")
    for do, told in ((DO, "a placebo found the same"), (OTHER, "a placebo found a difference")):
        ws.capsule(*COPY, do=do)
        assert not ws.capsule("-v", *COPY, do=do).says("placebo")
        ws.capsule("-p", *COPY, do=do)
        hit = ws.capsule("-v", *COPY, do=do, report=True)
        assert hit.ran == 0
        assert hit.says(told)
        assert hit.report["made_by"]["verdict"] in ("same", "differs")


def test_hits_are_verified_in_the_share_that_was_asked_for(ws):
    ws.write("in", "one")
    ws.write("../n", "1")
    assert ws.capsule(*COPY, do=OTHER).ran == 1
    assert ws.capsule("--verify_hits", "0", *COPY, do=OTHER).ran == 0
    done = ws.capsule("--verify_hits", "1.0", "--placebo_exit", "9", *COPY, do=OTHER)
    assert (done.ran, done.code) == (1, 9)
    assert done.says("out differs from byte 7 on")
    done = ws.capsule("--verify_hits", "1.0", "--no_placebo", *COPY, do=DO)
    assert done.ran == 1, "a miss is a miss"
    assert done.said == []


def test_a_placebo_without_outputs_says_what_was_compared(ws):
    ws.write("in", "one")
    ws.capsule("-i", "in", do="date +%N")
    done = ws.capsule("-p", "-i", "in", do="date +%N")
    assert done.says(
        "deterministic: the exit code is that of the cached result; there are no outputs to compare"
    )
