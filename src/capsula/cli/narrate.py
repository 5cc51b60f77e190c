"""What `capsule` says about a run, in few lines on stderr: nothing on a quiet success, all of it with -v."""

import posix
import time

from capsula import engine
from capsula.core.names import printable
from capsula.core.node import DIRECTORY, LINK
from capsula.errors import in_one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from capsula.core.capsule import Origin
    from capsula.plugins.cached_run import Session

# Not cached for a reason that the user sees anyway: said with -v only.
SEEN = ("the command failed", "the command could not be started")


def narrate(session: "Session", program: str, report: engine.Report) -> None:
    lines = list(_lines(session, report))
    if not lines:
        return
    text = "".join([f"{program}: {line}\n" for line in lines])
    try:
        posix.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        return


def _lines(session: "Session", report: engine.Report) -> "Iterator[str]":
    settings = session.settings
    wordy = settings.verbose or settings.explain or settings.dry_run
    if settings.verbose:
        yield from _hashes(report)
    if report.problem is not None and report.outcome == engine.UNCACHED:
        yield f"not cached: {in_one_line(report.problem)}"
    elif report.outcome == engine.HIT:
        yield from _hit(session, report, wordy)
    elif settings.dry_run:
        yield f"would miss: {report.why}"
        if len(report.differences) > 3:
            yield from _differences(report)
    elif report.outcome == engine.PLACEBO:
        yield from _placebo(report)
    elif wordy:
        if len(report.differences) > 3:  # the line before the run named the first three
            yield from _differences(report)
        if report.started:
            kept = f"kept as {report.key.hash[:12]}" if report.stored and report.key else "not kept"
            yield f"ran for {duration(report.seconds)}, {kept}"
    elif session.policy.placebo and report.outcome == engine.MISS and report.stored:
        yield "nothing cached to compare with; the result is kept"
    if report.not_stored and (wordy or not report.not_stored.startswith(SEEN)):
        yield f"the result is not cached: {report.not_stored}"
    if report.buried:
        yield buried_line(report.buried)


def buried_line(buried: "Sequence[str]") -> str:
    shown = ", ".join([printable(path) for path in buried[:3]])
    more = f" and {len(buried) - 3} more" if len(buried) > 3 else ""
    return f"moved to the trash, as no run of this capsule made it: {shown}{more} (capsula cache trash)"


def _hit(session: "Session", report: engine.Report, wordy: bool) -> "Iterator[str]":
    origin = report.origin
    if wordy:
        word = "would hit" if session.settings.dry_run else "hit"
        yield f"{word} {report.key.hash[:12] if report.key else ''}: {report.why}, saves {duration(report.seconds)}"
        if report.written or report.removed:
            outputs = "output" if report.written == 1 else "outputs"
            yield f"restored {report.written} {outputs} ({size(report.bytes)}), removed {report.removed}"
        if origin is not None and origin.started_ns:
            yield made_by(origin)
    elif origin is not None and origin.job:
        yield f"hit, made by job {printable(origin.job)}"


def made_by(origin: "Origin") -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(origin.started_ns / 1e9))
    job = f", job {printable(origin.job)}" if origin.job else ""
    verdict = {"same": ", a placebo found the same", "differs": ", a placebo found a difference"}.get(
        origin.verdict, ""
    )
    return f"made by run {printable(origin.run)} on {printable(origin.host)} at {when}{job}{verdict}"


def _placebo(report: engine.Report) -> "Iterator[str]":
    if report.mismatch:
        yield f"not deterministic: {len(report.mismatch)} difference(s) from the cached result"
        for row in report.mismatch[:20]:
            yield f"  {row}"
        if len(report.mismatch) > 20:
            yield f"  and {len(report.mismatch) - 20} more"
    elif not report.nodes:
        yield "deterministic: the exit code is that of the cached result; there are no outputs to compare"
    else:
        yield "deterministic: the outputs are those of the cached result"
    for row in report.log_mismatch:
        yield f"  (log) {row}"


def _differences(report: engine.Report) -> "Iterator[str]":
    for difference in report.differences[:20]:
        yield f"  {difference}"
    if len(report.differences) > 20:
        yield f"  and {len(report.differences) - 20} more"


def _hashes(report: engine.Report) -> "Iterator[str]":
    if report.inputs is not None:
        for name, content in report.inputs.hashes():
            yield f"input  {content}  {printable(name)}"
        for note in report.inputs.notes:
            yield f"note: {note}"
    if _is_fed():
        yield "note: what comes through a pipe on standard input isn't part of the key"
    if report.inputs_hash:
        yield f"inputs hash {report.inputs_hash}"
    for path, node in sorted(report.nodes.items()):
        if node.kind == LINK:
            yield f"output -> {printable(node.target)}  {printable(path)}"
        elif node.kind != DIRECTORY and node.digest is not None:
            yield f"output {node.digest.hash}  {printable(path)}"


def _is_fed() -> bool:
    """Whether a pipe or a socket is on standard input. Said with -v only: in a CI each command has one, and hardly any
    reads it."""
    try:
        return posix.fstat(0).st_mode & 0o170000 in (0o010000, 0o140000)
    except OSError:
        return False


def duration(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        seconds = max(seconds, 60)
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
