"""The run itself: inputs that move meanwhile, failures, logs, several at once, one within another, and kills."""

import subprocess

import pytest

COPY = ("-i", "in", "-o", "out")
DO = "cat in > out"


# ------------------------------------------------------------------------------------------- inputs that move


@pytest.mark.parametrize(
    ("when", "do"),
    [
        ("before the command reads it", "echo two > in; cat in > out"),
        ("after the command has read it", "cat in > out; echo two > in"),
        ("with size and time kept", "cat in > out; touch -r in t; echo two > in; touch -r t in; rm t"),
        ("by a rename", "cat in > out; echo two > n; mv n in"),
    ],
)
def test_an_input_edited_while_the_command_runs_is_no_result_of_either_content(ws, when, do):
    ws.write("in", "one\n")
    done = ws.capsule(*COPY, do=do)
    assert done.ran == 1
    assert done.says("not cached", "in changed")
    assert ws.entries() == []
    for content in "one\n", "two\n":
        ws.write("in", content)
        assert ws.capsule(*COPY, do=DO).ran == 1
        assert ws.read("out") == content


def test_an_input_edited_and_put_back_while_the_command_runs_is_noticed(ws):
    ws.write("in", "one\n")
    done = ws.capsule(*COPY, do="echo two > in; cat in > out; echo one > in")
    assert (done.ran, ws.read("in"), ws.read("out")) == (1, "one\n", "two\n")
    assert ws.entries() == [], "the output was made from a content that isn't in the key"
    assert ws.capsule(*COPY, do=DO).ran == 1
    assert ws.read("out") == "one\n"


@pytest.mark.parametrize(
    "do", ["echo > src/new", "rm src/a", "mv src/a src/b", "chmod +x src/a", "mkdir src/d"]
)
def test_an_input_that_comes_or_goes_while_the_command_runs_is_noticed(ws, do):
    ws.write("src/a", "1")
    done = ws.capsule("-i", "src", "-o", "out", do=f"ls src > out; {do}")
    assert done.ran == 1
    assert done.says("not cached", "src/")
    assert ws.entries() == []


def test_a_formatter_that_edits_its_own_file_is_cached_once_there_is_nothing_to_edit(ws):
    options, do = (
        ("-i", "code", "-o", "code"),
        "tr a-z A-Z < code > code.new; cat code.new > code; rm code.new",
    )
    ws.write("code", "text")
    assert [ws.capsule(*options, do=do).ran for _ in range(2)] == [1, 1]
    ran = ws.capsule(*options, do=do).ran
    assert ws.read("code") == "TEXT"
    assert ran in (0, 1)
    ws.write("code", "more")
    assert ws.capsule(*options, do=do).ran == 1
    assert ws.read("code") == "MORE"


def test_edit_and_run_at_once_stores_and_hits(ws):
    for content in "one", "two", "three":
        ws.write("in", content)
        assert ws.capsule(*COPY, do=DO).ran == 1
        assert ws.capsule(*COPY, do=DO).ran == 0
        assert ws.read("out") == content


# ------------------------------------------------------------------------------------------- failures


def test_a_cached_failure_comes_with_logs_outputs_and_exit_code(ws, first):
    ws.write("in", "one")
    options = ("--cache_failure", *COPY)
    do = "cat in > out; echo told; echo broken >&2; exit 3"
    assert first(*options, do=do).code == 3
    ws.path("out").unlink()
    done = ws.capsule(*options, do=do)
    assert (done.ran, done.code, done.out, done.err) == (0, 3, "told\n", "broken\n")
    assert ws.read("out") == "one"


def test_a_cached_failure_may_lack_outputs(ws):
    ws.write("in", "one")
    assert [ws.capsule("--cache_failure", *COPY, do="exit 4").ran for _ in range(2)] == [1, 0]


def test_a_cached_failure_is_no_answer_without_the_option(ws, first):
    ws.write("in", "one")
    do = "cat in > out; exit 3"
    first("--cache_failures", *COPY, do=do)
    assert ws.capsule(*COPY, do=do).ran == 1
    assert ws.capsule("--cache_failure", *COPY, do=do).ran == 0
    assert ws.capsule("--cache_failure", "--no_cache_failure", *COPY, do=do).ran == 1


def test_a_cached_failure_expires(ws):
    lasting = ("--cache_failure", "--cache_failure_ttl", "1d", *COPY)
    expired = ("--cache_failure", "--cache_failure_ttl", "0", *COPY)
    ws.write("in", "one")
    do = "cat in > out; exit 3"
    assert ws.capsule(*lasting, do=do).ran == 1
    ws.warm(*lasting, do=do)
    # More than once: what the first of these leaves behind must know of the end as well.
    assert [ws.capsule(*expired, do=do).ran for _ in range(3)] == [1, 1, 1]
    assert ws.capsule(*expired, do=do, report=True).report["why"].startswith("the cached failure has expired")
    assert ws.capsule(*lasting, do=do).ran == 0


def test_a_hit_names_the_job_of_the_run_that_made_the_result_and_no_earlier_one(ws):
    ws.write("in", "one")
    do = "cat in > out; test -e ../works"
    ws.capsule("--cache_failure", "-j", "job A", *COPY, do=do)
    ws.warm("--cache_failure", "-j", "job A", *COPY, do=do)
    ws.write("../works")
    assert ws.capsule("-j", "job B", *COPY, do=do).code == 0
    for _ in range(3):
        done = ws.capsule("-j", "job B", *COPY, do=do)
        assert (done.ran, done.said) == (0, ["hit, made by job job B"])


def test_a_success_has_no_end(ws, first):
    options = ("--cache_failure", "--cache_failure_ttl", "0", *COPY)
    ws.write("in", "one")
    first(*options, do=DO)
    assert ws.capsule(*options, do=DO).ran == 0


# ------------------------------------------------------------------------------------------- logs


def test_logs_are_replayed_on_their_descriptors(ws, first):
    ws.write("in", "one")
    do = "echo to stdout; echo to stderr >&2"
    made = first("-i", "in", do=do)
    done = ws.capsule("-i", "in", do=do)
    assert done.ran == 0
    assert (made.out, made.err) == (done.out, done.err) == ("to stdout\n", "to stderr\n")


def test_logs_are_replayed_in_their_order(ws):
    ws.write("in", "one")
    # Each line waits until the one before has been passed on: what is written at the same moment has no order.
    do = "for n in 1 2 3; do echo out $n; read _; echo err $n >&2; read _; done"
    process = ws.start("-i", "in", do=do, stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
    expected = "".join([f"{name} {n}\n" for n in (1, 2, 3) for name in ("out", "err")])
    for line in expected.splitlines():
        assert process.stdout.readline() == line.encode() + b"\n"
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert process.wait(200) == 0
    for _ in range(4):
        done = ws.capsule("-i", "in", do=do, stderr=subprocess.STDOUT)
        assert (done.ran, done.out) == (0, expected)


def test_a_log_without_a_last_newline_and_with_any_bytes_is_replayed_byte_for_byte(ws, first):
    ws.write("in", "one")
    do = r"printf '\000\377\r\n\033[1m end'"
    made = first("-i", "in", do=do)
    assert ws.capsule("-i", "in", do=do).out == made.out == "\0\udcff\r\n\033[1m end"


def test_a_long_log_is_replayed_whole(ws):
    ws.write("in", "one")
    do = "yes 0123456789 | head -c 12000000; yes error | head -c 300000 >&2"
    made = ws.capsule("-i", "in", do=do)
    assert (made.ran, len(made.out), len(made.err)) == (1, 12_000_000, 300_000)
    for _ in range(2):
        done = ws.capsule("-i", "in", do=do)
        assert done.ran == 0
        assert done.out == made.out
        assert done.err == made.err


@pytest.mark.parametrize(
    ("options", "out", "err"),
    [
        (("--no_capture_stdout",), "", "e\n"),
        (("--no-capture-stderr",), "o\n", ""),
        (("--no_capture_stdout", "--no_capture_stderr"), "", ""),
    ],
)
def test_what_isn_t_captured_isn_t_replayed(ws, first, options, out, err):
    ws.write("in", "one")
    made = first(*options, "-i", "in", do="echo o; echo e >&2")
    assert (made.out, made.err) == ("o\n", "e\n")
    done = ws.capsule(*options, "-i", "in", do="echo o; echo e >&2")
    assert (done.ran, done.out, done.err) == (0, out, err)
