"""`--json`: what happened in one run, for machines; to a file or an open descriptor, never among the command's
output."""

import json
import os

from capsula import engine
from capsula.core.capsule import Origin
from capsula.core.node import DIRECTORY, LINK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.core.node import Node
    from capsula.plugins.cached_run import Session

FORMAT = 1


def write_report(target: str, session: "Session", report: engine.Report, code: int) -> None:
    """Raises OSError when the target can't be written."""
    text = json.dumps(fields(session, report, code), indent=2, sort_keys=False) + "\n"
    content = text.encode("utf-8", "surrogatepass")
    if target.startswith("fd:"):
        with os.fdopen(os.dup(int(target[3:])), "wb") as file:
            file.write(content)
        return
    if os.path.islink(target) or (os.path.exists(target) and not os.path.isfile(target)):
        # A pipe, a device, a link: written to, never replaced. A pipe that nobody reads is an error, not a wait.
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        os.set_blocking(fd, True)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        return
    aside = f"{target}.{os.getpid()}"
    try:
        with open(aside, "wb") as file:
            file.write(content)
        if os.path.exists(target):
            os.chmod(aside, os.stat(target).st_mode & 0o777)
        os.replace(aside, target)
    except OSError:
        if os.path.lexists(aside):
            os.unlink(aside)
        raise


def fields(session: "Session", report: engine.Report, code: int) -> dict[str, object]:
    recipe, origin = session.recipe, report.origin
    hit = report.outcome == engine.HIT
    return {
        "format": FORMAT,
        "capsule_id": recipe.capsule_id,
        "run": session.world.run_id,
        "outcome": report.outcome,
        "dry_run": session.settings.dry_run,
        "why": report.why,
        "exit_code": code,
        "command_exit_code": report.exit_code,
        "ran": report.started,
        "key": report.key.hash if report.key is not None else None,
        "inputs_hash": report.inputs_hash or None,
        "nearest": report.nearest or None,
        "differences": [{"kind": d.kind, "name": d.name, "change": d.change} for d in report.differences],
        "stored": report.stored,
        "not_stored": report.not_stored or None,
        "problem": report.problem.what if report.problem is not None else None,
        "seconds_run": None if hit else report.seconds,
        "seconds_saved": report.seconds if hit else None,
        "waited": report.waited,
        "restored": {"written": report.written, "removed": report.removed, "bytes": report.bytes}
        if hit
        else None,
        "to_trash": list(report.buried),
        "placebo": {
            "verdict": report.verdict,
            "outputs": list(report.mismatch),
            "logs": list(report.log_mismatch),
        }
        if report.verdict
        else None,
        "made_by": _made_by(origin) if origin is not None and (hit or report.verdict) else None,
        "inputs": [{"path": n, "hash": h} for n, h in report.inputs.hashes()]
        if report.inputs is not None
        else [],
        "outputs": [_output(path, node) for path, node in sorted(report.nodes.items())],
    }


def _made_by(origin: Origin) -> dict[str, object]:
    return {
        "run": origin.run,
        "job": origin.job,
        "commit": origin.commit,
        "host": origin.host,
        "started_ns": origin.started_ns,
        "seconds": origin.seconds,
        "verdict": origin.verdict,
    }


def _output(path: str, node: "Node") -> dict[str, object]:
    row: dict[str, object] = {"path": path, "kind": node.kind}
    if node.kind == LINK:
        row["target"] = node.target
    else:
        row["mode"] = f"{node.mode:o}"
    if node.kind not in (LINK, DIRECTORY) and node.digest is not None:
        row["hash"], row["size"] = node.digest.hash, node.digest.size_bytes
    return row
