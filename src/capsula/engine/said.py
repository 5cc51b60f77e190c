"""What a run has said of itself, taken into its capsule: metrics as columns, files that it named, tags and notes."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from capsula.core.names import printable, to_text
from capsula.engine import columns, live
from capsula.engine.columns import Said

if TYPE_CHECKING:
    from capsula.engine.recording import Recorder

# So many metrics stand in capsule.json; all of them are in metrics.json.
SHOWN_METRICS = 1000
# Of a directory, so many files are hashed.
MOST_FILES = 10_000


def gather(recorder: Recorder) -> Said:
    """What the run has said of itself. Its metrics are written down now, and from now on it can't be spoken to."""
    if recorder.said is not None:
        return recorder.said
    recorder.said = Said()
    if recorder.draft is None or not live.is_live(recorder.draft.path):
        return recorder.said
    with recorder.attempt("can't gather what the run recorded"):
        path = recorder.draft.path
        folder = live.close_live(path)
        said = columns.read(folder)
        said.metrics = {recorder.hidden(name): metric for name, metric in said.metrics.items()}
        if said.metrics:
            columns.write_metrics(path, said.metrics)
        if said.unread:
            recorder.notes.append(f"{said.unread} line(s) of what the run recorded can't be read")
        # Last: whatever fails before, the lines themselves are in the capsule.
        shutil.rmtree(folder)
        recorder.said = said
    return recorder.said


def named_files(recorder: Recorder) -> dict[str, dict[str, Any]]:
    """The outputs that the run named, as they are now: path below the root, or the full one -> what the item's files
    have. Those that are to be copied are in the capsule then."""
    found: dict[str, dict[str, Any]] = {}
    for path, fact in gather(recorder).outputs.items():
        files = _below(path)
        if len(files) > MOST_FILES:
            recorder.notes.append(f"{printable(path)}: {len(files) - MOST_FILES} more files aren't hashed")
        for each in files[:MOST_FILES]:
            row: dict[str, Any] = {"hash_algorithm": "sha256", "file_hash": None}
            try:
                row["file_hash"] = live.file_sha256(each)
            except OSError as error:
                row["error"] = error.strerror or str(error)
                recorder.notes.append(f"{printable(each)}: {row['error']}")
            found[_shown(recorder, each)] = row
        if fact.get("copy") and recorder.draft is not None:
            with recorder.attempt(f"can't copy {printable(path)}"):
                name = recorder.draft.free_name(os.path.basename(path.rstrip("/")) or "output")
                recorder.draft.take(path, name, move=False)
    return found


def read_files(recorder: Recorder) -> dict[str, dict[str, Any]]:
    """The inputs that the run named, as they were when it did."""
    names = ("hash_algorithm", "file_hash", "error")
    return {
        _shown(recorder, path): {name: fact[name] for name in names if name in fact}
        for path, fact in gather(recorder).inputs.items()
    }


def _shown(recorder: Recorder, path: str) -> str:
    return to_text(path.removeprefix(os.path.join(recorder.root, "")))


def _below(path: str) -> list[str]:
    """The file itself, or all files in a directory."""
    if not os.path.isdir(path):
        return [path]
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)


def summary(said: Said) -> dict[str, object]:
    """What stands in capsule.json: of each metric the last value, and between which values it was."""
    told: dict[str, object] = {}
    if said.metrics:
        some = list(said.metrics.items())[:SHOWN_METRICS]
        told["metrics"] = {name: metric.last() for name, metric in some}
        told["metric_ranges"] = {name: metric.extent() for name, metric in some}
    if said.tags:
        told["tags"] = said.tags
    if said.notes:
        told["note"] = "\n".join(said.notes)
    return told
