"""After the run: say why it was a miss, check that nothing moved, and store blobs before the entry."""

from capsula.core import compare
from capsula.core.capsule import TYPE_URL, Origin
from capsula.core.digest import Digest
from capsula.core.names import printable
from capsula.core.node import FILE
from capsula.core.reapi import ActionResult, Any, ExecutedActionMetadata, Timestamp
from capsula.core.result import to_result
from capsula.core.secrets import mask
from capsula.engine.job import Attempt, Policy, Report, World
from capsula.errors import CapsulaError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.core.action import Keyed
    from capsula.ports import Captured, Outcome, Outputs

# A log up to this size stands in the entry itself.
INLINE = 2048
# How many earlier actions a miss is compared with.
LOOK_BACK = 8
# HUP, INT, QUIT, KILL and TERM are what somebody else ends a run with; a crash (SEGV, ABRT) is its own way to fail.
_FROM_OUTSIDE = (1, 2, 3, 9, 15)


def keep(attempt: Attempt, keyed: "Keyed", outcome: "Outcome") -> None:
    """After the run: explain, compare, check that nothing moved, and store blobs before the entry."""
    recipe, policy, world, report = attempt.recipe, attempt.policy, attempt.world, attempt.report
    if attempt.entry is None and not policy.explain:
        explain(attempt, keyed)
    for name, content in keyed.blobs.items():
        # What looks like a credential is never stored in clear: then explanations do without the command line.
        if name not in keyed.secret:
            world.blobs.put(content)
    world.past.record(recipe.capsule_id, keyed.digest)
    outputs = world.tree.outputs()
    # Also when the result isn't kept: what a failed run left behind isn't the user's.
    world.tree.remember_made(outcome.start_ns)
    report.nodes = {world.tree.named(path): node for path, node in outputs.nodes.items()}
    if (policy.placebo or policy.sampled) and attempt.entry is not None:
        from capsula.engine.placebo import compare_with

        compare_with(world, report, attempt.entry, outcome)
    report.not_stored = _reason_not_to_store(policy, world, outputs, outcome)
    if report.not_stored:
        return
    result = _store_blobs(world, report, outputs, outcome, recipe.captures)
    origin = Origin(
        run=world.run_id,
        capsule_id=recipe.capsule_id,
        argv=mask(" ".join(recipe.argv))[:200],
        host=world.host,
        job=policy.job,
        commit=world.commit(),
        record=world.record,
        started_ns=outcome.start_ns,
        seconds=outcome.seconds,
        order=outcome.order,
        verdict=report.verdict,
    )
    result.execution_metadata = ExecutedActionMetadata(
        worker=world.host,
        execution_start_timestamp=_timestamp(outcome.start_ns),
        execution_completed_timestamp=_timestamp(outcome.end_ns),
        auxiliary_metadata=(Any(type_url=TYPE_URL, value=origin.to_bytes()),),
    )
    world.cache.store(keyed.digest, result)
    report.stored, report.expires_ns = True, policy.expires_ns(outcome.exit_code, origin)
    if not report.verdict:
        # What an entry that couldn't answer had said of its maker is over now.
        report.origin = origin


def explain(attempt: Attempt, keyed: "Keyed") -> None:
    """Why there is no result for this action: what differs from the nearest earlier action of the same capsule."""
    recipe, world, report = attempt.recipe, attempt.world, attempt.report

    def read(digest: Digest) -> bytes:
        content = keyed.blobs.get(digest.hash)
        return world.blobs.read(digest) if content is None else content

    best: tuple[int, str, tuple[compare.Difference, ...]] | None = None
    for earlier in world.past.recent(recipe.capsule_id)[:LOOK_BACK]:
        if earlier == keyed.digest:
            if not report.why:
                report.why = "the same action has run before, and there is no result of it"
                report.reason = "lost"
            return
        try:
            found = tuple(compare.actions(earlier, keyed.digest, read))
        except (CapsulaError, RecursionError):
            continue
        if found and (best is None or len(found) < best[0]):
            best = (len(found), earlier.hash, found)
            if len(found) == 1:
                break
    if best is None:
        report.why = report.why or "it is the first run of this capsule"
        report.reason = report.reason or "first"
        return
    report.nearest, report.differences = best[1], best[2]
    kinds = {difference.kind for difference in best[2]}
    report.reason = report.reason or (kinds.pop() if len(kinds) == 1 else "several")
    told = "; ".join([str(difference) for difference in best[2][:3]])
    more = len(best[2]) - 3
    report.why = report.why or told + (f"; and {more} more" if more > 0 else "")


def _reason_not_to_store(policy: Policy, world: World, outputs: "Outputs", outcome: "Outcome") -> str:
    """Why what came out must not be given to anybody else, in a sentence; "" when it may."""
    if not outcome.started:
        return "the command could not be started"
    if outcome.exit_code != 0 and not policy.cache_failure:
        return f"the command failed (exit code {outcome.exit_code})"
    ended_by = outcome.interrupted_by or (outcome.signal if outcome.signal in _FROM_OUTSIDE else 0)
    if ended_by:
        return f"the run was interrupted by signal {ended_by}"
    if outcome.left_open:
        return "a background process still holds the command's output, so the log may not be whole"
    if outcome.cut:
        return f"the command's output could not be captured whole: {outcome.reason}"
    if outputs.unkept:
        return outputs.unkept[0]
    if outputs.unmade and outcome.exit_code == 0:
        patterns = ", ".join([f"'{printable(pattern)}'" for pattern in outputs.unmade])
        return f"the declared output {patterns} was not made"
    moved = world.tree.moved()
    hint = " (leave such files out with -i '!**/__pycache__')" if "__pycache__" in moved else ""
    return f"an input moved while the command ran: {moved}{hint}" if moved else ""


def _store_blobs(
    world: World, report: Report, outputs: "Outputs", outcome: "Outcome", captures: tuple[bool, bool]
) -> ActionResult:
    """Store every blob that the result will name; the entry comes after all of them."""
    for path, node in outputs.nodes.items():
        if node.kind == FILE and node.digest is not None:
            stored = world.blobs.put_file(path)
            if stored != node.digest:
                raise StoreError(
                    f"the output {printable(path)} changed while it was being stored",
                    hint="something still writes to it; let the command wait for it",
                )
            report.bytes += stored.size_bytes
    result, trees = to_result(report.nodes, outcome.exit_code)
    for content in trees.values():
        world.blobs.put(content)
    if (outcome.stdout is None or outcome.stdout.path is None) and (
        outcome.stderr is None or outcome.stderr.path is None
    ):
        report.logs = (_content(outcome.stdout), _content(outcome.stderr), outcome.order)
    for wanted, captured, name in (
        (captures[0], outcome.stdout, "stdout"),
        (captures[1], outcome.stderr, "stderr"),
    ):
        if wanted and captured is None:
            raise StoreError(f"the command's {name} could not be captured")
        if captured is not None:
            raw, digest = _store_log(world, captured)
            setattr(result, name + "_raw", raw)
            setattr(result, name + "_digest", digest)
    return result


def _content(captured: "Captured | None") -> bytes:
    return (captured.content or b"") if captured is not None else b""


def _store_log(world: World, captured: "Captured") -> "tuple[bytes, Digest | None]":
    if captured.path is not None:
        return b"", world.blobs.put_file(captured.path)
    content = captured.content or b""
    if len(content) <= INLINE:
        return content, None
    return b"", world.blobs.put(content)


def _timestamp(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // 1_000_000_000, nanos=ns % 1_000_000_000)
