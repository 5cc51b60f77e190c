"""`capsula cache doctor` and `push`: are the stores as they should be, and what waits to be sent."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capsula.cli.narrate import duration, size
from capsula.cli.render import BOLD, GREEN, RED, YELLOW, Sheet, counted
from capsula.cli.target import Target, target_settings
from capsula.core.digest import Digest, digest_of
from capsula.core.names import printable
from capsula.core.reapi import ActionResult, OutputFile
from capsula.errors import CapsulaError, StoreUnreachable, UsageError
from capsula.plugins.remotes import open_remote, urls
from capsula.store.disk import DiskStore
from capsula.store.layout import BLOBS, ENTRIES, blob_path
from capsula.store.outbox import Outbox
from capsula.store.receive import Receiving
from capsula.store.sealed import Sealed

if TYPE_CHECKING:
    from capsula.config.settings import Settings
    from capsula.ports import Remote

GOOD, NOTE, BAD = "ok", "note", "wrong"
_STYLES = {GOOD: GREEN, NOTE: YELLOW, BAD: RED}
_PROBE = 2048
READ_ONLY = "--remote_mode r only reads"


@dataclass(frozen=True, slots=True)
class Finding:
    """`state` is GOOD, NOTE or BAD; `text` a sentence; `advice` what to change."""

    state: str
    text: str
    advice: str = ""


def doctor(target: Target, sheet: Sheet, asked: Sequence[str], *, as_json: bool) -> int:
    """0 when nothing is wrong, else 1."""
    settings = target_settings(asked)
    rows = [(target.shown, _local(target))]
    rows += [(_name(url), _remote(url, settings, target)) for url in urls(settings)]
    is_well = True
    told = []
    for name, findings in rows:
        if not as_json:
            print(sheet.paint(printable(name), BOLD))
        found = []
        for finding in findings:
            is_well = is_well and finding.state != BAD
            found.append({"state": finding.state, "text": finding.text, "advice": finding.advice})
            if not as_json:
                mark = sheet.paint(f"{finding.state:<5}", _STYLES[finding.state])
                print(f"  {mark}  {printable(finding.text)}")
                if finding.advice:
                    print(f"         {printable(finding.advice)}")
                sys.stdout.flush()
        told.append({"store": name, "findings": found})
    if as_json:
        print(json.dumps({"well": is_well, "stores": told}, indent=2))
    return 0 if is_well else 1


def push(target: Target, asked: Sequence[str]) -> int:
    """Send what waits for remote stores; 1 when some of it is left."""
    from capsula.plugins.remotes import send_all

    settings = target_settings(asked)
    names = urls(settings)
    if not names:
        raise UsageError(
            "no remote store is configured", hint="backend or remote in ~/.capsules.toml, or an address here"
        )
    errors = send_all(settings, target.root, is_patient=True)
    for error in errors:
        print(f"capsula: not all is sent: {error.what}", file=sys.stderr)
    if not errors:
        print("Nothing waits any more.")
    return 1 if errors else 0


# ------------------------------------------------------------------------------------------------ looking


def _local(target: Target) -> Iterator[Finding]:
    near = DiskStore(target.root, now=time.time)
    try:
        target.exists()
        digest = near.put(os.urandom(_PROBE))
        near.read(digest)
        yield Finding(GOOD, "can be written and read")
    except CapsulaError as error:
        yield Finding(BAD, error.what, error.hint)
        return
    seen = os.statvfs(target.root)
    free = seen.f_bavail * seen.f_frsize
    is_tight = free < (target.limit or 1 << 30) // 4
    advice = "--store_size limits it, --store puts it elsewhere" if is_tight else ""
    limit = size(target.limit) if target.limit else "none"
    yield Finding(NOTE if is_tight else GOOD, f"limit {limit}, {size(free)} free on its disk", advice)


def _remote(url: str, settings: Settings, target: Target) -> Iterator[Finding]:
    try:
        plain = open_remote(url, settings)
        remote = Sealed(plain)
    except CapsulaError as error:
        yield Finding(BAD, error.what, error.hint)
        return
    mode, has_answered = settings.remote_mode, False
    try:
        began = time.monotonic()
        remote.lookup(digest_of(os.urandom(16)), _soon(settings))
        yield Finding(GOOD, f"answers a lookup in {duration(time.monotonic() - began)}")
        has_answered = True
        if "w" in mode:
            yield from _round_trip(remote, target, settings)
        else:
            yield Finding(NOTE, "is only read (--remote_mode r), so writing wasn't tried")
        for state, text in plain.examine(_soon(settings)):
            yield Finding(state, text)
    except CapsulaError as error:
        advice = error.hint
        if isinstance(error, StoreUnreachable) and not advice:
            advice = (
                "try it again: it answers, and can't do this now"
                if has_answered
                else "is the address right, does it run, and is there a way to it from here?"
            )
        elif has_answered and READ_ONLY not in advice:
            # The credentials of most people read only, and then that is how it's meant.
            advice = "; ".join(filter(None, (advice, READ_ONLY)))
        yield Finding(BAD, error.what, advice)
    waiting = len(list(Outbox(target.root, remote.name).waiting()))
    if waiting:
        yield Finding(
            NOTE, f"what waits to be sent: {counted(waiting, 'result')}", "capsula cache push sends them now"
        )
    plain.close()


def _round_trip(remote: Remote, target: Target, settings: Settings) -> Iterator[Finding]:
    near = DiskStore(target.root, now=time.time)
    digest = near.put(os.urandom(_PROBE))

    def receive(wanted: Digest) -> Receiving:
        return Receiving(target.root, wanted, time.time)

    def path_of(wanted: Digest) -> str:
        return blob_path(target.root, wanted.hash)

    remote.send([digest], path_of, _soon(settings))
    if remote.missing([digest], _soon(settings)):
        yield Finding(BAD, "took a blob and doesn't have it", "is there a limit, or an eviction at once?")
        return
    os.unlink(path_of(digest))
    remote.fetch([digest], receive, _soon(settings))
    yield Finding(GOOD, "takes a blob and gives it back")
    action = digest_of(os.urandom(16))
    result = ActionResult(output_files=(OutputFile(path="probe", digest=digest),))
    remote.store(action, result, _soon(settings))
    is_there = remote.lookup(action, _soon(settings)) is not None
    _take_away(remote, action, digest)
    if is_there:
        yield Finding(GOOD, "takes an entry and gives it back as it was")
    else:
        yield Finding(BAD, "took an entry and doesn't have it")


def _take_away(remote: Remote, action: Digest, digest: Digest) -> None:
    """Where that can be; who may write needn't be allowed to remove."""
    holdings = remote.holdings()
    try:
        if holdings is not None:
            holdings.remove(ENTRIES, [action.hash])
            holdings.remove(BLOBS, [digest.hash])
    except CapsulaError:
        return


def _soon(settings: Settings) -> float:
    return time.monotonic() + max(settings.remote_timeout, 1.0)


def _name(url: str) -> str:
    from capsula.core.secrets import mask

    return mask(url)
