"""Hiding: texts and JSON values of a record without what looks like a credential, and which files hold them by name."""

from capsula.core.secrets import is_secret, is_telling, mask
from capsula.core.tokens import PLACEHOLDERS, beginnings, may_have_tokens, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HIDDEN = "***"
# Shorter ones (`AUTH=no`) would black out half of a log.
_SHORTEST = 6
# A line of a secret of many lines counts by itself from this length on.
_SHORTEST_LINE = 16
# What a line has to hold for `mask` to find anything in it.
_TRACES = (
    *("token", "secret", "passw", "passphrase", "passcode", "sshpass", "key=", "key:", 'key"', "key ", "credential"),
    *("auth", "pwd", "pass=", "pass:", "pass ", "pat=", "pat:", "pat ", "jwt", "cookie", "bearer", "basic ", "_string"),
    *("signature=", "session=", "sig=", "curl", "mysql", "redis-cli", "@"),
)  # fmt: skip
_AS_ONE_DIGIT = {ord(c): "0" for c in "123456789"}
# Of a log that is longer, the lines are looked at by their pattern.
_LONG = 1 << 16

# Names of files that hold credentials, more often than not.
_FILES = frozenset(
    [
        ".netrc",
        "_netrc",
        ".npmrc",
        ".yarnrc.yml",
        ".pypirc",
        ".git-credentials",
        ".pgpass",
        "pgpass.conf",
        ".my.cnf",
        ".mylogin.cnf",
        ".htpasswd",
        ".dockercfg",
        ".s3cfg",
        ".boto",
        ".vault-token",
        ".kaggle",
        "kaggle.json",
        "kubeconfig",
        ".renviron",
        ".authinfo",
        ".authinfo.gpg",
        ".dockerconfigjson",
        "auth.json",
        "token.json",
        "adc.json",
        "client_secret.json",
        "application_default_credentials.json",
        "credentials",
        ".credentials",
        "secrets",
        ".secrets",
        ".pat",
        ".token",
        "terraform.tfstate",
        "terraform.tfstate.backup",
    ]
)
_ENDINGS = (
    ".pem",
    ".key",
    ".p12",
    ".pfx",
    ".p8",
    ".keystore",
    ".jks",
    ".kdbx",
    ".ppk",
    ".kubeconfig",
    ".ovpn",
    ".tfvars",
)
_KEYS = ("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519")
_TOLD = (
    "credentials",
    "credential",
    "secrets",
    "secret",
    "client_secret",
    "service-account",
    "service_account",
)
_PLAIN = (
    ".json",
    ".yml",
    ".yaml",
    ".toml",
    ".ini",
    ".env",
    ".txt",
    ".cfg",
    ".conf",
    ".xml",
    ".csv",
    ".properties",
)
_SAMPLES = (".example", ".sample", ".template", ".dist", ".pub")
_PLACES = (
    ".ssh/",
    ".aws/",
    ".gnupg/",
    ".kube/config",
    ".docker/config.json",
    ".cargo/credentials",
    ".config/gcloud/",
)


def is_secret_file(path: str) -> bool:
    """Whether a file of this path (with slashes) holds credentials by its name."""
    lower = path.lower()
    name = lower.rpartition("/")[2]
    if name.endswith(_SAMPLES):
        return False
    if name in _FILES or name.endswith(_ENDINGS) or name.startswith(_KEYS):
        return True
    if name == ".env" or name.startswith(".env.") or name == ".envrc" or name.endswith(".env"):
        return True
    if any([f"/{place}" in f"/{lower}" for place in _PLACES]):
        return True
    return name.startswith(_TOLD) and name.endswith(_PLAIN)


def telling_values(environ: "Mapping[str, str]") -> "frozenset[str]":
    """The values that must not get into a record: those of variables whose names say that they are secret, and the
    words in addresses."""
    found: list[str] = []
    for name, value in environ.items():
        bare = value.strip()
        if is_telling(name, bare) and not _is_harmless(name, bare):
            found += [value, bare]
        elif "://" in value:
            found += _words(value)
    return forms(found)


def forms(values: "Iterable[str]") -> "frozenset[str]":
    """Every form in which a record would have one of these, but for those too short or too common to be left out."""
    found: set[str] = set()
    for value in values:
        found.update(_forms(value))
    return frozenset(
        [
            value
            for value in found
            # One that is no Unicode at all can't be in a file.
            if len(value) >= _SHORTEST and value.lower() not in PLACEHOLDERS and _as_bytes(value)
        ]
    )


def values_in_file(name: str, text: str) -> "dict[str, str]":
    """name -> value of what a .env or .netrc says, for `telling_values` to choose among. Programs read such files and
    print what is in them."""
    if name.endswith("netrc"):
        words = text.split()
        at_words = [at for at, word in enumerate(words[:-1]) if word == "password"]
        return {f"password {at}": words[at + 1] for at in at_words}
    found = {}
    for line in text.splitlines():
        key, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not key.startswith("#"):
            value = value.strip()
            if value[:1] in ("'", '"') and value[:1] in value[1:]:
                value = value[1:].partition(value[0])[0]
            found[key.strip()] = value
    return found


def _is_harmless(name: str, value: str) -> bool:
    """`MAX_TOKEN=100000`, `X_AUTH=enabled`, `X_CREDENTIALS=/path`: a name that tells, and nothing to be told."""
    if value.startswith(("/", "~/", "./")) and name.upper().endswith("CREDENTIALS"):
        return True
    if "TOKEN" in name.upper() and value.isdigit() and len(value) < 10:
        return True
    return value.lower() in (
        "enabled",
        "disabled",
        "required",
        "optional",
        "default",
        "always",
        "kerberos",
        "negotiate",
    )


def _words(value: str) -> "Iterator[str]":
    for part in value.split("://")[1:]:
        user, at_sign, _ = part.partition("/")[0].rpartition("@")
        if at_sign:
            yield user.partition(":")[2] or (user if len(user) >= 20 else "")


def _forms(value: str) -> "set[str]":
    """As it is; within JSON, a literal of Python, an address; as bytes that are no text are written; each long line."""
    forms = {value, repr(value)[1:-1], _quoted(value)}
    forms.add(value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t"))
    forms.add(_as_bytes(value).decode("utf-8", "backslashreplace"))
    forms.update([line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE])
    return forms


def _as_bytes(value: str) -> bytes:
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b""


def _quoted(value: str) -> str:
    plain = "-._~"
    return "".join(
        [
            c
            if c.isascii() and (c.isalnum() or c in plain)
            else "".join([f"%{b:02X}" for b in c.encode("utf-8", "replace")])
            for c in value
        ]
    )


def hide(text: str, values: "frozenset[str]", kept: "frozenset[str]" = frozenset()) -> "tuple[str, int]":
    """Without `values`, tokens, private keys, and whatever `mask` knows; and in how many places. `kept` stay."""
    if text in kept or not text:
        return text, 0
    found = 0
    for value in sorted([value for value in values if value in text], key=len, reverse=True):
        found += text.count(value)
        text = text.replace(value, HIDDEN)
    if len(text) >= _LONG and _is_plain(_patterns(text)):
        return text, found
    text, tokens_found = _without_tokens(text, kept)
    shown, lines_found = _without_lines(text)
    return shown, found + tokens_found + lines_found


def traces() -> "tuple[str, ...]":
    """What a line has to hold, in letters of any size, for `hide` to find anything in it but the values. (Beside "@"
    there has to be "://".)"""
    return (*_TRACES, *beginnings())


def _patterns(text: str) -> str:
    """Its lines with every digit as 0, each once: most logs are few lines over and over, with other numbers. What is
    looked for here is there in a line if and only if it is in the line's pattern."""
    return "\n".join(set(text.translate(_AS_ONE_DIGIT).split("\n")))


def _is_plain(patterns: str) -> bool:
    return not may_have_tokens(patterns, _AS_ONE_DIGIT) and not _without_lines(patterns)[1]


def hide_all(value: object, values: "frozenset[str]", kept: "frozenset[str]" = frozenset()) -> object:
    """A JSON value with every text in it hidden; the same object where there is nothing to hide."""
    texts: list[str] = []
    if not _collect(value, texts, kept):
        told = "\n".join(texts)
        if hide(told, values, kept)[0] == told:  # mostly: one look at all of them instead of one at each
            return value
    return _hidden(value, values, kept)


def _collect(value: object, texts: "list[str]", kept: "frozenset[str]") -> bool:
    """Gather all texts; whether one of them is a value under a telling name."""
    if isinstance(value, str):
        texts.append(value)
        return False
    named = False
    if isinstance(value, dict):
        for key, item in value.items():
            texts.append(str(key))
            named = _collect(item, texts, kept) or _is_named(str(key), item, kept) or named
    elif isinstance(value, list | tuple):
        for item in value:
            named = _collect(item, texts, kept) or named
    return named


def _hidden(value: object, values: "frozenset[str]", kept: "frozenset[str]") -> object:
    if isinstance(value, str):
        return hide(value, values, kept)[0]
    if isinstance(value, dict):
        shown = {}
        for key, item in value.items():
            name = hide(str(key), values, kept)[0]
            shown[name] = HIDDEN if _is_named(str(key), item, kept) else _hidden(item, values, kept)
        return shown
    if isinstance(value, list | tuple):
        return [_hidden(item, values, kept) for item in value]
    return value


def _is_named(key: str, item: object, kept: "frozenset[str]") -> bool:
    return isinstance(item, str) and bool(item) and item != HIDDEN and item not in kept and is_secret(key)


def _without_tokens(text: str, kept: "frozenset[str]") -> "tuple[str, int]":
    places = [(at, end) for at, end, _ in sorted(tokens(text)) if text[at:end] not in kept]
    if not places:
        return text, 0
    parts, last = [], 0
    for at, end in places:
        if at >= last:
            parts += [text[last:at], HIDDEN]
            last = end
    return "".join([*parts, text[last:]]), len(places)


def _without_lines(text: str) -> "tuple[str, int]":
    spans = _suspicious(text)
    if not spans:
        return text, 0
    parts, last, found = [], 0, 0
    for start, end in spans:
        line = text[start:end]
        shown = mask(line)
        if shown != line:
            parts += [text[last:start], shown]
            last = end
            found += 1
    return "".join([*parts, text[last:]]), found


def _suspicious(text: str) -> "list[tuple[int, int]]":
    """Where the lines begin and end that hold a trace, in order."""
    lower = text.lower()
    if len(lower) != len(text):  # a letter whose small form is longer
        lower = text
    spans = set()
    for trace in _TRACES:
        at = lower.find(trace)
        while at >= 0:
            start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
            end = len(text) if end < 0 else end
            if trace != "@" or "://" in text[start:end]:
                spans.add((start, end))
            at = lower.find(trace, end)
    return sorted(spans)
