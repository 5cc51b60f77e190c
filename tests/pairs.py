"""Machines with a bucket between them: directories with stores of their own, and which leases are in the bucket."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import obstore

PATIENCE = 200
ASK = ("-c", "x", "-i", "in.txt", "-o", "out.txt")
# Runs until somebody writes to the gate, or at once where that is no pipe.
DO = 'read line < "$GATE"; cp in.txt out.txt && echo made'


class Machine:
    """A directory and a store of its own; the gate of its command is closed unless it is `open`."""

    def __init__(self, ws, name: str, endpoint: str, *options: str, is_open: bool = True) -> None:
        self.ws = ws
        self.root = ws.base / name
        self.root.mkdir()
        (self.root / "in.txt").write_bytes(b"input")
        (self.root / "capsula.toml").write_bytes(b"")
        self.gate = self.root.with_suffix(".gate")
        if not is_open:
            os.mkfifo(self.gate)
        self.options = options
        self.environ = {
            **ws.environ,
            "XDG_CACHE_HOME": str(self.root.with_suffix(".cache")),
            "GATE": str(self.gate) if not is_open else "/dev/null",
            "AWS_ENDPOINT_URL": endpoint,
        }

    def start(self, *more: str, do: str = DO) -> "subprocess.Popen[bytes]":
        return self.ws.start(
            *self.options, *more, *ASK, do=do, cwd=self.root, env=self.environ, start_new_session=True
        )

    def run(self, *more: str):
        return self.ws.capsule(*self.options, *more, *ASK, do=DO, cwd=self.root, env=self.environ)

    def end(self) -> None:
        """Its command goes on."""
        with self.gate.open("w") as gate:
            gate.write("go\n")


class Pair:
    def __init__(self, ws, server: Any) -> None:
        self.ws = ws
        self.server = server
        self.direct = server.store()
        self.prefix = f"pair/{time.time_ns()}"
        # A busy machine is slow, and that is no trouble of a store.
        self.options = ("-b", f"s3://{server.bucket}/{self.prefix}", "--remote_timeout", "150s")
        ws.environ |= server.credentials()

    def machine(self, name: str, *more: str, endpoint: str = "", is_open: bool = True) -> Machine:
        return Machine(self.ws, name, endpoint or self.server.url, *self.options, *more, is_open=is_open)

    def leases(self) -> list[str]:
        found = obstore.list(self.direct, f"{self.prefix}/lease").collect()
        return [each["path"] for each in found]

    def lease(self) -> dict[str, Any]:
        """What the only one says."""
        (name,) = self.leases()
        said: dict[str, Any] = json.loads(bytes(obstore.get(self.direct, name).bytes()))
        return said

    def put(self, said: dict[str, Any], key: str = "") -> None:
        """In place of the only one, or as that of the action `key`."""
        (name,) = self.leases() if not key else (f"{self.prefix}/lease/{key}",)
        obstore.put(self.direct, name, json.dumps({"capsula-lease": 1, **said}).encode())

    def until(self, condition: Callable[[], object]) -> None:
        ends = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < ends, "it doesn't come about"
            time.sleep(0.02)

    def until_held(self) -> None:
        self.until(self.leases)

    def until_old(self, seconds: float) -> None:
        """By the clock of the store, which dates all that is written."""
        (name,) = self.leases()
        now = f"{self.prefix}/now"

        def age() -> float:
            obstore.put(self.direct, now, b"")
            dates = [obstore.head(self.direct, each)["last_modified"] for each in (name, now)]
            return float((dates[1] - dates[0]).total_seconds())

        self.until(lambda: age() >= seconds)


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str, list[str]]:
    out, err = process.communicate(timeout=PATIENCE)
    said = [line.removeprefix("capsule: ") for line in err.decode().splitlines()]
    return process.returncode, out.decode(), said


def first_line(process: "subprocess.Popen[bytes]") -> str:
    assert process.stderr is not None
    return process.stderr.readline().decode()
