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


def mask(text: str) -> str:
    """A command line for people, without the values of options that probably hold a secret.

    `--token=x` and `--token x` lose the x, `https://user:word@host` the user and the word; also inside of an argument,
    as in `sh -c "curl --token x"`.
    """
    words = text.split(" ")
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if equals and value and is_secret(name):
            words[at] = f"{name}=***"
        elif word.startswith("-") and not equals and is_secret(word) and at + 1 < len(words):
            words[at + 1] = "***"
        elif "://" in word:
            scheme, _, rest = word.partition("://")
            user, at_sign, host = rest.partition("@")
            if at_sign and "/" not in user:
                words[at] = f"{scheme}://***@{host}"
    return " ".join(words)


def holds_secret(argv: "tuple[str, ...]", environment: "tuple[str, ...]") -> bool:
    """Whether the arguments, or a variable of one of these names, probably hold a secret."""
    line = " ".join(argv)
    return mask(line) != line or any([is_secret(name) for name in environment])
