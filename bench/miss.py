"""What a miss costs on top of the command itself, for a command that does next to nothing."""

import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from hits import TROUBLE, install, why_not
from measure import Command, Times, timed
from report import Part, Target, milliseconds, ratio, say
from tools import CAPSULE, Options, Place, Unavailable, capsule_command, capsule_environment
from workload import CheckFailed


@dataclass(frozen=True)
class Tiny:
    """A workspace with one input and a command, `touch`, that only leaves the proof that it ran."""

    base: Path
    outputs: tuple[str, ...]

    @property
    def workspace(self) -> Path:
        return self.base / "ws"

    @property
    def proof(self) -> Path:
        return self.base / "ran"

    def lay_out(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)
        (self.workspace / "src").mkdir(parents=True)
        (self.workspace / ".git").mkdir()  # marks the root
        self.edit("first")

    def edit(self, content: str) -> None:
        (self.workspace / "src" / "input.txt").write_text(content)

    def bare(self, place: Place) -> Command:
        touch = shutil.which("touch")
        if touch is None:
            raise Unavailable("touch is not installed")
        return Command((touch, str(self.proof), *self.outputs), self.workspace, place.environment())

    def wrapped(self, place: Place) -> Command:
        options = ["-c", "tiny", "-i", "src/**"]
        for output in self.outputs:
            options += ["-o", output]
        argv = (str(capsule_command()), *options, "--", *self.bare(place).argv)
        return Command(argv, self.workspace, capsule_environment(place))

    def run(self, command: Command, *, must_run: bool) -> float:
        self.proof.unlink(missing_ok=True)
        seconds = timed(command)
        if self.proof.exists() != must_run:
            raise CheckFailed("a miss didn't run the command" if must_run else "a hit ran the command")
        if not all((self.workspace / output).exists() for output in self.outputs):
            raise CheckFailed("the output is missing")
        return seconds


def run(options: Options) -> Part:
    part = Part(
        "miss",
        "A miss on a tiny command (ms)",
        ("case", "command alone", "recalled hit", "hit", "miss", "overhead of the miss", "overhead by hit"),
    )
    part.notes.append(
        f"Medians of {options.rounds} rounds. The command is `touch`, the workspace has one input, edited just"
        " before each miss; overhead: miss less the command alone. The hit follows a run at once, and so looks"
        " everything up; the recalled one comes when nothing is too fresh to be trusted."
    )
    try:
        install(CAPSULE, options.scratch)
    except Unavailable as error:
        part.notes.append(f"not measured: {error}")
        return part
    for case, outputs in (("no outputs", ()), ("one output", ("out.txt",))):
        say(f"  {case}")
        tiny = Tiny(options.scratch / "miss", outputs)
        try:
            times = measure(tiny, Place(options.scratch, tiny.base), options.rounds)
        except TROUBLE as error:
            part.notes.append(f"not measured: {case}: {why_not(error)}")
            continue
        bare, recalled, hit, miss = (times[what].median for what in ("bare", "recalled", "hit", "miss"))
        cells = tuple(milliseconds(each) for each in (bare, recalled, hit, miss, miss - bare))
        part.rows.append((case, *cells, ratio((miss - bare) / hit)))
        part.targets.append(Target(f"overhead of a miss by a hit, {case}", (miss - bare) / hit, 1.5))
        part.numbers[case] = {what: one.as_json() for what, one in times.items()}
    return part


def measure(tiny: Tiny, place: Place, rounds: int) -> dict[str, Times]:
    tiny.lay_out()
    (place.scratch / "home").mkdir(exist_ok=True)
    bare, wrapped = tiny.bare(place), tiny.wrapped(place)
    tiny.run(wrapped, must_run=True)
    seconds: dict[str, list[float]] = {"bare": [], "hit": [], "miss": [], "recalled": []}
    for number in range(rounds):
        for what in random.sample(sorted(seconds), len(seconds)):
            if what == "bare":
                seconds[what].append(tiny.run(bare, must_run=True))
            elif what == "recalled":
                time.sleep(0.1)  # older than a look that could be too fresh
                tiny.run(wrapped, must_run=False)
                seconds[what].append(tiny.run(wrapped, must_run=False))
            elif what == "hit":
                tiny.edit(f"{number}, to be found")
                tiny.run(wrapped, must_run=True)
                tiny.run(wrapped, must_run=False)  # settles what the last run touched
                seconds[what].append(tiny.run(wrapped, must_run=False))
            else:
                tiny.edit(f"edition {number}")
                seconds[what].append(tiny.run(wrapped, must_run=True))
    return {what: Times(tuple(each)) for what, each in seconds.items()}
