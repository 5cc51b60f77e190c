"""An authority for a test, and who it vouches for: PEM files for servers and clients of 127.0.0.1."""

import base64
import hmac
import ipaddress
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@dataclass(frozen=True)
class Pair:
    """The paths of a certificate and of its key."""

    cert: Path
    key: Path


class Authority:
    """`ca` is the path of its own certificate."""

    def __init__(self, base: Path, name: str = "authority") -> None:
        base.mkdir(parents=True, exist_ok=True)
        self._base = base
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _called(name)
        constraint = x509.BasicConstraints(ca=True, path_length=None)
        made = _builder(self._name, self._name, self._key, timedelta(days=1)).add_extension(constraint, True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = made.add_extension(usage, True)
        self._own = made.sign(self._key, SHA256())
        self.ca = base / f"{name}.pem"
        self.ca.write_bytes(self._own.public_bytes(Encoding.PEM))

    def issue(self, name: str, lasts: timedelta = timedelta(days=1)) -> Pair:
        """For whoever is called so at 127.0.0.1 or cache.example. What lasts a negative time has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = x509.SubjectAlternativeName([here, x509.DNSName("cache.example")])
        issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = _builder(_called(name), self._name, key, lasts).add_extension(names, False)
        made = made.add_extension(issued_by, False)
        pair = Pair(self._base / f"{name}.pem", self._base / f"{name}.key")
        pair.cert.write_bytes(made.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair


def token(secret: str, lasts: float = 3600) -> str:
    """A JSON Web Token with HS256, RFC 7519."""
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": "capsula", "exp": int(time.time() + lasts)})
    signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{_base64(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
