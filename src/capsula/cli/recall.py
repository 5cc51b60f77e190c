"""Recall: the shortest way to a hit. If nothing has changed since this very command line was last answered, the answer
is still right, and no option is parsed, no pattern matched and no digest computed.

A record under the digest of the raw command line, the directory and CAPSULE_ARGS holds all that the answer hangs on:
the looks of the configuration files and of the places where the workspace root was searched, the declared variables,
every scanned directory of inputs and of outputs as the flat listing of its names and looks. Whatever differs, is
missing or can't be read falls through to the full path, which is the truth. The record is only written when no look
in it is too fresh to prove anything (worktree.listing.is_fresh). Deleting it costs one slower hit.

Secrets: command lines and variables enter the record's name or the record as keyed hashes only.
"""

import _imp
import marshal
import posix

from capsula import __version__
from capsula.worktree.listing import list_folder, list_names, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.engine import Report
    from capsula.plugins.cached_run import Session
    from capsula.worktree.listing import Listing, Look

    Watched = tuple[str, tuple[str, ...] | None, frozenset[str], Listing]
    Area = tuple[list[Watched], list[tuple[str, Look | None]]]
    Order = tuple[tuple[int, int], ...]
    # entry's file and how it begins, exit code, when it expires (ns, 0: never), stdout, stderr, order, what to say,
    # store, journal line
    Answer = tuple[str, bytes, int, int, bytes, bytes, Order, bytes, str, str]
    # path, kind, mode, hash, size, target of each output
    Row = tuple[str, str, int, str, int, str]
    # program, id, root, directory, output patterns, file of the memory, store, outputs
    Restoring = tuple[str, str, str, str, tuple[str, ...], str, str, list[Row]]
    Seen = list[tuple[str, Look | None]]
    Record = tuple[
        int, Seen, list[tuple[bytes, str]], Area, Area | None, list[tuple[str, int]], Answer, Restoring
    ]

VERSION = 2
# The beginning of a record's file; its name and 8 bytes of checksum follow. What a disk has spoilt could be read as a
# list of two thousand million items, or be the record of another command.
_MAGIC = b"capsula-recall2\n"
_NAME = 32
_HEAD = len(_MAGIC) + _NAME + 8
_CHECK = 0x72656361
_REGULAR = 0o100000
# Magic and checksum of an entry (store.layout.seal): they tell whether it still is the result that is recalled.
ENTRY_HEAD = 77


def is_watched() -> bool:
    """Whether somebody wants to hear of each run: the shortest way tells nobody."""
    environ = posix.environ
    return bool(
        environ.get(b"OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get(b"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )


def recall(program: str, argv: "list[str]") -> int | None:
    """The exit code of a hit that is in place and has been replayed; None when the full path has to be gone."""
    path = record_path(program, argv)
    if path is None or is_watched():
        return None
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read()
        rest = memoryview(content)[_HEAD:]
        if content[:_HEAD] != _head(path, rest):
            return None
        record = marshal.loads(rest)
        (version, watched, variables, inputs, outputs, modes, answer, _) = record
        if version != VERSION or not _same_world(watched, variables) or not _same_area(inputs):
            return None
        if not _is_current(answer):
            return None
    except (OSError, ValueError, EOFError, TypeError):
        return None
    if outputs is not None and _same_outputs(outputs, modes):
        return _answer(answer)
    from capsula.cli import together

    together.use()
    from capsula.cli.recalled import restore_recalled

    restored = restore_recalled(path, record)
    return None if restored is None else _answer(answer, restored)


def record_path(program: str, argv: "list[str]") -> "str | None":
    """The file of the record, named by all that chooses options and places but isn't watched."""
    environ = posix.environ
    cache = environ.get(b"XDG_CACHE_HOME", b"")
    home = environ.get(b"HOME", b"")
    if not cache.startswith(b"/"):
        if not home.startswith(b"/"):
            return None
        cache = home.rstrip(b"/") + b"/.cache"
    try:
        if posix.fstat(0).st_mode & 0o170000 == _REGULAR:
            # What is in a file on standard input is part of the key.
            return None
        words = [argument.encode("utf-8", "surrogateescape") for argument in argv]
        machine = posix.uname()
        # Another version may read options or patterns otherwise.
        place = (program, __version__, machine.sysname, machine.machine)
        parts = [
            *map(str.encode, place),
            posix.getcwdb(),
            environ.get(b"CAPSULE_ARGS", b"\xff"),
            home,
            *words,
        ]
    except (OSError, UnicodeError):
        return None
    whole = b"\0".join(parts)
    return f"{cache.decode('utf-8', 'surrogateescape')}/capsula/recall/{keyed_hash(whole)}"


def keyed_hash(content: bytes) -> str:
    """SipHash twice, 128 bits: the interpreter's own (it tells changed sources by it), so that nothing is imported."""
    return (_imp.source_hash(0x636170, content) + _imp.source_hash(0x73756C61, content)).hex()


def _same_world(watched: "Seen", variables: "list[tuple[bytes, str]]") -> bool:
    for path, seen in watched:
        if look(path) != seen:
            return False
    environ = posix.environ
    return all([_hash_of(environ.get(name)) == known for name, known in variables])


def _hash_of(value: "bytes | None") -> str:
    return "" if value is None else keyed_hash(value)


def _same_area(area: "Area") -> bool:
    folders, followed = area
    for path, names, skipped, listing in folders:
        if (list_folder(path, skipped) if names is None else list_names(path, names)) != listing:
            return False
    for path, seen in followed:
        if look(path) != seen:
            return False
    return True


def _same_outputs(outputs: "Area", modes: "list[tuple[str, int]]") -> bool:
    try:
        for path, mode in modes:
            if posix.lstat(path).st_mode != mode:
                return False
        return _same_area(outputs)
    except OSError:
        return False


def _is_current(answer: "Answer") -> bool:
    """Whether the result is still the one that is stored: a later run of a command that isn't deterministic (a
    placebo, another checkout) replaces it. False too when it has expired.
    """
    if answer[3]:
        import time

        if time.time_ns() > answer[3]:
            return False
    with open(answer[0], "rb", buffering=0) as file:
        return file.read(ENTRY_HEAD) == answer[1]


def _answer(answer: "Answer", restored: int = 0) -> int | None:
    """Use the entry, replay, note. None when the entry is gone."""
    entry, _, exit_code, _, stdout, stderr, order, greeting, root, line = answer
    import time

    try:
        # The entry's time is when it was last used. A store that can't be written keeps its entries' times.
        posix.utime(entry)
    except FileNotFoundError:
        return None
    except OSError:
        if look(entry) is None:
            return None
    unwritten = 0
    if len(order) == 1 and len(stdout) + len(stderr) < 4096:
        unwritten = _write(order[0][0], stdout or stderr)
    elif stdout or stderr:
        from capsula.execute.stdio import in_order, replay

        unwritten = replay(in_order(stdout, stderr, order))
    if greeting:
        _write(2, greeting)
    if restored:
        line = line.replace('"bytes": 0,', f'"bytes": {restored},', 1)
    _note(root, line, time.time())
    return _with_loss(exit_code, unwritten) if unwritten else exit_code


def _write(fd: int, content: bytes) -> int:
    """The errno of what is lost, as `replay` answers it."""
    try:
        done = posix.write(fd, content)
    except OSError:
        done = 0
    if done < len(content):
        from capsula.execute.stdio import replay

        return replay([(fd, content[done:])])
    return 0


def _with_loss(exit_code: int, error: int) -> int:
    from capsula.cli.wrapper import UNWRITTEN_EXIT, tell

    tell("capsule", f"not all of the command's output could be written: {posix.strerror(error)}")
    return exit_code or UNWRITTEN_EXIT


def _note(root: str, line: str, now: float) -> None:
    """The journal's line, all but its time known since the record was written."""
    from capsula.observe.journal import append_line

    append_line(root, f'{{"time": {now:.3f}, {line}\n'.encode())


def keep_record(
    session: "Session", program: str, argv: "list[str]", report: "Report", watched: "Seen"
) -> None:
    """Write the record of a run that is a hit now, if all that it hangs on can be watched and trusted.

    `watched` is what `record.watched_places` saw before the run.
    """
    from capsula.cli.record import record_of
    from capsula.worktree.kept import write_whole

    path = record_path(program, argv)
    if path is None:
        return
    record = record_of(session, report, watched)
    if record is not None:
        write_whole(path, to_bytes(path, record))


def to_bytes(path: str, record: "Record") -> bytes:
    # Version 2 of the format: later ones look every object up, to write repeated ones once, which takes longer.
    content = marshal.dumps(record, 2)
    return _head(path, content) + content


def _head(path: str, content: "bytes | memoryview") -> bytes:
    return _MAGIC + path[-_NAME:].encode() + _imp.source_hash(_CHECK, content)
