"""Side by side: a hit with the outputs in place (A) and one with the outputs deleted (B), for every tool."""

import random
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import build
from measure import Command, CommandFailed, Times, talk, timed
from peers import PEERS
from report import Part, Target, milliseconds, ratio, say
from tools import CAPSULE, FLOOR, START, Options, Place, Tool, Unavailable, prepare
from workload import INPUTS, CheckFailed, Workload

TOOLS = (CAPSULE, FLOOR, START, *PEERS)
SCENARIOS = ("A", "B")


@dataclass
class Contestant:
    """A tool that is installed, set up and warm: its command hits."""

    tool: Tool
    place: Place
    command: Command
    expected: dict[str, bytes]
    seconds: dict[str, list[float]] = field(default_factory=lambda: {scenario: [] for scenario in SCENARIOS})
    just_restored: bool = False

    @property
    def work(self) -> Workload:
        return self.place.workload

    def times(self, scenario: str) -> Times | None:
        return Times(tuple(self.seconds[scenario])) if self.seconds[scenario] else None

    def run_checked(self) -> float:
        """One run of the command; raises unless it was a hit that left all outputs right."""
        before = self.work.times_run()
        seconds = timed(self.command)
        if self.work.times_run() != before:
            raise CheckFailed("it ran the task again")
        self.work.check_outputs(self.expected)
        return seconds

    def measure(self, scenario: str) -> None:
        if scenario == "B":
            self.work.delete_outputs()
        elif self.just_restored:
            # A is the steady state: what a tool does once, at first sight of what it restored, isn't A.
            self.run_checked()
        self.seconds[scenario].append(self.run_checked())
        self.just_restored = scenario == "B"


def install(tool: Tool, scratch: Path) -> None:
    """Installs a tool once; a file with its version tells later runs that it is all there."""
    folder = scratch / "tools" / (tool.folder or tool.name)
    stamp = folder / "installed-version"
    if tool.caches and tool.name != CAPSULE.name:
        if stamp.exists() and stamp.read_text() == tool.version:
            return
        say(f"  installing {tool.name} {tool.version}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tool.install(folder)
        stamp.write_text(tool.version)
    else:
        tool.install(folder)


def warm(tool: Tool, place: Place) -> Contestant:
    """Sets the work, runs it once for real and then to see that the tool hits, before any clock runs."""
    command = prepare(tool, place)
    work = place.workload
    if tool.caches:
        said = talk(command.argv, command.cwd, command.env)
    else:
        said = talk(place.task, work.project, place.environment())
    if work.times_run() != 1:
        raise CheckFailed(f"its first run ran the task {work.times_run()} times: {said.strip()[-200:]}")
    contestant = Contestant(tool, place, command, work.expected())
    work.check_outputs(contestant.expected)
    contestant.run_checked()
    if tool.restores:
        work.delete_outputs()
        contestant.run_checked()
        contestant.just_restored = True
    return contestant


def why_not(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return "took too long to answer"
    return str(error) or type(error).__name__


# What may go wrong with a tool of others: it is named with the reason and left out, the rest goes on.
TROUBLE = (Unavailable, CheckFailed, CommandFailed, OSError, subprocess.SubprocessError)


def gather(tools: list[Tool], scratch: Path, inputs: int, left_out: dict[str, str]) -> list[Contestant]:
    contestants = []
    for tool in tools:
        place = Place(scratch, scratch / "hits" / tool.name, tool.project, inputs)
        try:
            install(tool, scratch)
            say(f"  setting up {tool.name}")
            contestants.append(warm(tool, place))
        except TROUBLE as error:
            left_out[tool.name] = why_not(error)
            say(f"  {tool.name} is left out: {left_out[tool.name]}")
            if place.workspace.exists():
                tool.clean_up(place)
    return contestants


def rounds_of(
    contestants: list[Contestant],
    rounds: int,
    left_out: dict[str, str],
    scenarios: tuple[str, ...] = SCENARIOS,
) -> None:
    """Every round runs all (tool, scenario) once, in an order of its own, so that a busy spell hits all alike."""
    for number in range(rounds):
        runs = [(c, s) for c in contestants for s in scenarios if s == "A" or c.tool.restores]
        random.shuffle(runs)
        say(f"  round {number + 1} of {rounds}")
        for contestant, scenario in runs:
            if contestant.tool.name in left_out:
                continue
            try:
                contestant.measure(scenario)
            except TROUBLE as error:
                left_out[contestant.tool.name] = f"{scenario}, round {number + 1}: {why_not(error)}"
                say(f"  {contestant.tool.name} is left out: {left_out[contestant.tool.name]}")


def run(options: Options) -> Part:
    tools = [
        tool for tool in TOOLS if not options.only or tool.name in options.only or tool in (CAPSULE, FLOOR)
    ]
    left_out: dict[str, str] = {}
    contestants = gather(tools, options.scratch, INPUTS, left_out)
    try:
        rounds_of(contestants, options.rounds, left_out)
    finally:
        for contestant in contestants:
            contestant.tool.clean_up(contestant.place)
    return _part([c for c in contestants if c.tool.name not in left_out], left_out, options.rounds)


def _part(contestants: list[Contestant], left_out: dict[str, str], rounds: int) -> Part:
    part = Part(
        "hits",
        f"A hit, side by side: {INPUTS:,} inputs of 4 KB, {build.OUTPUTS} outputs of 20 KB (ms)",
        ("tool", "version", "A median", "A min", "A ratio", "B median", "B min", "B ratio"),
    )
    part.notes.append(
        "A: outputs in place. B: outputs deleted before the run. Ratio: median by capsule's median."
        f" {rounds} rounds; after every run it was checked that the task hadn't run and all outputs were right."
    )
    medians = {
        (c.tool.name, s): times.median for c in contestants for s in SCENARIOS if (times := c.times(s))
    }
    for contestant in sorted(contestants, key=lambda c: medians.get((c.tool.name, "A"), 0)):
        part.rows.append(_row(contestant, medians))
        if contestant.tool.footnote:
            part.notes.append(f"{contestant.tool.name}: {contestant.tool.footnote}.")
    part.notes += [f"left out: {name}: {reason}" for name, reason in left_out.items()]
    part.targets = targets(medians)
    part.numbers = {
        "rounds": rounds,
        "left_out": left_out,
        "tools": {
            c.tool.name: {
                "version": c.tool.version,
                **{s: times.as_json() for s in SCENARIOS if (times := c.times(s))},
            }
            for c in contestants
        },
    }
    return part


def _row(contestant: Contestant, medians: dict[tuple[str, str], float]) -> tuple[str, ...]:
    cells = [contestant.tool.name, contestant.tool.version]
    for scenario in SCENARIOS:
        times = contestant.times(scenario)
        if times is None:
            cells += ["-", "-", "-"]
            continue
        ours = medians.get((CAPSULE.name, scenario))
        cells += [milliseconds(times.median), milliseconds(times.least), ratio(ours and times.median / ours)]
    return tuple(cells)


def targets(medians: dict[tuple[str, str], float]) -> list[Target]:
    """The promises of the project about a hit, from (tool, scenario) -> median seconds."""

    def by(tool: str, scenario: str) -> float | None:
        ours, theirs = medians.get((CAPSULE.name, scenario)), medians.get((tool, scenario))
        return ours / theirs if ours and theirs else None

    def by_fastest(scenario: str) -> float | None:
        names = [peer.name for peer in PEERS if peer.name != "turbo" and (peer.name, scenario) in medians]
        ratios = [value for name in names if (value := by(name, scenario))]
        return max(ratios, default=None)

    return [
        Target("A by turbo's", by("turbo", "A"), 0.6),
        Target("B by turbo's", by("turbo", "B"), 0.8),
        Target("A by the fastest other peer's", by_fastest("A"), 1.0),
        Target("B by the fastest other peer's", by_fastest("B"), 1.0),
        Target("A by the floor", by(FLOOR.name, "A"), 1.8),
    ]
