"""A hit's start-up is part of the product: what each way to a hit may import is written here, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from servers import nginx, ports

SCRIPT = Path(sys.executable).with_name("capsule")
# Runs the installed script as its first line would, and notes the modules when the process ends.
SPY = """
import posix, sys
script, report = sys.argv[1:3]
leave = posix._exit
def told(code):
    fd = posix.open(report, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o600)
    posix.write(fd, "\\n".join(sys.modules).encode())
    leave(code)
posix._exit = told
sys.argv[:] = [script, *sys.argv[3:]]
exec(compile(open(script).read(), script, "exec"), {"__name__": "__main__"})
"""


def names(text):
    return frozenset(text.split())


# Everything is in place: a record is compared.
RECALLED = names(
    """
    capsula capsula.cli capsula.cli.capsule capsula.cli.recall capsula.observe capsula.observe.journal
    capsula.worktree capsula.worktree.listing gc
    """
)
# What replays logs on both descriptors.
REPLAYED = frozenset(["capsula.execute", "capsula.execute.stdio", "errno"])
# The same, and the outputs are put back.
RESTORED = RECALLED.union(
    REPLAYED,
    names(
        """
        capsula.cli.recalled capsula.cli.together capsula.config capsula.config.places capsula.core
        capsula.core.digest capsula.core.glob capsula.core.names capsula.core.node capsula.core.recipe
        capsula.core.tree capsula.core.wire capsula.errors capsula.store capsula.store.burial capsula.store.disk
        capsula.store.files capsula.store.layout capsula.worktree.digests capsula.worktree.kept
        capsula.worktree.restore capsula.worktree.survey capsula.worktree.workspace itertools
        """
    ),
)
# No record: the options are read, the key is made, the entry is looked up, and the record is written.
WHOLE = RESTORED - {"capsula.cli.recalled", "capsula.store.burial"} | names(
    """
    capsula.cli.record capsula.cli.wrapper capsula.config.options capsula.config.settings capsula.config.values
    capsula.core.action capsula.core.capsule capsula.core.context capsula.core.facts capsula.core.folder
    capsula.core.reapi capsula.core.result capsula.core.secrets capsula.engine capsula.engine.job capsula.engine.run
    capsula.execute.spawn capsula.plugins capsula.plugins.cached_run capsula.probe capsula.probe.environment
    capsula.store.flight capsula.store.past capsula.store.size
    """
)
# Nothing of the result is here: it comes from an HTTP cache.
FETCHED = WHOLE | names(
    """
    __future__ capsula.config.words capsula.core.carried capsula.core.packs capsula.core.statement capsula.plugins.later
    capsula.plugins.remotes capsula.store.address capsula.store.arrivals capsula.store.believed capsula.store.exchange
    capsula.store.guard capsula.store.handshake capsula.store.http capsula.store.late capsula.store.parallel
    capsula.store.passing capsula.store.proxies capsula.store.reach capsula.store.receive capsula.store.sealed
    capsula.store.threads capsula.store.tiers capsula.store.unopened _socket
    """
)
# Which of them knows SHA-256 is the interpreter's business.
HASHES = frozenset(["_hashlib", "_sha2", "_sha256"])
BANNED = names(
    """
    argparse asyncio collections contextlib ctypes dataclasses datetime enum fnmatch functools glob hashlib inspect json
    logging pathlib random re shlex shutil signal socket string struct subprocess tempfile threading tomllib typing
    """
)
COPY = ("-i", "in", "-i", "src/**", "-o", "out", "-o", "dist", "-e", "HOME", "-e", "NOT_SET")
DO = "cat in > out; mkdir -p dist/empty; ln -sf ../in dist/link; echo told"


@pytest.fixture(scope="module")
def at_start():
    """What this interpreter imports of its own accord, with what the installation's .pth files add."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True
    )
    return frozenset(done.stdout.split())


@pytest.fixture
def hit(ws, at_start):
    """Warms up, and answers how to hit once more and learn what was imported."""
    ws.write("in", "one")
    for name in "abc":
        ws.write(f"src/{name}/{name}", name)

    def warm(do):
        assert ws.capsule(*COPY, do=do).ran == 1
        ws.warm(*COPY, do=do)

    def run(do):
        report = ws.base / "modules"
        command = [sys.executable, "-c", SPY, str(SCRIPT), str(report), *ws.argv(COPY, do, ())]
        done = subprocess.run(
            command, cwd=ws.root, env=ws.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, "told\n")
        assert (ws.marks(), ws.read("out"), ws.names("dist")) == (1, "one", ["empty/", "link"])
        return frozenset(report.read_text().split()) - at_start

    return warm, run


@pytest.mark.parametrize(
    ("way", "budget"),
    [
        ("recalled", RECALLED),
        ("recalled with two logs", RECALLED | REPLAYED),
        ("restored with two logs", RESTORED),
        ("whole with two logs", WHOLE),
        ("whole, restored with two logs", WHOLE),
    ],
)
def test_a_hit_imports_what_it_may_and_no_more(ws, hit, way, budget):
    warm, run = hit
    do = f"{DO}; echo warned >&2" if "two logs" in way else DO
    warm(do)
    if "whole" in way:
        shutil.rmtree(ws.store / "recall")
    if "restored" in way:
        ws.path("out").unlink()
        shutil.rmtree(ws.path("dist"))
    imported = run(do)
    assert imported - budget - HASHES == frozenset(), "imported beyond the budget"
    assert len(imported & HASHES) <= 1
    assert budget - imported == frozenset(), "in the budget and not needed: take it out"


def test_a_hit_from_an_http_cache_imports_what_it_may_and_no_more(ws, hit, tmp_path):
    server = nginx.Nginx(tmp_path / "nginx")
    try:
        ws.environ["CAPSULE_ARGS"] = f"-b {server.url} --remote_timeout 150s"
        warm, run = hit
        warm(f"{DO}; echo warned >&2")
        ws.path("out").unlink()
        for gone in (ws.store, ws.path("dist")):
            shutil.rmtree(gone)
        imported = run(f"{DO}; echo warned >&2")
    finally:
        server.stop()
    assert imported - FETCHED - HASHES == frozenset(), "imported beyond the budget"
    assert FETCHED - imported == frozenset(), "in the budget and not needed: take it out"


def test_the_budgets_hold_nothing_that_is_banned():
    assert not BANNED & (RECALLED | RESTORED | WHOLE | FETCHED)


def test_nothing_but_our_own_and_the_interpreter_s_modules_is_in_the_budgets():
    foreign = {name for name in FETCHED | RESTORED if name.partition(".")[0] != "capsula"}
    assert foreign <= sys.stdlib_module_names


@pytest.mark.parametrize("where", ["disk", "http://HOST", "grpc://HOST", "s3://bucket"])
def test_the_modules_of_a_miss_come_from_few_files(ws, tmp_path, where):
    """One that dev/hatch_together.py forgets is found, but by a search of its own at every run. What speaks to a store
    is imported also when the store can't be reached."""
    host = f"127.0.0.1:{ports.free_port()}"
    ws.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    options = ("-b", where.replace("HOST", host), "--s3_endpoint", f"http://{host}", "--remote_mode", "r")
    spy = SPY.replace(
        "in(sys.modules)",
        "in(n for n in list(sys.modules) if 'Together' not in repr(getattr(sys.modules[n], '__loader__', 0)))",
    )
    assert spy != SPY
    ws.write("in", "one")
    report = tmp_path / "modules"
    command = [sys.executable, "-c", spy, str(SCRIPT), str(report), *("-i", "in", "-o", "out"), *options]
    done = subprocess.run(
        [*command, "--", "cp", "in", "out"], cwd=ws.root, env=ws.environ, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert ("going on without it" in done.stderr) == (where != "disk")
    # Those that are imported before the file is opened, or by whoever needs no more than them.
    alone = names(
        """
        capsula capsula.cli capsula.cli.capsule capsula.cli.recall capsula.cli.together
        capsula.worktree capsula.worktree.listing
        """
    )
    assert {name for name in report.read_text().split() if name.startswith("capsula")} == alone
