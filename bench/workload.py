"""The reference work: the same inputs for every tool, and the proof that a run gave the right outputs."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import build

INPUTS = 2_000
INPUT_SIZE = 4_096


class CheckFailed(Exception):
    """A run did something else than a hit should: the sentence says what."""


@dataclass(frozen=True)
class Workload:
    """One copy of the work: `project` holds src/ and dist/, `task` (outside it) build.py and its log."""

    project: Path
    task: Path
    inputs: int = INPUTS

    @property
    def log(self) -> Path:
        return self.task / "runs.log"

    def lay_out(self) -> None:
        for number in range(self.inputs):
            path = self.project / build.input_name(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(input_text(number))
        self.task.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(build.__file__, self.task / "build.py")
        self.log.write_bytes(b"")

    def times_run(self) -> int:
        return self.log.read_bytes().count(b"\n")

    def edit_input(self, number: int, edition: int) -> None:
        """Gives one input new content of the same size."""
        (self.project / build.input_name(number)).write_bytes(input_text(number, edition))

    def delete_outputs(self) -> None:
        shutil.rmtree(self.project / "dist")

    def expected(self) -> dict[str, bytes]:
        """Each output as it must be, made from what the inputs hold now."""
        outputs = {}
        for number in range(build.OUTPUTS):
            names = (build.input_name(i) for i in range(number, self.inputs, build.OUTPUTS))
            inputs = [(self.project / name).read_bytes() for name in names]
            outputs[build.output_name(number)] = build.output_text(number, inputs)
        return outputs

    def check_outputs(self, expected: dict[str, bytes]) -> None:
        """Raises unless dist/ holds the expected files with the expected bytes, and nothing more."""
        there = {
            path.relative_to(self.project).as_posix()
            for path in self.project.glob("dist/**/*")
            if not path.is_dir()
        }
        missing, extra = expected.keys() - there, there - expected.keys()
        if missing:
            raise CheckFailed(f"{len(missing)} of {len(expected)} outputs are missing, e.g. {min(missing)}")
        if extra:
            raise CheckFailed(f"{len(extra)} files too many in dist, e.g. {min(extra)}")
        for name, content in expected.items():
            if (self.project / name).read_bytes() != content:
                raise CheckFailed(f"{name} has the wrong bytes")


def input_text(number: int, edition: int = 0) -> bytes:
    return random.Random(f"{number} {edition}").randbytes(INPUT_SIZE // 2).hex().encode()
