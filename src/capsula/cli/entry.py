"""`capsula cache show`: one result, who made it, of what, and who vouches for it."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from typing import Any

from capsula.cli.narrate import duration
from capsula.cli.render import DIM, Cell, Column, Sheet, counted, table
from capsula.cli.target import Target
from capsula.core.capsule import origin_from
from capsula.core.digest import Digest
from capsula.core.names import printable
from capsula.core.reapi import ActionResult
from capsula.core.result import from_result
from capsula.core.statement import attached, origin_of
from capsula.errors import CapsulaError, UsageError
from capsula.store.disk import DiskStore


def show(target: Target, sheet: Sheet, key: str, *, as_json: bool) -> int:
    """One result: who made it, of what, and who vouches for it."""
    action, result = _find(target, key)
    near = DiskStore(target.root, now=time.time)
    origin = origin_from(origin_of(result))
    try:
        outputs = {path: node for path, node in from_result(result, near.read).items() if node.digest}
    except CapsulaError:
        outputs = {}
    facts: dict[str, Any] = {
        "key": action.hash,
        "capsule_id": origin.capsule_id,
        "command": origin.argv,
        "run": origin.run,
        "host": origin.host,
        "job": origin.job,
        "started": datetime.fromtimestamp(origin.started_ns / 1e9).astimezone().isoformat(timespec="seconds")
        if origin.started_ns
        else "",
        "seconds": origin.seconds,
        "exit_code": result.exit_code,
        "verdict": origin.verdict,
        "signature": _claim(result),
        "outputs": [
            {"path": path, "hash": node.digest.hash, "size": node.digest.size_bytes}
            for path, node in sorted(outputs.items())
            if node.digest is not None
        ],
    }
    if as_json:
        print(json.dumps(facts, indent=2))
        return 0
    shown = {**facts, "seconds": duration(origin.seconds), "outputs": counted(len(outputs), "file")}
    signature = facts["signature"]
    if signature:
        shown["signature"] = ", ".join(f"{name} {value}" for name, value in signature.items() if value)
    rows = [[Cell(name, DIM), Cell(printable(str(value)))] for name, value in shown.items() if value != ""]
    for line in table([Column(), Column()], [row for row in rows if row[1].text != "None"], sheet):
        print(line)
    return 0


def _find(target: Target, key: str) -> tuple[Digest, ActionResult]:
    near = DiskStore(target.root, now=time.time)
    hexadecimal = key.lower()
    if not hexadecimal or hexadecimal.strip("0123456789abcdef") or len(hexadecimal) > 64:
        raise UsageError(
            f"{printable(key)} is no key", hint="capsula history --json and capsule -v name keys"
        )
    folder = os.path.join(target.root, "ac", hexadecimal[:2])
    try:
        names = [name for name in os.listdir(folder) if name.startswith(hexadecimal)]
    except OSError:
        names = []
    if len(hexadecimal) < 2 or len(names) > 1:
        raise UsageError(f"several keys begin with {printable(key)}", hint="give more of it")
    if names:
        result = near.lookup(Digest(names[0], 0))
        if result is not None:
            return Digest(names[0], 0), result
    raise UsageError(f"there is no result {printable(key)} on this machine", hint="a hit brings it here")


def _claim(result: ActionResult) -> dict[str, Any] | None:
    """What its signature says of who signed; whether it is right, a reader with --trust has looked at."""
    try:
        from capsula.core.facts import unpack
        from capsula.store.signed import TYPE_URL, read_claim

        value = attached(result, TYPE_URL)
        if value is None:
            return None
        said = {fact[0]: fact[1] for fact in unpack(value) if len(fact) == 2}
        claim = read_claim(bytes.fromhex(said["claim"]))
    except (ImportError, CapsulaError, ValueError, KeyError):
        return None
    return {
        "key": said.get("key", ""),
        "builder": claim.builder,
        "ref": claim.ref,
        "run": claim.run,
        "tier": claim.tier,
        "time": claim.seconds,
    }
