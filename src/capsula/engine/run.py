"""The run: look the action up, put its result back, or run the command once and keep what came out.

Whatever fails in here before the command has started, the command runs, once; whatever fails after, its exit
code stands.
"""

import time
from posix import strerror

from capsula.core.action import key
from capsula.core.capsule import TYPE_URL, Origin, origin_from
from capsula.core.names import printable
from capsula.core.result import from_result
from capsula.engine.job import BIG_LOG, HIT, MISS, UNCACHED, Attempt, Entry, Policy, Report, World
from capsula.errors import (
    BlobCorrupt,
    BlobMissing,
    CapsulaError,
    EntryCorrupt,
    InputError,
    NotAvailable,
    OutputError,
    RemoteRequired,
    StoreError,
    UsageError,
    WireError,
    in_one_line,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.core.action import Keyed
    from capsula.core.digest import Digest
    from capsula.core.reapi import ActionResult
    from capsula.core.recipe import Recipe
    from capsula.ports import Outcome


def run(recipe: "Recipe", policy: Policy, world: World) -> Report:
    """Do what `capsule` does, from the digest of the inputs to the stored result."""
    attempt = Attempt(recipe, policy, world)
    if begin(attempt):
        finish(attempt, world.execute(attempt.report.inputs_hash))
    return attempt.report


def begin(attempt: Attempt) -> bool:
    """Whether it has to run: then `finish` is told how that went. Else the report says how it is settled."""
    policy, world, report = attempt.policy, attempt.world, attempt.report
    try:
        began = time.time_ns()
        attempt.keyed = _key(attempt)
        report.mark("inputs", began)
        if _settled(attempt, _look_up(attempt, attempt.keyed)):
            return False
        if not policy.dry_run:
            _wait_for_others(attempt, attempt.keyed)
            # Also when nobody was waited for: the one who held the lock may have left between our look and our turn.
            # What was found damaged, and said, is so still.
            is_new = report.waited or (attempt.entry is None and not report.why)
            if is_new and _settled(attempt, _look_up(attempt, attempt.keyed)):
                _leave(world)
                return False
        if policy.explain or policy.dry_run:
            _explain(attempt, attempt.keyed)
    except CapsulaError as error:
        report.outcome, report.problem = UNCACHED, error
    except Exception as error:  # rule 8: a bug of ours is no reason not to run the command
        report.outcome, report.problem = UNCACHED, _bug(error)
    if report.problem is not None:
        report.why, report.reason = report.problem.what, reason_of(report.problem)
    is_refused = policy.strict or isinstance(report.problem, RemoteRequired)
    if policy.dry_run or (is_refused and report.problem is not None):
        _leave(world)
        return False
    return True


def finish(attempt: Attempt, outcome: "Outcome") -> None:
    """It has run: keep what came out. Raises nothing."""
    report, world = attempt.report, attempt.world
    report.exit_code, report.started, report.seconds = outcome.exit_code, outcome.started, outcome.seconds
    report.signal = outcome.signal
    report.spans.append(("run", outcome.start_ns, outcome.end_ns))
    began = time.time_ns()
    try:
        _tell_unwritten(attempt, outcome.write_error)
        if attempt.policy.keep and attempt.keyed is not None and report.outcome != UNCACHED:
            from capsula.engine.keep import keep

            keep(attempt, attempt.keyed, outcome)
    except CapsulaError as error:
        report.not_stored = error.what
        report.problem = error
    except Exception as error:  # the command has run; nothing of ours may change how it ended
        report.problem = _bug(error)
        report.not_stored = report.problem.what
    report.mark("capture", began)
    _leave(world)


def _leave(world: World) -> None:
    try:
        world.flight.leave()
    except Exception:
        # What is held is let go when we end, which is soon; an error here would make somebody run the command again.
        return


def _explain(attempt: Attempt, keyed: "Keyed") -> None:
    if attempt.entry is None:
        from capsula.engine.keep import explain

        explain(attempt, keyed)
    if attempt.report.why and not attempt.policy.dry_run:
        # Before the run: on a long one, the user wants to know now.
        attempt.world.say(f"miss: {attempt.report.why}")


def reason_of(problem: CapsulaError) -> str:
    """The kind of what keeps a run from being cached, in one word."""
    if problem.__cause__ is not None and not isinstance(problem.__cause__, OSError | CapsulaError):
        return "bug"
    for kind, word in _REASONS:
        if isinstance(problem, kind):
            return word
    return "other"


_REASONS: "tuple[tuple[type[CapsulaError], str], ...]" = (
    (UsageError, "options"),
    (NotAvailable, "unavailable"),
    (InputError, "input"),
    (OutputError, "output"),
    (RemoteRequired, "remote"),
    (StoreError, "store"),
)


def _bug(error: Exception) -> CapsulaError:
    bug = CapsulaError(in_one_line(error), hint="please report it; CAPSULA_DEBUG=1 shows where")
    bug.__cause__ = error
    return bug


def _key(attempt: Attempt) -> "Keyed":
    recipe, world, report = attempt.recipe, attempt.world, attempt.report
    inputs = world.tree.inputs()
    report.inputs = inputs
    keyed = key(recipe, world.context(inputs))
    report.key, report.inputs_hash = keyed.digest, keyed.inputs_hash
    if not recipe.says_what_it_depends_on:
        raise UsageError(
            "nothing says what the result depends on",
            hint="name the inputs with -i, as in -i 'src/**', or with -f the file that does",
        )
    if inputs.unmatched:
        patterns = ", ".join([f"'{printable(pattern)}'" for pattern in inputs.unmatched])
        raise CapsulaError(
            f"no input matches {patterns}",
            hint="a pattern that matches nothing may be a typing mistake; correct or remove it",
        )
    report.outcome = MISS
    return keyed


def _look_up(attempt: Attempt, keyed: "Keyed") -> "Entry | None":
    """The stored entry, if there is one; a bad one is said, set aside by the store, and healed by this run."""
    world, report = attempt.world, attempt.report
    began = time.time_ns()
    try:
        result = world.cache.lookup(keyed.digest)
        if result is None:
            return None
        return _open(result, world)
    except (EntryCorrupt, BlobMissing, BlobCorrupt, WireError) as error:
        report.why, report.reason = f"the stored result is damaged: {error.what}", "damaged"
        world.say(report.why)
        return None
    finally:
        report.mark("lookup", began)


def _open(result: "ActionResult", world: World) -> Entry:
    origin = Origin()
    metadata = result.execution_metadata
    if metadata is not None:
        for extra in metadata.auxiliary_metadata:
            if extra.type_url == TYPE_URL:
                origin = origin_from(extra.value)
    return Entry(result, from_result(result, world.blobs.read), origin)


def _settled(attempt: Attempt, entry: "Entry | None") -> bool:
    """Whether the entry answers the run, and if so, with the outputs in place and the logs replayed."""
    policy, world, report = attempt.policy, attempt.world, attempt.report
    attempt.entry = entry
    if entry is None:
        return False
    report.origin = entry.origin
    reason = _unusable(policy, report, entry)
    if reason:
        report.why, report.reason = reason, "failed"
        return False
    if policy.placebo or policy.sampled:
        if policy.dry_run:
            report.why = "there is a result, but it runs all the same, to be compared with it"
        return False
    if policy.dry_run:
        report.outcome, report.why = HIT, "the result is in the cache"
        report.exit_code, report.seconds = entry.result.exit_code, entry.origin.seconds
        return True
    began = time.time_ns()
    try:
        if attempt.keyed is not None:
            world.cache.bring(attempt.keyed.digest, entry.result, entry.digests(), entry.origin.seconds)
        stdout = _log(world, entry.result.stdout_raw, entry.result.stdout_digest)
        stderr = _log(world, entry.result.stderr_raw, entry.result.stderr_digest)
        restored = world.tree.settle(entry.nodes, world.blobs, world.bury)
    except (BlobMissing, BlobCorrupt, EntryCorrupt) as error:
        report.why, report.reason = f"the stored result can't be restored: {error.what}", "damaged"
        world.say(report.why)
        attempt.entry = None
        return False
    finally:
        world.cache.let_go()
        report.mark("restore", began)
    report.outcome, report.why, report.reason = HIT, "nothing that it depends on has changed", ""
    report.exit_code, report.nodes = entry.result.exit_code, entry.nodes
    report.seconds = entry.origin.seconds
    report.written, report.removed, report.bytes = restored.written, restored.removed, restored.bytes
    report.buried = tuple(restored.buried)
    report.logs = (stdout, stderr, entry.origin.order)
    _tell_unwritten(attempt, world.replay(stdout, stderr, entry.origin.order))
    return True


def _tell_unwritten(attempt: Attempt, error: "int | None") -> None:
    if error:
        attempt.report.unwritten = error
        attempt.world.say(f"not all of the command's output could be written: {strerror(error)}")


def _unusable(policy: Policy, report: Report, entry: Entry) -> str:
    """Why the entry can't answer this run, in a sentence; "" if it can."""
    if entry.result.exit_code == 0:
        return ""
    if not policy.cache_failure:
        return f"it failed the last time (exit code {entry.result.exit_code}) and --cache_failure isn't set"
    report.expires_ns = policy.expires_ns(entry.result.exit_code, entry.origin)
    if report.expires_ns and time.time_ns() > report.expires_ns:
        return "the cached failure has expired (--cache_failure_ttl)"
    return ""


def _log(world: World, raw: bytes, digest: "Digest | None") -> "bytes | str":
    """A stored log, verified: its bytes, or the path of a file that holds it when it is big."""
    if digest is None or not digest.size_bytes:
        return raw
    return world.blobs.read(digest) if digest.size_bytes <= BIG_LOG else world.spool(digest)


def _wait_for_others(attempt: Attempt, keyed: "Keyed") -> None:
    """Single flight: if somebody else is running this very action, wait until it is done."""

    def waiting(who: str) -> None:
        attempt.world.say(f"waiting for {who}, which is running the same action")

    attempt.report.waited = attempt.world.flight.enter(keyed.digest, waiting)
