"""What nobody uses: vulture's findings, less the names that only quoted annotations mention, which it can't read."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAME = re.compile(r"unused \S+ '(\w+)'")


def quoted_annotations(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        notes = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.Assign) and "[" in ast.unparse(
            node.value
        ):  # an alias of a type is quoted too
            notes.append(node.value)
        for note in notes:
            for part in ast.walk(note) if isinstance(note, ast.AST) else ():
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def names_in_annotations() -> set[str]:
    texts: list[str] = []
    for page in Path("src").rglob("*.py"):
        texts += quoted_annotations(ast.parse(page.read_bytes(), str(page)))
    return {name for text in texts for name in re.findall(r"\w+", text)}


def main() -> int:
    found = subprocess.run([sys.executable, "-m", "vulture"], check=False, capture_output=True, text=True)
    known = names_in_annotations()
    lines = [line for line in found.stdout.splitlines() if not known & set(NAME.findall(line))]
    print("\n".join([*lines, found.stderr]).strip() or "no dead code")
    return 1 if lines or found.returncode not in (0, 3) else 0


if __name__ == "__main__":
    sys.exit(main())
