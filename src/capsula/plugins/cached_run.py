"""A cached run, composed: its recipe and policy, and the store, work tree, context and executor that it works with."""

import os
import posix
import time

from capsula import engine
from capsula.config.places import (
    find_root,
    find_store,
    hidden_directories,
    memory_path,
    refuse_way_up_from_link,
)
from capsula.config.settings import LOCAL_FILES
from capsula.core.context import Context
from capsula.core.digest import Digest
from capsula.core.recipe import Recipe
from capsula.core.secrets import mask
from capsula.errors import NotAvailable, WireError
from capsula.execute.spawn import child_environment
from capsula.probe import environment
from capsula.store.flight import Flights
from capsula.store.past import PastActions
from capsula.worktree.kept import Memory
from capsula.worktree.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.config.settings import Settings
    from capsula.execute import process
    from capsula.execute.watch import Watch
    from capsula.observe.span import Place
    from capsula.plugins.remotes import Remotes
    from capsula.ports import ActionCache, BlobStore, Flight, Inputs, Outcome


class Session:
    """One run, composed: what the command line hands to the engine and looks at afterwards."""

    __slots__ = (
        "memory",
        "place",
        "policy",
        "recipe",
        "remotes",
        "settings",
        "spools",
        "store_root",
        "workspace",
        "world",
    )

    def __init__(
        self,
        *,
        settings: "Settings",
        recipe: Recipe,
        policy: engine.Policy,
        world: engine.World,
        workspace: Workspace,
        memory: Memory,
        store_root: str,
        spools: "list[str]",
        remotes: "Remotes | None" = None,
    ) -> None:
        self.remotes = remotes
        # Where the run is in a trace, if somebody records those; what it runs is told so.
        self.place: Place | None = None
        self.spools = spools
        self.settings = settings
        self.recipe = recipe
        self.policy = policy
        self.world = world
        self.workspace = workspace
        self.memory = memory
        self.store_root = store_root

    def bytes_added(self) -> int:
        """How much the store on this disk has grown by this run: less than the result when it had some of it."""
        added: int = getattr(self.world.blobs, "written", 0)
        return added

    def environment(self, environ: "dict[bytes, bytes]") -> "dict[bytes, bytes]":
        """What the command gets of it. The trace isn't in the key: it is none of the declared variables' values."""
        return environ if self.place is None else {**environ, b"TRACEPARENT": self.place.traceparent.encode()}

    def remove_spools(self) -> None:
        """The files of long logs have done their service: what is kept of them is in the store."""
        for path in self.spools:
            try:
                posix.unlink(path)
            except OSError:
                continue


def compose(
    settings: "Settings",
    *,
    cwd: str,
    environ: "dict[bytes, bytes]",
    say: "Callable[[str], None]",
) -> Session:
    """Raises UsageError for settings that can't be, NotAvailable for a backend that isn't built, StoreError for a
    directory that can't be a store.
    """
    root = find_root(settings.workspace_root, cwd)
    recipe = recipe_from(settings, root, cwd)
    keep = settings.backend != "dummy"
    store_root = find_store(settings.store, cwd, root, environ) if keep else ""
    remotes = open_remotes(settings, store_root, say)
    blobs, cache = (
        (remotes.tiers, remotes.tiers) if remotes is not None else open_store(settings.backend, store_root)
    )
    memory = Memory(memory_path(store_root, recipe) if keep else "")
    workspace = Workspace(recipe, memory, hidden_directories(store_root, recipe, environ))
    if keep:
        workspace.stage_places = (f"{store_root}/tmp", cwd)
    spools: list[str] = []
    past, run_id, host = PastActions(store_root), new_run_id(), posix.uname().nodename
    scope = "" if settings.capsule_id else root
    flight: Flight = Flights(store_root)
    late = None
    if remotes is not None:
        named, late = f"{recipe.capsule_id}\0{scope}", _leaving(remotes)
        flight = remotes.flight(
            Flights(store_root, run_id, host),
            run_id,
            host,
            recipe.capsule_id,
            lambda: _seconds_last(store_root, past.recent(named)),
        )
    world = engine.World(
        tree=workspace,
        blobs=blobs,
        cache=cache,
        context=lambda inputs: find_context(recipe, inputs, environ),
        execute=lambda inputs_hash: execute(
            recipe,
            session.environment(environ),
            inputs_hash,
            store_root if keep else None,
            spools,
            late=late,
        ),
        replay=_replay,
        bury=lambda path: _bury(store_root, recipe.capsule_id, path),
        flight=flight,
        past=_Past(past, scope),
        say=say,
        spool=lambda digest: spool(blobs, store_root, digest),
        run_id=run_id,
        host=host,
        commit=lambda: _commit(cwd, environ),
    )
    session = Session(
        settings=settings,
        recipe=recipe,
        policy=_policy(settings, keep=keep),
        world=world,
        workspace=workspace,
        memory=memory,
        store_root=store_root,
        spools=spools,
        remotes=remotes,
    )
    return session


def _policy(settings: "Settings", *, keep: bool) -> engine.Policy:
    sampled = settings.verify_hits > 0 and int.from_bytes(os.urandom(4)) < settings.verify_hits * 2**32
    return engine.Policy(
        placebo=settings.placebo,
        sampled=sampled and not settings.placebo,
        cache_failure=settings.cache_failure,
        failure_ttl=settings.cache_failure_ttl,
        dry_run=settings.dry_run,
        explain=settings.explain or settings.verbose,
        job=settings.capsule_job or "",
        keep=keep,
        strict=settings.strict,
    )


def journal_line(session: Session, report: engine.Report) -> "dict[str, str | int | float | bool]":
    shown = mask(" ".join(session.recipe.argv))
    return {
        "time": round(time.time(), 3),
        "run": session.world.run_id,
        "id": session.recipe.capsule_id,
        "outcome": report.outcome,
        "why": report.why[:500],
        "reason": report.reason,
        "seconds": round(report.seconds, 4),
        "bytes": report.bytes,
        "exit_code": report.exit_code,
        "key": report.key.hash if report.key is not None else "",
        "stored": report.stored,
        "not_stored": report.not_stored,
        "verdict": report.verdict,
        "made_by": report.origin.run if report.origin is not None and report.outcome == engine.HIT else "",
        "remote": session.remotes.came_from(report.key) if session.remotes and report.key is not None else "",
        "root": session.recipe.base,
        "command": shown[:200],
    }


def open_remotes(settings: "Settings", root: str, say: "Callable[[str], None]") -> "Remotes | None":
    """None where there are none, so that their modules aren't loaded, and nothing that came from one is to be doubted.
    NotAvailable for one that isn't built."""
    if not (settings.remote or settings.trust or settings.backend not in ("disk", "dummy")) or not root:
        return None
    from capsula.plugins.remotes import Remotes
    from capsula.store.layout import claim

    claim(root)
    return Remotes(settings, root, say)


def open_store(backend: str, root: str) -> "tuple[BlobStore, ActionCache]":
    """The store by its name; the built-in ones only so far."""
    if backend == "disk":
        from capsula.store.disk import DiskStore
        from capsula.store.layout import claim

        claim(root)
        disk = DiskStore(root, now=time.time)
        return disk, disk
    if backend == "dummy":
        from capsula.store.memory import DummyStore

        none = DummyStore()
        return none, none
    raise NotAvailable(
        f"the backend '{mask(backend)}' is not available in this version",
        hint="use -b disk, which keeps results on this machine",
    )


def recipe_from(settings: "Settings", root: str, cwd: str) -> Recipe:
    for pattern in (*settings.input, *settings.output):
        refuse_way_up_from_link(pattern.removeprefix("!"), root, cwd)
    command = settings.command
    derived = command[0].rpartition("/")[2] or command[0] if command else "inputs"
    return Recipe(
        capsule_id=settings.capsule_id or derived,
        named=settings.capsule_id is not None and not _passes_over_a_file(settings, cwd),
        argv=command,
        root=root,
        cwd=cwd,
        inputs=settings.input,
        outputs=settings.output,
        environment=settings.env,
        tags=settings.tool_tag,
        tool_commands=settings.tool_command,
        captures=(settings.capture_stdout, settings.capture_stderr),
        hash_variable=settings.inputs_hash_var,
    )


def find_context(recipe: Recipe, inputs: "Inputs", environ: "dict[bytes, bytes]") -> Context:
    tools: tuple[tuple[str, int, str], ...] = ()
    if recipe.tool_commands:
        from capsula.probe.command import tool_output

        clean = child_environment(environ)
        tools = tuple([tool_output(command, clean) for command in recipe.tool_commands])
    return Context(
        input_root=inputs.root,
        directories=inputs.directories,
        outside=inputs.outside,
        linked=inputs.linked,
        environment=environment.variables(recipe.environment, environ),
        tools=tools,
        system=environment.system(),
        stdin=environment.standard_input(),
    )


def execute(
    recipe: Recipe,
    environ: "dict[bytes, bytes]",
    inputs_hash: str,
    store_root: "str | None",
    spools: "list[str]",
    *,
    watch: "Watch | None" = None,
    late: "Callable[[process.Outcome], None] | None" = None,
) -> "Outcome":
    """Run the command. With a store, its streams are captured as the recipe says, in spool files when they are long."""
    from capsula.execute.process import run_command

    wanted = child_environment(environ)
    name = recipe.hash_variable.encode("utf-8", "surrogateescape")
    if inputs_hash:
        wanted[name] = inputs_hash.encode()
    else:
        wanted.pop(name, None)
    if store_root is None:
        return run_command(
            recipe.argv, wanted, spool_dir=None, capture=(False, False), last=True, watch=watch, late=late
        )
    outcome = run_command(
        recipe.argv,
        wanted,
        spool_dir=spool_directory(store_root),
        capture=recipe.captures,
        last=True,
        meanwhile=_load_what_follows,
        watch=watch,
        late=late,
    )
    spools += [
        log.path for log in (outcome.stdout, outcome.stderr) if log is not None and log.path is not None
    ]
    return outcome


def _leaving(remotes: "Remotes") -> "Callable[[process.Outcome], None]":
    """What a signal does that comes after the command's end: it ends us at once, but nobody is left waiting for us."""

    def leave(outcome: "process.Outcome") -> None:
        try:
            remotes.let_go()
        finally:
            posix._exit(outcome.exit_code)

    return leave


def _load_what_follows() -> None:
    """Modules that a miss needs after its command: loaded while the command starts, they cost nobody's time."""
    import capsula.engine.keep
    import capsula.probe.commit  # noqa: F401


def spool_directory(store_root: str) -> "str | None":
    from capsula.store.layout import TMP, make_directories

    try:
        make_directories(f"{store_root}/{TMP}")
    except OSError:
        return None
    return f"{store_root}/{TMP}"


def spool(blobs: "BlobStore", store_root: str, digest: Digest) -> str:
    """Fetch a long log to a file of its own. It is removed by the sweep of files that dead processes left."""
    directory = spool_directory(store_root)
    if directory is None:
        raise NotAvailable("there is no place to unpack a long log")
    path = f"{directory}/{posix.getpid()}-log-{time.time_ns()}"
    blobs.fetch(digest, path, 0o600)
    return path


def new_run_id() -> str:
    """Sorts by time: milliseconds since 1970 in hexadecimal, then chance."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(5).hex()}"


def _commit(cwd: str, environ: "dict[bytes, bytes]") -> str:
    from capsula.probe.commit import checked_out

    return checked_out(cwd, environ)


def _replay(stdout: "bytes | str", stderr: "bytes | str", order: "tuple[tuple[int, int], ...]") -> int:
    from capsula.execute.stdio import in_order, replay

    unwritten = replay(in_order(stdout, stderr, order))
    for log in (stdout, stderr):
        if isinstance(log, str):
            try:
                posix.unlink(log)
            except OSError:  # the log has been replayed; a sweep removes the file
                continue
    return unwritten


def _bury(store_root: str, capsule_id: str, path: str) -> "Callable[[], None]":
    from capsula.store.burial import burier

    return burier(store_root, capsule_id)(path)


def _seconds_last(store_root: str, actions: "tuple[Digest, ...]") -> "float | None":
    """How long the newest of these took whose result is here; None if there is none. It doesn't count as a use."""
    from capsula.core.capsule import origin_from
    from capsula.core.statement import origin_of
    from capsula.store.layout import entry_path
    from capsula.store.reach import load_entry

    for action in actions:
        try:
            result = load_entry(entry_path(store_root, action.hash), action.hash)
            if result is not None:
                return origin_from(origin_of(result)).seconds
        except (OSError, WireError):
            continue
    return None


class _Past:
    """The past of ids within `scope`: an id derived from the command (`make`) is shared by nobody outside its
    workspace."""

    def __init__(self, past: PastActions, scope: str) -> None:
        self.past = past
        self.scope = scope

    def recent(self, capsule_id: str) -> tuple[Digest, ...]:
        return self.past.recent(f"{capsule_id}\0{self.scope}")

    def record(self, capsule_id: str, action: Digest) -> None:
        self.past.record(f"{capsule_id}\0{self.scope}", action)


def _passes_over_a_file(settings: "Settings", cwd: str) -> bool:
    """Whether a file of capsules is here that nobody asked for: an id alone, without inputs, is then a mistake."""
    return settings.file is None and any([os.path.lexists(os.path.join(cwd, name)) for name in LOCAL_FILES])
