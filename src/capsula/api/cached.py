"""The recorded run that is a cached action as well: what it declares, its session with the store, what is told of it.

There is one cache. A monitored run has the key, the store and the rules of `capsule`, so that each of them hits what
the other has made.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from capsula import engine
from capsula.api.declared import Declared
from capsula.config.places import find_root
from capsula.config.project import Project
from capsula.config.settings import read_settings
from capsula.core.capsule import Origin
from capsula.core.names import printable
from capsula.core.node import DIRECTORY, LINK
from capsula.engine import recording
from capsula.engine.recording import Recorder
from capsula.errors import NotAvailable, UsageError
from capsula.observe import journal
from capsula.plugins import cached_run
from capsula.store.size import maybe_sweep

if TYPE_CHECKING:
    from capsula.core.context import Context
    from capsula.core.facts import Fact
    from capsula.core.node import Node
    from capsula.ports import Inputs

# More files than that aren't listed in a capsule; their digests are in the store.
LISTED = 10_000


def open_session(
    declared: Declared,
    project: Project,
    recorder: Recorder,
    argv: tuple[str, ...],
    *,
    name: str | None,
    cwd: str,
    more: tuple[str, ...] = (),
) -> cached_run.Session:
    """The run with its store, as `capsule -c NAME -i … -o … MORE -- argv` would have it in `cwd`: also ~/.capsules.toml
    and CAPSULE_ARGS count. Without a name, the id is derived from the command. Raises CapsulaError.
    """
    derived = argv[0].rpartition("/")[2] or argv[0]
    words = [f"--capsule_id={name or derived}", f"--workspace_root={project.root}"]
    words += [f"--input={pattern}" for pattern in declared.inputs]
    words += [f"--output={pattern}" for pattern in declared.outputs]
    words += [f"--env={variable}" for variable in declared.environment]
    settings = read_settings(
        [*words, *more, "--", *argv],
        environ_args=os.environ.get("CAPSULE_ARGS"),
        home=os.environ.get("HOME"),
        cwd=cwd,
        find_root=lambda given: find_root(given, cwd),
        program="capsule",
    )
    if settings.passive:
        raise UsageError("--passive switches it off")
    if settings.backend == "dummy":
        raise NotAvailable("the backend dummy keeps nothing")
    if name is None:
        settings.capsule_id = None
    # None of these is a reason not to run: that is what a recorded run is for.
    settings.dry_run = settings.strict = settings.strict_remote = settings.inputs_hash = False
    session = cached_run.compose(settings, cwd=cwd, environ=dict(os.environb), say=recorder.warn)
    session.world.record = recorder.draft.id if recorder.draft is not None else ""
    add_facts(session, context_facts(declared.context, recorder))
    return session


def add_facts(session: cached_run.Session, facts: tuple[Fact, ...]) -> None:
    """More that the key of this run has."""
    find = session.world.context

    def found(inputs: Inputs) -> Context:
        context = find(inputs)
        context.recorded += facts
        return context

    session.world.context = found


def context_facts(names: Iterable[str], recorder: Recorder) -> tuple[Fact, ...]:
    """Of each named section of the captured context its hash, for the key. Raises UsageError for one that isn't there,
    or that holds notes only."""
    facts = []
    for name in names:
        if name not in recorder.key_facts:
            known = ", ".join(sorted(recorder.key_facts)) or "none was captured"
            raise UsageError(
                f"the context has no section {printable(name)} that may change a result",
                hint=f"those that it has: {known}",
            )
        text = json.dumps(recorder.key_facts[name], sort_keys=True, separators=(",", ":"))
        facts.append(("context", name, hashlib.sha256(text.encode()).hexdigest()))
    return tuple(facts)


def note(
    session: cached_run.Session,
    report: engine.Report,
    start: Callable[[str, int, float, int], None] | None = None,
) -> None:
    """The journal, what is remembered for next time, what goes to other stores, and a sweep when the store has grown;
    `start` is how to make a process for it where a fork can't be had."""
    journal.append(session.store_root, cached_run.journal_line(session, report))
    session.memory.save()
    if report.stored:
        maybe_sweep(
            session.store_root,
            session.settings.store_size,
            session.bytes_added(),
            now=time.time,
            start=start,
        )
    if session.remotes is not None:
        try:
            session.remotes.send(session.world.say)
        finally:
            session.remotes.end()


def uncached(reason: str) -> dict[str, Any]:
    """`result` of post-run-info.json where the cache was asked for and couldn't be used."""
    return {"outcome": engine.UNCACHED, "why": reason, "key": None, "made_by": None}


def told(session: cached_run.Session, report: engine.Report) -> dict[str, Any]:
    """`result` of post-run-info.json: which result this is, why, and who made it."""
    is_hit = report.outcome == engine.HIT
    origin = report.origin if is_hit or report.verdict else None
    return {
        "outcome": report.outcome,
        "why": report.why or (report.problem.what if report.problem is not None else ""),
        "key": report.key.hash if report.key is not None else None,
        "made_by": made_by(origin) if origin is not None else None,
        "capsule_id": session.recipe.capsule_id,
        "run": session.world.run_id,
        "inputs_hash": report.inputs_hash or None,
        "stored": report.stored,
        "not_stored": report.not_stored or None,
        "restored": {"written": report.written, "removed": report.removed, "bytes": report.bytes}
        if is_hit
        else None,
        "differs": [printable(row) for row in report.mismatch],
        "inputs": [
            {"path": printable(path), "hash": content}
            for path, content in (report.inputs.hashes()[:LISTED] if report.inputs is not None else ())
        ],
        "outputs": [_output(path, node) for path, node in sorted(report.nodes.items())[:LISTED]],
    }


def summary(result: dict[str, Any]) -> dict[str, object]:
    """What of it stands in capsule.json itself."""
    return {name: result[name] for name in ("outcome", "why", "key", "made_by")}


def made_by(origin: Origin) -> dict[str, Any]:
    return {
        "run": origin.run,
        "capsule": origin.record or None,
        "host": origin.host,
        "job": origin.job or None,
        "commit": origin.commit or None,
        "started": recording.iso(origin.started_ns),
        "seconds": origin.seconds,
    }


def _output(path: str, node: Node) -> dict[str, Any]:
    row = {"path": printable(path), "kind": node.kind}
    if node.kind == LINK:
        row["target"] = printable(node.target)
    elif node.kind != DIRECTORY and node.digest is not None:
        row["hash"] = node.digest.hash
    return row
