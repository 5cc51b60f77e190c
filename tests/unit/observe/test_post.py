"""Who we are to a receiver of telemetry: nobody is asked for the password of a key while a build runs."""

import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from servers.certificates import Authority

SENDS = """
import sys
from capsula.observe.post import Parcel, _exchange
trust = tuple(sys.argv[1:])
print(_exchange(Parcel("https://127.0.0.1:9/", {}, b"", None, trust), "it", 5.0).trouble)
"""


def test_nobody_is_asked_for_the_password_of_a_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("me")
    key = load_pem_private_key(pair.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    pair.key.write_bytes(locked)
    trust = (str(authority.ca), str(pair.cert), str(pair.key))
    # Without a terminal, whoever asks for a password reads it from where this one waits.
    done = subprocess.run(
        [sys.executable, "-c", SENDS, *trust],
        input="word\n",
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert "pass phrase" not in done.stderr
    assert "refused" not in done.stdout
    assert "it:" in done.stdout
