"""The capsules that a project's vault fills with."""

import json
from pathlib import Path
from typing import Any


def capsules_of(root: Path) -> list[Path]:
    """Oldest first."""
    found = [path.parent for path in root.glob("vault/*/capsule.json")]
    return sorted(found, key=lambda path: json.loads((path / "capsule.json").read_text())["id"])


class Recorded:
    """`root` is the project's."""

    root: Path

    def capsules(self) -> list[Path]:
        """Oldest first."""
        return capsules_of(self.root)

    def read(self, name: str = "capsule.json", at: int = -1) -> Any:
        return json.loads((self.capsules()[at] / name).read_text())
