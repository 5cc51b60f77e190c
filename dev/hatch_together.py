"""Build hook: the modules of a run, compiled, in a few files of the wheel (capsula.cli.together says why)."""

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
    core/__init__ core/action core/capsule core/compare core/context core/digest core/facts core/folder core/glob
    core/names core/node core/reapi core/recipe core/result core/secrets core/tree core/wire
    engine/__init__ engine/job engine/keep engine/run
    execute/__init__ execute/log execute/process execute/relay execute/signals execute/spawn execute/stdio
    observe/__init__ observe/journal
    plugins/__init__ plugins/cached_run
    probe/__init__ probe/commit probe/environment
    store/__init__ store/burial store/disk store/files store/flight store/layout store/past store/size
    worktree/__init__ worktree/digests worktree/kept worktree/listing worktree/restore worktree/survey
    worktree/workspace
"""
# Imported by a run that names remotes, and when one of each kind is asked for something.
MORE = {
    "remotes": """
        config/words core/carried core/packs core/statement plugins/later plugins/remotes
        store/address store/arrivals store/believed store/guard store/handshake store/late store/life store/packed
        store/parallel store/passing store/reach store/receive store/sealed store/threads store/tiers store/unopened
    """,
    "http": "store/exchange store/http store/proxies",
    "buckets": """
        store/aws store/azure store/buckets store/clock store/holdings store/objects store/packs store/refusals
    """,
    "reapi": "core/services store/calls store/reapi",
}


# Code, whether it is a package, and what has to be made before it, in order.
Module = tuple[CodeType, bool, tuple[str, ...]]


class TogetherHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # the sources change from one run to the next
        package = Path(self.root) / "src" / "capsula"
        files: dict[str, Any] = {f"-{name}": compiled(package, given.split()) for name, given in MORE.items()}
        # The first says which other file has a module that it doesn't have itself.
        elsewhere = {module: which for which, modules in files.items() for module in modules}
        files[""] = elsewhere | compiled(package, MODULES.split(), is_first=True)
        for which, modules in files.items():
            made = Path(self.directory) / f"together{which}.{sys.implementation.cache_tag}.bin"
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_bytes(MAGIC_NUMBER + marshal.dumps(modules))
            build_data["force_include"][str(made)] = f"capsula/{made.name}"


def compiled(package: Path, names: list[str], *, is_first: bool = False) -> dict[str, Module]:
    """By module name. Of the first file, a module is made together with what it needs; what comes after may be imported
    by several threads at once, which is for importlib to put in order."""
    codes: dict[str, tuple[CodeType, bool]] = {}
    imported: dict[str, list[str]] = {}
    for name in names:
        tree = ast.parse((package / f"{name}.py").read_bytes())
        dotted = "capsula." + name.removesuffix("/__init__").replace("/", ".")
        # Without docstrings, which are half of it.
        lean = ast.fix_missing_locations(WithoutTypes().visit(tree))
        code = compile(lean, f"capsula/{name}.py", "exec", dont_inherit=True, optimize=2)
        codes[dotted] = without_lines(code), name.endswith("/__init__")
        imported[dotted] = list(imports_at_the_top(lean.body))
    return {
        name: (code, is_package, tuple(before(name, imported)) if is_first else ())
        for name, (code, is_package) in codes.items()
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
