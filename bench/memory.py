"""Peak memory of capsule: the same for a small output and for one of a GiB."""

import os
import shutil
from dataclasses import dataclass

from hits import TROUBLE, install, warm, why_not
from measure import Command, peak_memory
from report import Part, Target, mebibytes, say
from tools import CAPSULE, Options, Place, capsule_command, capsule_environment, set_up_start
from workload import INPUTS

SMALL, LARGE = 2**20, 2**30
ALLOWANCE = 16 * 2**20  # buffers may be large, they may not grow with the file


@dataclass(frozen=True)
class Stream:
    """A command that copies a file of `size` zeros, from outside the workspace, to an output or to stdout."""

    name: str
    to_file: bool

    def command(self, place: Place, size: int) -> Command:
        # dd holds a block at a time, so the peak that wait4 reports, children included, is capsule's.
        declared, target = (["-o", "out"], ["of=out"]) if self.to_file else ([], [])
        options = ["-c", f"{self.name} {size}", "-i", "src/**", *declared]
        argv = (str(capsule_command()), *options, "--", "dd", "if=../source", "bs=65536", *target)
        return Command(argv, place.workspace, capsule_environment(place))


STREAMS = (Stream("output file", to_file=True), Stream("stdout", to_file=False))


def peaks(stream: Stream, place: Place, size: int) -> tuple[int, int]:
    """Peak of a miss, and of the hit that brings the bytes back."""
    shutil.rmtree(place.base, ignore_errors=True)
    (place.workspace / "src").mkdir(parents=True)
    (place.workspace / ".git").mkdir()
    (place.workspace / "src" / "input.txt").write_text("input")
    source, output = place.base / "source", place.workspace / "out"
    source.touch()
    os.truncate(source, size)
    command = stream.command(place, size)
    miss = peak_memory(command)
    # Without its source the command can't succeed: what succeeds now is a hit.
    source.unlink()
    output.unlink(missing_ok=True)
    hit = peak_memory(command)
    if stream.to_file and output.stat().st_size != size:
        raise OSError("the output did not come back whole")
    shutil.rmtree(place.base, ignore_errors=True)
    return miss, hit


def run(options: Options) -> Part:
    part = Part("memory", "Peak memory (MiB of resident set)", ("case", "1 MiB", "1 GiB"))
    part.notes.append(
        "The largest of capsule's own and of the command's, as the system reports it at the wait."
    )
    place = Place(options.scratch, options.scratch / "memory")
    (options.scratch / "home").mkdir(exist_ok=True)
    try:
        install(CAPSULE, options.scratch)
        say("  the reference hit")
        reference = warm(CAPSULE, place)
        start = peak_memory(set_up_start(place))
        hit = peak_memory(reference.command)
    except TROUBLE as error:
        part.notes.append(f"not measured: {why_not(error)}")
        return part
    part.numbers.update(bare_start=start, reference_hit=hit)
    part.notes.append(f"A bare start of the interpreter: {mebibytes(start)} MiB.")
    part.notes.append(f"A hit of the reference work, {INPUTS:,} inputs: {mebibytes(hit)} MiB.")
    for stream in STREAMS:
        say(f"  {stream.name}")
        try:
            small, large = peaks(stream, place, SMALL), peaks(stream, place, LARGE)
        except TROUBLE as error:
            part.notes.append(f"not measured: {stream.name}: {why_not(error)}")
            continue
        for case, low, high in zip(("miss", "hit"), small, large, strict=True):
            name = f"{case}, {stream.name}"
            part.rows.append((name, mebibytes(low), mebibytes(high)))
            part.targets.append(
                Target(f"{name}: MiB more for 1 GiB", (high - low) / 2**20, ALLOWANCE / 2**20)
            )
            part.numbers[name] = {"small": low, "large": high}
    shutil.rmtree(place.base, ignore_errors=True)
    return part
