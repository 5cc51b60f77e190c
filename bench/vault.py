"""How quick a vault of ten thousand capsules answers."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import crowd
from measure import CommandFailed, Times
from report import Part, Target, milliseconds, say
from tools import Options

COUNT = 10_000
CAPSULA = str(Path(sys.executable).with_name("capsula"))
QUESTIONS = {
    "list": ("list",),
    "list, two conditions": ("list", "--where", "metrics.loss < 0.01 and status = finished"),
    "list, in order of a fact": (
        "list",
        "--sort",
        "metrics.loss",
        "--columns",
        "capsule,git.sha,metrics.loss",
    ),
    "search, all logs": ("search", "--seed 17 --rate"),
    "show, one in the middle": ("show", f"@-{COUNT // 2}"),
    "show, the latest of an item": ("show", "train"),
}


def run(options: Options) -> Part:
    part = Part(
        "vault", f"A vault of {COUNT:,} capsules (ms)", ("what", "median", "of it processor", "minimum")
    )
    root = options.scratch / "vault"
    shutil.rmtree(root, ignore_errors=True)
    say(f"  {COUNT:,} capsules")
    crowd.fill(root, COUNT)
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(root), "LC_ALL": "C.UTF-8"}
    elapsed, busy = timed(("list",), root, environ)
    part.rows.append(("the first list: makes the index", *map(milliseconds, (elapsed, busy, elapsed))))
    for name, words in QUESTIONS.items():
        say(f"  {name}")
        rounds = [timed(words, root, environ) for _ in range(options.rounds)]
        times, busy = Times(tuple(pair[0] for pair in rounds)), Times(tuple(pair[1] for pair in rounds))
        part.rows.append((name, *map(milliseconds, (times.median, busy.median, times.least))))
        part.numbers[name] = times.as_json()
        # One process at work: on a machine that does nothing else, that is how long it takes.
        part.targets.append(Target(f"{name}: seconds of the processor", busy.median, 0.7))
    logs = sum(path.stat().st_size for path in root.glob("vault/*/stdout.txt"))
    index = (root / "vault/.capsula/index.sqlite").stat().st_size
    part.notes.append(
        f"Medians of {options.rounds} runs of the installed command. {logs / 1e6:.0f} MB of logs, which are read when a"
        f" text is searched; the index takes {index / 1e6:.0f} MB."
    )
    shutil.rmtree(root)
    return part


def timed(words: tuple[str, ...], cwd: Path, environ: dict[str, str]) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    begin = time.perf_counter()
    process = subprocess.Popen([CAPSULA, *words], cwd=cwd, env=environ, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise CommandFailed(f"exit code {process.returncode}")
    return elapsed, used.ru_utime + used.ru_stime
