"""A project in which nothing is captured, so that a call costs little, and what its capsules say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import capsula
from capsula.api import current, live
from capsula.api.current import LIVE
from recorded import Recorded

SCHEMAS = Path(capsula.__file__).parent / "schemas"


class Project(Recorded):
    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, name: str = "", **more: Any) -> capsula.Run:
        return capsula.run(name, directory=self.root, **more)

    def monitor(self, function: Any = None, **more: Any) -> Any:
        decorate = capsula.monitor(directory=self.root, **more)
        return decorate if function is None else decorate(function)

    def by_command(self) -> dict[str, list[dict[str, Any]]]:
        """What capsule.json says of each, by the last word of its command."""
        found: dict[str, list[dict[str, Any]]] = {}
        for path in self.capsules():
            record = json.loads((path / "capsule.json").read_text())
            found.setdefault(record["command"].rpartition(".")[2], []).append(record)
        return found


def wrong(root: Path) -> list[str]:
    """What in the JSON files of the sealed capsules isn't as the schemas say."""
    found = []
    for schema in sorted(SCHEMAS.glob("*.schema.json")):
        check = Draft202012Validator(json.loads(schema.read_text()))
        for path in root.glob(f"vault/*/{schema.name.replace('.schema', '')}"):
            for error in check.iter_errors(json.loads(path.read_text())):
                found.append(f"{path.name}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    (tmp_path / "capsula.toml").write_text("[monitor]\ncapture = false\n")
    monkeypatch.delenv(LIVE, raising=False)
    monkeypatch.chdir(tmp_path)
    live._warned.clear()
    yield Project(tmp_path)
    assert wrong(tmp_path) == []
    assert current.current() is None
    assert current._process.lives == []
