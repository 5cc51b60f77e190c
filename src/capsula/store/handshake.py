"""What it means when a connection with TLS doesn't come about, in the words of OpenSSL and its kin."""

from capsula.errors import StoreError

_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
# Alerts, by which the other side says what it has against us: RFC 8446, section 6.2.
_UNWELCOME = (
    "CERTIFICATE_REQUIRED",
    "ALERT_UNKNOWN_CA",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_CERTIFICATE_",
    "ALERT_ACCESS_DENIED",
    "ALERT_HANDSHAKE_FAILURE",
)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")


def refusal(name: str, told: str) -> StoreError | None:
    """What keeps us from the store of this name until somebody changes something; None for what may pass."""
    if _NOT_TRUSTED in told:
        reason = told.rpartition(_NOT_TRUSTED)[2].strip("]: ").partition(" (_ssl")[0]
        reason = reason.removeprefix("certificate verify failed").removesuffix(": OK").strip(": ")
        return StoreError(
            f"{name}: its certificate isn't trusted" + (f": {reason}" if reason else ""),
            hint="--remote_ca names whom to trust",
        )
    if any(word in told for word in _UNWELCOME):
        return StoreError(f"{name}: it doesn't take our certificate", hint="--remote_cert, --remote_key")
    if any(word in told for word in _NO_TLS):
        return StoreError(f"{name}: there is no TLS at this port", hint="http:// and grpc:// do without")
    return None
