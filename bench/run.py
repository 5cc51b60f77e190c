"""`python bench/run.py [PART ...]`: the numbers of this project, made on the machine where it runs."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import growth
import hashing
import hits
import memory
import miss
import record
import remote
import report
import storesize
import vault
from tools import Options

SCRATCH = Path(__file__).resolve().parent.parent / "build" / "bench"

PARTS: dict[str, Callable[[Options], report.Part]] = {
    "hits": hits.run,
    "miss": miss.run,
    "hashing": hashing.run,
    "growth": growth.run,
    "memory": memory.run,
    "store": storesize.run,
    "vault": vault.run,
    "record": record.run,
    "remote": remote.run,
}
ROUNDS = {
    "hits": 15,
    "miss": 31,
    "hashing": 7,
    "growth": 9,
    "memory": 1,
    "store": 1,
    "vault": 9,
    "record": 9,
    "remote": 7,
}


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/run.py", description="Measures capsule, side by side with its peers."
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} or all (the default)")
    parser.add_argument("--rounds", type=int, help="how often each thing is measured (default: by part)")
    parser.add_argument(
        "--only", default="", metavar="TOOL,TOOL", help="these peers only, in hits and growth"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 unless every target is met")
    return parser


def main() -> int:
    parser = options()
    chosen = parser.parse_args()
    names = list(PARTS) if not chosen.parts or "all" in chosen.parts else list(dict.fromkeys(chosen.parts))
    only = frozenset(name for name in chosen.only.split(",") if name)
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)} (there are {', '.join(PARTS)})")
    if unknown := sorted(only - {tool.name for tool in hits.TOOLS}):
        parser.error(
            f"no such tool: {', '.join(unknown)} (there are {', '.join(tool.name for tool in hits.TOOLS)})"
        )
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error("--rounds: at least 1")
    SCRATCH.mkdir(parents=True, exist_ok=True)
    met = True
    for name in names:
        report.say(f"{name}:")
        facts = report.machine(SCRATCH)
        part = PARTS[name](Options(SCRATCH, chosen.rounds or ROUNDS[name], only))
        report.save(SCRATCH, part, facts)
        print(report.as_text(part), flush=True)
        met = met and bool(part.targets) and all(target.verdict == "met" for target in part.targets)
    report.say(f"results: {SCRATCH.relative_to(SCRATCH.parent.parent)}/results.json and results.md")
    return 1 if chosen.check and not met else 0


if __name__ == "__main__":
    sys.exit(main())
