"""The file of --trust: what is read, and what is refused by name."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from capsula.config.trust import read_trust
from capsula.errors import ConfigError
from capsula.store.signed import generate, key_id, written

PUBLIC = generate()[1]


def test_all_of_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    path.write_text(
        'accept = ["trusted", "mine"]\n'
        f'[[key]]\nname = "ci"\npublic = "{written(PUBLIC)}"\ntiers = ["trusted"]\n'
        'refs = ["refs/heads/main"]\nids = ["a*"]\nuntil = 2027-01-01\nrevoked = true\n'
    )
    trust = read_trust(str(path))
    key = trust.keys[key_id(PUBLIC)]
    assert (trust.accept, key.name, key.public) == (("trusted", "mine"), "ci", PUBLIC)
    assert (key.tiers, key.refs, key.ids) == (("trusted",), ("refs/heads/main",), ("a*",))
    assert (key.until, key.revoked) == (datetime(2027, 1, 1, tzinfo=UTC), True)


def test_little_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    path.write_text(f'[[key]]\npublic = "{written(PUBLIC)}"\n')
    trust = read_trust(str(path))
    assert (trust.accept, trust.keys[key_id(PUBLIC)].refs) == (("trusted",), ("*",))
    path.write_text("")
    assert not read_trust(str(path)).keys


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accpet = []", "accpet"),
        ("accept = 1", "accept"),
        ("key = 1", "key"),
        ('[[key]]\nname = "x"', "key 1: public"),
        ('[[key]]\npublic = "ed25519:nonsense"', "key 1: public"),
        (f'[[key]]\npublic = "{written(PUBLIC)}"\nref = ["x"]', "ref"),
        (f'[[key]]\npublic = "{written(PUBLIC)}"\nrefs = "x"', "refs"),
        (f'[[key]]\npublic = "{written(PUBLIC)}"\nuntil = "soon"', "until"),
        (f'[[key]]\npublic = "{written(PUBLIC)}"\nrevoked = "no"', "revoked"),
        ("= 1", "line 1"),
    ],
    # Not with the key, which is another in each process of a test run.
    ids=lambda text: text.rpartition("\n")[2],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trust.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_trust(str(path))
    with pytest.raises(ConfigError, match="can't read"):
        read_trust(str(tmp_path / "nothing"))
