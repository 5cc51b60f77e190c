"""`python bench/crowd.py DIRECTORY [COUNT]`: a project with as many capsules as one likes, to measure the vault with.

They are made as the product makes them: one run is recorded by the installed command, and the others are drafts of the
vault with its context, another commit now and then, another command, other metrics and logs, and then sealed.
"""

import json
import math
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from capsula.vault.vault import Vault

PROGRAMS = ("train.py", "evaluate.py", "simulate.py", "plot.py")
BEGIN = datetime(2026, 1, 1, 9, tzinfo=UTC)
WORDS = [
    f"{first}{last}"
    for first in ("al", "be", "ga", "de", "ep", "ze")
    for last in ("pha", "ta", "mma", "ro", "xi")
]


def fill(root: Path, count: int) -> None:
    """Make the project and its capsules. The same each time, but for the ids."""
    chance = random.Random(1)
    root.mkdir(parents=True)
    (root / "capsula.toml").touch()
    subprocess.run([Path(sys.executable).with_name("capsula"), "monitor", "-q", "true"], cwd=root, check=True)
    (first,) = (root / "vault").glob("*/context.json")
    context = json.loads(first.read_text())
    vault = Vault(str(root / "vault"))
    for number in range(count - 1):
        _one(vault, context, number, chance)


def _one(vault: Vault, context: dict[str, Any], number: int, chance: random.Random) -> None:
    when = BEGIN + timedelta(minutes=37 * number)
    draft = vault.begin("%Y%m%d_%H%M%S", when, "monitor")
    words = [
        "python3",
        chance.choice(PROGRAMS),
        "--seed",
        str(number),
        "--rate",
        f"{10 ** chance.uniform(-4, -1):.5f}",
    ]
    context["timestamp"] = when.isoformat()
    context["git"] = {
        "work": {"path": ".", "sha": f"{number // 10:040x}", "branch": "main", "clean": number % 3 > 0}
    }
    draft.write_json("context.json", context)
    draft.write_json(
        "pre-run-info.json",
        {
            "root_directory": "/work",
            "cwd": "/work",
            "timestamp": when.isoformat(),
            "args": words,
            "inputs": {},
        },
    )
    log = _log(chance)
    draft.write("stdout.txt", log.encode())
    failed = chance.random() < 0.05
    seconds = round(chance.lognormvariate(3, 2), 6)
    draft.write_json(
        "post-run-info.json",
        {"timestamp": when.isoformat(), "stdout": log, "stderr": "", "exit_code": int(failed), "signal": None,
         "user_seconds": seconds * 0.9, "system_seconds": 0.1, "max_rss_kb": chance.randrange(10_000, 4_000_000)},
    )  # fmt: skip
    draft.seal(
        "failed" if failed else "finished",
        {"command": " ".join(words), "items": [words[1].removesuffix(".py")], "parent": None, "seconds": seconds,
         "exit_code": int(failed), "metrics": {"loss": chance.random(), "accuracy": chance.random()},
         "troubles": [], "notes": []},
    )  # fmt: skip


def _log(chance: random.Random) -> str:
    """3 KB in the middle of all, now and then a hundred times as much."""
    size = min(chance.lognormvariate(math.log(3000), 1.3), 2_000_000)
    lines, epoch = [], 0
    while size > 0:
        epoch += 1
        lines.append(f"epoch {epoch} loss {chance.random():.5f} {' '.join(chance.choices(WORDS, k=4))}\n")
        size -= len(lines[-1])
    return "".join(lines)


if __name__ == "__main__":
    fill(Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
