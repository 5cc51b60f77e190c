"""A bug of ours, wherever it is: the command runs once, and its exit code is what the caller gets."""

import errno

import pytest

OPTIONS = ("-c", "bugs", "--cache_failure", "-i", "in", "-o", "out")
# An exit code of its own, and one that is neither success nor any of ours.
DO = 'read line < in; printf "%s" "$line" > out; echo said; echo complained >&2; exit 7'
LATER = 100_000


def calls_of(ws, **keywords):
    """Every call of a function of capsula's that this run makes, in order."""
    listed = ws.base / "calls"
    done = ws.breaking(*OPTIONS, do=DO, kind="list", listed=listed, **keywords)
    assert done.code == 7
    return listed.read_text().splitlines()


def first_of_each(calls):
    """The places (from 1 on) of the first call of each function."""
    return sorted({name: place for place, name in reversed(list(enumerate(calls, 1)))}.values())


def last_of_each(calls):
    return sorted({name: place for place, name in enumerate(calls, 1)}.values())


def start_of(calls):
    return next(place for place, name in enumerate(calls, 1) if name == "capsula.execute.spawn spawn")


def check_miss(ws, content, done):
    assert (done.code, done.ran) == (7, 1), done
    assert done.out == "said\n", done
    assert done.err.count("complained\n") == 1, done
    assert ws.read("out") == content, done


def check_next(ws, content):
    """Whatever the bug left behind, the next run is right, and so is the store."""
    again = ws.breaking(*OPTIONS, do=DO)
    assert (again.code, again.out, ws.read("out")) == (7, "said\n", content), again
    ws.verify()


@pytest.fixture
def warm(ws):
    """A run has been made before, so that all that follow make the same calls."""
    for content in "12":
        ws.write("in", content)
        ws.breaking(*OPTIONS, do=DO)
    return ws


def break_misses(ws, places, error):
    for place in places:
        content = f"{error} {place:6}"
        ws.write("in", content)
        done = ws.breaking(*OPTIONS, do=DO, kind="raise", at=place, error=error)
        check_miss(ws, content, done)
        if place % 10 == 0:
            check_next(ws, content)


def test_a_bug_in_any_call_before_the_command_starts(warm):
    warm.write("in", "3")
    calls = calls_of(warm)
    assert start_of(calls) > 200
    # All but those of a few functions that are called for every character, number or name.
    seen = {}
    places = []
    for place, name in enumerate(calls[: start_of(calls)], 1):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] <= 5:
            places.append(place)
    break_misses(warm, places, "RuntimeError")


def test_a_bug_in_any_function_after_the_command_has_started(warm):
    warm.write("in", "3")
    calls = calls_of(warm)
    start = start_of(calls)
    places = [start + place for place in first_of_each(calls[start:])]
    assert len(places) > 100
    break_misses(warm, places, "RuntimeError")


def test_no_memory_left_in_any_function_of_a_miss(warm):
    warm.write("in", "3")
    break_misses(warm, last_of_each(calls_of(warm))[::2], "MemoryError")


@pytest.mark.parametrize("error", ["RuntimeError", "MemoryError", "ImportError"])
def test_a_module_that_cannot_be_loaded(warm, error):
    """Nothing is imported beforehand here: what a module does when it is loaded counts as a call, and goes wrong."""
    listed = warm.base / "calls"
    warm.write("in", "3")
    assert warm.breaking(*OPTIONS, do=DO, kind="list", only="<module>", cold=True, listed=listed).code == 7
    modules = len(listed.read_text().splitlines())
    assert modules > 30
    for place in range(1, modules + 1, 1 if error == "RuntimeError" else 5):
        content = f"{error} {place:6}"
        warm.write("in", content)
        done = warm.breaking(*OPTIONS, do=DO, kind="raise", only="<module>", at=place, error=error, cold=True)
        check_miss(warm, content, done)


def put_back(ws):
    ws.path("out").unlink()


def edit(ws):
    ws.write("out", "edited by hand")


@pytest.mark.parametrize(
    ("spoil", "recalled"),
    [(None, True), (put_back, True), (edit, True), (None, False), (edit, False)],
    ids=["recalled", "recalled, put back", "recalled, edited", "the whole way", "the whole way, edited"],
)
def test_a_bug_in_any_function_of_a_hit(warm, spoil, recalled):
    ws = warm

    def prepare():
        if recalled:
            for _ in range(2):
                ws.breaking(*OPTIONS, do=DO, clock=LATER)
        else:
            ws.forget_records()
        if spoil is not None:
            spoil(ws)

    prepare()
    calls = calls_of(ws)
    places = range(1, len(calls) + 1) if len(calls) < 250 else first_of_each(calls)
    for place in places:
        prepare()
        done = ws.breaking(*OPTIONS, do=DO, kind="raise", at=place)
        assert (done.code, ws.read("out")) == (7, "2"), done
        # It may come after all has been said: then saying it once more with the command's run is the lesser evil.
        assert done.out in ("said\n", "said\n" * (1 + done.ran)), done
        assert done.ran <= 1, done
        if spoil is edit and done.ran == 0:
            items = [path.read_text() for path in ws.store.glob("trash/*/item")]
            assert "edited by hand" in items, done
    check_next(ws, "2")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO], ids=errno.errorcode.get)
def test_the_system_refuses_any_step_of_a_miss(warm, number):
    ws = warm
    for step in range(1, 1000):
        content = f"{number} {step:6}"
        ws.write("in", content)
        done = ws.breaking(*OPTIONS, do=DO, kind="refuse", at=step, error=number)
        assert (done.code, done.ran, ws.read("out")) == (7, 1, content), done
        if done.count < step:
            break
        if done.where not in ("write 1", "write 2"):
            assert done.out == "said\n", done
        check_next(ws, content)
    assert step > 20
