"""The two ends of recall that needn't be as fast: putting outputs back for a known answer, and making a record."""

import posix
import time

from capsula import engine
from capsula.cli.narrate import buried_line
from capsula.cli.recall import VERSION, keyed_hash, to_bytes
from capsula.core.digest import Digest
from capsula.core.recipe import Recipe
from capsula.core.result import Node
from capsula.errors import CapsulaError
from capsula.plugins import bury, hidden_directories, upwards
from capsula.store.disk import DiskStore
from capsula.store.layout import entry_path
from capsula.worktree.kept import Memory, write_whole
from capsula.worktree.listing import is_fresh, look
from capsula.worktree.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.cli.recall import Area, Record
    from capsula.core.capsule import Origin
    from capsula.plugins import Session
    from capsula.worktree.survey import Survey
    from capsula.worktree.workspace import Inputs, Outputs

LONGEST_LOG = 65536


def restore_recalled(path: str, record: "Record") -> bool:
    """Make the outputs right for a record whose inputs stand as they were. False: go the full path, nothing was changed."""
    _, watched, variables, inputs, _, _, answer, restoring = record
    program, capsule_id, root, cwd, patterns, memory_file, store_root, rows = restoring
    entry = answer[0]
    if look(entry) is None:
        return False
    recipe = Recipe(capsule_id=capsule_id, argv=(), root=root, cwd=cwd, outputs=patterns)
    memory = Memory(memory_file)
    workspace = Workspace(recipe, memory, hidden_directories(store_root, recipe))
    nodes = {
        name: Node(kind, mode=mode, digest=Digest(content, size) if content else None, target=target)
        for name, kind, mode, content, size, target in rows
    }
    workspace.spared = {f"{folder[0]}/{name}" for folder in inputs[0] for name in folder[3]}
    try:
        restored = workspace.settle(
            nodes,
            DiskStore(store_root, now=time.time),
            lambda path: bury(store_root, capsule_id, path),
        )
    except CapsulaError:
        return False
    if restored.buried:
        text = f"{program}: {buried_line(restored.buried)}\n"
        posix.write(2, text.encode("utf-8", "backslashreplace"))
    memory.save()
    seen = workspace.seen
    if not restored.written and not restored.removed and seen is not None and not seen.fresh:
        outputs, modes = _outputs(seen)
        fields = (VERSION, watched, variables, inputs, outputs, modes, answer, restoring)
        write_whole(path, to_bytes(fields))
    return True


def record_of(session: "Session", report: engine.Report) -> "Record | None":
    """The record of this run, None when it can't be recalled: something isn't watched, or too fresh, or too long."""
    settings, recipe, inputs = session.settings, session.recipe, session.workspace.found
    asked_more = (
        settings.verbose or settings.explain or settings.json or settings.placebo or settings.verify_hits
    )
    logs = report.logs
    if (
        asked_more
        or recipe.tool_commands
        or inputs is None
        or inputs.fresh
        or report.key is None
        or logs is None
    ):
        return None
    stdout, stderr, order = logs
    if isinstance(stdout, str) or isinstance(stderr, str) or len(stdout) + len(stderr) > LONGEST_LOG:
        return None
    if settings.store is not None and settings.store.startswith("~"):
        return None
    watched = _watched(session)
    if any([seen and is_fresh(seen, inputs.taken_ns) for _, seen in watched]):
        return None
    variables = [(name.encode("utf-8", "surrogateescape"), _variable(name)) for name in recipe.environment]
    seen = session.workspace.seen
    outputs, modes = _outputs(seen) if seen is not None and not seen.fresh else (None, [])
    greeting = _greeting(report.origin)
    answer = (
        entry_path(session.store_root, report.key.hash),
        report.exit_code,
        report.expires_ns,
        stdout,
        stderr,
        order,
        greeting,
        session.store_root,
        _journal_rest(session, report),
    )
    rows = [
        (
            name,
            node.kind,
            node.mode,
            node.digest.hash if node.digest else "",
            node.digest.size_bytes if node.digest else 0,
            node.target,
        )
        for name, node in report.nodes.items()
    ]
    restoring = (
        "capsule",
        recipe.capsule_id,
        recipe.root,
        recipe.cwd,
        recipe.outputs,
        session.memory.path,
        session.store_root,
        rows,
    )
    return (VERSION, watched, variables, _inputs(inputs), outputs, modes, answer, restoring)


def _watched(session: "Session") -> "list[tuple[str, tuple[int, ...] | None]]":
    """Configuration files, existing or not, and where the workspace root was looked for."""
    paths = list(session.settings.config_files)
    if session.settings.workspace_root is None:
        for directory in upwards(session.recipe.cwd):
            paths += [f"{directory.rstrip('/')}/{mark}" for mark in ("capsula.toml", ".git")]
            if directory == session.recipe.root:
                break
    return [(path, look(path)) for path in paths]


def _variable(name: str) -> str:
    value = posix.environ.get(name.encode("utf-8", "surrogateescape"))
    return "" if value is None else keyed_hash(value)


def _inputs(inputs: "Inputs") -> "Area":
    first, second = _area(inputs.surveys[0]), _area(inputs.surveys[1])
    return first[0] + second[0], first[1] + second[1]


def _outputs(outputs: "Outputs") -> "tuple[Area, list[tuple[str, int]]]":
    first, second = _area(outputs.surveys[0]), _area(outputs.surveys[1])
    modes = [
        (found.full(folder.path), posix.lstat(found.full(folder.path)).st_mode)
        for found in outputs.surveys
        for folder in found.folders.values()
        if folder.declared
    ]
    return (first[0] + second[0], first[1] + second[1]), modes


def _area(found: "Survey") -> "Area":
    folders = [(found.full(f.path), f.names, f.skipped, f.listing) for f in found.folders.values()]
    return folders, [(found.full(path), seen) for path, seen in found.followed.items()]


def _greeting(origin: "Origin | None") -> bytes:
    return (
        f"capsule: hit, made by job {origin.job}\n".encode("utf-8", "replace")
        if origin and origin.job
        else b""
    )


def _journal_rest(session: "Session", report: engine.Report) -> str:
    """The journal's line of a later recall of this record, without its time."""
    from capsula.cli.wrapper import journal_line
    from capsula.observe.journal import line_of

    fields = journal_line(session, report)
    made_by = report.origin.run if report.origin is not None else ""
    fields.update(
        run="", outcome=engine.HIT, why="nothing that it depends on has changed", bytes=0, made_by=made_by
    )
    fields["seconds"] = round(report.origin.seconds, 4) if report.origin is not None else 0.0
    fields.update(stored=False, verdict="")
    fields.pop("time")
    return line_of(fields)[1:]
