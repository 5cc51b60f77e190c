"""Secrets: which names probably hold one, which words look like one, and texts with them left out."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WORDS = (
    *("TOKEN", "SECRET", "PASSW", "PASSPHRASE", "PASSCODE", "SSHPASS", "APIKEY", "CREDENTIAL", "CONNECTION_STRING"),
    *("API_KEY", "ACCESS_KEY", "PRIVATE_KEY", "ENCRYPTION_KEY", "SIGNING_KEY", "ACCOUNT_KEY", "MASTER_KEY"),
)  # fmt: skip
_WHOLE_WORDS = ("AUTH", "AUTHORIZATION", "PAT", "PWD", "PASS", "JWT", "COOKIE")
# Names that count or cut text into tokens, and are no credentials.
_HARMLESS = ("PWD", "OLDPWD")
_COUNTS = ("TOKENIZ", "TOKENS", "N_TOKEN", "NUM_TOKEN", "TOKEN_COUNT", "TOKEN_LIMIT", "PER_TOKEN")
# What is said about a credential, by the last word of the name: `--token-type`, `PASSWORD_FILE`.
_ABOUT = (
    *(
        "TYPE",
        "METHOD",
        "MODE",
        "PROVIDER",
        "BACKEND",
        "CLASS",
        "ENABLED",
        "TTL",
        "LIFETIME",
        "LENGTH",
        "LIMIT",
        "COUNT",
    ),
    *("FILE", "PATH", "DIR", "SOCK", "STORE", "HOME", "ASKPASS", "PROGRAM", "PROMPT", "AUTHORITY"),
)
# Telling only when the value looks like one: `--key name` is also said to sort and join.
_WEAK = ("KEY", "SIGNATURE", "SESSION", "SIG")
# How the tokens of well-known services begin (core.tokens knows how they go on).
_SHAPES = (
    *(
        "ghp_",
        "gho_",
        "ghs_",
        "ghu_",
        "ghr_",
        "github_pat_",
        "glpat-",
        "AKIA",
        "ASIA",
        "xoxb-",
        "xoxp-",
        "eyJ",
    ),
    *("npm_", "pypi-", "sk-", "sk_live_", "rk_live_", "hf_", "AIza", "ya29.", "hvs.", "dckr_pat_", "dop_v1_"),
)
# After one of these words, the next is a credential: `Authorization: Bearer x`.
_LEADS = (
    "authorization:",
    "proxy-authorization:",
    "x-api-key:",
    "private-token:",
    "x-auth-token:",
    "_authtoken",
)
_SCHEMES = ("bearer", "basic", "token", "digest", "apikey", "negotiate")
_QUOTES = "\"'"
_AROUND = "\"'`{}[](),;"
# What may stand between one `name=value` and the next within a word.
_BETWEEN = "&?,;({["
# `auth=none` tells nothing.
_NO_VALUES = ("none", "null", "nil", "true", "false", "yes", "no", "on", "off", "0", "1", "undefined")
# Programs, and their options that are followed by a credential.
_PROGRAMS = {
    "curl": ("-u", "--user", "-U", "--proxy-user"), "sshpass": ("-p",), "redis-cli": ("-a",),
    "mysql": (), "mysqldump": (),
}  # fmt: skip


def is_secret(name: str) -> bool:
    """Whether a variable or option of this name probably holds a credential, so that its value isn't shown."""
    upper = name.upper().replace("-", "_").strip("_")
    if upper in _HARMLESS or upper.rpartition("_")[2] in _ABOUT:
        return False
    for count in _COUNTS:
        upper = upper.replace(count, "")
    return any([word in upper for word in _WORDS]) or not set(_WHOLE_WORDS).isdisjoint(upper.split("_"))


def is_telling(name: str, value: str) -> bool:
    """Whether `value` under this name is probably a credential."""
    if is_secret(name):
        return True
    return name.upper().replace("-", "_").split("_")[-1] in _WEAK and looks_random(value)


def looks_random(value: str) -> bool:
    """Long enough, in one word, with digits among letters."""
    return (
        len(value) >= 12
        and any([c.isdigit() for c in value])
        and any([c.isalpha() for c in value])
        and not any([c in " /.:," for c in value])
    )


def mask(text: str) -> str:
    """A command line for people, without the values that probably are secrets.

    `--token=x` and `--token x` lose the x, `https://user:word@host` the user and the word, `Authorization: Bearer x`
    the x, and so does what begins like a token of a well-known service; also inside of an argument
    (`sh -c "curl --token x"`).
    """
    return " ".join(_masked(text.split(" "), in_quotes=True))


def mask_words(words: "Sequence[str]") -> "list[str]":
    """The same for arguments that are still apart: one may have spaces in it, or announce the next."""
    shown = _masked(words, in_quotes=False)
    return [
        mask(word) if " " in word and masked != "***" else masked
        for word, masked in zip(words, shown, strict=True)
    ]


def hidden_words(words: "Sequence[str]") -> "list[str]":
    """What `mask_words` leaves out of arguments: wherever else it turns up, it is a credential, too."""
    found = []
    for word, masked in zip(words, mask_words(words), strict=True):
        rest = word
        before, *parts = masked.split("***")
        rest = rest[len(before) :]
        for at, part in enumerate(parts):
            end = rest.find(part) if part else len(rest)
            if at == len(parts) - 1 and part:
                end = len(rest) - len(part)
            found.append(rest[: max(0, end)])
            rest = rest[max(0, end) + len(part) :]
    # Of `me:word@host` the word alone may turn up.
    return [piece for value in found for piece in (value, value.partition(":")[2]) if piece]


def _masked(words: "Sequence[str]", *, in_quotes: bool) -> "list[str]":
    shown = list(words)
    programs = [_PROGRAMS[name] for name in [_program(word) for word in words] if name in _PROGRAMS]
    quote = ""
    for at, word in enumerate(words):
        if quote:  # within a value in quotes, that has spaces in it
            shown[at], quote = _hidden(word), "" if quote in word else quote
        elif _is_announced(words, at):
            shown[at] = _hidden(word)
            quote = _opened(word)
        elif programs and (hidden := _of_a_program(programs, words[at - 1] if at else "", word)):
            shown[at] = hidden
        elif _has_shape(word):
            shown[at] = _hidden(word)
        else:
            shown[at] = _without_values(_without_users(word))
            quote = _opened(word.partition("=")[2]) if shown[at] != word else ""
        quote = quote if in_quotes else ""
    return shown


def _is_announced(words: "Sequence[str]", at: int) -> bool:
    """Whether the words before this one say that it is a credential."""
    if not at or not words[at]:
        return False
    word, previous = words[at], words[at - 1]
    if previous.startswith("-") and "=" not in previous and is_secret(previous):
        return not word.startswith("--")
    if previous in ("=", ":") and at > 1:  # `password = "…"`
        previous = words[at - 2] + previous
    lead, bare = previous.strip(_AROUND).lower(), word.strip(_AROUND)
    if lead in _LEADS or lead.replace('"', "").replace("'", "") in _LEADS:
        return bare.lower() not in _SCHEMES
    if lead in _SCHEMES:
        before = words[at - 2].strip(_AROUND).lower().replace('"', "") if at > 1 else ""
        return before in _LEADS or (lead in ("bearer", "basic") and looks_random(bare))
    if "authorization" in lead and lead.endswith(_SCHEMES):  # `Authorization:Bearer x`
        return True
    if lead.endswith((":", "=")) and is_secret(lead[:-1].strip(_AROUND)):
        # `password: incorrect` is said by programs, `"password": "…"` and `password: hunter22` hold one
        return word[0] in _QUOTES or (
            len(bare) >= 8 and not bare.isalpha() and not _is_number(bare) and not _is_code(bare)
        )
    return False


def _of_a_program(programs: "list[tuple[str, ...]]", previous: str, word: str) -> str:
    """`curl -u me:word`, `sshpass -p word`, `mysql -pword`; "" for anything else."""
    if any([not options for options in programs]) and word.startswith("-p") and len(word) > 2:
        return "-p***"
    if any([previous in options for options in programs]):
        user, colon, _ = word.partition(":")
        return f"{user}:***" if colon and "://" not in word else "***" if previous in ("-p", "-a") else ""
    return ""


def _program(word: str) -> str:
    return word.strip(_AROUND).rpartition("/")[2]


def _has_shape(word: str) -> bool:
    bare = word.strip(_AROUND)
    return len(bare) >= 20 and bare.startswith(_SHAPES) and _is_mixed(bare)


def _is_mixed(word: str) -> bool:
    """`sk-learn-contrib-something` isn't one."""
    return any([c.isdigit() for c in word]) and not any([c in "/\\" for c in word])


def _without_values(word: str) -> str:
    """`name=value`, several of them as in an address or a call, without the values that are telling."""
    if "=" not in word and ":" not in word:
        return word
    parts, start = [], 0
    for at, c in enumerate(word):
        if c in _BETWEEN:
            parts += [_without_value(word[start:at]), c]
            start = at + 1
    return "".join([*parts, _without_value(word[start:])])


def _without_value(part: str) -> str:
    for sign in ("=", ":"):
        name, found, value = part.partition(sign)
        bare = value.strip(_AROUND)
        if not found or not bare or bare == "***" or bare.lower() in _NO_VALUES:
            continue
        name = name.strip(_AROUND)
        is_named = is_telling(name.rpartition("/")[2], bare) and not _is_count(name, bare)
        if sign == "=" and (is_named or _has_shape(bare)):
            return part[: len(part) - len(value)] + _hidden(value)
        # `"token":"x"`, `token:x1y2z3w4`, not `token:` of a sentence or the port of a host
        if (
            sign == ":"
            and is_secret(name)
            and (value[0] in _QUOTES or (len(bare) >= 8 and not bare.isalpha()))
        ):
            return part[: len(part) - len(value)] + _hidden(value)
    return part


def _without_users(word: str) -> str:
    """`https://user:word@host` and `https://word@host`; that of ssh is the user's name alone."""
    shown, rest = "", word
    while "://" in rest:
        scheme, _, rest = rest.partition("://")
        shown += f"{scheme}://"
        authority = rest
        for end in "/?#":
            authority = authority.partition(end)[0]
        if "@" not in authority and "@" in rest and _has_word(authority):
            authority = rest[: rest.rindex("@") + 1]  # a word with a slash in it
        user, at_sign, _ = authority.rpartition("@")
        if at_sign and (":" in user or not scheme.endswith("ssh")):
            shown, rest = f"{shown}***@", rest[len(user) + 1 :]
    return shown + rest


def _has_word(authority: str) -> bool:
    _, colon, port = authority.partition(":")
    return bool(colon) and not port.isdigit() and not authority.startswith("[")


def _opened(word: str) -> str:
    """The quote that a word opens and doesn't close."""
    return word[0] if word and word[0] in _QUOTES and word.count(word[0]) == 1 else ""


def _hidden(word: str) -> str:
    """`***`, in the quotes and brackets that the word has around it."""
    bare = word.strip(_AROUND)
    return word.replace(bare, "***", 1) if bare else word


def _is_count(name: str, value: str) -> bool:
    return "TOKEN" in name.upper() and _is_number(value)


def _is_code(word: str) -> bool:
    """`password = ask(…)` of a traceback."""
    return "(" in word or "[" in word


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("_", "").isdigit() and len(text) < 12


def is_shown_as_it_is(text: str) -> bool:
    """Whether nothing in the text looks like a secret."""
    return mask(text) == text


def mask_log(text: str, values: "frozenset[str]") -> "tuple[str, int]":
    """A copy of a log without what looks like a credential, and how many of its lines had one. `values` are those of
    variables with telling names: wherever one of them stands, it is left out.
    """
    from capsula.core import hiding  # nothing that a cached run needs

    return hiding.hide(text, values)


def telling_values(environ: "Mapping[str, str]") -> "frozenset[str]":
    """The values that must not get into a record: those of variables whose names say that they are secret, and the
    words in addresses. Very short ones (`AUTH=no`) would black out half of a log."""
    from capsula.core import hiding

    return hiding.telling_values(environ)
