"""`%load_ext capsula`: `%%capsula` records the cell that it stands above, `%capsula` a single statement.

The cell isn't run by us. A transformer takes the line of the magic away, and the hooks before and after a cell begin
and end the capsule; so everything that IPython does with a cell (await at top level, the history, the traceback, the
status of the reply) is as without the line.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from capsula.api.cell import Cell

_NAME = "capsula"
_HEAD = f"%%{_NAME}"
_ATTRIBUTE = "_capsula_notebook"
_USAGE = "%%capsula [NAME] [-i ITEM]... [-C DIR]"


@dataclass(frozen=True, slots=True)
class Asked:
    """The words of a magic; `rest` is what follows the options, as it stands."""

    items: tuple[str, ...] = ()
    directory: str | None = None
    rest: str = ""


class Notebook:
    """What the magics are in one shell."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.last = ""
        # A cell may run others: one place for each that has begun.
        self._running: list[Cell | None] = []

    def load(self) -> None:
        self.shell.input_transformers_cleanup.append(self.transform)
        self.shell.events.register("pre_run_cell", self.before)
        self.shell.events.register("post_run_cell", self.after)
        self.shell.register_magic_function(self.magic, "line_cell", _NAME)

    def unload(self) -> None:
        self.shell.input_transformers_cleanup.remove(self.transform)
        self.shell.events.unregister("pre_run_cell", self.before)
        self.shell.events.unregister("post_run_cell", self.after)
        for kind in ("line", "cell"):
            self.shell.magics_manager.magics[kind].pop(_NAME, None)

    def transform(self, lines: list[str]) -> list[str]:
        """A comment in the place of the magic, so that the numbers of lines stay. What can't be read stays, for `magic`
        to refuse."""
        if _asked(lines[0] if lines else "") is None:
            return lines
        rest = lines[1:]
        return rest if rest and rest[0].startswith("%%") else [f"# {lines[0].lstrip('%')}", *rest]

    # Whether a cell is complete is asked without it: below a magic, IPython waits for an empty line.
    transform.has_side_effects = True  # type: ignore[attr-defined]

    def before(self, info: Any) -> None:
        head, _, source = str(info.raw_cell).lstrip().partition("\n")
        asked = _asked(head)
        cell = None
        if asked is not None:
            cell = self._begin(asked, source, cell_id=getattr(info, "cell_id", None))
        self._running.append(cell)

    def after(self, result: Any) -> None:
        cell = self._running.pop() if self._running else None
        if cell is None:
            return
        if result is None:  # it was cancelled
            cell.end(None, None, status="interrupted")
            return
        error = result.error_before_exec or result.error_in_exec
        # Without a place in the history it has the number of the next one.
        count = result.execution_count if result.info is None or result.info.store_history else None
        cell.end(result.result, error, count=count)

    def magic(self, line: str, cell: str | None = None) -> Any:
        """Record this statement, or this cell, in a capsule: %%capsula [NAME] [-i ITEM]... [-C DIR]

        `-i` names an item of capsula.toml, whose files belong to the run; `-C` the project's root (else that of the
        current directory). `%capsula` alone answers the directory of the last capsule.
        """
        if cell is not None:
            return self._run_cell(_read_cell(line), cell)
        asked = _read(line)
        if not asked.rest:
            return self.last or None
        return self._run_statement(asked)

    def _begin(self, asked: Asked, source: str, **more: Any) -> Cell:
        if "name" not in more:
            more["name"] = asked.rest
        cell = Cell(self.shell, source, items=asked.items, directory=asked.directory, **more)
        self.last = cell.path or self.last
        return cell

    def _run_cell(self, asked: Asked, source: str) -> None:
        """Below another magic, or called by a program: then there is no cell of its own to listen to."""
        cell = self._begin(asked, source)
        try:
            result = self.shell.run_cell(source, store_history=False)
        except BaseException as error:
            cell.end(None, error)
            raise
        cell.end(result.result, result.error_before_exec or result.error_in_exec)
        result.raise_error()

    def _run_statement(self, asked: Asked) -> Any:
        source = self.shell.transform_cell(asked.rest)
        cell = self._begin(asked, asked.rest, name="")
        try:
            result = _execute(source, self.shell.user_ns)
        except BaseException as error:
            cell.end(None, error)
            raise
        cell.end(result, None)
        return result


def load_ipython_extension(ipython: Any) -> None:
    """Called by `%load_ext capsula`."""
    if getattr(ipython, _ATTRIBUTE, None) is None:
        notebook = Notebook(ipython)
        notebook.load()
        setattr(ipython, _ATTRIBUTE, notebook)


def unload_ipython_extension(ipython: Any) -> None:
    """Called by `%unload_ext capsula`."""
    notebook = getattr(ipython, _ATTRIBUTE, None)
    if notebook is not None:
        notebook.unload()
        setattr(ipython, _ATTRIBUTE, None)


def _execute(source: str, names: dict[str, Any]) -> Any:
    try:
        code = compile(source.strip(), "<%capsula>", "eval")
    except SyntaxError:
        exec(compile(source, "<%capsula>", "exec"), names)
        return None
    return eval(code, names)


def _asked(head: str) -> Asked | None:
    """None for a line that isn't our magic, or that can't be read."""
    if not (head.startswith(_HEAD) and head[len(_HEAD) :][:1].strip() == ""):
        return None
    try:
        return _read_cell(head[len(_HEAD) :])
    except Exception:
        return None


def _read_cell(line: str) -> Asked:
    """The name and the options in any order. What can't be read is IPython's UsageError, shown without a traceback."""
    asked, name = _read(line), []
    while asked.rest:
        word, _, rest = asked.rest.partition(" ")
        name.append(word)
        more = _read(rest)
        asked = Asked((*asked.items, *more.items), more.directory or asked.directory, more.rest)
    return Asked(asked.items, asked.directory, " ".join(name))


def _read(line: str) -> Asked:
    """The options that a line begins with."""
    items: list[str] = []
    directory, rest = None, line.strip()
    while rest.startswith("-"):
        word, _, following = rest.partition(" ")
        option, value = word[:2], word[2:]
        if option not in ("-i", "-C"):
            raise _refused(f"there is no option {word}")
        if not value:
            value, _, following = following.strip().partition(" ")
        if not value:
            raise _refused(f"{option} needs a value")
        value = value.strip("\"'")
        if option == "-i":
            items.append(value)
        else:
            directory = value
        rest = following.strip()
    return Asked(tuple(items), directory, rest)


def _refused(what: str) -> Exception:
    found: Exception = import_module("IPython.core.error").UsageError(f"{what}: {_USAGE}")
    return found
