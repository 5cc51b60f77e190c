"""Entries that say who vouches for them, and whom this reader believes.

Whoever may write to a store can put a wrong result under a right key, before the right one is there (CVE-2025-36852).
So a writer signs, with ed25519, the statement of the entry together with who and where it is; a reader has a list of
keys and of what each may vouch for. It is the key that decides: what a writer says of itself counts only as far as its
key may say it.
"""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from capsula.core.capsule import origin_from
from capsula.core.digest import Digest
from capsula.core.facts import pack, unpack
from capsula.core.reapi import ActionResult
from capsula.core.statement import attached, origin_of, statement, with_attached
from capsula.errors import EntryUntrusted, UsageError, WireError
from capsula.ports import Remote
from capsula.store.passing import Passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.core.facts import Fact

TYPE_URL = "type.capsula.dev/signature.v1"
VERSION = "capsula-signature1"
PREFIX = "ed25519:"


@dataclass(frozen=True, slots=True)
class Claim:
    """What is signed: the digest of the entry's statement, and who says so. `seconds` since 1970."""

    statement: str
    builder: str
    ref: str
    run: str
    tier: str
    seconds: int

    def to_bytes(self) -> bytes:
        facts: list[Fact] = [
            (VERSION,),
            ("statement", self.statement),
            ("builder", self.builder),
            ("ref", self.ref),
            ("run", self.run),
            ("tier", self.tier),
            ("time", str(self.seconds)),
        ]
        return pack(facts)


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """`tiers`, `refs` and `ids` (of capsules) are what it may vouch for, the last two as patterns. What it signed at or
    after `until` (None: no end) isn't believed; nothing is, if it is `revoked`."""

    name: str
    public: bytes
    tiers: tuple[str, ...] = ("trusted",)
    refs: tuple[str, ...] = ("*",)
    ids: tuple[str, ...] = ("*",)
    until: datetime | None = None
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Trust:
    """`accept` are the tiers that this reader believes."""

    keys: Mapping[str, TrustedKey] = field(default_factory=dict)
    accept: tuple[str, ...] = ("trusted",)

    @classmethod
    def of(cls, keys: Sequence[TrustedKey], accept: tuple[str, ...] = ("trusted",)) -> "Trust":
        return cls({key_id(key.public): key for key in keys}, accept)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs, and what it says of itself. `claim` has neither statement nor time yet."""

    private: Ed25519PrivateKey
    claim: Claim

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class Signed(Passing):
    """A Remote around another. With `trust`, `lookup` raises EntryUntrusted for what nobody vouches for who may."""

    def __init__(
        self,
        remote: Remote,
        signer: Signer | None,
        trust: Trust | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(remote.name, lambda: remote, packs=remote.packs)
        self._signer = signer
        self._trust = trust
        self._now = now

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        result = super().lookup(action, deadline)
        if result is not None and self._trust is not None:
            own = self._signer.public if self._signer is not None else None
            reason = why_not(action, result, self._trust, own)
            if reason:
                raise EntryUntrusted(f"{self.name}: the entry {action.hash[:12]} isn't believed: {reason}")
        return result

    def store(self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False) -> None:
        if self._signer is not None:
            result = sign(action, result, self._signer, int(self._now()))
        super().store(action, result, deadline, if_none=if_none)


def sign(action: Digest, result: ActionResult, signer: Signer, seconds: int) -> ActionResult:
    return with_attached(result, TYPE_URL, vouch(statement(action, result), signer, seconds))


def vouch(said: bytes, signer: Signer, seconds: int) -> bytes:
    """The signature of a statement, with the claim and the key."""
    payload = replace(signer.claim, statement=sha256(said).hexdigest(), seconds=seconds).to_bytes()
    facts: list[Fact] = [
        ("claim", payload.hex()),
        ("key", key_id(signer.public)),
        ("signature", signer.private.sign(payload).hex()),
    ]
    return pack(facts)


def why_not(action: Digest, result: ActionResult, trust: Trust, own: bytes | None) -> str:
    """Why the entry isn't believed, as the end of a sentence; "" if it is. What our `own` key signed always is."""
    value = attached(result, TYPE_URL)
    if value is None:
        return "nobody has signed it"
    return why_not_vouched(
        value, statement(action, result), lambda: origin_from(origin_of(result)).capsule_id, trust, own
    )


def why_not_vouched(
    value: bytes,
    said: bytes,
    capsule_id: Callable[[], str],
    trust: Trust,
    own: bytes | None,
    *,
    since: float = 0.0,
) -> str:
    """The same of any statement and its signature, which is none if it was made before `since`."""
    try:
        claim, key_name = claim_from(
            value, (*[key.public for key in trust.keys.values()], *([own] if own else []))
        )
    except (WireError, ValueError, KeyError, InvalidSignature):
        return "its signature isn't right"
    if claim is None:
        return f"it is signed by {key_name}, a key that isn't known here"
    if claim.statement != sha256(said).hexdigest():
        return "its signature is of something else"
    if claim.seconds < since:
        return "its signature is too old"
    if own is not None and key_name == key_id(own):
        return ""
    return _what_it_may_not(trust.keys[key_name], claim, capsule_id(), trust)


def _what_it_may_not(key: TrustedKey, claim: Claim, capsule_id: str, trust: Trust) -> str:
    if key.revoked:
        return f"the key {key.name} is revoked"
    if key.until is not None and claim.seconds >= key.until.timestamp():
        return f"the key {key.name} signed it after its end"
    for said, allowed, what in (
        (claim.tier, key.tiers, "the tier"),
        (claim.ref, key.refs, "the ref"),
        (capsule_id, key.ids, "the capsule"),
    ):
        if not any(fnmatchcase(said, pattern) for pattern in allowed):
            return f"the key {key.name} may not vouch for {what} {said!r}"
    return "" if claim.tier in trust.accept else f"its tier {claim.tier!r} isn't one that is accepted here"


def claim_from(value: bytes, keys: Sequence[bytes]) -> tuple[Claim | None, str]:
    """The claim, and the id of the key that it says it is signed with; no claim if none of `keys` is that one.

    Raises WireError, ValueError or KeyError for what is none, InvalidSignature for one that isn't right.
    """
    facts: dict[str, str] = {fact[0]: fact[1] for fact in unpack(value) if len(fact) == 2}
    public = next((each for each in keys if key_id(each) == facts["key"]), None)
    if public is None:
        return None, facts["key"][:64]
    payload = bytes.fromhex(facts["claim"])
    Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(facts["signature"]), payload)
    return read_claim(payload), facts["key"]


def read_claim(payload: bytes) -> Claim:
    rows = unpack(payload)
    if not rows or rows[0] != (VERSION,):
        raise WireError("a claim of another version")
    said = {fact[0]: fact[1] for fact in rows[1:] if len(fact) == 2}
    names = ("statement", "builder", "ref", "run", "tier")
    stated, builder, ref, run, tier = (said[name] for name in names)
    return Claim(stated, builder, ref, run, tier, int(said["time"]))


# ------------------------------------------------------------------------------------------------ keys


def key_id(public: bytes) -> str:
    return sha256(public).hexdigest()[:16]


def written(public: bytes) -> str:
    """A public key as people pass it on."""
    return PREFIX + base64.b64encode(public).decode()


def read_public(text: str) -> bytes:
    """UsageError for what is no public key of ours."""
    try:
        public = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        Ed25519PublicKey.from_public_bytes(public)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            "expected a public key", hint=f"it starts with {PREFIX}, and capsula keygen prints it"
        ) from error
    return public


def read_private(pem: bytes, where: str) -> Ed25519PrivateKey:
    """UsageError for what is no private key of ours; what is in it is never told."""
    try:
        key: Any = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{where} holds no private key", hint="capsula keygen makes one") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"the key in {where} is no ed25519 key", hint="capsula keygen makes one")
    return key


def generate() -> tuple[bytes, bytes]:
    """A new private key as PEM, and its public one."""
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
