"""Keeping: what is stored of a run, in which order, and what never is."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from capsula.core.digest import Digest
from capsula.core.reapi import Action, ActionResult, Command, Directory
from capsula.core.result import from_result
from capsula.core.wire import decode
from capsula.engine import MISS
from capsula.errors import BlobMissing, StoreError

Lab = Any
NewLab = Callable[[], Lab]


def named_blobs(result: ActionResult, lab: Lab) -> list[Digest]:
    """Every blob that an entry needs."""
    nodes = from_result(result, lab.store.read)
    digests = [node.digest for node in nodes.values() if node.digest is not None]
    digests += [directory.tree_digest for directory in result.output_directories if directory.tree_digest]
    return digests + [digest for digest in (result.stdout_digest, result.stderr_digest) if digest is not None]


def big_logs(lab: Lab) -> dict[str, Any]:
    captured = type(lab.make("").stdout)
    lab.runs.clear()
    lab.clean()
    return {"stdout": captured(b"o" * 5000), "stderr": captured(b"e" * 5000)}


def test_an_entry_is_written_last(lab: Lab) -> None:
    lab.outcome = big_logs(lab)
    report = lab.run()
    assert report.stored
    puts = [at for at, call in enumerate(lab.calls) if call in ("blobs.put", "blobs.put_file")]
    assert max(puts) < lab.calls.index("cache.store")
    assert lab.calls.index("tree.moved") < lab.calls.index("blobs.put_file")


@pytest.mark.parametrize(
    "error", [StoreError("full"), OSError(28, "full"), ZeroDivisionError("bug")], ids=repr
)
def test_no_entry_is_ever_written_without_its_blobs(new_lab: NewLab, error: Exception) -> None:
    """Whichever call fails: what is in the action cache afterwards can be restored whole."""
    stored = []
    for at in itertools.count(1):
        lab = new_lab()
        lab.outcome = big_logs(lab)
        lab.fault_at = (at, error)
        try:
            lab.run()
        except type(error):
            assert lab.calls[-1] == "execute"
        for payload in lab.store._entries.values():
            for digest in named_blobs(decode(ActionResult, payload), lab):
                assert lab.store.has(digest)
        stored.append(bool(lab.store._entries))
        if at > len(lab.calls):
            break
    assert stored == sorted(stored)
    assert stored.count(False) > 10
    assert stored[-1]


def test_a_store_that_loses_a_blob_while_it_is_put_gets_no_entry(lab: Lab) -> None:
    put_file = lab.store.put_file

    def other(path: str) -> Digest:
        put_file(path)
        return lab.store.put(b"what the file held a moment later")

    class Losing(type(lab.store)):  # type: ignore[misc]
        __slots__ = ()
        put_file = staticmethod(other)

    losing = Losing()
    losing._blobs, losing._entries = lab.store._blobs, lab.store._entries
    lab.store = losing
    report = lab.run()
    assert (report.stored, lab.store._entries) == (False, {})
    assert "changed while it was being stored" in report.not_stored


def test_what_is_stored_is_the_result(lab: Lab) -> None:
    lab.outcome = {"exit_code": 0}
    report = lab.run(job="nightly")
    result = lab.store.lookup(report.key)
    assert (result.exit_code, result.stdout_raw, result.stderr_raw) == (0, b"out\n", b"err\n")
    assert result.stdout_digest is None
    metadata = result.execution_metadata
    assert metadata.worker == "host"
    began, ended = metadata.execution_start_timestamp, metadata.execution_completed_timestamp
    assert (ended.seconds - began.seconds) * 10**9 + ended.nanos - began.nanos == 2_500_000_000
    origin = report.origin
    assert (origin.capsule_id, origin.argv, origin.job, origin.seconds) == ("c", "make all", "nightly", 2.5)
    assert report.bytes == 9


def test_the_action_is_stored_with_all_its_parts(lab: Lab) -> None:
    lab.environment = {"CC": "gcc"}
    report = lab.run()
    action = decode(Action, lab.store.read(report.key))
    assert decode(Command, lab.store.read(action.command_digest)).arguments == ("make", "all")
    assert [file.name for file in decode(Directory, lab.store.read(action.input_root_digest)).files] == [
        "a.c"
    ]


@pytest.mark.parametrize(
    ("recipe", "environment"),
    [
        ({"argv": ("deploy", "--token=s3cret")}, {}),
        ({"argv": ("deploy", "--token", "s3cret")}, {}),
        ({}, {"API_TOKEN": "s3cret"}),
    ],
)
def test_what_looks_like_a_secret_is_not_stored_in_clear(
    lab: Lab, recipe: dict[str, Any], environment: dict[str, str]
) -> None:
    lab.recipe, lab.environment = recipe, environment
    lab.contents = {"app": b"x"}
    assert lab.run().stored
    everything = b"".join([*lab.store._blobs.values(), *lab.store._entries.values()])
    assert b"s3cret" not in everything
    # A run with another secret is explained without either.
    if recipe:
        lab.recipe = {"argv": tuple(word.replace("s3cret", "0ther") for word in recipe["argv"])}
    else:
        lab.environment = {"API_TOKEN": "0ther"}
    report = lab.run(explain=True)
    assert report.outcome == MISS
    assert report.why
    told = " ".join([report.why, *lab.said, *map(str, report.differences)])
    assert "s3cret" not in told
    assert "0ther" not in told


@pytest.mark.parametrize(
    ("outcome", "tree", "reason"),
    [
        ({"started": False, "exit_code": 127}, {}, "could not be started"),
        ({"exit_code": 1}, {}, "the command failed (exit code 1)"),
        ({"left_open": True}, {}, "a background process still holds"),
        ({"cut": True}, {}, "could not be captured whole"),
        ({}, {"unmade": ("dist", "odd\n")}, "the declared output 'dist', 'odd\\n' was not made"),
        ({}, {"unkept": ["dist/socket is no file"]}, "dist/socket is no file"),
        ({}, {"changed": "a.c changed"}, "an input moved while the command ran: a.c changed"),
        ({"stdout": None}, {}, "stdout could not be captured"),
        ({"stderr": None}, {}, "stderr could not be captured"),
    ],
)
def test_what_must_not_be_given_to_anybody_is_not_stored(
    lab: Lab, outcome: dict[str, Any], tree: dict[str, Any], reason: str
) -> None:
    lab.outcome = outcome
    for name, value in tree.items():
        setattr(lab.tree, name, value)
    report = lab.run()
    assert reason in report.not_stored
    assert (report.stored, lab.store._entries) == (False, {})
    assert report.exit_code == outcome.get("exit_code", 0)


def test_a_stream_that_nobody_wanted_needn_t_be_there(lab: Lab) -> None:
    lab.recipe = {"captures": (False, True)}
    lab.outcome = {"stdout": None, "order": ((2, 4),)}
    assert lab.run().stored
    lab.run()
    assert lab.replayed == [(b"", b"err\n", ((2, 4),))]


def test_a_failure_may_lack_its_outputs(lab: Lab) -> None:
    lab.outcome, lab.tree.unmade = {"exit_code": 2}, ("dist",)
    assert lab.run(cache_failure=True).stored


def test_a_log_in_a_file_is_stored_from_there(lab: Lab) -> None:
    log = lab.folder / "log"
    log.write_bytes(b"l" * 9000)
    lab.outcome = {"stdout": type(lab.make("").stdout)(None, str(log))}
    report = lab.run()
    result = lab.store.lookup(report.key)
    assert lab.store.read(result.stdout_digest) == b"l" * 9000
    assert report.logs is None  # too long to be held; the next hit fetches it


def test_what_a_later_hit_replays_is_known_at_once(lab: Lab) -> None:
    assert lab.run().logs == (b"out\n", b"err\n", ((1, 4), (2, 4)))
    assert lab.run().logs == (b"out\n", b"err\n", ((1, 4), (2, 4)))


def test_an_empty_log_is_no_blob(lab: Lab) -> None:
    empty = type(lab.make("").stdout)(b"")
    lab.outcome = {"stdout": empty, "stderr": empty, "order": ()}
    result = lab.store.lookup(lab.run().key)
    assert (result.stdout_raw, result.stdout_digest) == (b"", None)


def test_the_past_is_noted_also_of_a_failure(lab: Lab) -> None:
    lab.outcome = {"exit_code": 1}
    report = lab.run()
    assert lab.past.rows == {"c": [report.key]}


# ---------------------------------------------------------------------------------------------------- placebo


@pytest.mark.parametrize("policy", [{"placebo": True}, {"sampled": True}])
def test_a_placebo_runs_always_and_compares(lab: Lab, policy: dict[str, Any]) -> None:
    assert lab.run(**policy).verdict == ""  # nothing to compare with yet
    report = lab.run(**policy)
    assert (report.outcome, report.verdict, report.mismatch, report.log_mismatch) == (
        "placebo",
        "same",
        (),
        (),
    )
    assert len(lab.runs) == 2
    assert not lab.replayed
    assert "tree.settle" not in lab.calls
    # The verdict is kept with the result, and a hit tells it.
    assert lab.run().origin.verdict == "same"


def test_a_placebo_says_what_differs_and_where(lab: Lab) -> None:
    first = lab.run()
    lab.contents = {"app": b"bin\nXry", "new": b""}
    (lab.out / "app.map").unlink()
    lab.outcome = {
        "exit_code": 4,
        "stdout": type(lab.make("").stdout)(b"oops"),
        "stderr": type(lab.make("").stdout)(b"er"),
    }
    (lab.out / "app").chmod(0o755)
    report = lab.run(placebo=True)
    assert report.exit_code == 4
    assert report.mismatch == (
        "exit code 4, 0 in the cached result",
        "app differs from byte 3 on (line 1; 7 bytes, 6 in the cached result)",
        "app.map is missing: the cached result has it",
        "new is new: the cached result doesn't have it",
    )
    assert report.log_mismatch == (
        "stdout differs from byte 1 on",
        "stderr has 2 bytes, 4 in the cached result",
    )
    assert (report.verdict, report.origin.run) == ("differs", first.origin.run)
    assert not report.stored  # it failed


def test_a_result_that_differs_takes_the_place_of_the_one_before(lab: Lab) -> None:
    lab.run()
    lab.contents = {"app": b"other"}
    lab.clean()
    report = lab.run(placebo=True)
    assert (report.verdict, report.stored) == ("differs", True)
    lab.clean()
    hit = lab.run()
    assert (hit.origin.verdict, lab.made) == ("differs", {"app": b"other"})


def test_a_placebo_without_the_cached_blob_still_says_that_it_differs(lab: Lab) -> None:
    lab.run()
    lab.store._blobs = {name: content for name, content in lab.store._blobs.items() if content != b"binary"}
    lab.contents["app"] = b"other"
    assert lab.run(placebo=True).mismatch == ("app differs",)


def test_logs_that_differ_are_no_mismatch(lab: Lab) -> None:
    lab.outcome = big_logs(lab)
    lab.run()
    lab.outcome = {"stdout": type(lab.make("").stdout)(b"o" * 4000 + b"x" * 1000)}
    report = lab.run(placebo=True)
    assert (report.verdict, report.mismatch) == ("same", ())
    assert report.log_mismatch == (
        "stdout differs from byte 4000 on",
        "stderr has 4 bytes, 5000 in the cached result",
    )


def test_a_lost_log_is_not_compared(lab: Lab) -> None:
    lab.outcome = big_logs(lab)
    lab.run()
    lab.store._blobs = {name: c for name, c in lab.store._blobs.items() if c != b"o" * 5000}
    assert lab.run(placebo=True).log_mismatch == ()
    with pytest.raises(BlobMissing):
        lab.store.read(Digest("0" * 64, 1))
