"""Making the record that a later recall answers from."""

import posix
from posixpath import expanduser

from capsula import engine
from capsula.cli.recall import ENTRY_HEAD, VERSION, keyed_hash
from capsula.config.places import upwards
from capsula.core.glob import VAULT_MARK
from capsula.core.names import printable
from capsula.core.recipe import normal
from capsula.store.layout import entry_path
from capsula.worktree.listing import is_fresh, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.cli.recall import Area, Record, Restoring, Seen
    from capsula.core.capsule import Origin
    from capsula.core.recipe import Recipe
    from capsula.plugins.cached_run import Session
    from capsula.worktree.survey import Survey
    from capsula.worktree.workspace import Inputs, Outputs

LONGEST_LOG = 65536


def record_of(session: "Session", report: engine.Report, watched: "Seen") -> "Record | None":
    """The record of this run, None when it can't be recalled: something isn't watched, or too fresh, or too long."""
    inputs, key, logs = session.workspace.found, report.key, report.logs
    if inputs is None or inputs.fresh or key is None or logs is None or not _may_be_recalled(session):
        return None
    stdout, stderr, order = logs
    if isinstance(stdout, str) or isinstance(stderr, str) or len(stdout) + len(stderr) > LONGEST_LOG:
        return None
    if watched != watched_places(session):
        # Something changed while the command ran: what it was run with may not be what counts the next time.
        return None
    if any([seen and is_fresh(seen, inputs.taken_ns) for _, seen in watched]):
        return None
    entry = entry_path(session.store_root, key.hash)
    head = _head_of(entry, report.origin)
    if not head:
        return None
    names = session.recipe.environment
    variables = [(name.encode("utf-8", "surrogateescape"), _variable(name)) for name in names]
    seen = session.workspace.seen
    outputs, modes = watched_outputs(seen) if seen is not None and not seen.fresh else (None, [])
    answer = (
        entry,
        head,
        report.exit_code,
        report.expires_ns,
        stdout,
        stderr,
        order,
        _greeting(report.origin),
        session.store_root,
        _journal_rest(session, report),
    )
    restoring = _restoring(session, report)
    return (VERSION, watched, variables, _inputs(inputs), outputs, modes, answer, restoring)


def _may_be_recalled(session: "Session") -> bool:
    """Whether what was asked for is all that a recall does, and depends on nothing but what it looks at."""
    settings, recipe = session.settings, session.recipe
    asked_more = (
        settings.verbose
        or settings.explain
        or settings.json
        or settings.placebo
        or settings.verify_hits
        or settings.honeycomb_dataset
    )
    if asked_more or recipe.tool_commands:
        return False
    if settings.store is not None and settings.store.startswith("~"):
        return False
    return settings.workspace_root is None or _is_plain(settings.workspace_root, recipe)


def _restoring(session: "Session", report: engine.Report) -> "Restoring":
    """What a recall needs when the outputs have to be put back."""
    recipe = session.recipe
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
    return (
        "capsule",
        recipe.capsule_id,
        recipe.root,
        recipe.cwd,
        recipe.outputs,
        session.memory.path,
        session.store_root,
        rows,
    )


def watched_places(session: "Session") -> "Seen":
    """Configuration files, vaults and where the workspace root was looked for, existing or not, as they look now."""
    paths = list(session.settings.config_files)
    trust, key = session.settings.trust, session.settings.sign_key or ""
    if trust:
        # Who isn't believed any more isn't by what is recalled, either: nor is one's own key of before.
        named = [trust, *([] if key.startswith("env:") else [expanduser(key)])]
        paths += [each if each.startswith("/") else f"{session.recipe.cwd}/{each}" for each in named if each]
    paths += [f"{place}/vault/{VAULT_MARK}" for place in sorted({session.recipe.root, session.recipe.cwd})]
    seen = [(path, look(path)) for path in paths]
    if session.settings.workspace_root is None:
        for directory in upwards(session.recipe.cwd):
            marks = [f"{directory.rstrip('/')}/{mark}" for mark in ("capsula.toml", ".git")]
            looks = [(mark, look(mark)) for mark in marks]
            seen += looks
            # Only a mark ends the search: without any, the root is the current directory until one appears above.
            if any([found is not None for _, found in looks]):
                break
    return seen


def _is_plain(given: str, recipe: "Recipe") -> bool:
    """Whether the way to the given root goes through no link, which could lead elsewhere the next time."""
    return normal(given if given.startswith("/") else f"{recipe.cwd}/{given}").rstrip(
        "/"
    ) == recipe.root.rstrip("/")


def _head_of(entry: str, origin: "Origin | None") -> bytes:
    """How the entry begins, b"" if it isn't the result of the run that is to be recalled: somebody stored another."""
    try:
        with open(entry, "rb", buffering=0) as file:
            content = file.read()
    except OSError:
        return b""
    return content[:ENTRY_HEAD] if origin is not None and origin.run.encode() in content else b""


def _variable(name: str) -> str:
    value = posix.environ.get(name.encode("utf-8", "surrogateescape"))
    return "" if value is None else keyed_hash(value)


def _inputs(inputs: "Inputs") -> "Area":
    first, second = watched_area(inputs.surveys[0]), watched_area(inputs.surveys[1])
    return first[0] + second[0], first[1] + second[1]


def _greeting(origin: "Origin | None") -> bytes:
    return (
        f"capsule: hit, made by job {printable(origin.job)}\n".encode("utf-8", "replace")
        if origin and origin.job
        else b""
    )


def _journal_rest(session: "Session", report: engine.Report) -> str:
    """The journal's line of a later recall of this record, without its time."""
    from capsula.observe.journal import line_of
    from capsula.plugins.cached_run import journal_line

    fields = journal_line(session, report)
    made_by = report.origin.run if report.origin is not None else ""
    fields.update(
        run="", outcome=engine.HIT, why="nothing that it depends on has changed", bytes=0, made_by=made_by
    )
    fields["seconds"] = round(report.origin.seconds, 4) if report.origin is not None else 0.0
    fields.update(stored=False, verdict="", reason="", remote="")
    fields.pop("time")
    return line_of(fields)[1:]


def watched_outputs(outputs: "Outputs") -> "tuple[Area, list[tuple[str, int]]]":
    first, second = watched_area(outputs.surveys[0]), watched_area(outputs.surveys[1])
    modes = [
        (found.full(folder.path), posix.lstat(found.full(folder.path)).st_mode)
        for found in outputs.surveys
        for folder in found.folders.values()
        if folder.declared
    ]
    return (first[0] + second[0], first[1] + second[1]), modes


def watched_area(found: "Survey") -> "Area":
    folders = [(found.full(f.path), f.names, f.skipped, f.listing) for f in found.folders.values()]
    beyond = [(found.full(path), seen) for path, seen in found.followed.items()]
    # A vault is passed over for its mark: without that, what is in it counts.
    beyond += [(mark, look(mark)) for mark in found.vault_marks]
    return folders, beyond
