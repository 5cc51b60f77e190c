"""The run: when the command runs, when it doesn't, and what of us may go wrong without anybody noticing."""

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from capsula.core.capsule import TYPE_URL
from capsula.core.reapi import (
    ActionResult,
    ExecutedActionMetadata,
    OutputDirectory,
    OutputFile,
)
from capsula.core.reapi import (
    Any as AnyMessage,
)
from capsula.engine import HIT, MISS, PLACEBO, UNCACHED
from capsula.errors import BlobCorrupt, EntryCorrupt, InputError, OutputError, StoreError

Lab = Any
NewLab = Callable[[], Lab]


# ---------------------------------------------------------------------------------------------------- hit and miss


def test_a_miss_runs_the_command_and_keeps_the_result(lab: Lab) -> None:
    report = lab.run()
    assert (report.outcome, report.exit_code, report.stored, report.problem) == (MISS, 0, True, None)
    assert lab.runs == [report.inputs_hash]
    assert report.why == "it is the first run of this capsule"
    assert set(report.nodes) == {"app", "app.map"}
    assert report.seconds == 2.5
    assert (lab.said, lab.replayed) == ([], [])
    assert lab.tree.remembered == 1


def test_the_second_time_is_a_hit_and_nothing_runs(lab: Lab) -> None:
    first = lab.run(job="nightly")
    lab.clean()
    report = lab.run()
    assert (report.outcome, report.exit_code, report.key) == (HIT, 0, first.key)
    assert len(lab.runs) == 1
    assert "execute" not in lab.calls
    assert lab.made == lab.contents
    assert lab.replayed == [(b"out\n", b"err\n", ((1, 4), (2, 4)))]
    assert (report.written, report.bytes, report.seconds) == (2, 9, 2.5)
    assert (report.origin.run, report.origin.job) == (first.origin.run, "nightly")
    assert not report.started


def test_intact_outputs_are_left_alone(lab: Lab) -> None:
    lab.run()
    report = lab.run()
    assert (report.outcome, report.written, report.buried) == (HIT, 0, ())


def test_what_is_in_the_way_goes_to_the_trash(lab: Lab) -> None:
    lab.run()
    (lab.out / "app").write_bytes(b"edited")
    report = lab.run()
    assert report.outcome == HIT
    assert report.buried == (str(lab.out / "app"),)
    assert (lab.folder / "buried").read_bytes() == b"edited"


@pytest.mark.parametrize(
    "change",
    [
        lambda lab: lab.tree.files.update({"a.c": b"int b;"}),
        lambda lab: lab.tree.files.update({"b.c": b""}),
        lambda lab: lab.environment.update({"CC": "gcc"}),
        lambda lab: lab.recipe.update({"argv": ("make",)}),
        lambda lab: lab.recipe.update({"tags": ("x",)}),
    ],
)
def test_a_change_is_a_miss_and_the_change_back_a_hit(lab: Lab, change: Callable[[Lab], None]) -> None:
    lab.run()
    before = dict(lab.tree.files), dict(lab.environment), dict(lab.recipe)
    change(lab)
    report = lab.run()
    assert report.outcome == MISS
    assert report.differences
    lab.tree.files, lab.environment, lab.recipe = before
    assert lab.run().outcome == HIT
    assert len(lab.runs) == 2


@pytest.mark.parametrize("size", [0, 1, 2048, 2049, 100_000])
def test_logs_of_any_size_are_replayed(lab: Lab, size: int) -> None:
    captured = type(lab.make("").stdout)(b"x" * size)
    lab.runs.clear()
    lab.outcome = {"stdout": captured, "stderr": type(captured)(b""), "order": ((1, size),)}
    lab.run()
    assert lab.run().outcome == HIT
    assert lab.replayed == [(b"x" * size, b"", ((1, size),))]


def test_a_very_big_log_goes_through_a_file(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["capsula.engine.run"], "BIG_LOG", 5000)
    log = lab.folder / "log"
    log.write_bytes(b"x" * 6000)
    captured = type(lab.make("").stdout)(None, str(log))
    lab.outcome = {"stdout": captured}
    assert lab.run().stored
    report = lab.run()
    assert report.outcome == HIT
    spooled = lab.replayed[0][0]
    assert isinstance(spooled, str)
    assert (lab.folder / "spooled").read_bytes() == b"x" * 6000


def test_without_a_store_the_command_runs_with_the_inputs_hash(lab: Lab) -> None:
    report = lab.run(keep=False)
    assert report.inputs_hash
    assert lab.runs == [report.inputs_hash]
    assert not report.stored
    assert "cache.store" not in lab.calls


def test_what_says_nothing_of_what_it_depends_on_is_not_cached(lab: Lab) -> None:
    lab.recipe = {"inputs": (), "named": False}
    for _ in range(2):
        report = lab.run()
        assert (report.outcome, report.stored) == (UNCACHED, False)
        assert report.problem is not None
    assert len(lab.runs) == 2
    lab.recipe = {"inputs": (), "named": True}
    assert [lab.run().outcome for _ in range(2)] == [MISS, HIT]


def test_a_pattern_without_a_match_is_named_and_the_run_is_not_cached(lab: Lab) -> None:
    lab.tree.unmatched = ("*.zig", "odd\n")
    report = lab.run()
    assert (report.outcome, report.stored) == (UNCACHED, False)
    assert "'*.zig', 'odd\\n'" in report.problem.what
    assert lab.runs == [report.inputs_hash]
    assert report.inputs_hash


# ---------------------------------------------------------------------------------------------------- failures


def test_a_failure_is_not_cached(lab: Lab) -> None:
    lab.outcome = {"exit_code": 3}
    for _ in range(2):
        report = lab.run()
        assert (report.outcome, report.exit_code, report.stored) == (MISS, 3, False)
        assert "exit code 3" in report.not_stored
    assert len(lab.runs) == 2


def test_a_failure_is_cached_when_that_is_asked_for(lab: Lab) -> None:
    lab.outcome = {"exit_code": 3}
    lab.tree.unmade = ("app.o",)
    assert lab.run(cache_failure=True).stored
    report = lab.run(cache_failure=True)
    assert (report.outcome, report.exit_code) == (HIT, 3)
    assert lab.replayed[0][1] == b"err\n"


def test_who_does_not_want_cached_failures_gets_none(lab: Lab) -> None:
    lab.outcome = {"exit_code": 3}
    lab.run(cache_failure=True)
    lab.outcome = {}
    report = lab.run(job="second")
    assert (report.outcome, report.exit_code, report.stored) == (MISS, 0, True)
    assert "failed the last time (exit code 3)" in report.why
    assert report.origin.job == "second"
    assert lab.run().outcome == HIT


@pytest.mark.parametrize(("age", "hit"), [(0, True), (50, True), (70, False), (10**6, False)])
def test_a_cached_failure_lives_as_long_as_it_is_told(lab: Lab, age: float, hit: bool) -> None:
    ended = time.time_ns() - int(age * 1e9)
    lab.outcome = {"exit_code": 3, "start_ns": ended - 2_500_000_000, "end_ns": ended}
    first = lab.run(cache_failure=True, failure_ttl=60.0)
    assert abs(first.expires_ns - ended - 60 * 10**9) < 10**7
    report = lab.run(cache_failure=True, failure_ttl=60.0)
    assert report.outcome == (HIT if hit else MISS)
    assert len(lab.runs) == (1 if hit else 2)
    assert ("expired" in report.why) is not hit
    # What is asked later counts, not what was asked when it was stored.
    assert lab.run(cache_failure=True).outcome == HIT


def test_a_success_never_expires(lab: Lab) -> None:
    lab.outcome = {"start_ns": 1, "end_ns": 2}
    assert lab.run(cache_failure=True, failure_ttl=1.0).expires_ns == 0
    report = lab.run(cache_failure=True, failure_ttl=1.0)
    assert (report.outcome, report.expires_ns) == (HIT, 0)


# ---------------------------------------------------------------------------------------------------- damage


def damaged(lab: Lab, result: ActionResult) -> None:
    """The entry of the last run, replaced."""
    report = lab.run()
    lab.store.store(report.key, result)
    lab.runs.clear()


BAD_ENTRIES = {
    "escape": ActionResult(output_files=(OutputFile(path="a/../../x", digest=None),)),
    "no digest": ActionResult(output_files=(OutputFile(path="x"),)),
    "no tree": ActionResult(output_directories=(OutputDirectory(path="d"),)),
    "no facts": ActionResult(
        execution_metadata=ExecutedActionMetadata(
            auxiliary_metadata=(AnyMessage(type_url=TYPE_URL, value=b"no facts"),)
        )
    ),
}


@pytest.mark.parametrize("which", BAD_ENTRIES)
def test_a_bad_entry_is_said_once_and_healed(lab: Lab, which: str) -> None:
    damaged(lab, BAD_ENTRIES[which])
    report = lab.run()
    assert (report.outcome, report.stored, len(lab.runs)) == (MISS, True, 1)
    assert len(lab.said) == 1
    assert "damaged" in lab.said[0]
    assert lab.run().outcome == HIT


def test_a_tree_that_is_none_is_damage_too(lab: Lab) -> None:
    digest = lab.store.put(b"\xff\xff")
    damaged(lab, ActionResult(output_directories=(OutputDirectory(path="d", tree_digest=digest),)))
    assert lab.run().stored
    assert lab.run().outcome == HIT


@pytest.mark.parametrize("error", [EntryCorrupt("spoiled"), BlobCorrupt("spoiled")])
def test_an_entry_that_does_not_verify_is_said_once_and_healed(lab: Lab, error: Exception) -> None:
    lab.run()
    lab.faults = {"cache.lookup": error}
    report = lab.run()
    assert (report.outcome, report.stored) == (MISS, True)
    assert lab.said == ["the stored result is damaged: spoiled"]
    lab.faults = {}
    assert lab.run().outcome == HIT


def test_a_lost_output_is_said_once_and_healed(lab: Lab) -> None:
    lab.run()
    lab.clean()
    del lab.store._blobs[next(name for name, content in lab.store._blobs.items() if content == b"binary")]
    report = lab.run()
    assert (report.outcome, report.stored, len(lab.runs)) == (MISS, True, 2)
    assert len(lab.said) == 1
    assert "can't be restored" in lab.said[0]
    assert lab.calls.count("tree.settle") == 1
    lab.clean()
    assert lab.run().outcome == HIT
    assert lab.made == lab.contents


def test_a_store_that_cannot_be_reached_is_no_miss(lab: Lab) -> None:
    lab.faults = {"cache.lookup": StoreError("no disk")}
    report = lab.run()
    assert (report.outcome, report.problem.what, report.stored) == (UNCACHED, "no disk", False)
    assert len(lab.runs) == 1
    assert "cache.store" not in lab.calls


def test_outputs_that_cannot_be_put_back_make_the_command_run(lab: Lab) -> None:
    lab.run()
    lab.faults = {"tree.settle": OutputError("can't restore")}
    report = lab.run()
    assert (report.outcome, report.exit_code, len(lab.runs)) == (UNCACHED, 0, 2)
    assert not lab.replayed


# ---------------------------------------------------------------------------------------------------- ways to ask


@pytest.mark.parametrize("policy", [{}, {"explain": True}])
def test_a_dry_run_says_hit_or_miss_and_runs_nothing(lab: Lab, policy: dict[str, Any]) -> None:
    report = lab.run(dry_run=True, **policy)
    assert (report.outcome, report.why) == (MISS, "it is the first run of this capsule")
    assert lab.runs == []
    assert lab.store._entries == {}
    lab.run()
    lab.clean()
    report = lab.run(dry_run=True, **policy)
    assert (report.outcome, report.exit_code, lab.made) == (HIT, 0, {})
    lab.tree.files["a.c"] = b"edited"
    report = lab.run(dry_run=True, **policy)
    assert (report.outcome, report.why) == (MISS, "a.c was edited")
    assert len(lab.runs) == 1
    assert not {"execute", "replay", "tree.settle", "flight.enter", "blobs.put", "cache.store"} & set(
        lab.calls
    )


def test_a_dry_run_that_fails_runs_nothing_either(lab: Lab) -> None:
    for error in (InputError("unreadable"), ZeroDivisionError("bug")):
        lab.faults = {"tree.inputs": error}
        report = lab.run(dry_run=True)
        assert report.outcome == UNCACHED
        assert report.problem is not None
    assert lab.runs == []


def test_strict_does_not_run_when_something_is_wrong(lab: Lab) -> None:
    lab.faults = {"cache.lookup": StoreError("no disk")}
    report = lab.run(strict=True)
    assert (report.outcome, report.problem.what, report.started) == (UNCACHED, "no disk", False)
    assert lab.runs == []


def test_strict_is_no_different_when_all_is_well(lab: Lab) -> None:
    assert [lab.run(strict=True).outcome for _ in range(2)] == [MISS, HIT]
    lab.outcome = {"exit_code": 3}
    lab.tree.files["a.c"] = b"edited"
    report = lab.run(strict=True)
    assert (report.outcome, report.exit_code) == (MISS, 3)


def test_explain_says_why_before_the_command_runs(lab: Lab) -> None:
    lab.run()
    lab.tree.files.update({"a.c": b"edited", "b.c": b"", "c.c": b"", "d.c": b""})
    report = lab.run(explain=True)
    assert lab.said == ["miss: a.c was edited; b.c was added; c.c was added; and 1 more"]
    assert lab.calls.index("say") < lab.calls.index("execute")
    assert len(report.differences) == 4
    assert report.nearest


def test_a_miss_is_explained_against_the_nearest_action(lab: Lab) -> None:
    lab.run()
    near = dict(lab.tree.files)
    lab.tree.files = {"x.c": b"", "y.c": b"", "z.c": b""}
    lab.run()
    lab.tree.files = {**near, "new.c": b""}
    assert lab.run().why == "new.c was added"


def test_an_explanation_without_the_old_blobs_is_none(lab: Lab) -> None:
    lab.run()
    lab.store._blobs.clear()
    lab.tree.files["a.c"] = b"edited"
    report = lab.run()
    assert (report.stored, report.differences) == (True, ())


def test_the_same_action_without_a_result_says_so(lab: Lab) -> None:
    lab.outcome = {"exit_code": 1}
    lab.run()
    assert lab.run().why == "the same action has run before, and there is no result of it"


# ---------------------------------------------------------------------------------------------------- single flight


def test_who_waited_for_another_gets_its_result(lab: Lab, new_lab: NewLab) -> None:
    def meanwhile() -> None:
        other = new_lab()
        other.store = lab.store
        other.run()

    lab.flight.meanwhile = meanwhile
    report = lab.run()
    assert (report.outcome, report.waited, lab.runs) == (HIT, True, [])
    assert lab.said == ["waiting for process 4711, which is running the same action"]
    assert lab.made == lab.contents
    assert lab.flight.held == [report.key.hash]
    assert lab.flight.left == 1


def test_who_waited_for_nothing_runs_itself(lab: Lab) -> None:
    lab.flight.meanwhile = lambda: None
    report = lab.run()
    assert (report.outcome, report.waited, len(lab.runs)) == (MISS, True, 1)
    assert lab.flight.left == 1


def test_one_who_came_back_between_our_look_and_our_turn_is_seen(lab: Lab, new_lab: NewLab) -> None:
    """Nobody held the lock when we came to it, because they were done a moment before."""
    other = new_lab()
    other.store = lab.store
    enter = lab.flight.enter

    def entered(key: str, waiting: object) -> bool:
        other.run()
        return enter(key, waiting)

    lab.flight.enter = entered
    report = lab.run()
    assert (report.outcome, report.waited, lab.runs) == (HIT, False, [])


def test_who_waited_looks_again_also_when_an_old_failure_was_there(lab: Lab, new_lab: NewLab) -> None:
    """Without --cache_failure an old failure is no answer; what the other has made meanwhile is one."""
    lab.outcome = {"exit_code": 3}
    lab.run(cache_failure=True)
    lab.outcome = {}

    def meanwhile() -> None:
        other = new_lab()
        other.store = lab.store
        other.run()

    lab.flight.meanwhile = meanwhile
    report = lab.run()
    assert (report.outcome, report.waited, len(lab.runs)) == (HIT, True, 1)
    assert report.why == "nothing that it depends on has changed"


def test_a_hit_waits_for_nobody(lab: Lab) -> None:
    lab.run()
    lab.flight.meanwhile = lambda: pytest.fail("waited")
    assert lab.run().outcome == HIT


def test_a_placebo_waits_and_runs_all_the_same(lab: Lab, new_lab: NewLab) -> None:
    def meanwhile() -> None:
        other = new_lab()
        other.store = lab.store
        other.run()

    lab.run()
    lab.flight.meanwhile = meanwhile
    report = lab.run(placebo=True)
    assert (report.outcome, report.waited, len(lab.runs)) == (PLACEBO, True, 2)


# ---------------------------------------------------------------------------------------------------- bugs of ours


BEFORE = ["tree.inputs", "context", "cache.lookup", "flight.enter"]
OF_A_HIT = ["tree.settle", "replay", "blobs.read", "bury"]
AFTER = [
    "past.recent",
    "blobs.put",
    "past.record",
    "tree.outputs",
    "tree.moved",
    "blobs.put_file",
    "cache.store",
]
AFTER += ["tree.remember_made", "tree.named", "flight.leave"]
ERRORS = [
    ZeroDivisionError("bug"),
    KeyError("bug"),
    MemoryError(),
    RecursionError(),
    OSError(5, "I/O"),
    StoreError("x"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("where", BEFORE)
def test_a_bug_before_the_run_costs_the_cache_and_nothing_else(
    lab: Lab, where: str, error: Exception
) -> None:
    lab.faults = {where: error}
    lab.outcome = {"exit_code": 7}
    report = lab.run()
    assert (report.outcome, report.exit_code, len(lab.runs)) == (UNCACHED, 7, 1)
    assert report.problem is not None
    assert report.why == report.problem.what


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("where", OF_A_HIT)
def test_a_bug_in_a_hit_makes_the_command_run_once(lab: Lab, where: str, error: Exception) -> None:
    log = type(lab.make("").stdout)(b"x" * 5000)
    lab.outcome = {"stdout": log}
    lab.run()
    (lab.out / "app").write_bytes(b"edited")
    lab.runs.clear()
    lab.faults = {where: error}
    lab.outcome = {"exit_code": 7, "stdout": log}
    report = lab.run()
    assert (report.outcome, report.exit_code, len(lab.runs)) == (UNCACHED, 7, 1)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("where", AFTER)
def test_a_bug_after_the_run_does_not_change_how_it_ended(lab: Lab, where: str, error: Exception) -> None:
    lab.faults = {where: error}
    lab.outcome = {"exit_code": 7}
    report = lab.run(cache_failure=True)
    assert (report.outcome, report.exit_code, len(lab.runs)) == (MISS, 7, 1)
    assert lab.made == lab.contents


@pytest.mark.parametrize("policy", [{"placebo": True}, {"sampled": True}, {"explain": True}, {"job": "x"}])
@pytest.mark.parametrize("stored", [False, True])
def test_at_whichever_call_it_is_the_command_runs_once_and_its_exit_code_stands(
    new_lab: NewLab, policy: dict[str, Any], stored: bool
) -> None:
    for at in itertools.count(1):
        lab = new_lab()
        if stored:
            lab.run()
            (lab.out / "app").write_bytes(b"edited")
            lab.contents["app"] = b"another"
        lab.runs.clear()
        lab.outcome = {"exit_code": 7, "write_error": 28}
        lab.fault_at = (at, ZeroDivisionError("bug"))
        try:
            report = lab.run(cache_failure=True, **policy)
        except ZeroDivisionError:
            # Nothing but the command itself may do that; who calls the engine then runs it.
            assert lab.calls[-1] == "execute"
            continue
        if at > len(lab.calls):
            break
        hit = report.outcome == HIT
        assert hit or (report.exit_code, len(lab.runs)) == (7, 1), lab.calls
        assert not hit or (report.exit_code, lab.runs) == (0, []), lab.calls
    assert at > 8


def test_output_that_could_not_be_written_is_said(lab: Lab) -> None:
    lab.outcome = {"write_error": 28}
    lab.run()
    assert any("No space left" in line for line in lab.said)
