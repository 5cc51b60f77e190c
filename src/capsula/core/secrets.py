"""Secrets: which names probably hold one, and words with theirs left out."""

_SECRET_WORDS = (
    "TOKEN",
    "SECRET",
    "PASSW",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "CREDENTIAL",
    "AUTH",
)


def is_secret(name: str) -> bool:
    """Whether a variable or option of this name probably holds a credential, so that its value isn't shown."""
    upper = name.upper().replace("-", "_")
    return any([word in upper for word in _SECRET_WORDS])


def mask(word: str) -> str:
    """An argument for the journal: without the value of `--token=…` and its like, or the password in an URL."""
    name, equals, value = word.partition("=")
    if equals and value and is_secret(name):
        return f"{name}=***"
    scheme, separator, rest = word.partition("://")
    if separator and "@" in rest.partition("/")[0] and ":" in rest.partition("@")[0]:
        return f"{scheme}://***@{rest.partition('@')[2]}"
    return word
