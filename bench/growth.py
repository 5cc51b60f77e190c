"""How a hit's cost grows with the number of inputs: it may grow in step with them, not faster."""

import shutil

from hits import TOOLS, gather, rounds_of
from report import Part, Target, milliseconds, say
from tools import CAPSULE, FLOOR, Options

SIZES = (200, 2_000, 20_000, 100_000)


def run(options: Options) -> Part:
    part = Part("growth", "A hit (outputs in place) by number of inputs (ms)", ("inputs",))
    part.notes.append(
        f"Medians of {options.rounds} rounds, inputs of 4 KB, 200 outputs. Per input: what each further input"
        " adds since the row before, in microseconds."
    )
    tools = [tool for tool in TOOLS if tool in (CAPSULE, FLOOR) or tool.name in options.only]
    medians: dict[tuple[str, int], float] = {}
    for size in SIZES:
        say(f"  {size:,} inputs")
        left_out: dict[str, str] = {}
        contestants = gather(tools, options.scratch, size, left_out)
        try:
            rounds_of(contestants, options.rounds, left_out, scenarios=("A",))
        finally:
            for contestant in contestants:
                contestant.tool.clean_up(contestant.place)
        for contestant in contestants:
            if contestant.tool.name not in left_out and (times := contestant.times("A")):
                medians[contestant.tool.name, size] = times.median
        part.notes += [f"left out at {size:,}: {name}: {reason}" for name, reason in left_out.items()]
        for tool in tools:
            shutil.rmtree(options.scratch / "hits" / tool.name, ignore_errors=True)
    _report(part, medians)
    return part


def per_input(medians: dict[tuple[str, int], float], tool: str, size: int) -> float | None:
    """Seconds that each input adds from the size before to this one."""
    smaller = SIZES[SIZES.index(size) - 1] if size != SIZES[0] else None
    if smaller is None or (tool, smaller) not in medians or (tool, size) not in medians:
        return None
    return (medians[tool, size] - medians[tool, smaller]) / (size - smaller)


def _report(part: Part, medians: dict[tuple[str, int], float]) -> None:
    names = list(dict.fromkeys(name for name, _ in medians))
    part.columns = ("inputs", *(column for name in names for column in (name, "per input")))
    for size in SIZES:
        cells = [f"{size:,}"]
        for name in names:
            cells.append(milliseconds(medians[name, size]) if (name, size) in medians else "-")
            each = per_input(medians, name, size)
            cells.append("-" if each is None else f"{each * 1e6:.2f}")
        part.rows.append(tuple(cells))
    # Linear means: an input costs at the largest size what it costs in the middle. A quarter more is
    # allowed for the caches of the processor, which the floor feels as well.
    middle, largest = (per_input(medians, CAPSULE.name, size) for size in SIZES[-2:])
    growth = largest / middle if middle and largest and middle > 0 else None
    part.targets.append(Target("cost of an input at 100,000 by that at 20,000", growth, 1.25))
    part.numbers = {name: {str(s): medians[n, s] * 1000 for n, s in medians if n == name} for name in names}
