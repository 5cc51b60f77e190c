"""What looks like a credential, what doesn't, and what is left of a text without."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.core.hiding import forms, hide, hide_all, is_secret_file, telling_values, values_in_file
from capsula.core.secrets import hidden_words, is_secret, is_telling, mask, mask_words
from capsula.core.tokens import places

WORD = "canary7canary7"


def chance(alphabet: str, length: int, seed: int = 7) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=length))


ALNUM = string.ascii_letters + string.digits
TOKENS = {
    "GitHub token": "ghp_" + chance(ALNUM, 36),
    "GitHub token, fine-grained": "github_pat_" + chance(ALNUM, 22) + "_" + chance(ALNUM, 59),
    "GitLab token": "glpat-" + chance(ALNUM, 20),
    "AWS access key": "AKIA" + chance(string.ascii_uppercase + "234567", 16),
    "Slack token": "xoxb-" + chance(string.digits, 12) + "-" + chance(ALNUM, 24),
    "JSON web token": "eyJ" + chance(ALNUM, 30) + ".eyJ" + chance(ALNUM, 40) + "." + chance(ALNUM, 43),
    "npm token": "npm_" + chance(ALNUM, 36),
    "PyPI token": "pypi-AgEIcHlwaS5vcmc" + chance(ALNUM, 120),
    "API key": "sk-proj-" + chance(ALNUM, 48),
    "Google API key": "AIza" + chance(ALNUM, 35),
    "Hugging Face token": "hf_" + chance(ALNUM, 34),
    "Stripe key": "sk_live_" + chance(ALNUM, 24),
    "Vault token": "hvs." + chance(ALNUM, 90),
}
PIECES = (
    *(
        "--token",
        "=",
        ":",
        " ",
        "\n",
        "'",
        '"',
        "{",
        "}",
        "(",
        ")",
        "&",
        "?",
        "://",
        "@",
        "https://",
        "me",
        "pass",
    ),
    *("password", "Authorization:", "Bearer", "ghp_", "-----BEGIN ", "PRIVATE KEY-----", "-----END ", "AKIA"),
    *(
        "abc123def456ghi",
        "x" * 40,
        "\ud800",
        "é",
        "\0",
        "\\n",
        "%3D",
        "curl",
        "-u",
        "mysql",
        "-p",
        "eyJ",
        "sk-",
        "***",
    ),
    *("[", "]", ",", ";", "\x1b[1m", "1", "İ", "machine", "password "),
)
KEY = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    + "\n".join(chance(ALNUM, 70, seed) for seed in range(5))
    + "\n-----END OPENSSH PRIVATE KEY-----"
)


@pytest.mark.parametrize(
    "name",
    [
        "API_TOKEN",
        "GH_PAT",
        "db-password",
        "MYSQL_PWD",
        "SSHPASS",
        "STRIPE_SECRET",
        "aws_access_key_id",
        "X_AUTH",
        "--passphrase",
        "JWT",
    ],
)
def test_names_that_tell(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "PWD",
        "OLDPWD",
        "PATH",
        "AUTHOR",
        "TOKENIZERS_PARALLELISM",
        "MAX_TOKENS",
        "num_tokens",
        "PATTERN",
        "KEYBOARD",
        "COMPASS",
        "HOME",
        "sort-key",
        "--token-type",
        "PASSWORD_FILE",
        "SSH_AUTH_SOCK",
    ],
)
def test_names_that_tell_nothing(name: str) -> None:
    assert not is_secret(name)


def test_a_name_that_ends_in_key_tells_if_its_value_does() -> None:
    assert is_telling("MY_KEY", WORD)
    assert not is_telling("--key", "name")
    assert not is_telling("SORT_KEY", "2")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"login --token={WORD} -v", "login --token=*** -v"),
        (f"login --password {WORD} -v", "login --password *** -v"),
        (f"docker run -e API_KEY={WORD} image", "docker run -e API_KEY=*** image"),
        (f"docker run -e KEY={WORD} image", "docker run -e KEY=*** image"),
        (f"git clone https://me:{WORD}@host/x.git", "git clone https://***@host/x.git"),
        (f"git clone https://{WORD}@host/x.git", "git clone https://***@host/x.git"),
        (f"get https://me:pa/{WORD}@host/x", "get https://***@host/x"),
        ("git clone ssh://git@host:22/x.git", "git clone ssh://git@host:22/x.git"),
        ("pip install git+https://host/x.git@v1.0", "pip install git+https://host/x.git@v1.0"),
        (f"curl -u me:{WORD} https://host", "curl -u me:*** https://host"),
        (f"sshpass -p {WORD} ssh host", "sshpass -p *** ssh host"),
        (f"mysql -p{WORD} db", "mysql -p*** db"),
        ("mkdir -p a/b -u me:me", "mkdir -p a/b -u me:me"),
        (f'curl -H "Authorization: Bearer {WORD}"', 'curl -H "Authorization: Bearer ***"'),
        (f'curl -H "Authorization: token {WORD}"', 'curl -H "Authorization: token ***"'),
        (f"curl -H 'X-Api-Key: {WORD}' x", "curl -H 'X-Api-Key: ***' x"),
        (f"https://host/x?a=1&access_token={WORD}&b=2", "https://host/x?a=1&access_token=***&b=2"),
        (f"Login(user='me', password='{WORD}')", "Login(user='me', password='***')"),
        (f"Login(user='me',password='{WORD}')", "Login(user='me',password='***')"),
        (f'{{"user": "me", "password": "{WORD}"}}', '{"user": "me", "password": "***"}'),
        (f'{{"token":"{WORD}","n":1}}', '{"token":"***","n":1}'),
        (f"password = '{WORD} and more'", "password = '***'"),
        ("password = ask_for_it2(user)", "password = ask_for_it2(user)"),
        (f"password: {WORD}", "password: ***"),
        ("password: incorrect", "password: incorrect"),
        (
            "auth=none auth: basic pwd=/home/me password=None",
            "auth=none auth: basic pwd=/home/me password=None",
        ),
        (f"it said Bearer {WORD}x", "it said Bearer ***"),
        ("a basic example, the bearer of news", "a basic example, the bearer of news"),
        ("loss=0.1 tokens=100000 tokens/s: 5000.5", "loss=0.1 tokens=100000 tokens/s: 5000.5"),
        ("sort --key=2 --pattern x --author me", "sort --key=2 --pattern x --author me"),
        ("class sk-learn-contrib-lightning x", "class sk-learn-contrib-lightning x"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
    ],
)
def test_a_command_line_without_credentials(text: str, shown: str) -> None:
    assert mask(text).replace("*** *** ***", "***") == shown
    assert mask(mask(text)) == mask(text)


def test_what_is_hidden_in_arguments_is_known_by_itself() -> None:
    asked = [
        "x",
        "--token",
        WORD,
        f"https://me:{WORD}1@host/x",
        f"--password={WORD}2",
        "-H",
        f"X-Api-Key: {WORD}3",
    ]
    assert {WORD, f"{WORD}1", f"{WORD}2", f"{WORD}3"} <= set(hidden_words(asked))
    assert hidden_words(["a", "b=c", "https://host/x"]) == []


def test_arguments_announce_each_other() -> None:
    asked = [
        "curl",
        "-u",
        f"me:{WORD}",
        "--token",
        f"{WORD} two",
        "-H",
        f"Authorization: Bearer {WORD}",
        "a b",
    ]
    assert mask_words(asked) == [
        "curl",
        "-u",
        "me:***",
        "--token",
        "***",
        "-H",
        "Authorization: Bearer ***",
        "a b",
    ]


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "x = '{}'",
        '{{"a":"{}"}}',
        "said {}, twice",
        "\x1b[1m{}\x1b[0m",
        "a\n{}\nb",
        "'a\\n{}\\n'",
        "x%3D{}&y",
    ],
)
def test_tokens_are_found_and_hidden_wherever_they_stand(kind: str, around: str) -> None:
    token = TOKENS[kind]
    text = around.format(token)
    ((start, end, found),) = places(text, ())
    assert (text[start:end], found) == (token, kind.partition(",")[0])
    assert token[5:] not in hide(text, frozenset())[0]


@pytest.mark.parametrize(
    "text",
    [
        "d41d8cd98f00b204e9800998ecf8427e 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "123e4567-e89b-12d3-a456-426614174000 sha512-6E0xGkZ8nA0Pp6Wq2mJ9v0f3p4k5l6m7n8b9v0c1x2z3a4s5d6f7g8h9==",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx AKIAIOSFODNN7EXAMPLE npm_config_registry_and_something_else_entirely",
        "https://user:password@host/ http://me:${PASSWORD}@host ftp://anonymous:@host postgres://postgres:postgres@db",
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
        "if '-----BEGIN RSA PRIVATE KEY-----' in text: return",
        "task-abcdefghijklmnop1234567890 disk-usage-of-the-system-1A sk-fading-circle9A sk-learn-something-else-1X",
        "_Z17highs_setCallbackP5HighsSt8functionIFviRKNSt7cxx11basicStringIcSt11char",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4AKIAbcdefsk",
    ],
)
def test_what_only_resembles_a_token_is_no_token(text: str) -> None:
    assert places(text, ()) == []


def test_a_private_key_is_hidden_from_its_first_line_to_its_last() -> None:
    text = f"before\n{KEY}\nafter"
    assert hide(text, frozenset()) == ("before\n***\nafter", 1)
    assert places(text, ())[0][2] == "private key"
    assert hide(repr(text), frozenset())[0] == "'before\\n***\\nafter'"


def test_a_private_key_that_is_cut_off_is_hidden_as_far_as_it_goes() -> None:
    cut = KEY[: len(KEY) // 2]
    assert hide(f"before\n{cut}", frozenset()) == ("before\n***", 1)
    shown, _ = hide(f"{cut}\n# and more, of another kind", frozenset())
    assert shown.endswith("# and more, of another kind")
    assert "=" not in shown
    assert not any(line in shown for line in cut.split("\n"))


def test_a_value_is_hidden_in_every_form_that_a_record_gives_it() -> None:
    value = 'pa"ss\\wö rd7'
    values = telling_values({"DB_PASSWORD": value})
    for text in (value, repr(value), '"pa\\"ss\\\\wö rd7"', "https://host/?x=pa%22ss%5Cw%C3%B6%20rd7"):
        shown, found = hide(text, values)
        assert "rd7" not in shown
        assert found == 1


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_no_text_is_too_strange(text: str) -> None:
    value = "abc123def456ghi"
    assert value not in hide(text, forms([value, text, "\ud800"]) | {value})[0]
    words = text.split("\n")
    assert len(mask_words(words)) == len(words)
    hidden_words(words)
    assert all(text[start:end] for start, end, _ in places(text, [value]))
    hide_all({text: [text]}, frozenset([value]))
    telling_values(
        {"TOKEN": text, "URL": text, **values_in_file(".env", text), **values_in_file(".netrc", text)}
    )


def test_which_values_tell() -> None:
    environ = {
        "API_TOKEN": "abcdefgh", "AUTH": "no", "HOME": "/home/me", "DATABASE_URL": "postgres://me:pencil99@db/x",
        "SSH_AUTH_SOCK": "/tmp/ssh-x/agent", "MAX_TOKEN": "131072", "POSTGRES_PASSWORD": "postgres",
        "TLS_PRIVATE_KEY": KEY,
    }  # fmt: skip
    values = telling_values(environ)
    assert {"abcdefgh", "pencil99", KEY, KEY.split("\n")[2]} <= values
    assert values.isdisjoint({"no", "/home/me", "/tmp/ssh-x/agent", "131072", "postgres"})


def test_a_value_of_many_lines_is_hidden_also_where_the_lines_end_differently() -> None:
    values = telling_values({"TLS_PRIVATE_KEY": KEY})
    shown = hide(KEY.replace("\n", "\r\n    "), values)[0]
    assert all(line not in shown for line in KEY.split("\n")[1:-1])


def test_a_long_log_hides_what_a_short_one_does() -> None:
    token = TOKENS["GitHub token"]
    lines = [f"epoch {n} loss {n / 7:.4f} tokens/s: {n}" for n in range(10_000)]
    plain = "\n".join(lines)
    assert hide(plain, frozenset()) == (plain, 0)
    lines[5000:5000] = [f"it is {token}", f"password={WORD}", "see https://me:pencil@host/"]
    shown, found = hide("\n".join(lines), frozenset())
    assert found == 3
    assert shown.split("\n")[5000:5003] == ["it is ***", "password=***", "see https://***@host/"]
    assert len(shown.split("\n")) == len(lines)


def test_json_is_hidden_at_every_depth_and_what_was_kept_on_purpose_stays() -> None:
    token = TOKENS["GitHub token"]
    value = {"a": [{"password": WORD, "n": 1, token: None}], "b": f"x {token}", "c": ["plain", 2.5]}
    shown = hide_all(value, frozenset())
    assert shown == {"a": [{"password": "***", "n": 1, "***": None}], "b": "x ***", "c": ["plain", 2.5]}
    assert hide_all({"GH_TOKEN": token}, frozenset(), frozenset([token])) == {"GH_TOKEN": token}
    plain = {"a": "b", "c": {"d": ["e"]}}
    assert hide_all(plain, frozenset([WORD])) is plain


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".env.local",
        "sub/.env",
        "id_rsa",
        ".ssh/known",
        "key.pem",
        ".npmrc",
        ".pypirc",
        ".netrc",
        ".pgpass",
        "credentials.json",
        "kubeconfig",
        ".kube/config",
        ".aws/credentials",
        "secrets.yaml",
        "client_secret_1.json",
        "server.key",
        ".docker/config.json",
        "prod.env",
    ],
)
def test_files_of_credentials_by_their_names(path: str) -> None:
    assert is_secret_file(path)


@pytest.mark.parametrize(
    "path",
    [
        "secrets.py",
        "credentials.rs",
        ".env.example",
        "id_rsa.pub",
        "config.json",
        "keys.py",
        "env.py",
        "monkey",
    ],
)
def test_files_that_only_resemble_them(path: str) -> None:
    assert not is_secret_file(path)
