"""Credentials by their shape: the tokens of well-known services, private keys, words in addresses, and where they are.

A shape is a beginning that stands nowhere by chance, an alphabet, and a least length of what follows. What follows must
also be as varied as chance makes it: documentation and tests are full of `ghp_xxxx…`, and those who are told of them
stop reading. Facts are from the services' own descriptions of their tokens. Beginnings are looked for one by
one, as a search for one short text is what the interpreter does fastest (1.3 GB/s; an alternation of them in a regular
expression is slower than all of them together).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    # Where it begins and ends, and what it is.
    Place = tuple[int, int, str]

_DIGITS = frozenset("0123456789")
_UPPER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_HEX = _DIGITS | frozenset("abcdef")
_ALNUM = _DIGITS | _UPPER | frozenset("abcdefghijklmnopqrstuvwxyz")
_WORD = _ALNUM | frozenset("_-")
_DOTTED = _WORD | frozenset(".")
_BASE64 = _ALNUM | frozenset("+/=")
# (how it begins, what follows, at least how much of it, what it is)
_SHAPES = (
    *[(prefix, _ALNUM, 30, "GitHub token") for prefix in ("ghp_", "gho_", "ghs_", "ghu_", "ghr_")],
    ("github_pat_", _WORD, 40, "GitHub token"),
    ("glpat-", _WORD, 20, "GitLab token"),
    ("AKIA", _DIGITS | _UPPER, 16, "AWS access key"),
    ("ASIA", _DIGITS | _UPPER, 16, "AWS access key"),
    *[(prefix, _WORD, 20, "Slack token") for prefix in ("xoxb-", "xoxp-", "xapp-")],
    ("hooks.slack.com/services/T", _ALNUM | {"/"}, 30, "Slack webhook"),
    ("eyJ", _DOTTED, 40, "JSON web token"),
    ("npm_", _ALNUM, 36, "npm token"),
    ("pypi-AgE", _WORD, 60, "PyPI token"),
    ("sk-", _WORD, 32, "API key"),
    *[(prefix, _ALNUM, 20, "Stripe key") for prefix in ("sk_live_", "rk_live_")],
    ("AIza", _WORD, 35, "Google API key"),
    ("ya29.", _WORD, 40, "Google access token"),
    ("hf_", _ALNUM, 34, "Hugging Face token"),
    ("hvs.", _WORD, 24, "Vault token"),
    ("dckr_pat_", _WORD, 27, "Docker token"),
    ("dop_v1_", _HEX, 64, "DigitalOcean token"),
    ("AccountKey=", _BASE64, 80, "Azure account key"),
    ("AGE-SECRET-KEY-1", _DIGITS | _UPPER, 58, "age key"),
)
_KEY_BEGINS, _KEY_NAMED, _KEY_ENDS = "-----BEGIN ", "PRIVATE KEY", "-----END "
_HEAD = 8192
_IN_KEY = _BASE64 | frozenset("\r\n\t \\")
_LONGEST_KEY = 20_000
_LONGEST_AUTHORITY = 300
_NOT_IN_AUTHORITY = frozenset(" \t\r\n\"'`<>()[]{}|\\^/?#,")
_NAMES = ("password", "passwd", "passphrase", "secret", "api_key", "apikey", "api-key", "access_key", "token")
_BLANK = frozenset(" \t")
_BOTH_QUOTES = ("'", '"')
_IN_VALUE = _ALNUM | frozenset("_-+/=.!@#$%^&*~?")
# What people write where a word should stand.
PLACEHOLDERS = (
    *(
        "pass",
        "passw",
        "password",
        "passwd",
        "pwd",
        "pw",
        "secret",
        "word",
        "user",
        "username",
        "token",
        "key",
        "test",
    ),
    *(
        "example",
        "changeme",
        "foo",
        "bar",
        "baz",
        "hunter2",
        "p",
        "x-oauth-basic",
        "x-token-auth",
        "admin",
        "root",
    ),
    *(
        "postgres",
        "mysql",
        "guest",
        "apikey",
        "api_key",
        "mypassword",
        "my_password",
        "yourpassword",
        "pass1",
        "pass2",
    ),
)


def tokens(text: str) -> "Iterator[Place]":
    """Where tokens and private keys stand in a text, not in order."""
    for prefix, alphabet, least, kind in _SHAPES:
        at = text.find(prefix)
        while at >= 0:
            start = at + len(prefix)
            end = _run(text, start, alphabet, 4096)
            if end - start >= least and _begins_a_word(text, at) and _is_real(prefix, text[start:end]):
                yield at, end, kind
            at = text.find(prefix, max(start, end if end - start >= least else start))
    yield from _private_keys(text)


def may_have_tokens(text: str, digits: "dict[int, str]") -> bool:
    """Whether the beginning of one is there, in a text whose digits were translated so."""
    if _KEY_BEGINS in text:
        return True
    for prefix, _, _, _ in _SHAPES:
        if prefix.translate(digits) in text:
            return True
    return False


def beginnings() -> "tuple[str, ...]":
    """How tokens and private keys begin."""
    return (*[prefix for prefix, _, _, _ in _SHAPES], _KEY_BEGINS)


def words_in_addresses(text: str) -> "Iterator[Place]":
    """Where passwords of addresses stand (`https://me:word@host`), without those that are plainly none."""
    at = text.find("@")
    while at >= 0:
        start = at
        first = max(0, at - _LONGEST_AUTHORITY)
        while start > first and text[start - 1] not in _NOT_IN_AUTHORITY:
            start -= 1
        if text[start - 3 : start] == "://":
            user, colon, word = text[start:at].partition(":")
            if colon and _is_word(user, word):
                yield at - len(word), at, "password in an address"
        at = text.find("@", at + 1)


def assignments(text: str) -> "Iterator[Place]":
    """Where values stand that their names call credentials and that look made by chance: `password = "…"`."""
    lower = text.lower()
    if len(lower) != len(text):  # a letter whose small form is longer
        return
    for name in _NAMES:
        at = lower.find(name)
        while at >= 0:
            start = _value_after(text, _run(text, at + len(name), _WORD, 12))
            end = _run(text, start, _IN_VALUE, 300) if start else 0
            value = text[start:end]
            # `nextToken` pages through a list, `A::ApiKey` is the name of a type
            is_named = (
                not (at and text[at - 1] in _ALNUM and name in ("token", "secret"))
                and "::" not in text[max(0, at - 40) : at]
            )
            is_quoted = text[start - 1 : start] in _BOTH_QUOTES
            if (
                start
                and is_named
                and _ends_well(text, start, end)
                and _is_made_by_chance(value)
                and (is_quoted or sum([c.isdigit() for c in value]) > 1)  # no name of a class
            ):
                yield start, end, "password"
            at = lower.find(name, at + len(name))


def _value_after(text: str, at: int) -> int:
    """Where the value begins after a name, 0 where none follows."""
    if text[at : at + 1] in _BOTH_QUOTES:  # "password": …
        at += 1
    at = _run(text, at, _BLANK, 20)
    if text[at : at + 1] not in ("=", ":") or text[at : at + 2] in ("==", "::", ":="):
        return 0
    at = _run(text, at + 1, _BLANK, 20)
    return at + 1 if text[at : at + 1] in _BOTH_QUOTES else at


def _ends_well(text: str, start: int, end: int) -> bool:
    """With the quote that it began with, or where the line ends: all else is code."""
    quote = text[start - 1]
    after = text[end : end + 1]
    return after == quote if quote in _BOTH_QUOTES else after in ("", "\n", "\r", "&")


def _is_made_by_chance(value: str) -> bool:
    lower = value.lower()
    return (
        len(value) >= 10
        and not _DIGITS.isdisjoint(value)
        and any([c.isalpha() for c in value])
        and len(set(value)) >= 6
        and not (len(value) == 36 and value.count("-") == 4)  # a UUID
        and not lower.startswith(("http", "your", "my-", "my_", "test", "example", "file:"))
        and not any(
            [
                word in lower
                for word in ("example", "xxxx", "placeholder", "password", "secret", "changeme", "12345")
            ]
        )
    )


def values_in(text: str, values: "Iterable[str]") -> "Iterator[Place]":
    """Where one of `values` stands."""
    for value in values:
        at = text.find(value)
        while at >= 0:
            yield at, at + len(value), "value of a secret variable"
            at = text.find(value, at + len(value))


def places(text: str, values: "Iterable[str]") -> "list[Place]":
    """All of them; in order, of those that overlap the first."""
    found = [*tokens(text), *words_in_addresses(text), *assignments(text), *values_in(text, values)]
    rest: list[Place] = []
    for place in sorted(found):
        if not rest or place[0] >= rest[-1][1]:
            rest.append(place)
    return rest


def is_text(text: str) -> bool:
    """Whether it has lines to speak of."""
    return "\0" not in text[:_HEAD]


def _private_keys(text: str) -> "Iterator[Place]":
    at = text.find(_KEY_BEGINS)
    while at >= 0:
        line = text[at : at + 80].partition("\n")[0]
        body = at + len(_KEY_BEGINS) + line[len(_KEY_BEGINS) :].find("-----") + 5
        if _KEY_NAMED in line and line.count("-----") >= 2 and _has_body(text[body : body + 400]):
            end = text.find(_KEY_ENDS, at, at + _LONGEST_KEY)
            closing = text.find("-----", end + len(_KEY_ENDS)) if end >= 0 else -1
            # A log may end within a key.
            yield at, closing + 5 if closing >= 0 else _run(text, body, _IN_KEY, _LONGEST_KEY), "private key"
        at = text.find(_KEY_BEGINS, at + len(_KEY_BEGINS))


def _has_body(text: str) -> bool:
    """Whether base64 follows, over one line or many, also where the breaks are written as \\n."""
    bare = text.replace("\\r", "").replace("\\n", "").replace("\n", "").replace("\r", "").replace(" ", "")
    return any([_run(bare, start, _BASE64, 60) - start >= 40 for start in (0, _headers_end(bare))])


def _headers_end(bare: str) -> int:
    """Old encrypted keys have headers first: `Proc-Type: 4,ENCRYPTED`, `DEK-Info: AES-128-CBC,…`."""
    at = bare.find("DEK-Info:")
    return bare.find(",", at) + 33 if at >= 0 else 0


def _begins_a_word(text: str, at: int) -> bool:
    """Not in the midst of one (`task-…`, `highs_…`); a line break that is written as \\n, a `%3D` and the end of a
    terminal's colour aren't part of one."""
    if not at or text[at - 1] not in _WORD:
        return True
    before = text[max(0, at - 6) : at]
    return (
        before[-2:] in ("\\n", "\\r", "\\t")
        or before[-3:-2] == "%"
        or (before[-1] == "m" and "[" in before and before.rpartition("[")[2][:-1].replace(";", "").isdigit())
    )


def _run(text: str, start: int, alphabet: "frozenset[str]", most: int) -> int:
    """Where what is made of `alphabet` ends."""
    end, last = start, min(len(text), start + most)
    while end < last and text[end] in alphabet:
        end += 1
    return end


def _is_real(prefix: str, rest: str) -> bool:
    if prefix == "eyJ":  # three parts, the first two objects
        return rest.count(".") == 2 and ".eyJ" in rest
    if prefix in ("AKIA", "ASIA"):
        return len(rest) == 16 and not rest.endswith("EXAMPLE") and is_varied(rest)
    if prefix == "sk-":  # also words are joined so, as in the names of classes in style sheets
        return is_varied(rest) and not _UPPER.isdisjoint(rest) and _has_long_part(rest)
    return is_varied(rest)


def is_varied(rest: str) -> bool:
    """Whether chance can have made it: many different characters, digits among them or letters of both cases."""
    few = min(10, len(rest) // 2)
    lower = rest.lower()
    is_mixed = not _DIGITS.isdisjoint(rest) or (rest not in (lower, rest.upper()))
    return (
        len(set(rest)) >= few
        and is_mixed
        and "example" not in lower
        and "xxxx" not in lower
        and "1234567890" not in rest
    )


def _has_long_part(rest: str) -> bool:
    return any([len(part) >= 20 for part in rest.replace("_", "-").split("-")])


def _is_word(user: str, word: str) -> bool:
    lower = word.lower()
    if len(word) < 6 or word[0] in "$%*<{" or lower.strip("*x.") == "" or lower == user.lower():
        return False
    return not lower.startswith(PLACEHOLDERS) or (len(word) > 12 and is_varied(word))
