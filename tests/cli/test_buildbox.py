"""buildbox's own runner stages what a capsule made, out of two caches: the same bytes, modes and links."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsula.core.reapi import (
    Action,
    ActionResult,
    Command,
    Directory,
    DirectoryNode,
    EnvironmentVariable,
    Tree,
)
from capsula.core.wire import decode, encode
from capsula.ports import Remote
from capsula.store.reapi import ReapiStore
from capsula.testing import Desk, soon
from servers.buildgrid import BuildGrid
from servers.casd import Casd, programs
from servers.nginx import Nginx
from servers.process import program

pytestmark = pytest.mark.full
MAKE = """
mkdir -p out/a/b out/none; cp in.txt out/a/b/x; ln -s a/b/x out/link; head -c 3000000 /dev/zero > out/large
printf '#!/bin/sh\\n' > out/run; chmod +x out/run; echo > 'out/with a blank'; echo > out/é
"""
LIST = """
find out -type d -printf '%p/\\n' -o -type l -printf '%p -> %l\\n' -o -executable -printf '%p*\\n' -o -print | sort
find out -type f -exec sha256sum {} + | sort
"""
LOCALE = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}


@pytest.fixture(params=["casd", "BuildGrid"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, tuple[str, ...], Remote]]:
    """Our address of it, buildbox's words for it, and a store of ours there."""
    server: Casd | BuildGrid = (Casd if request.param == "casd" else BuildGrid)(tmp_path / "it")
    # Only casd knows the protocol by which trees are staged on one machine.
    words = () if request.param == "casd" else ("--disable-localcas",)
    remote = ReapiStore(server.target, server.target, "")
    yield f"grpc://{server.target}", (f"--remote=http://{server.target}", *words), remote
    remote.close()
    server.stop()


def test_the_runner_sees_what_the_command_made(ws, cache, tmp_path: Path) -> None:
    url, words, remote = cache
    (tmp_path / "desk").mkdir()
    desk = Desk(tmp_path / "desk")
    ws.write("capsula.toml")
    ws.write("in.txt", f"{time.time_ns()}")
    # What is found is said by the same command, here and there.
    # The entry is the same in all stores, and easily found in this one.
    entries = Nginx(tmp_path / "entries")
    try:
        options = ("-b", url, "--remote_timeout", "50", "--remote", entries.url, "-i", "in.txt", "-o", "out")
        done = ws.capsule(*options, do=MAKE, report=True)
    finally:
        entries.stop()
    assert (done.ran, done.said) == (1, [])
    here = subprocess.run(["sh", "-c", LIST], cwd=ws.root, capture_output=True, env=LOCALE, check=True).stdout

    entry = decode(ActionResult, (entries.data / "ac" / done.report["key"]).read_bytes())
    action = desk.blob(_action(desk, remote, entry))
    remote.send([action], desk.path_of, soon())
    made = tmp_path / "result"
    (tmp_path / "action").write_bytes(Path(desk.path_of(action)).read_bytes())
    mounts = [f"--bind-mount={name}:{name}" for name in ("/usr", "/bin", "/lib", "/lib64")]
    ran = subprocess.run(
        [
            programs() / "buildbox-run", f"--action={tmp_path}/action", f"--action-result={made}", *words,
            *mounts, "--staging-mode=copy-or-link",
        ],
        env={"PATH": f"{programs()}:{Path(program('bwrap')).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr.decode()[-4000:]
    result = decode(ActionResult, made.read_bytes())
    assert result.exit_code == 0
    assert result.stdout_digest is not None
    remote.fetch([result.stdout_digest], desk.receive, soon())
    assert desk.received(result.stdout_digest) == here


def _action(desk: Desk, remote: Remote, entry: ActionResult) -> bytes:
    """One that lists the directory that the entry has, as its own input."""
    (directory,) = entry.output_directories
    assert directory.tree_digest is not None
    remote.fetch([directory.tree_digest], desk.receive, soon())
    tree = decode(Tree, desk.received(directory.tree_digest))
    assert tree.root is not None
    blobs = [desk.blob(encode(each)) for each in (tree.root, *tree.children)]
    top = Directory(directories=(DirectoryNode(name="out", digest=blobs[0]),))
    variables = tuple(EnvironmentVariable(name=name, value=value) for name, value in LOCALE.items())
    command = Command(arguments=("sh", "-c", LIST), environment_variables=variables)
    digests = [desk.blob(encode(top)), desk.blob(encode(command)), *blobs]
    remote.send(digests, desk.path_of, soon())
    return encode(Action(command_digest=digests[1], input_root_digest=digests[0]))
