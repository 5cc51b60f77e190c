"""Whom a run believes of what was fetched before: under which name it is kept, and when it is looked at again."""

from pathlib import Path

import pytest

from capsula.config.settings import Settings, read_settings
from capsula.core.digest import digest_of
from capsula.core.reapi import ActionResult
from capsula.plugins.believing import beliefs

ACTION = digest_of(b"an action")


def settings(*words: str) -> Settings:
    return read_settings(
        [*words, "--", "true"],
        environ_args=None,
        home=None,
        cwd="/",
        find_root=lambda given: given or "/",
        program="capsule",
    )


def test_what_came_under_ones_own_key_is_looked_at_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the key is, also where ~ names the place."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "trust.toml").write_text("")
    (tmp_path / "key.pem").write_text("one key")
    trusting = ("--trust", str(tmp_path / "trust.toml"))
    for key in (str(tmp_path / "key.pem"), "~/key.pem"):
        own = beliefs(settings(*trusting, "--sign_key", key))
        result = own.arrived(ActionResult())
        assert own.doubt(ACTION, result) == ""
        assert "nobody has signed it" in beliefs(settings(*trusting)).doubt(ACTION, result)
