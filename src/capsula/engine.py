"""The engine of a cached run: look the action up, put its result back, or run the command once and keep what came out.

Whatever fails in here before the command has started, the command runs, once; whatever fails after, its exit code stands.
"""

import time

from capsula.core import compare
from capsula.core.action import key
from capsula.core.capsule import TYPE_URL, Origin, origin_from
from capsula.core.digest import Digest
from capsula.core.names import printable
from capsula.core.node import FILE
from capsula.core.reapi import ActionResult, Any, ExecutedActionMetadata, Timestamp
from capsula.core.result import from_result, to_result
from capsula.errors import BlobCorrupt, BlobMissing, CapsulaError, EntryCorrupt, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from capsula.core.action import Keyed
    from capsula.core.context import Context
    from capsula.core.node import Node
    from capsula.core.recipe import Recipe
    from capsula.ports import (
        ActionCache,
        BlobStore,
        Captured,
        Flight,
        Inputs,
        Outcome,
        Outputs,
        Past,
        WorkTree,
    )

    Order = tuple[tuple[int, int], ...]
    Logs = tuple[bytes | str, bytes | str, Order]

HIT, MISS, PLACEBO, UNCACHED = "hit", "miss", "placebo", "uncached"
INLINE = 2048
# A log past this size is streamed through a file when it is replayed.
BIG_LOG = 8 << 20


class Policy:
    """How to treat what is found: none of it enters the key.

    `failure_ttl` is in seconds, None: no limit. `keep`: there is a store to keep results in. `strict`: when something is
    wrong, don't run. `sampled`: a hit that is run again to check it.
    """

    __slots__ = (
        "cache_failure",
        "dry_run",
        "explain",
        "failure_ttl",
        "job",
        "keep",
        "placebo",
        "sampled",
        "strict",
    )

    def __init__(
        self,
        *,
        placebo: bool = False,
        sampled: bool = False,
        cache_failure: bool = False,
        failure_ttl: float | None = None,
        dry_run: bool = False,
        explain: bool = False,
        job: str = "",
        keep: bool = True,
        strict: bool = False,
    ) -> None:
        self.keep = keep
        self.strict = strict
        self.placebo = placebo
        self.sampled = sampled
        self.cache_failure = cache_failure
        self.failure_ttl = failure_ttl
        self.dry_run = dry_run
        self.explain = explain
        self.job = job


class World:
    """What the engine works with. `context` finds the facts beside the files; `execute` runs the command with the inputs
    hash in its environment; `replay` writes two logs (bytes, or the path of a file) in their order; `bury` moves a user's
    file to the trash and answers how to take it back; `say` is one line to the user; `spool` fetches a big log to a file.
    """

    __slots__ = (
        "blobs",
        "bury",
        "cache",
        "context",
        "execute",
        "flight",
        "host",
        "past",
        "replay",
        "run_id",
        "say",
        "spool",
        "tree",
    )

    def __init__(
        self,
        *,
        tree: "WorkTree",
        blobs: "BlobStore",
        cache: "ActionCache",
        context: "Callable[[Inputs], Context]",
        execute: "Callable[[str], Outcome]",
        replay: "Callable[[bytes | str, bytes | str, Order], None]",
        bury: "Callable[[str], Callable[[], None]]",
        flight: "Flight",
        past: "Past",
        say: "Callable[[str], None]",
        spool: "Callable[[Digest], str]",
        run_id: str,
        host: str,
    ) -> None:
        self.tree = tree
        self.blobs = blobs
        self.cache = cache
        self.context = context
        self.execute = execute
        self.replay = replay
        self.bury = bury
        self.flight = flight
        self.past = past
        self.say = say
        self.spool = spool
        self.run_id = run_id
        self.host = host


class Report:
    """What happened, for the journal, `--json` and people; filled in as the run goes on.

    `exit_code` is the command's own. `why` is one sentence; `differences` explain a miss, `mismatch` a placebo's findings.
    `problem` is what kept us from caching (rule 8), `not_stored` why a result wasn't kept.
    """

    def __init__(self) -> None:
        self.outcome = UNCACHED
        self.exit_code = 0
        self.why = ""
        self.problem: CapsulaError | None = None
        self.not_stored = ""
        self.stored = False
        self.waited = False
        self.key: Digest | None = None
        self.inputs_hash = ""
        self.inputs: Inputs | None = None
        self.origin: Origin | None = None
        self.differences: tuple[compare.Difference, ...] = ()
        self.nearest = ""
        self.mismatch: tuple[str, ...] = ()
        self.log_mismatch: tuple[str, ...] = ()
        self.verdict = ""
        self.nodes: dict[str, Node] = {}
        self.logs: Logs | None = None
        self.expires_ns = 0
        self.seconds = 0.0
        self.written = 0
        self.removed = 0
        self.bytes = 0
        self.buried: tuple[str, ...] = ()
        self.started = False


class Entry:
    """A stored result, opened: its nodes by path as in the result, and the run that made it."""

    __slots__ = ("nodes", "origin", "result")

    def __init__(self, result: "ActionResult", nodes: "dict[str, Node]", origin: Origin) -> None:
        self.result = result
        self.nodes = nodes
        self.origin = origin


def run(recipe: "Recipe", policy: Policy, world: World) -> Report:
    """Do what `capsule` does, from the digest of the inputs to the stored result."""
    report = Report()
    keyed, entry = None, None
    try:
        keyed = _key(recipe, world, report)
        entry = _look_up(policy, world, report, keyed)
        if _settled(recipe, policy, world, report, keyed, entry):
            return report
        if not policy.dry_run and report.outcome != UNCACHED:
            entry = _wait_for_others(policy, world, report, keyed, entry)
            if _settled(recipe, policy, world, report, keyed, entry):
                return report
        if entry is None and (policy.explain or policy.dry_run):
            _explain(recipe, world, report, keyed)
            if not policy.dry_run:
                world.say(f"miss: {report.why}")
    except CapsulaError as error:
        report.outcome, report.problem = UNCACHED, error
    except Exception as error:  # rule 8: a bug of ours is no reason not to run the command
        report.outcome, report.problem = UNCACHED, _bug(error)
    if report.problem is not None and not report.why:
        report.why = report.problem.what
    if policy.dry_run or (policy.strict and report.problem is not None):
        world.flight.leave()
        return report
    return _run_and_keep(recipe, policy, world, report, keyed, entry)


def _run_and_keep(
    recipe: "Recipe",
    policy: Policy,
    world: World,
    report: Report,
    keyed: "Keyed | None",
    entry: "Entry | None",
) -> Report:
    outcome = world.execute(report.inputs_hash)
    report.exit_code, report.started, report.seconds = outcome.exit_code, outcome.started, outcome.seconds
    try:
        if policy.keep and keyed is not None and report.outcome != UNCACHED:
            _keep(recipe, policy, world, report, keyed, entry, outcome)
    except CapsulaError as error:
        report.not_stored = error.what
        report.problem = error
    except Exception as error:  # the command has run; nothing of ours may change how it ended
        report.problem = _bug(error)
        report.not_stored = report.problem.what
    finally:
        world.flight.leave()
    return report


def _bug(error: Exception) -> CapsulaError:
    return CapsulaError(
        f"an error inside capsula: {type(error).__name__}: {error}",
        hint="please report it; CAPSULA_DEBUG=1 shows where",
    )


def _key(recipe: "Recipe", world: World, report: Report) -> "Keyed":
    inputs = world.tree.inputs()
    report.inputs = inputs
    keyed = key(recipe, world.context(inputs))
    report.key, report.inputs_hash = keyed.digest, keyed.inputs_hash
    if inputs.unmatched:
        patterns = ", ".join([f"'{printable(pattern)}'" for pattern in inputs.unmatched])
        raise CapsulaError(
            f"no input matches {patterns}",
            hint="a pattern that matches nothing may be a typing mistake; correct or remove it",
        )
    report.outcome = MISS
    return keyed


def _look_up(policy: Policy, world: World, report: Report, keyed: "Keyed") -> "Entry | None":
    """The stored entry, if there is one; a bad one is said, set aside by the store, and healed by this run."""
    try:
        result = world.cache.lookup(keyed.digest)
        if result is None:
            return None
        return _open(result, world)
    except (EntryCorrupt, BlobMissing, BlobCorrupt) as error:
        report.why = f"the stored result is damaged: {error.what}"
        world.say(report.why)
        return None


def _open(result: ActionResult, world: World) -> Entry:
    origin = Origin()
    metadata = result.execution_metadata
    if metadata is not None:
        for extra in metadata.auxiliary_metadata:
            if extra.type_url == TYPE_URL:
                origin = origin_from(extra.value)
    return Entry(result, from_result(result, world.blobs.read), origin)


def _settled(
    recipe: "Recipe", policy: Policy, world: World, report: Report, keyed: "Keyed", entry: "Entry | None"
) -> bool:
    """Whether the entry answers the run, and if so, with the outputs in place and the logs replayed."""
    if entry is None:
        return False
    report.origin = entry.origin
    reason = _unusable(policy, report, entry)
    if reason:
        report.why = reason
        return False
    if policy.placebo or policy.sampled:
        return False
    if policy.dry_run:
        report.outcome, report.why = HIT, "the result is in the cache"
        report.exit_code = entry.result.exit_code
        return True
    try:
        stdout = _log(world, entry.result.stdout_raw, entry.result.stdout_digest)
        stderr = _log(world, entry.result.stderr_raw, entry.result.stderr_digest)
        restored = world.tree.settle(entry.nodes, world.blobs, world.bury)
    except (BlobMissing, BlobCorrupt, EntryCorrupt) as error:
        report.why = f"the stored result can't be restored: {error.what}"
        world.say(report.why)
        return False
    report.outcome, report.why = HIT, "nothing that it depends on has changed"
    report.exit_code, report.nodes = entry.result.exit_code, entry.nodes
    report.seconds = entry.origin.seconds
    report.written, report.removed, report.bytes = restored.written, restored.removed, restored.bytes
    report.buried = tuple(restored.buried)
    report.logs = (stdout, stderr, entry.origin.order)
    world.replay(stdout, stderr, entry.origin.order)
    return True


def _unusable(policy: Policy, report: Report, entry: Entry) -> str:
    """Why the entry can't answer this run, in a sentence; "" if it can."""
    if entry.result.exit_code == 0:
        return ""
    if not policy.cache_failure:
        return f"it failed the last time (exit code {entry.result.exit_code}) and --cache_failure isn't set"
    if policy.failure_ttl is not None:
        report.expires_ns = entry.origin.started_ns + int((entry.origin.seconds + policy.failure_ttl) * 1e9)
        if time.time_ns() > report.expires_ns:
            return "the cached failure has expired (--cache_failure_ttl)"
    return ""


def _log(world: World, raw: bytes, digest: "Digest | None") -> "bytes | str":
    """A stored log, verified: its bytes, or the path of a file that holds it when it is big."""
    if digest is None or not digest.size_bytes:
        return raw
    return world.blobs.read(digest) if digest.size_bytes <= BIG_LOG else world.spool(digest)


def _wait_for_others(
    policy: Policy, world: World, report: Report, keyed: "Keyed", entry: "Entry | None"
) -> "Entry | None":
    """Single flight: if another process is running this very action, wait for it and look again."""

    def waiting(pid: int) -> None:
        world.say(f"waiting for process {pid}, which is running the same action")

    report.waited = world.flight.enter(keyed.digest.hash, waiting)
    if report.waited and not policy.placebo:
        return _look_up(policy, world, report, keyed)
    return entry


def _explain(recipe: "Recipe", world: World, report: Report, keyed: "Keyed") -> None:
    """Why there is no result for this action: what differs from the nearest earlier action of the same capsule."""

    def read(digest: Digest) -> bytes:
        content = keyed.blobs.get(digest.hash)
        return world.blobs.read(digest) if content is None else content

    best: tuple[int, str, tuple[compare.Difference, ...]] | None = None
    for earlier in world.past.recent(recipe.capsule_id)[:8]:
        if earlier == keyed.digest:
            if not report.why:
                report.why = "the same action has run before, but its result wasn't kept"
            return
        try:
            found = tuple(compare.actions(earlier, keyed.digest, read))
        except CapsulaError:
            continue
        if found and (best is None or len(found) < best[0]):
            best = (len(found), earlier.hash, found)
    if best is None:
        report.why = report.why or "it is the first run of this capsule"
        return
    report.nearest, report.differences = best[1], best[2]
    told = "; ".join([str(difference) for difference in best[2][:3]])
    more = len(best[2]) - 3
    report.why = report.why or told + (f"; and {more} more" if more > 0 else "")


def _keep(
    recipe: "Recipe",
    policy: Policy,
    world: World,
    report: Report,
    keyed: "Keyed",
    entry: "Entry | None",
    outcome: "Outcome",
) -> None:
    """After the run: explain, compare, check that nothing moved, and store blobs before the entry."""
    if entry is None and not policy.explain:
        _explain(recipe, world, report, keyed)
    for content in keyed.blobs.values():
        world.blobs.put(content)
    world.past.record(recipe.capsule_id, keyed.digest)
    outputs = world.tree.outputs()
    report.nodes = {world.tree.named(path): node for path, node in outputs.nodes.items()}
    if (policy.placebo or policy.sampled) and entry is not None:
        _compare(world, report, entry, outcome)
    report.not_stored = _reason_not_to_store(policy, world, report, outputs, outcome)
    if report.not_stored:
        return
    result = _store_blobs(world, report, outputs, outcome, recipe.captures)
    origin = Origin(
        run=world.run_id,
        capsule_id=recipe.capsule_id,
        argv=" ".join(recipe.argv)[:200],
        host=world.host,
        job=policy.job,
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
    world.tree.remember_made()
    report.stored, report.origin = True, report.origin or origin


def _reason_not_to_store(
    policy: Policy, world: World, report: Report, outputs: "Outputs", outcome: "Outcome"
) -> str:
    """Why what came out must not be given to anybody else, in a sentence; "" when it may."""
    if not outcome.started:
        return "the command could not be started"
    if outcome.exit_code != 0 and not policy.cache_failure:
        return f"the command failed (exit code {outcome.exit_code})"
    if outcome.left_open:
        return "a background process still holds the command's output, so the log may not be whole"
    if outcome.cut:
        return "the command's output could not be captured whole"
    if outputs.unmade and outcome.exit_code == 0:
        patterns = ", ".join([f"'{printable(pattern)}'" for pattern in outputs.unmade])
        return f"the declared output {patterns} was not made"
    moved = world.tree.moved()
    return f"an input moved while the command ran: {moved}" if moved else ""


def _store_blobs(
    world: World, report: Report, outputs: "Outputs", outcome: "Outcome", captures: tuple[bool, bool]
) -> ActionResult:
    """Store every blob that the result will name; the entry comes after all of them."""
    for path, node in outputs.nodes.items():
        if node.kind == FILE and node.digest is not None:
            stored = world.blobs.put_file(path)
            if stored != node.digest:
                raise StoreError(f"the output {printable(path)} changed while it was being stored")
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


def _compare(world: World, report: Report, entry: Entry, outcome: "Outcome") -> None:
    """The placebo: outputs and exit code against the cached result; logs on their own, as they often hold times."""
    rows = []
    if entry.result.exit_code != outcome.exit_code:
        rows.append(f"exit code {outcome.exit_code}, {entry.result.exit_code} in the cached result")
    for difference in compare.results(entry.nodes, report.nodes):
        row = str(difference)
        if difference.kind == "content":
            row = _where(world, entry.nodes[difference.name], report.nodes[difference.name], difference.name)
        rows.append(row)
    report.outcome = PLACEBO
    report.mismatch = tuple(rows)
    report.log_mismatch = tuple(_logs_differ(world, entry, outcome))
    report.verdict = "differs" if rows else "same"


def _where(world: World, old: "Node", new: "Node", name: str) -> str:
    """Where the bytes of one output first differ from the cached ones."""
    shown = printable(name)
    if (
        old.digest is None
        or new.digest is None
        or max(old.digest.size_bytes, new.digest.size_bytes) > 64 << 20
    ):
        return f"{shown} differs"
    try:
        cached = world.blobs.read(old.digest)
        with open(world.tree.full(name), "rb") as file:
            made = file.read()
    except (StoreError, OSError):
        return f"{shown} differs"
    at = compare.first_difference(cached, made)
    line = made.count(b"\n", 0, at) + 1
    return f"{shown} differs from byte {at} on (line {line}; {len(made)} bytes, {len(cached)} in the cached result)"


def _logs_differ(world: World, entry: Entry, outcome: "Outcome") -> "Iterator[str]":
    result = entry.result
    rows = (
        ("stdout", result.stdout_raw, result.stdout_digest, outcome.stdout),
        ("stderr", result.stderr_raw, result.stderr_digest, outcome.stderr),
    )
    for name, raw, digest, captured in rows:
        if captured is None:
            continue
        size = digest.size_bytes if digest is not None else len(raw)
        if size != captured.size:
            yield f"{name} has {captured.size} bytes, {size} in the cached result"
        elif captured.content is not None and size <= BIG_LOG:
            try:
                cached = world.blobs.read(digest) if digest is not None and digest.size_bytes else raw
            except StoreError:
                continue
            if cached != captured.content:
                yield f"{name} differs from byte {compare.first_difference(cached, captured.content)} on"


def _timestamp(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // 1_000_000_000, nanos=ns % 1_000_000_000)
