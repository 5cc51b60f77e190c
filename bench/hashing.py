"""Hashing cold: the inputs' digest with nothing remembered, against sha256sum over the same files."""

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hits import TROUBLE, install, why_not
from measure import Command, Times, talk, timed
from report import Part, Target, milliseconds, ratio, say
from tools import CAPSULE, Options, Place, Unavailable, capsule_command, capsule_environment
from workload import CheckFailed

CASES = (
    ("1 GiB in one file", 1, 2**30),
    ("1 GiB in 8 files", 8, 2**27),
    ("10,000 files of 1 KiB", 10_000, 2**10),
)
BLOCK = 2**20


@contextmanager
def files(workspace: Path, count: int, size: int) -> Iterator[list[str]]:
    """That many files of random bytes under src/, gone again afterwards: a GiB isn't left lying about."""
    shutil.rmtree(workspace.parent, ignore_errors=True)
    (workspace / ".git").mkdir(parents=True)  # marks the root
    names = []
    for number in range(count):
        name = f"src/d{number % 40:02d}/f{number:05d}"
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        block = random.Random(number).randbytes(min(size, BLOCK))
        with path.open("wb") as file:
            for _ in range(size // len(block)):
                file.write(block)
        names.append(name)
    os.sync()  # else the writing back of them would run into the first rounds
    try:
        yield names
    finally:
        shutil.rmtree(workspace.parent, ignore_errors=True)


FINDING = "find+sha256sum"
REFERENCES = ("sha256sum", FINDING, "openssl")


def commands(place: Place, names: list[str]) -> dict[str, Command]:
    """Ours first, then the references that this machine has."""
    ours = (str(capsule_command()), "-c", "hashing", "-i", "src/**", "--inputs_hash", "--", "true")
    found = {"capsule": Command(ours, place.workspace, capsule_environment(place))}
    for name, options in (("sha256sum", ()), ("openssl", ("dgst", "-sha256"))):
        if path := shutil.which(name):
            found[name] = Command((path, *options, *names), place.workspace, place.environment())
    if "sha256sum" in found and (shell := shutil.which("sh")):
        script = "find src -type f -print0 | xargs -0 sha256sum"
        found[FINDING] = Command((shell, "-c", script), place.workspace, place.environment())
    return found


def measure(place: Place, names: list[str], rounds: int) -> dict[str, Times]:
    all_commands = commands(place, names)
    ours = all_commands["capsule"]
    seconds: dict[str, list[float]] = {name: [] for name in all_commands}
    first = talk(ours.argv, ours.cwd, ours.env)
    for _ in range(rounds):
        for name in random.sample(sorted(all_commands), len(all_commands)):
            if name == "capsule":
                shutil.rmtree(place.base / "cache", ignore_errors=True)
            seconds[name].append(timed(all_commands[name]))
    again = talk(ours.argv, ours.cwd, ours.env)
    if not first.strip() or first != again:
        raise CheckFailed(f"the digest is not the same each time: {first.strip()!r}, {again.strip()!r}")
    with (place.workspace / names[0]).open("r+b") as file:
        file.write(b"edited")
    if talk(ours.argv, ours.cwd, ours.env) == first:
        raise CheckFailed("the digest is the same after an edit")
    return {name: Times(tuple(each)) for name, each in seconds.items()}


def run(options: Options) -> Part:
    part = Part(
        "hashing",
        "Hashing cold (ms)",
        ("inputs", "capsule", *REFERENCES, *(f"by {name}" for name in REFERENCES)),
    )
    part.notes.append(
        f"Medians of {options.rounds} rounds of `capsule --inputs_hash` with its store deleted before each run."
        " The files are in the page cache for all. sha256sum and openssl are one process that is told the files; ours"
        " has to find them, and so has `find | xargs sha256sum`, which the target goes by. openssl, where installed,"
        " is the faster one on processors with instructions for SHA."
    )
    try:
        install(CAPSULE, options.scratch)
    except Unavailable as error:
        part.notes.append(f"not measured: {error}")
        return part
    for case, count, size in CASES:
        say(f"  {case}")
        place = Place(options.scratch, options.scratch / "hashing")
        try:
            with files(place.workspace, count, size) as names:
                times = measure(place, names, options.rounds)
        except TROUBLE as error:
            part.notes.append(f"not measured: {case}: {why_not(error)}")
            continue
        _report(part, case, times)
    return part


def _report(part: Part, case: str, times: dict[str, Times]) -> None:
    ours = times["capsule"].median
    by = {name: ours / times[name].median if name in times else None for name in REFERENCES}
    cells = (milliseconds(times[name].median) if name in times else "-" for name in ("capsule", *by))
    part.rows.append((case, *cells, *(ratio(value) for value in by.values())))
    part.targets.append(Target(f"{case}, by {FINDING}", by[FINDING], 1.0))
    part.numbers[case] = {name: one.as_json() for name, one in times.items()}
