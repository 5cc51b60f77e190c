"""Secrets: which names probably hold one, which words look like one, and texts with them left out."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS = ("TOKEN", "SECRET", "PASSW", "APIKEY", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY", "CREDENTIAL")
_WHOLE_WORDS = ("AUTH", "AUTHORIZATION", "PAT", "PWD", "PASS")
# How the tokens of well-known services begin.
_SHAPES = (
    *("ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "AKIA", "ASIA", "xoxb-", "xoxp-", "eyJ"),
    *("npm_", "pypi-", "sk-"),
)
# After one of these words, the next is a credential: `Authorization: Bearer x`.
_LEADS = ("bearer", "basic", "authorization:", "x-api-key:", "private-token:")


def is_secret(name: str) -> bool:
    """Whether a variable or option of this name probably holds a credential, so that its value isn't shown."""
    upper = name.upper().replace("-", "_").strip("_")
    if upper in ("PWD", "OLDPWD"):
        return False
    return any([word in upper for word in _WORDS]) or not set(_WHOLE_WORDS).isdisjoint(upper.split("_"))


def mask(text: str) -> str:
    """A command line for people, without the values that probably are secrets.

    `--token=x` and `--token x` lose the x, `https://user:word@host` the user and the word, `Authorization: Bearer x`
    the x, and so does what begins like a token of a well-known service; also inside of an argument
    (`sh -c "curl --token x"`).
    """
    words = text.split(" ")
    shown = list(words)
    for at, word in enumerate(words):
        previous = words[at - 1] if at else ""
        if _is_announced_by(previous, word) or _has_shape(word):
            shown[at] = "***"
        else:
            shown[at] = _without_value(word)
    return " ".join(shown)


def _is_announced_by(previous: str, word: str) -> bool:
    if previous.startswith("-") and "=" not in previous and is_secret(previous):
        return True
    return _bare(previous).lower() in _LEADS and _bare(word).lower() not in _LEADS


def _has_shape(word: str) -> bool:
    bare = _bare(word)
    return len(bare) >= 16 and bare.startswith(_SHAPES)


def _without_value(word: str) -> str:
    name, equals, value = word.partition("=")
    if equals and value and is_secret(name):
        return f"{name}=***"
    scheme, separator, rest = word.partition("://")
    user, at_sign, host = rest.partition("@")
    if separator and at_sign and "/" not in user:
        return f"{scheme}://***@{host}"
    return word


def _bare(word: str) -> str:
    return word.strip("\"'")


def is_shown_as_it_is(text: str) -> bool:
    """Whether nothing in the text looks like a secret."""
    return mask(text) == text


# What a line has to hold for `mask` to find anything in it.
_TRACES = (
    "token",
    "secret",
    "passw",
    "key",
    "credential",
    "auth",
    "pwd",
    "pat",
    "pass",
    "://",
    "bearer",
    "basic",
)


def mask_log(text: str, values: "frozenset[str]") -> "tuple[str, int]":
    """A copy of a log without what looks like a credential, and how many of its lines had one. `values` are those of
    variables with telling names: wherever one of them stands, it is left out.
    """
    if not _may_hold(text, values):  # most logs, at a third of the time
        return text, 0
    lines, found = text.split("\n"), 0
    for at, line in enumerate(lines):
        shown = line
        for value in values:
            if value in shown:
                shown = shown.replace(value, "***")
        if _may_hold(shown, frozenset()):
            shown = mask(shown)
        if shown != line:
            lines[at] = shown
            found += 1
    return "\n".join(lines), found


def _may_hold(text: str, values: "frozenset[str]") -> bool:
    for value in values:
        if value in text:
            return True
    lower = text.lower()
    for trace in _TRACES:
        if trace in lower:
            return True
    for shape in _SHAPES:
        if shape in text:
            return True
    return False


def telling_values(environ: "Mapping[str, str]") -> "frozenset[str]":
    """The values that must not get into a record: those of variables whose names say that they are secret. Very short
    ones (`AUTH=no`) would black out half of a log."""
    return frozenset([value for name, value in environ.items() if is_secret(name) and len(value) >= 6])
