"""What object stores say when they refuse, or aren't reached, in one line, with what to do about it.

obstore's errors are texts: the request, what the server answered, and after an empty line how the library came to know.
"""

import re
from html import unescape

from obstore.exceptions import GenericError, PermissionDeniedError, UnauthenticatedError

from capsula.errors import StoreError, StoreUnreachable

_NO_PLACE = ("NoSuchBucket", "ContainerNotFound")
_SIGN_IN = {
    "s3": "AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws; AWS_SKIP_SIGNATURE=true does without",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS names the file of a service account",
    "az": "AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY, or AZURE_STORAGE_CONNECTION_STRING",
}
# What servers call it, and what is to be done.
_HINTS = (
    *((code, "is the name of the bucket right, and is it there?") for code in _NO_PLACE),
    ("RequestTimeTooSkewed", "the clock here or there is wrong: set it, best by NTP"),
    ("ExpiredToken", "the credentials have expired: sign in again"),
    ("TokenRefreshRequired", "the credentials have expired: sign in again"),
    ("InvalidAccessKeyId", "is AWS_ACCESS_KEY_ID, or the profile of AWS_PROFILE, that of this store?"),
    ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY, or the profile of AWS_PROFILE, is mistyped"),
    ("AuthorizationHeaderMalformed", "is it the right region? --s3_region, AWS_REGION"),
    ("PermanentRedirect", "is it the right region? --s3_region, AWS_REGION"),
    ("incorrectly configured region", "is it the right region? --s3_region, AWS_REGION"),
)
# Without s3:ListBucket, S3 says of what isn't there that it is forbidden.
_NOT_ALLOWED = "may the credentials do that? S3: s3:GetObject, s3:ListBucket, and s3:PutObject to write"
_FOR_GOOD = (
    "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "400 Bad", "incorrectly configured region",
)  # fmt: skip
_NO_ANSWER = "HTTP error: "
# What the system said, else what the library calls it.
_CAUSES = re.compile(r'\b(?:message|error): "([^"]+)"')
_CALLED = (("TimedOut", "no answer in time"), ("IncompleteMessage", "the answer ended too early"))
_NO_TLS = "InvalidContentType"
_NOT_TRUSTED = (
    ("Expired", "its certificate has expired", "it is to be renewed there, or the clock here is wrong"),
    (
        "NotValidForName",
        "its certificate is for another name",
        "is the endpoint called as in the certificate?",
    ),
    ("UnknownIssuer", "its certificate isn't trusted", "SSL_CERT_FILE or AWS_CA_BUNDLE names whom to trust"),
    (
        "InvalidCertificate",
        "its certificate isn't trusted",
        "SSL_CERT_FILE or AWS_CA_BUNDLE names whom to trust",
    ),
)
# Where the roles of machines, containers and jobs are asked for, which is the last place to look.
_ROLES = re.compile(
    r"https?://(?:169\.254\.\d+\.\d+|\S+/latest/(?:api/token|meta-data)|metadata\.google\.internal|\[fd00:ec2::)"
)
_HELPED = "External AWS credential provider: "


def refused(name: str, error: BaseException) -> StoreError:
    """`name` is the store's."""
    whole = str(error)
    text = " ".join(whole.split("\n\n", maxsplit=1)[0].split())
    if _HELPED in text:
        said = text.rpartition(_HELPED)[2]
        return StoreError(f"{name}: {said.removeprefix('StoreError: ')}", hint="AWS_PROFILE, ~/.aws/config")
    if _ROLES.search(text):
        return StoreError(f"{name}: no credentials were found", hint=_SIGN_IN[name.partition("://")[0]])
    if _NO_ANSWER in text:
        return _not_reached(name, text, whole)
    what = f"{name}: {_told(text)}"
    hint = next((hint for code, hint in _HINTS if code in text), "")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
        return StoreError(what, hint=hint or _NOT_ALLOWED)
    is_final = isinstance(error, GenericError) and any(word in text for word in _FOR_GOOD)
    if isinstance(error, FileNotFoundError) or is_final:
        return StoreError(what, hint=hint)
    return StoreUnreachable(what, hint=hint)


def is_of_the_place(error: BaseException) -> bool:
    """That nothing is there is another thing than that there is no such bucket."""
    return any(code in str(error) for code in _NO_PLACE)


def _not_reached(name: str, text: str, whole: str) -> StoreError:
    if _NO_TLS in whole:
        return StoreError(f"{name}: there is no TLS at this port", hint="the endpoint may be http://")
    for word, what, hint in _NOT_TRUSTED:
        if word in whole:
            return StoreError(f"{name}: {what}", hint=hint)
    causes = _CAUSES.findall(whole) or [words for called, words in _CALLED if called in whole]
    cause = causes[-1].rpartition("failed to lookup address information: ")[2] if causes else ""
    return StoreUnreachable(f"{name}: {cause or text.rpartition(_NO_ANSWER)[2]}")


def _told(text: str) -> str:
    """What the server said: which request it was, and how long it took, is no news."""
    said = text.rpartition(" - ")[2].removeprefix("Server returned non-2xx status code: ")
    status, _, body = said.partition(": ")
    parts = [body.partition(f"<{tag}>")[2].partition("<")[0] for tag in ("Code", "Message")]
    return unescape(": ".join([status, *filter(None, parts)])).rstrip(".") if parts[0] else said[:300]
