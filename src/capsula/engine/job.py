"""What a run is given and what it reports: policy, the world as ports, the report, an opened entry."""

import time

from capsula.core.capsule import Origin
from capsula.errors import CapsulaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.core.action import Keyed
    from capsula.core.compare import Difference
    from capsula.core.context import Context
    from capsula.core.digest import Digest
    from capsula.core.node import Node
    from capsula.core.reapi import ActionResult
    from capsula.core.recipe import Recipe
    from capsula.ports import (
        ActionCache,
        BlobStore,
        Flight,
        Inputs,
        Outcome,
        Past,
        WorkTree,
    )

    Order = tuple[tuple[int, int], ...]
    Logs = tuple[bytes | str, bytes | str, Order]

HIT, MISS, PLACEBO, UNCACHED = "hit", "miss", "placebo", "uncached"
# A log past this size is streamed through a file when it is replayed.
BIG_LOG = 8 << 20


class Policy:
    """How to treat what is found: none of it enters the key.

    `failure_ttl` is in seconds, None: no limit. `keep`: there is a store to keep results in. `strict`: when
    something is wrong, don't run. `sampled`: a hit that is run again to check it.
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

    def expires_ns(self, exit_code: int, origin: Origin) -> int:
        """When a result ceases to be an answer, in ns since 1970; 0: never, as for every success."""
        if exit_code == 0 or self.failure_ttl is None:
            return 0
        return origin.started_ns + int((origin.seconds + self.failure_ttl) * 1e9)


class World:
    """What the engine works with.

    `context` finds the facts beside the files; `execute` runs the command with the inputs hash in its environment;
    `replay` writes two logs (bytes, or the path of a file) in their order and answers the errno of output that is lost;
    `bury` moves a user's file to the trash and answers how to take it back; `say` is one line to the user; `spool`
    fetches a big log to a file; `record` is the id of the capsule in a vault that this run is recorded in, "" if it
    isn't; `commit` finds what is checked out, "" where that isn't known.
    """

    __slots__ = (
        "blobs",
        "bury",
        "cache",
        "commit",
        "context",
        "execute",
        "flight",
        "host",
        "past",
        "record",
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
        replay: "Callable[[bytes | str, bytes | str, Order], int | None]",
        bury: "Callable[[str], Callable[[], None]]",
        flight: "Flight",
        past: "Past",
        say: "Callable[[str], None]",
        spool: "Callable[[Digest], str]",
        run_id: str,
        host: str,
        record: str = "",
        commit: "Callable[[], str]" = str,
    ) -> None:
        self.commit = commit
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
        self.record = record


class Report:
    """What happened, for the journal, `--json` and people; filled in as the run goes on.

    `exit_code` is the command's own. `why` is one sentence, `reason` one of few words for counting; `differences`
    explain a miss, `mismatch` a placebo's findings. `problem` is what kept us from caching (rule 8), `not_stored` why
    a result wasn't kept. `seconds` is how long the command ran, for a hit the run that made the result; `bytes` those
    of the outputs that were stored, for a hit restored; `unwritten` is the errno of output that our stdout or stderr
    refused, 0: none; `expires_ns` is in ns since 1970, 0: never.
    """

    def __init__(self) -> None:
        self.outcome = UNCACHED
        self.exit_code = 0
        self.why = ""
        self.reason = ""
        self.problem: CapsulaError | None = None
        self.not_stored = ""
        self.stored = False
        self.waited = False
        self.key: Digest | None = None
        self.inputs_hash = ""
        self.inputs: Inputs | None = None
        self.origin: Origin | None = None
        self.differences: tuple[Difference, ...] = ()
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
        self.unwritten = 0
        self.signal: int | None = None
        # What it did, for those who watch: name, begin and end in ns since 1970.
        self.spans: list[tuple[str, int, int]] = []

    def mark(self, name: str, since_ns: int) -> None:
        """It did this from then until now."""
        self.spans.append((name, since_ns, time.time_ns()))


class Entry:
    """A stored result, opened: its nodes by path as in the result, and the run that made it."""

    __slots__ = ("nodes", "origin", "result")

    def __init__(self, result: "ActionResult", nodes: "dict[str, Node]", origin: Origin) -> None:
        self.result = result
        self.nodes = nodes
        self.origin = origin

    def digests(self) -> "list[Digest]":
        """The blobs that are needed to use it: the contents of files, and the logs. Its trees have been read."""
        found = [node.digest for node in self.nodes.values() if node.digest is not None]
        return found + [
            each for each in (self.result.stdout_digest, self.result.stderr_digest) if each is not None
        ]


class Attempt:
    """One run under way: what was asked, the world, the report so far, and once known, the action and its entry."""

    __slots__ = ("entry", "keyed", "policy", "recipe", "report", "world")

    def __init__(self, recipe: "Recipe", policy: Policy, world: World) -> None:
        self.recipe = recipe
        self.policy = policy
        self.world = world
        self.report = Report()
        self.keyed: Keyed | None = None
        self.entry: Entry | None = None
