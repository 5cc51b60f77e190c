"""Recall with outputs missing or changed: the answer is known, so they are put back at once."""

import posix
import time

from capsula.cli.recall import VERSION, to_bytes
from capsula.config.places import hidden_directories
from capsula.core.digest import Digest
from capsula.core.node import Node
from capsula.core.recipe import Recipe
from capsula.errors import CapsulaError
from capsula.store.burial import burier
from capsula.store.disk import DiskStore
from capsula.worktree.kept import Memory, write_whole
from capsula.worktree.survey import join
from capsula.worktree.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.cli.recall import Record


def restore_recalled(path: str, record: "Record") -> int | None:
    """Make the outputs right for a record whose inputs stand as they were; the bytes that were written.

    None: go the full path, nothing was changed.
    """
    _, watched, variables, inputs, _, _, answer, restoring = record
    program, capsule_id, root, cwd, patterns, memory_file, store_root, rows = restoring
    recipe = Recipe(capsule_id=capsule_id, argv=(), root=root, cwd=cwd, outputs=patterns)
    memory = Memory(memory_file)
    workspace = Workspace(recipe, memory, hidden_directories(store_root, recipe, posix.environ))
    workspace.stage_places = (f"{store_root}/tmp", cwd)
    nodes = {
        name: Node(kind, mode=mode, digest=Digest(content, size) if content else None, target=target)
        for name, kind, mode, content, size, target in rows
    }
    # All that is listed, declared or not: what isn't was there before the full path made the outputs right, and still
    # is.
    workspace.spared = lambda: {
        join(folder[0], name) for folder in inputs[0] for name, seen in folder[3].items() if seen
    }
    try:
        restored = workspace.settle(
            nodes,
            DiskStore(store_root, now=time.time),
            burier(store_root, capsule_id),
        )
    except (CapsulaError, OSError):
        return None
    if restored.buried:
        from capsula.cli.narrate import buried_line
        from capsula.cli.wrapper import tell

        tell(program, buried_line(restored.buried))
    memory.save()
    seen = workspace.seen
    if not restored.written and not restored.removed and seen is not None and not seen.fresh:
        from capsula.cli.record import watched_outputs

        outputs, modes = watched_outputs(seen)
        fields = (VERSION, watched, variables, inputs, outputs, modes, answer, restoring)
        write_whole(path, to_bytes(path, fields))
    return restored.bytes
