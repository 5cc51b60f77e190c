"""The verbs that find, mark and remove capsules, through the installed command."""

import json
import subprocess

import pytest


class Vault:
    """A project whose vault fills, and the verbs in it."""

    def __init__(self, ws) -> None:
        self.ws = ws
        self.place = ws.root / "vault"
        ws.write("capsula.toml", "[monitor]\ncapture = false\n[monitor.item.a]\n[monitor.item.b]\n")

    def run(self, *words: str, code: int = 0) -> str:
        """What it prints on stdout."""
        done = self.call(*words)
        assert done.returncode == code, done
        return done.stdout

    def call(self, *words: str, **more) -> subprocess.CompletedProcess[str]:
        environ = {**self.ws.environ, **more.pop("environ", {})}
        return subprocess.run(
            ["capsula", *words], cwd=self.ws.root, env=environ, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=60, **more,
        )  # fmt: skip

    def monitor(self, *words: str) -> str:
        """The name of the new capsule."""
        before = set(self.names())
        self.call("monitor", *words)
        (name,) = set(self.names()) - before
        return name

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.place.glob("*/capsule.json"))

    def listed(self, *words: str) -> list[dict]:
        return [json.loads(line) for line in self.run("list", "--json", *words).splitlines()]


@pytest.fixture
def vault(ws):
    return Vault(ws)


# ----------------------------------------------------------------------------------------------- tags, notes


def test_tags_and_notes_lie_beside_the_sealed_capsule(vault):
    name = vault.monitor("true")
    assert vault.run("tag", "@latest", "good", "baseline", "good") == f"{name}: baseline, good\n"
    assert vault.run("note", name, "the one for the paper") == ""
    assert vault.run("tag", name) == "baseline\ngood\n"
    assert vault.run("note", name) == "the one for the paper\n"
    shown = json.loads(vault.run("show", "--json"))
    assert (shown["tags"], shown["note"]) == (["baseline", "good"], "the one for the paper")
    page = vault.run("show")
    assert "baseline, good" in page
    assert "Note\n  the one for the paper" in page
    assert "all as they were sealed" in vault.run("show", "--verify")


def test_tags_and_notes_are_taken_away_again(vault):
    name = vault.monitor("true")
    vault.run("tag", name, "a", "b")
    assert vault.run("tag", name, "--remove", "a") == f"{name}: b\n"
    assert vault.run("tag", name, "--remove", "a", code=1) == f"{name}: b\n"
    vault.run("note", name, "x")
    vault.run("note", name, "")
    assert vault.run("note", name) == ""
    assert "has no note" in vault.call("note", name).stderr


@pytest.mark.parametrize(
    "words", [("tag", "@latest", "a b"), ("tag", "@latest", "--remove"), ("tag", "nothing", "a")]
)
def test_what_can_t_be_tagged_is_refused(vault, words):
    vault.monitor("true")
    assert vault.call(*words).returncode == 2
    assert not list(vault.place.glob(".capsula/notes/*.json"))
