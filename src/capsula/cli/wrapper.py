"""The whole way of `capsule`: read the options, compose, run the engine, say and note what happened."""

import posix
import sys
import time

from capsula import engine
from capsula.cli.recall import is_watched
from capsula.config.options import guess_command, wants_no_run, wants_passive, wants_strict
from capsula.config.places import find_root, find_store
from capsula.config.settings import read_settings
from capsula.core.action import inputs_hash
from capsula.core.names import printable
from capsula.errors import CapsulaError, NotAvailable, RemoteRequired, StoreError, UsageError, in_one_line
from capsula.execute.spawn import child_environment, exec_command
from capsula.observe.journal import append
from capsula.plugins.cached_run import Session, compose, find_context, journal_line
from capsula.store.layout import is_ours
from capsula.store.size import maybe_sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable

    from capsula.cli.recall import Seen
    from capsula.config.settings import Settings
    from capsula.observe.span import Place
else:
    import _signal

STRICT_EXIT = 125
# As most commands end when there is no room for what they print.
UNWRITTEN_EXIT = 1


def wrap(program: str, argv: "list[str]") -> int:
    """The exit code. Raises only for a bug before the command has started."""
    environ = dict(posix.environ)
    asked = environ.get(b"CAPSULE_ARGS")
    variable = asked.decode("utf-8", "surrogateescape") if asked is not None else None
    if wants_passive(argv, variable) and not wants_no_run(argv, variable):
        command = guess_command(argv)
        if command:
            exec_command(tuple(command), child_environment(environ))

    def read(*, lenient: bool) -> "Settings":
        return _read(program, argv, variable, environ, lenient=lenient)

    problem: CapsulaError | None = None
    try:
        settings = read(lenient=False)
        cwd = posix.getcwd()
    except (CapsulaError, OSError) as error:
        understood = _understood(read, argv, variable)
        if understood is None or not isinstance(error, CapsulaError):
            return _bad_start(program, argv, variable, environ, error)
        problem, settings, cwd = error, understood, posix.getcwd()
        settings.backend, settings.remote = "dummy", ()
    if settings.help or settings.version:
        from capsula import __version__
        from capsula.cli.help import help_text

        posix.write(1, (help_text() if settings.help else f"capsule {__version__}\n").encode())
        return 0
    if settings.passive and settings.command and not (settings.dry_run or settings.inputs_hash):
        exec_command(settings.command, child_environment(environ))

    def say(text: str) -> None:
        tell(program, text)

    place = _place(settings) if settings.honeycomb_dataset or is_watched() else None
    try:
        session, lack = _composed(settings, cwd, environ, say)
    except UsageError as error:
        return _bad_start(program, argv, variable, environ, problem or error)
    problem = lack or problem
    session.place = place
    if settings.inputs_hash:
        return _print_inputs_hash(session, environ, say)
    if problem is not None:
        say(f"not cached: {in_one_line(problem)}")
        if settings.strict or isinstance(problem, RemoteRequired):
            return STRICT_EXIT
    return _run(session, program, argv, problem)


def _read(
    program: str, argv: "list[str]", variable: "str | None", environ: "dict[bytes, bytes]", *, lenient: bool
) -> "Settings":
    home = environ.get(b"HOME")
    cwd = posix.getcwd()
    return read_settings(
        argv,
        environ_args=variable,
        home=home.decode("utf-8", "surrogateescape") if home else None,
        cwd=cwd,
        find_root=lambda given: find_root(given, cwd),
        program=program,
        lenient=lenient,
    )


def _composed(
    settings: "Settings", cwd: str, environ: "dict[bytes, bytes]", say: "Callable[[str], None]"
) -> "tuple[Session, CapsulaError | None]":
    """The run, and why it has no store if it has none: the command runs all the same, with the inputs hash in its
    environment."""
    try:
        session = compose(settings, cwd=cwd, environ=environ, say=say)
        if session.remotes is not None:
            from capsula.plugins.later import put_off

            put_off()
        return session, None
    except (NotAvailable, StoreError) as error:
        settings.backend, settings.remote = "dummy", ()
        return compose(settings, cwd=cwd, environ=environ, say=say), error


def _understood(
    read: "Callable[..., Settings]", argv: "list[str]", variable: "str | None"
) -> "Settings | None":
    """What could be read of options that are partly wrong, if that is enough for the command to have its inputs hash;
    None also when it shall not run."""
    command = guess_command(argv)
    if not command or wants_strict(argv, variable) or wants_no_run(argv, variable):
        return None
    try:
        settings = read(lenient=True)
    except (CapsulaError, OSError):
        return None
    # The command is found without its `--` too: then who knows which words were options.
    is_run = settings.command == tuple(command) and not (settings.dry_run or settings.inputs_hash)
    return settings if is_run else None


def _place(settings: "Settings") -> "Place | None":
    """Ours in the trace that the caller is in, or that begins here; None when nobody listens after all."""
    import os

    from capsula.plugins import telemetry

    return telemetry.place_of(os.environ, settings)


def tell(program: str, text: str) -> None:
    """One line of ours to stderr; a closed stderr is no trouble."""
    try:
        posix.write(2, f"{program}: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return


def _bad_start(
    program: str, argv: "list[str]", variable: "str | None", environ: "dict[bytes, bytes]", error: Exception
) -> int:
    """The options can't be read: say so in one line, and run the command all the same (or with --strict, don't)."""
    text = in_one_line(error) if isinstance(error, CapsulaError) else f"no current directory: {error}"
    command = guess_command(argv)
    tell(program, f"not cached: {text}" if command else text)
    if not command or wants_strict(argv, variable) or wants_no_run(argv, variable):
        return STRICT_EXIT
    wanted = child_environment(environ)
    # An enclosing capsule's hash isn't ours.
    wanted.pop(b"CAPSULE_INPUTS_HASH", None)
    exec_command(tuple(command), wanted)


def _print_inputs_hash(session: Session, environ: "dict[bytes, bytes]", say: "Callable[[str], None]") -> int:
    """The build id on stdout, nothing else; without one, exit code 1."""
    try:
        inputs = session.workspace.inputs()
        found = inputs_hash(session.recipe, find_context(session.recipe, inputs, environ))
    except CapsulaError as error:
        say(f"no inputs hash: {in_one_line(error)}")
        return STRICT_EXIT if session.settings.strict else 1
    if session.settings.verbose:
        for name, content in inputs.hashes():
            say(f"input  {content}  {printable(name)}")
    for pattern in inputs.unmatched:
        say(f"no input matches '{printable(pattern)}'")
    posix.write(1, found.encode() + b"\n")
    session.memory.save()
    return STRICT_EXIT if inputs.unmatched and session.settings.strict else 0


def _run(session: Session, program: str, argv: "list[str]", problem: "CapsulaError | None") -> int:
    """Run it, then tell and note. Once the command has run, its exit code stands, whatever happens here.

    `problem`: why there is no store to ask or to keep anything in. It has been said, and then nothing else is.
    """
    from capsula.cli.record import watched_places

    settings, watched = session.settings, watched_places(session)
    if session.remotes is not None:
        session.remotes.holds = lambda: _let_go_first(session)
    report = engine.run(session.recipe, session.policy, session.world)
    session.remove_spools()
    code = exit_code(session, report)
    try:
        if report.problem is not None and report.problem.__cause__ is not None:
            _show_where(report.problem.__cause__)
        if problem is not None:
            report.outcome, report.problem, report.why = engine.UNCACHED, None, problem.what
            report.reason = engine.reason_of(problem)
            _note_uncached(session, report)
        if not _is_quiet(session, report):
            from capsula.cli.narrate import narrate

            narrate(session, program, report)
        if not settings.dry_run:
            _note(session, program, argv, report, watched)
        if session.remotes is not None:
            began = time.time_ns()
            session.remotes.send(lambda text: tell(program, text))
            report.mark("upload", began)
        report.problem = report.problem or problem
        if session.place is not None and not settings.dry_run:
            from capsula.plugins import telemetry

            telemetry.report(session, report, session.place, lambda text: tell(program, text))
        if settings.json is not None:
            from capsula.cli.report import write_report

            try:
                write_report(settings.json, session, report, code)
            except OSError as error:
                tell(program, f"can't write the report to {printable(settings.json)}: {error.strerror}")
    except Exception as error:
        # Never on from here: whoever catches an error of ours runs the command, and it has run.
        _show_where(error)
        tell(program, f"can't tell what happened: {type(error).__name__}: {error}")
    finally:
        if session.remotes is not None:
            session.remotes.end()
    if report.signal == _signal.SIGINT and posix.isatty(0):
        _end_by_interrupt()
    return code


def _let_go_first(session: Session) -> None:
    from capsula.cli.leaving import let_go_first

    if session.remotes is not None:
        let_go_first(session.remotes.let_go)


def _show_where(error: BaseException) -> None:
    if posix.environ.get(b"CAPSULA_DEBUG"):
        sys.excepthook(type(error), error, error.__traceback__)


def _end_by_interrupt() -> None:
    """End as the command did: a shell's loop stops at Ctrl-C only when what it ran died of it (its `$?` is 130 both
    ways).
    """
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))
    posix.kill(posix.getpid(), _signal.SIGINT)


def _is_quiet(session: Session, report: engine.Report) -> bool:
    """Whether there is certainly nothing to say, so that the words needn't be loaded."""
    settings, policy = session.settings, session.policy
    if settings.verbose or settings.explain or settings.dry_run or policy.placebo or policy.sampled:
        return False
    job = report.origin.job if report.origin is not None else ""
    return not (
        report.problem or report.not_stored or report.buried or (report.outcome == engine.HIT and job)
    )


def exit_code(session: Session, report: engine.Report) -> int:
    settings = session.settings
    is_strict = settings.strict or isinstance(report.problem, RemoteRequired)
    if is_strict and report.problem is not None and not report.started and report.outcome == engine.UNCACHED:
        return STRICT_EXIT
    if report.mismatch and settings.placebo_exit is not None and report.exit_code == 0:
        return settings.placebo_exit
    if settings.dry_run:
        return 0
    return report.exit_code or (UNWRITTEN_EXIT if report.unwritten else 0)


def _note(session: Session, program: str, argv: "list[str]", report: engine.Report, watched: "Seen") -> None:
    """The journal, what is remembered for next time, the recall record, and a sweep when the store has grown."""
    if not session.store_root:
        return
    root, settings = session.store_root, session.settings
    append(root, journal_line(session, report))
    session.memory.save()
    if report.outcome == engine.HIT or report.stored:
        from capsula.cli.recall import keep_record

        keep_record(session, program, argv, report, watched)
    if report.stored:
        maybe_sweep(root, settings.store_size, session.bytes_added(), now=time.time)


def _note_uncached(session: Session, report: engine.Report) -> None:
    """A run without a store is in the journal of the one that it would have used, if there is one."""
    settings, recipe = session.settings, session.recipe
    try:
        root = find_store(settings.store, recipe.cwd, recipe.root, dict(posix.environ))
        if not settings.dry_run and is_ours(posix.listdir(root)):
            append(root, journal_line(session, report))
    except (CapsulaError, OSError):
        return
