"""Build hook: the modules of a run, compiled, in one file of the wheel (capsula.cli.together says why)."""

from __future__ import annotations

import ast
import marshal
import sys
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Imported on the way to a miss. What else a run needs (terminals, TOML, the trash, words for people) comes as always.
MODULES = """
    errors ports
    cli/__init__ cli/record cli/recalled cli/wrapper
    config/__init__ config/options config/places config/settings config/values
    core/__init__ core/action core/capsule core/compare core/context core/digest core/facts core/glob core/names
    core/node core/reapi core/recipe core/result core/secrets core/tree core/wire
    engine/__init__ engine/job engine/keep engine/run
    execute/__init__ execute/log execute/process execute/relay execute/signals execute/spawn execute/stdio
    observe/__init__ observe/journal
    plugins/__init__ plugins/cached_run
    probe/__init__ probe/commit probe/environment
    store/__init__ store/burial store/disk store/files store/flight store/layout store/past store/size
    worktree/__init__ worktree/digests worktree/kept worktree/listing worktree/restore worktree/survey
    worktree/workspace
""".split()  # noqa: SIM905 - a list of forty quoted names, one a line, says no more


class TogetherHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # the sources change from one run to the next
        made = Path(self.directory) / f"together.{sys.implementation.cache_tag}.bin"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(MAGIC_NUMBER + marshal.dumps(compiled(Path(self.root) / "src" / "capsula")))
        build_data["force_include"][str(made)] = f"capsula/{made.name}"


def compiled(package: Path) -> dict[str, tuple[CodeType, bool, tuple[str, ...]]]:
    """By module name: its code, whether it is a package, and what has to be made before it, in order."""
    codes: dict[str, tuple[CodeType, bool]] = {}
    imported: dict[str, list[str]] = {}
    for name in MODULES:
        tree = ast.parse((package / f"{name}.py").read_bytes())
        dotted = "capsula." + name.removesuffix("/__init__").replace("/", ".")
        # Without docstrings, which are half of it.
        lean = ast.fix_missing_locations(WithoutTypes().visit(tree))
        code = compile(lean, f"capsula/{name}.py", "exec", dont_inherit=True, optimize=2)
        codes[dotted] = without_lines(code), name.endswith("/__init__")
        imported[dotted] = list(imports_at_the_top(lean.body))
    return {
        name: (code, is_package, tuple(before(name, imported))) for name, (code, is_package) in codes.items()
    }


class WithoutTypes(ast.NodeTransformer):
    """Types are for the type checker; making them takes time at each start, and nobody asks for them in a run."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value) if node.value is not None else ast.Pass()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node


def without_lines(code: CodeType) -> CodeType:
    """The tables of line numbers are a quarter of what is read; only a traceback would miss them."""
    constants = tuple(
        without_lines(value) if isinstance(value, CodeType) else value for value in code.co_consts
    )
    return code.replace(co_linetable=b"", co_consts=constants)


def imports_at_the_top(body: list[ast.stmt]) -> Iterator[str]:
    """The names of all modules that these statements may import when they run (not what stands in functions)."""
    for statement in body:
        match statement:
            case ast.ImportFrom(module=str(module), names=names):
                yield module
                yield from (f"{module}.{each.name}" for each in names)
            case ast.Import(names=names):
                yield from (each.name for each in names)


def before(name: str, imported: dict[str, list[str]]) -> list[str]:
    """The modules of the file that have to be there before this one, each after those that it needs itself."""
    order: list[str] = []

    def add(one: str) -> None:
        parents = [one[:end] for end, letter in enumerate(one) if letter == "." and one[:end] in imported]
        for needed in (*parents, *imported[one]):
            if needed in imported and needed not in order and needed not in pending:
                pending.add(needed)
                add(needed)
                order.append(needed)

    pending = {name}
    add(name)
    return order
