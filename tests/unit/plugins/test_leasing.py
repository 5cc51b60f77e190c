"""How a run takes leases and waits for those of others: what its settings say."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capsula.config.settings import Settings, read_settings
from capsula.core.digest import digest_of
from capsula.plugins.leasing import terms
from capsula.store.lease import Lease, Terms
from capsula.store.signed import generate, written

SAID = Lease(run="r", host="h", pid=1, seconds=30.0).statement(digest_of(b"action"))


def settings(*words: str) -> Settings:
    return read_settings(
        [*words, "--", "true"],
        environ_args=None,
        home=None,
        cwd="/",
        find_root=lambda given: given or "/",
        program="capsule",
    )


def of(*words: str, capsule_id: str = "lib-a") -> Terms:
    return terms(settings(*words), "run", "host", capsule_id, lambda: 60.0)


@pytest.mark.parametrize(
    ("words", "seconds", "wait"),
    [
        ((), 20.0, 600.0),
        (("--remote_mode", "r"), 0.0, 600.0),
        (("--remote_mode", "w"), 20.0, 0.0),
        (("--lease_time", "0", "--lease_wait", "5s"), 0.0, 5.0),
    ],
)
def test_who_reads_waits_and_who_writes_takes_them(words, seconds, wait) -> None:
    found = of(*words)
    assert (found.seconds, found.wait) == (seconds, wait)


def test_the_end_of_our_process_is_that_of_the_work_unless_another_sends_it() -> None:
    assert of().ends_with_process
    assert not of("--upload", "background").ends_with_process


def test_looking_and_leaving_take_a_part_of_what_remotes_may_take() -> None:
    assert (of().look, of().leave) == (5.0, 2.0)
    assert (of("--remote_timeout", "20s").look, of("--remote_timeout", "20s").leave) == (10.0, 4.0)


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """Options that sign, and that believe who signs so."""
    private, public = generate()
    key, trust = tmp_path / "key.pem", tmp_path / "trust.toml"
    key.write_bytes(private)
    trust.write_text(f'[[key]]\npublic = "{written(public)}"\nids = ["lib-*"]\nrefs = ["main"]\n')

    def options(*which: str) -> tuple[str, ...]:
        found = {"sign": ("--sign_key", str(key), "--ref", "main"), "trust": ("--trust", str(trust))}
        return tuple(word for name in which for word in found[name])

    return options


def test_without_keys_nothing_is_signed_and_all_is_believed() -> None:
    found = of()
    assert found.sign(SAID) == b""
    assert found.believes(SAID, b"")


def test_what_is_signed_is_believed_of_what_it_says_and_of_those_capsules(files) -> None:
    signature = of(*files("sign")).sign(SAID)
    assert of(*files("trust")).believes(SAID, signature)
    assert not of(*files("trust")).believes(SAID + b"more", signature)
    assert not of(*files("trust"), capsule_id="app").believes(SAID, signature)
    assert of(*files("sign", "trust"), capsule_id="app").believes(SAID, signature), "one's own always is"


def test_what_was_signed_long_ago_is_not_believed(files, monkeypatch) -> None:
    """Who may write to the store can keep it, and write it again."""
    now = time.time()
    monkeypatch.setattr("capsula.plugins.signing.time.time", lambda: now - 1000)
    signature = of(*files("sign")).sign(SAID)
    monkeypatch.setattr("capsula.plugins.signing.time.time", lambda: now)
    assert not of(*files("trust")).believes(SAID, signature)
    assert not of(*files("sign", "trust")).believes(SAID, signature)


def test_for_one_that_is_not_signed_no_library_is_loaded(files, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "capsula.plugins.signing", None)
    assert not of(*files("trust")).believes(SAID, b"")
