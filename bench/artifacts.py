"""The shared caches of peers, on an nginx of the same kind as ours: what is put under a path is got from it.

Turborepo keeps one archive for a task under /v8/artifacts/<hash> (https://turborepo.dev/docs/openapi), mise a result
under /v1/action-results and each file under /v1/blobs (https://mise.jdx.dev/tasks/remote-cache-protocol.html). What
they ask besides, whether the cache is there and that it be told of hits, has the same answer each time.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from hits import install
from measure import Command, talk, timed
from peers import PEERS
from tools import Options, Place, Tool, prepare
from workload import CheckFailed

# What an nginx has to answer besides, as servers of their protocols do.
ANSWERS = """
default_type application/octet-stream;
location = /v8/artifacts/status { default_type application/json; return 200 '{"status": "enabled"}'; }
location = /v8/artifacts/events { default_type application/json; return 200 '{}'; }
location /v1/action-results/ { default_type application/vnd.mise.cache-action-result.v1+json; }
"""
# mise lets nobody write but a protected branch's job.
_PROTECTED = {
    "CI": "true",
    "GITHUB_ACTIONS": "true",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_REF_PROTECTED": "true",
    "GITHUB_REF_TYPE": "branch",
}


class Away:
    """Where to things go that are to be gone: ext4 looks long for a place to make a file in for minutes after others
    have been deleted, which is nobody's time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self.end()

    def put(self, path: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        try:
            path.rename(self._folder / str(self._number))
        except FileNotFoundError:
            return

    def end(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass
class Peer:
    """A tool that hits in a shared cache, with nothing of it on this machine."""

    tool: Tool
    place: Place
    command: Command
    away: Away
    kept: tuple[Path, ...]  # where it keeps results on this machine
    expected: dict[str, bytes]

    def hit(self) -> float:
        for path in (self.place.workload.project / "dist", *self.kept):
            self.away.put(path)
        before = self.place.workload.times_run()
        seconds = timed(self.command)
        if self.place.workload.times_run() != before:
            raise CheckFailed(f"{self.tool.name} ran the task")
        self.place.workload.check_outputs(self.expected)
        return seconds


def warm(name: str, options: Options, url: str, away: Away) -> Peer:
    """The work is done once and sent; after that it is only fetched."""
    tool = next(tool for tool in PEERS if tool.name == name)
    install(tool, options.scratch)
    place = Place(options.scratch, options.scratch / "remote" / name, tool.project)
    made = prepare(tool, place)
    if name == "turbo":
        more = {"TURBO_API": url, "TURBO_TOKEN": "bench", "TURBO_TEAM": "bench"}
        to_send, kept = more, (place.workspace / ".turbo", place.workspace / "node_modules")
    else:
        more = {
            "MISE_OFFLINE": "0",
            "MISE_TASK_CACHE_REMOTE_URL": f"{url}/",
            "MISE_TASK_CACHE_REMOTE_NAMESPACE": "bench",
        }
        to_send = {**more, **_PROTECTED, "MISE_TASK_CACHE_REMOTE_MODE": "read-write"}
        kept = (Path(made.env["MISE_TASK_CACHE_DIR"]),)
    sending = Command(made.argv, made.cwd, {**made.env, **to_send})
    said = talk(sending.argv, sending.cwd, sending.env)
    if place.workload.times_run() != 1:
        raise CheckFailed(
            f"its first run ran the task {place.workload.times_run()} times: {said.strip()[-200:]}"
        )
    fetching = Command(made.argv, made.cwd, {**made.env, **more})
    peer = Peer(tool, place, fetching, away, kept, place.workload.expected())
    peer.hit()
    return peer
