"""`capsula cache show`: one result, who made it, of what, and who vouches for it; from a shared store if it isn't
here."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from capsula.cli.narrate import duration
from capsula.cli.render import DIM, Cell, Column, Sheet, counted, table
from capsula.cli.target import Target, target_settings
from capsula.core.capsule import origin_from
from capsula.core.digest import Digest
from capsula.core.names import printable
from capsula.core.reapi import ActionResult
from capsula.core.result import from_result
from capsula.core.statement import attached, origin_of
from capsula.errors import CapsulaError, StoreError, UsageError, in_one_line
from capsula.store.disk import DiskStore
from capsula.store.layout import ENTRIES, IDS

if TYPE_CHECKING:
    from capsula.ports import Remote

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Found:
    """A result, the files that it has by path (none, if what lists them can't be had), and which store has it."""

    key: str
    result: ActionResult
    store: str
    outputs: dict[str, Digest]


def show(target: Target, sheet: Sheet, key: str, given: Sequence[str], *, as_json: bool) -> int:
    """One result: who made it, of what, and who vouches for it."""
    found = _find(target, key, given)
    result = found.result
    origin = origin_from(origin_of(result))
    facts: dict[str, Any] = {
        "key": found.key,
        "store": found.store,
        "capsule_id": origin.capsule_id,
        "command": origin.argv,
        "run": origin.run,
        "host": origin.host,
        "job": origin.job,
        "commit": origin.commit,
        "started": datetime.fromtimestamp(origin.started_ns / 1e9).astimezone().isoformat(timespec="seconds")
        if origin.started_ns
        else "",
        "seconds": origin.seconds,
        "exit_code": result.exit_code,
        "verdict": origin.verdict,
        "signature": _claim(result),
        "outputs": [
            {"path": path, "hash": digest.hash, "size": digest.size_bytes}
            for path, digest in sorted(found.outputs.items())
        ],
    }
    if as_json:
        print(json.dumps(facts, indent=2))
        return 0
    shown = {**facts, "seconds": duration(origin.seconds), "outputs": counted(len(found.outputs), "file")}
    signature = facts["signature"]
    if signature:
        shown["signature"] = ", ".join(f"{name} {value}" for name, value in signature.items() if value)
    rows = [[Cell(name, DIM), Cell(printable(str(value)))] for name, value in shown.items() if value != ""]
    for line in table([Column(), Column()], [row for row in rows if row[1].text != "None"], sheet):
        print(line)
    return 0


def _find(target: Target, key: str, given: Sequence[str]) -> Found:
    name, _, size = key.lower().partition("/")
    if not name or name.strip("0123456789abcdef") or len(name) > 64 or (size and not size.isdigit()):
        raise UsageError(
            f"{printable(key)} is no key", hint="capsula history --json and capsule -v name keys"
        )
    if len(name) < 2:
        raise _several(key)
    here = _here(target, name)
    if here is not None:
        return here
    asked: list[str] = []
    troubles: list[str] = []
    for remote in _remotes(given, troubles):
        asked.append(remote.name)
        try:
            found = _there(remote, name, int(size or 0) or _known_size(target, name))
        except StoreError as error:
            troubles.append(in_one_line(error))
            continue
        if found is not None:
            return found
    for trouble in troubles:
        print(f"capsula: {printable(trouble)}", file=sys.stderr)
    where = ", ".join(["on this machine", *asked])
    hint = "a store that lists nothing takes only a whole key" if asked and len(name) < 64 else ""
    if any(each.startswith("grpc") for each in asked) and not size:
        hint = "the Remote Execution API takes only a whole key with its size, as KEY/SIZE"
    raise UsageError(f"there is no result {printable(key)}: {where}", hint=hint)


def _here(target: Target, name: str) -> Found | None:
    near = DiskStore(target.root, now=time.time)
    try:
        names = [each for each in os.listdir(f"{target.root}/{ENTRIES}/{name[:2]}") if each.startswith(name)]
    except OSError:
        return None
    if len(names) > 1:
        raise _several(name)
    result = near.lookup(Digest(names[0], 0)) if names else None
    return None if result is None else Found(names[0], result, target.root, _outputs(result, near.read))


def _there(remote: Remote, name: str, size: int) -> Found | None:
    from capsula.store.census import Reading

    if len(name) < 64:
        holdings = remote.holdings()
        page = next(holdings.pages(ENTRIES, name), []) if holdings is not None else []
        names = [row[0] for row in page if row[0].startswith(name)]
        if len(names) > 1:
            raise _several(name)
        if not names:
            return None
        name = names[0]
    result = remote.lookup(Digest(name, size), time.monotonic() + PATIENCE)
    if result is None:
        return None

    def read(digest: Digest) -> bytes:
        reading = Reading(digest, keep=True)
        remote.fetch([digest], lambda _: reading, time.monotonic() + PATIENCE)
        return b"".join(reading.pieces)

    return Found(name, result, remote.name, _outputs(result, read))


def _outputs(result: ActionResult, read: Callable[[Digest], bytes]) -> dict[str, Digest]:
    try:
        nodes = from_result(result, read)
    except CapsulaError:
        return {}
    return {path: node.digest for path, node in nodes.items() if node.digest is not None}


def _remotes(given: Sequence[str], troubles: list[str]) -> Iterator[Remote]:
    from capsula.plugins.remotes import open_remote, urls
    from capsula.store.sealed import Sealed

    settings = target_settings(given)
    for url in urls(settings):
        try:
            remote = open_remote(url, settings)
        except CapsulaError as error:
            troubles.append(in_one_line(error))
            continue
        try:
            yield Sealed(remote)
        finally:
            remote.close()


def _known_size(target: Target, name: str) -> int:
    """Of an action that ran here, from what is kept of the past of capsules; 0 where there is none."""
    try:
        files = os.listdir(f"{target.root}/{IDS}")
        for each in files:
            with open(f"{target.root}/{IDS}/{each}", "rb") as file:
                for row in file:
                    if row.startswith(name.encode()):
                        return int(row.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _several(key: str) -> UsageError:
    return UsageError(f"several keys begin with {printable(key)}", hint="give more of it")


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
