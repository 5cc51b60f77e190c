"""Recorded runs: what a monitored command and a decorated call cost, beside the recorders that Python has."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from measure import Command, CommandFailed, Times, talk, timed
from peers import from_pypi
from report import Part, Target, milliseconds, ratio, say
from tools import Options, Unavailable

UPSTREAM, SACRED, MLFLOW = "0.8.0", "0.8.7", "3.17.2"
REQUIREMENTS = {
    "upstream": f"capsula=={UPSTREAM}",
    "sacred": f"sacred=={SACRED}",
    "mlflow": f"mlflow-skinny=={MLFLOW}",
}
NAMES = {
    "capsula": "capsula, this one",
    "upstream": f"capsula {UPSTREAM} from PyPI",
    "sacred": f"sacred {SACRED}",
    "mlflow": f"mlflow-skinny {MLFLOW}",
}
OURS = Path(sys.executable)
LINES = 115_000_000  # of seq: a little over 1 GB
STREAM_ROUNDS = 3
CALLS = 8
TROUBLE = (Unavailable, CommandFailed, OSError, subprocess.SubprocessError, ValueError)

CONTEXTS = """\
[pre-run]
contexts = [
    { type = "CwdContext" },
    { type = "CpuContext" },
    { type = "PlatformContext" },
    { type = "GitRepositoryContext", name = "work", path = ".", allow_dirty = true },
    PACKAGES
]
reporters = [{ type = "JsonDumpReporter" }]
[in-run]
watchers = [{ type = "UncaughtExceptionWatcher" }, { type = "TimeWatcher" }]
reporters = [{ type = "JsonDumpReporter" }]
[post-run]
reporters = [{ type = "JsonDumpReporter" }]
"""
PACKAGES = '{ type = "CommandContext", command = "python -m pip freeze --disable-pip-version-check" },'

# Each times `call()` CALLS times in one process and prints the seconds.
TIMED = f"""
import json, time
seconds = []
for _ in range({CALLS}):
    began = time.perf_counter()
    call(3)
    seconds.append(time.perf_counter() - began)
import sys
print(json.dumps(seconds), file=sys.__stderr__)
"""
CALLED = {
    "capsula": "import capsula\n@capsula.monitor\ndef call(n): return n\n",
    "upstream": "import capsula\n@capsula.run()\n@capsula.context(capsula.FunctionContext.builder(), mode='pre')\n"
    "def call(n): return n\n",
    "sacred": """
from sacred import Experiment, SETTINGS
from sacred.observers import FileStorageObserver
SETTINGS.CAPTURE_MODE = 'no'
ex = Experiment('e', save_git_info=True)
ex.observers.append(FileStorageObserver('runs'))
ex.logger = __import__('logging').getLogger('quiet'); ex.logger.setLevel(50)
@ex.main
def main(n): return n
def call(n): ex.run(config_updates={'n': n})
@ex.config
def config(): n = 1
""",
    "mlflow": """
import os, logging
os.environ['MLFLOW_ALLOW_FILE_STORE'] = 'true'
import mlflow
logging.disable(50)
mlflow.set_tracking_uri('file:' + os.path.abspath('mlruns'))
def call(n):
    with mlflow.start_run():
        mlflow.log_param('n', n)
        mlflow.log_metric('result', n)
""",
}
IMPORTS = {"capsula": "capsula", "upstream": "capsula", "sacred": "sacred", "mlflow": "mlflow"}


@dataclass
class Bench:
    options: Options
    part: Part
    seconds: dict[str, list[float]] = field(default_factory=dict)
    python: dict[str, Path] = field(default_factory=dict)

    def work(self, name: str) -> Path:
        return self.options.scratch / "record" / name

    def environment(self, name: str) -> dict[str, str]:
        return {
            "HOME": str(self.options.scratch / "home"),
            "PATH": f"{self.python[name].parent}:{os.environ.get('PATH', os.defpath)}",
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def command(self, name: str, *argv: str) -> Command:
        return Command(argv, self.work(name), self.environment(name))

    def add(self, what: str, seconds: float) -> None:
        self.seconds.setdefault(what, []).append(seconds)

    def median(self, what: str) -> float | None:
        return statistics.median(self.seconds[what]) if self.seconds.get(what) else None

    def rows(self, names: dict[str, str], base: str) -> None:
        """A row for each, with its ratio to `base`."""
        reference = self.median(base)
        for what, shown in names.items():
            found = self.seconds.get(what)
            if not found:
                continue
            times = Times(tuple(found))
            by = times.median / reference if reference else None
            self.part.rows.append((shown, milliseconds(times.median), milliseconds(times.least), ratio(by)))
            self.part.numbers[what] = times.as_json()

    def target(self, text: str, what: str, base: str, limit: float) -> None:
        value, reference = self.median(what), self.median(base)
        by = value / reference if value is not None and reference else None
        self.part.targets.append(Target(text, by, limit))


def run(options: Options) -> Part:
    part = Part("record", "Recorded runs (ms)", ("what", "median", "minimum", "ratio"))
    bench = Bench(options, part)
    shutil.rmtree(options.scratch / "record", ignore_errors=True)
    (options.scratch / "home").mkdir(exist_ok=True)
    _set_up(bench)
    for title, step in (
        ("a monitored command", _monitored),
        ("a decorated call", _called),
        ("imports", _imported),
        ("a stream", _streamed),
    ):
        say(f"  {title}")
        step(bench)
    shutil.rmtree(options.scratch / "record", ignore_errors=True)
    return part


def _set_up(bench: Bench) -> None:
    bench.python["capsula"] = OURS
    for name, requirement in REQUIREMENTS.items():
        folder = bench.options.scratch / "tools" / f"record-{name}"
        stamp = folder / "installed-version"
        try:
            if not stamp.exists() or stamp.read_text() != requirement:
                say(f"  installing {requirement}")
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                from_pypi(requirement)(folder)
                stamp.write_text(requirement)
            bench.python[name] = folder / "bin" / "python"
        except TROUBLE as error:
            bench.part.notes.append(f"{NAMES[name]} is left out: {error}")
    for name in bench.python:
        _lay_out(bench, name)


def _lay_out(bench: Bench, name: str) -> None:
    """A small git repository with the same contexts for all who have contexts."""
    work = bench.work(name)
    work.mkdir(parents=True)
    if name == "upstream":
        (work / "capsula.toml").write_text(CONTEXTS.replace("PACKAGES", PACKAGES))
    (work / "pyproject.toml").write_text('[project]\nname = "work"\nversion = "1"\n')
    (work / ".gitignore").write_text("vault\nruns\nmlruns\n")
    (work / "called.py").write_text(CALLED[name] + TIMED)
    identity = (
        "-c",
        "user.name=bench",
        "-c",
        "user.email=bench@example.org",
        "-c",
        "init.defaultBranch=main",
    )
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "the work")):
        talk(("/usr/bin/env", "git", *identity, *words), work, bench.environment(name))


def _tool(bench: Bench, name: str) -> str:
    return str(bench.python[name].with_name("capsula"))


def _monitored(bench: Bench) -> None:
    true = shutil.which("true") or "/bin/true"
    commands = {"nothing around it": bench.command("capsula", true)}
    commands["monitor"] = bench.command("capsula", _tool(bench, "capsula"), "monitor", "-q", true)
    commands["monitor bare"] = bench.command(
        "capsula", _tool(bench, "capsula"), "monitor", "-q", "-C", str(_bare(bench)), true
    )
    if "upstream" in bench.python:
        commands["upstream run"] = bench.command("upstream", _tool(bench, "upstream"), "run", true)
    _alternate(bench, commands, bench.options.rounds)
    bench.rows(
        {
            "nothing around it": "`true` alone",
            "monitor": "`capsula monitor true`, default context",
            "monitor bare": "`capsula monitor true`, no context",
            "upstream run": f"`capsula run true` of {UPSTREAM}, CPU, platform, git, `pip freeze`",
        },
        "monitor",
    )
    bench.target("`capsula monitor true`, of upstream's `capsula run true`", "monitor", "upstream run", 0.25)


def _bare(bench: Bench) -> Path:
    folder = bench.work("bare")
    folder.mkdir(exist_ok=True)
    (folder / "capsula.toml").write_text("[monitor]\ncapture = false\n")
    return folder


def _called(bench: Bench) -> None:
    """The first call reads configuration and caches what never changes; the median is of those after it."""
    if "upstream" in bench.python:
        (bench.work("upstream") / "capsula.toml").write_text(CONTEXTS.replace("PACKAGES", ""))
    for name, python in bench.python.items():
        try:
            said = talk((str(python), "called.py"), bench.work(name), bench.environment(name)).splitlines()[
                -1
            ]
            bench.seconds[f"call {name}"] = json.loads(said)[1:]
        except TROUBLE as error:
            bench.part.notes.append(f"a decorated call: {NAMES[name]} is left out: {error}")
    rows = {f"call {name}": f"a recorded call: {NAMES[name]}" for name in bench.python}
    bench.rows(rows, "call capsula")
    bench.target("a decorated call after the first, of upstream's", "call capsula", "call upstream", 0.1)


def _imported(bench: Bench) -> None:
    commands = {"start": bench.command("capsula", str(OURS), "-c", "")}
    for name, python in bench.python.items():
        commands[f"import {name}"] = bench.command(name, str(python), "-c", f"import {IMPORTS[name]}")
    _alternate(bench, commands, bench.options.rounds)
    rows = {f"import {name}": f"`import {IMPORTS[name]}`: {NAMES[name]}" for name in bench.python}
    bench.rows({"start": "a bare start of the interpreter", **rows}, "start")
    bench.target("`import capsula`, of a bare start", "import capsula", "start", 1.5)


def _streamed(bench: Bench) -> None:
    """A GB of lines through a pipe: until the reader has all of it, and until the record is sealed."""
    task = ("/usr/bin/env", "seq", str(LINES))
    monitored = (_tool(bench, "capsula"), "monitor", "-q", "-C", str(_bare(bench)), *task)
    log = bench.work("bare") / "log"
    for _ in range(STREAM_ROUNDS):
        for name, writer, reader in (
            ("plain", task, ("cat",)),
            ("kept", task, ("tee", str(log))),
            ("stream", monitored, ("cat",)),
        ):
            try:
                read, ended = _through(bench, writer, reader)
            except TROUBLE as error:
                bench.part.notes.append(f"not measured: {name}: {error}")
                continue
            bench.add(name, read)
            bench.add(f"{name} to the end", ended)
            shutil.rmtree(bench.work("bare") / "vault", ignore_errors=True)
            log.unlink(missing_ok=True)
    bench.rows(
        {
            "plain": "1 GB into `cat`",
            "kept": "1 GB into `tee log`",
            "stream": "1 GB through `capsula monitor` into `cat`: all of it has arrived",
            "stream to the end": "1 GB through `capsula monitor` into `cat`: the record is sealed",
        },
        "plain",
    )
    bench.target("1 GB through a monitored command, of that into `cat`", "stream", "plain", 1.3)
    bench.part.notes.append(
        "The command is `seq`, which prints a GB of lines. Of a log that is so long, 64 MiB are kept, its beginning and"
        " its end; they are looked through for credentials, hashed, and waited for until they are on the disk."
    )


def _through(bench: Bench, writer: tuple[str, ...], reader: tuple[str, ...]) -> tuple[float, float]:
    """Seconds until the reader has ended, and until the writer has."""
    environ = bench.environment("capsula")
    began = time.perf_counter()
    writing = subprocess.Popen(writer, stdout=subprocess.PIPE, cwd=bench.work("bare"), env=environ)
    reading = subprocess.Popen(reader, stdin=writing.stdout, stdout=subprocess.DEVNULL, env=environ)
    assert writing.stdout is not None
    writing.stdout.close()
    codes = [reading.wait()]
    read = time.perf_counter() - began
    codes.append(writing.wait())
    ended = time.perf_counter() - began
    if any(codes):
        raise CommandFailed(f"exit codes {codes}")
    return read, ended


def _alternate(bench: Bench, commands: dict[str, Command], rounds: int) -> None:
    """Once each outside the timing; then in turn, so that a busy moment hits all alike."""
    measured: list[tuple[str, Callable[[], float]]] = []
    for name, command in commands.items():
        try:
            timed(command)
        except TROUBLE as error:
            bench.part.notes.append(f"not measured: {name}: {error}")
            continue
        measured.append((name, lambda command=command: timed(command)))
    for _ in range(rounds):
        for name, measure in measured:
            bench.add(name, measure())
