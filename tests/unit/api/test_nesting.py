"""Which run or call another one belongs to: recursion, tasks, threads of pools, processes."""

import asyncio
import concurrent.futures
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import capsula

SRC = str(Path(capsula.__file__).parents[1])


def test_recursion_is_linked_call_by_call(project: Any) -> None:
    @project.monitor
    def down(n: int) -> int:
        return n and down(n - 1)

    down(3)
    rows = project.by_command()["down"]
    parents = {row["id"]: row["parent"] for row in rows}
    chain = [identity for identity, parent in parents.items() if parent is None]
    while following := [identity for identity, parent in parents.items() if parent == chain[-1]]:
        chain += following
    assert len(chain) == 4


# ------------------------------------------------------------------------------------------- threads, tasks, processes


def test_tasks_of_a_pool_belong_to_the_call_that_made_it(project: Any) -> None:
    child = project.monitor(lambda x: x)

    @project.monitor
    def parent(barrier: Any) -> list[int]:
        barrier.wait()
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            found = list(pool.map(child, range(6)))
        barrier.wait()
        return found

    barrier = threading.Barrier(2, timeout=30)
    with concurrent.futures.ThreadPoolExecutor(2) as outer:
        assert list(outer.map(parent, [barrier, barrier])) == [list(range(6))] * 2
    found = project.by_command()
    parents = [row["parent"] for row in found["<lambda>"]]
    assert sorted(map(parents.count, {row["id"] for row in found["parent"]})) == [6, 6]


def test_tasks_of_an_older_pool_belong_to_who_gave_them_to_it(project: Any) -> None:
    barrier = threading.Barrier(2, timeout=30)
    child = project.monitor(lambda x: barrier.wait() and None)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: barrier.wait(), range(2)))
        with project.run("parent") as run:
            list(pool.map(child, range(2)))
    assert {row["parent"] for row in project.by_command()["<lambda>"]} == {run.id}


def test_tasks_have_the_run_of_who_made_them(project: Any) -> None:
    @project.monitor
    async def child(x: int) -> None:
        await asyncio.sleep(0)
        capsula.record("x", x)

    @project.monitor
    async def parent() -> None:
        await asyncio.gather(*[child(x) for x in range(5)])
        await asyncio.to_thread(capsula.record, "thread", 1)
        capsula.record("done", 1)

    asyncio.run(parent())
    found = project.by_command()
    assert {row["parent"] for row in found["child"]} == {found["parent"][0]["id"]}
    assert sorted(row["metrics"]["x"] for row in found["child"]) == list(range(5))
    assert found["parent"][0]["metrics"] == {"thread": 1, "done": 1}


SCRIPT = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
import capsula

@capsula.monitor
def child(x):
    capsula.record("x", x)
    return x * x

@capsula.monitor
def parent(method):
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        found = list(pool.map(child, range(3)))
        list(pool.map(say, range(20)))
    return found

def say(x):
    capsula.record("said", x, step=x)

if __name__ == "__main__":
    print(parent(sys.argv[1]))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_belong_to_the_call_that_started_them(project: Any, method: str) -> None:
    Path("script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", method],
        env={**os.environ, "PYTHONPATH": SRC},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("[0, 1, 4]\n", "")
    found = project.by_command()
    (parent,) = found["parent"]
    assert {row["parent"] for row in found["child"]} == {parent["id"]}
    metrics = json.loads((project.capsules()[0] / "metrics.json").read_text())
    assert sorted(metrics["said"]["step"]) == list(range(20))
