"""Signatures: what is believed of an entry, and why it isn't."""

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.core.capsule import TYPE_URL as ORIGIN
from capsula.core.capsule import Origin
from capsula.core.digest import digest_of
from capsula.core.facts import pack, unpack
from capsula.core.reapi import ActionResult, OutputFile
from capsula.core.statement import attached, with_attached
from capsula.errors import EntryUntrusted, UsageError
from capsula.store.sealed import Sealed
from capsula.store.signed import (
    TYPE_URL,
    Claim,
    Signed,
    Signer,
    Trust,
    TrustedKey,
    generate,
    key_id,
    read_private,
    read_public,
    sign,
    why_not,
    written,
)
from capsula.testing import MemoryRemote, soon

ACTION = digest_of(b"an action")
CLAIM = Claim("", "ci", "refs/heads/main", "job 1", "trusted", 0)
NOW = 1_800_000_000


def signer(claim: Claim = CLAIM) -> Signer:
    pem, _ = generate()
    return Signer(read_private(pem, "a test"), claim)


CI, STRANGER = signer(), signer()
KEY = TrustedKey("ci", CI.public, refs=("refs/heads/main", "refs/tags/*"), ids=("lib-*",))
TRUST = Trust.of([KEY])


def result(capsule_id: str = "lib-a") -> ActionResult:
    made = ActionResult(output_files=(OutputFile(path="a", digest=digest_of(b"a")),), stdout_raw=b"log")
    return with_attached(made, ORIGIN, Origin(capsule_id=capsule_id, run="r1").to_bytes())


def judged(made: ActionResult, trust: Trust = TRUST, own: bytes | None = None) -> str:
    return why_not(ACTION, made, trust, own)


def test_what_a_trusted_key_signed_is_believed() -> None:
    assert judged(sign(ACTION, result(), CI, NOW)) == ""


def test_what_nobody_or_a_stranger_signed_is_not() -> None:
    assert judged(result()) == "nobody has signed it"
    assert "isn't known here" in judged(sign(ACTION, result(), STRANGER, NOW))
    assert judged(sign(ACTION, result(), STRANGER, NOW), own=STRANGER.public) == ""


@pytest.mark.parametrize(
    "changed",
    [
        lambda made: replaced(made, exit_code=1),
        lambda made: replaced(made, stdout_raw=b"other"),
        lambda made: replaced(made, output_files=(OutputFile(path="b", digest=digest_of(b"a")),)),
        lambda made: replaced(made, output_files=(OutputFile(path="a", digest=digest_of(b"b")),)),
        lambda made: with_attached(made, ORIGIN, Origin(capsule_id="lib-b", run="r1").to_bytes()),
    ],
)
def test_a_signature_is_of_one_result_only(changed) -> None:
    assert judged(changed(sign(ACTION, result(), CI, NOW))) == "its signature is of something else"


def replaced(made: ActionResult, **changed: object) -> ActionResult:
    return ActionResult(**{**{row[1]: getattr(made, row[1]) for row in ActionResult.FIELDS}, **changed})


def test_a_signature_is_of_one_action_only() -> None:
    made = sign(ACTION, result(), CI, NOW)
    assert why_not(digest_of(b"another"), made, TRUST, None) == "its signature is of something else"


def test_what_a_server_writes_in_another_way_stays_signed() -> None:
    made = sign(ACTION, result(), CI, NOW)
    other = replaced(made, stdout_raw=b"", stdout_digest=digest_of(b"log"))
    assert judged(other) == ""


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (replace(CLAIM, ref="refs/heads/feature"), "may not vouch for the ref"),
        (replace(CLAIM, ref=""), "may not vouch for the ref"),
        (replace(CLAIM, tier="release"), "may not vouch for the tier"),
    ],
)
def test_a_key_vouches_only_for_what_it_may(claim: Claim, said: str) -> None:
    made = sign(ACTION, result(), Signer(CI.private, claim), NOW)
    assert said in judged(made)


def test_the_capsule_is_that_of_the_result() -> None:
    assert "may not vouch for the capsule 'app'" in judged(sign(ACTION, result("app"), CI, NOW))


def test_a_tier_that_is_not_accepted_is_not_believed() -> None:
    key = replace(KEY, tiers=("trusted", "untrusted"))
    made = sign(ACTION, result(), Signer(CI.private, replace(CLAIM, tier="untrusted")), NOW)
    assert "isn't one that is accepted" in judged(made, Trust.of([key]))
    assert judged(made, Trust.of([key], ("trusted", "untrusted"))) == ""


def test_keys_end_and_are_revoked() -> None:
    end = datetime.fromtimestamp(NOW, UTC)
    ended = Trust.of([replace(KEY, until=end)])
    assert judged(sign(ACTION, result(), CI, NOW - 1), ended) == ""
    assert "after its end" in judged(sign(ACTION, result(), CI, NOW), ended)
    assert "revoked" in judged(sign(ACTION, result(), CI, NOW), Trust.of([replace(KEY, revoked=True)]))


@given(st.binary(max_size=200))
def test_nonsense_is_no_signature(value: bytes) -> None:
    assert judged(with_attached(result(), TYPE_URL, value)) != ""


@pytest.mark.parametrize("name", ["claim", "key", "signature"])
def test_no_part_of_a_signature_can_be_changed(name: str) -> None:
    made = sign(ACTION, result(), CI, NOW)
    value = attached(made, TYPE_URL)
    assert value is not None
    for at in range(0, 60, 7):
        rows = []
        for fact in unpack(value):
            text = fact[1]
            flipped = text[:at] + ("0" if text[at : at + 1] != "0" else "1") + text[at + 1 :]
            rows.append((fact[0], flipped if fact[0] == name else text))
        if name == "key" and at >= 16:
            continue
        assert judged(with_attached(made, TYPE_URL, pack(rows))) != ""


def test_a_signature_does_not_cover_another_s_claim() -> None:
    """The claim of the one under the key of the other."""
    mine = {fact[0]: fact[1] for fact in unpack(attached(sign(ACTION, result(), CI, NOW), TYPE_URL) or b"")}
    other = {
        fact[0]: fact[1] for fact in unpack(attached(sign(ACTION, result(), STRANGER, NOW), TYPE_URL) or b"")
    }
    mixed = pack([("claim", mine["claim"]), ("key", mine["key"]), ("signature", other["signature"])])
    assert judged(with_attached(result(), TYPE_URL, mixed)) == "its signature isn't right"


def test_a_remote_gives_out_only_what_is_believed() -> None:
    far = MemoryRemote()
    writer = Signed(Sealed(far), CI, None, now=lambda: NOW)
    reader = Signed(Sealed(far), None, TRUST)
    assert reader.lookup(ACTION, soon()) is None
    Sealed(far).store(ACTION, result(), soon())
    with pytest.raises(EntryUntrusted, match="nobody has signed it"):
        reader.lookup(ACTION, soon())
    writer.store(ACTION, result(), soon())
    found = reader.lookup(ACTION, soon())
    assert found is not None
    assert (found.output_files, attached(found, ORIGIN)) == (
        result().output_files,
        attached(result(), ORIGIN),
    )
    assert Signed(Sealed(far), None, None).lookup(ACTION, soon()) == found


def test_who_signs_has_a_new_signature_on_what_was_signed_before() -> None:
    far = MemoryRemote()
    signed = sign(ACTION, result(), STRANGER, int(time.time()))
    Signed(Sealed(far), CI, None).store(ACTION, signed, soon())
    assert Signed(Sealed(far), None, TRUST).lookup(ACTION, soon()) is not None


def test_keys_are_written_and_read() -> None:
    pem, public = generate()
    assert read_public(written(public)) == public
    assert Signer(read_private(pem, "x"), CLAIM).public == public
    assert len(key_id(public)) == 16
    for text in ("", "ed25519:", "ed25519:AAAA", "rsa:xyz", written(public)[:-3]):
        with pytest.raises(UsageError):
            read_public(text)
    for content in (b"", b"-----BEGIN PRIVATE KEY-----\n", pem[:-40], pem.replace(b"PRIVATE", b"PUBLIC")):
        with pytest.raises(UsageError) as caught:
            read_private(content, "the file")
        secret = content.decode()[30:60]
        assert not secret or secret not in caught.value.what
