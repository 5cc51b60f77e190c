"""Credentials planted wherever a run may meet them: none of them is in clear in the vault, and what is kept as it is on
purpose is named with its line.

Each place has a canary of its own, so that a leak says where it came from.
"""

import base64
import json
import sys
from urllib.parse import quote

import pytest

HEAD = "[capture]\ninclude-cpu = false\n"
GITHUB = "ghp_R7kQ2mZx9TfLw3Vb8NcYh5JpDs1GaXe4Ku6H"


def canary(place):
    return f"canary7{place}7x9"


def leaks(project, *words, where="vault"):
    """(canary, file) of all that is found in any file below, also as base64 and as an address would have it. In a vault
    the index is among them: it is brought up to date first."""
    found = []
    if where == "vault":
        for verb in (("list", "-n", "0"), ("search", "nothing-of-this-name")):
            project.run("capsula", *verb)
        assert list((project.root / where).rglob("*.sqlite*"))
    for path in sorted((project.root / where).rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            for word in words:
                forms = {word, quote(word, safe=""), *(_base64(word, skip) for skip in range(3))}
                if any(form.encode() in content for form in forms):
                    found.append((word, path.name))
    return found


def _base64(word, skip):
    """The part that doesn't depend on what stands before and after."""
    coded = base64.b64encode(b"\0" * skip + word.encode()).decode()
    return coded[(skip * 8 + 5) // 6 : len(coded) - 4]


def committed(project):
    project.git("init", "-q")
    project.git("add", ".")
    project.git("commit", "-qm", "one")


# ---------------------------------------------------------------------------------------------- a monitored command

ARGV = {
    "option": ("--token={}",),
    "next word": ("--password", "{}"),
    "address": ("https://me:{}@host/x.git",),
    "user of an address": ("https://{}@host/x.git",),
    "variable": ("-e", "API_KEY={}"),
    "variable named key": ("-e", "KEY={}"),
    "header": ("-H", "Authorization: Bearer {}"),
    "query": ("https://host/x?a=1&access_token={}&b=2",),
    "in a script": ("sh -c 'curl -u me:{} https://host'",),
    "json": ('{{"user": "me", "password": "{}"}}',),
    "quoted": ("password = '{} and more'",),
}


@pytest.mark.parametrize("kind", ARGV)
def test_credentials_in_the_command_line(project, kind):
    word = canary(kind.replace(" ", ""))
    asked = [part.format(word) for part in ARGV[kind]]
    done = project.monitor("printf", "%s\\n", "seen", *asked)
    assert word in done.stdout.decode(), "the command gets it as it is"
    assert leaks(project, word) == []
    assert "seen" in project.read("pre-run-info.json")["args"]


def test_credentials_of_variables_wherever_they_turn_up(project):
    values = {
        "API_TOKEN": canary("token"),
        "DB_PASSWORD": "canary7\"q'uo\\qe7x9",
        "DATABASE_URL": f"postgres://me:{canary('database')}@db/x",
        "PIP_INDEX_URL": f"https://me:{canary('index')}@pypi.host/simple",
        "UNTOLD": GITHUB,
        "TLS_PRIVATE_KEY": "-----BEGIN PRIVATE KEY-----\ncanary7line7x9oneoneone\ncanary7line7x9twotwotwo\n-----END",
    }
    project.write(
        "capsula.toml",
        HEAD
        + "environment-variables = ['API_TOKEN', 'DATABASE_URL']\npre-capture-commands = ['echo $API_TOKEN', 'false']\n"
        "[capture.commands]\nshown = 'echo $DB_PASSWORD; echo $PIP_INDEX_URL >&2; exit 3'\n",
    )
    done = project.monitor(
        sys.executable, "-c",
        "import os, json, sys; print(dict(os.environ)); print(json.dumps(dict(os.environ)));"
        "print(os.environ['TLS_PRIVATE_KEY'], file=sys.stderr); print('x' + os.environ['API_TOKEN'] + 'y')",
        environ=values,
    )  # fmt: skip
    assert canary("token") in done.stdout.decode()
    words = [
        canary("token"),
        canary("database"),
        canary("index"),
        GITHUB,
        "uo\\te7x9",
        "uo\\\\te7x9",
        "canary7line7x9",
    ]
    assert leaks(project, *words) == []
    context = project.read("context.json")
    assert context["environment_variables"]["API_TOKEN"] == "***"
    assert {"API_TOKEN", "DB_PASSWORD", "DATABASE_URL", "UNTOLD"} <= set(
        context["probes"]["environment"]["masked"]
    )
    assert set(context["probes"]["commands"]["masked"]) == {"shown"}
    assert any(
        "stdout: what looks like a credential" in note for note in project.read("capsule.json")["notes"]
    )


def test_what_programs_print_and_no_variable_says(project):
    """Tokens of known shapes, values with telling names, and what the .env and .netrc of the project and user hold."""
    project.write(".env", f"# mine\nexport MAIL_PASSWORD='{canary('env')}'\nPLAIN=visible7visible7\n")
    (project.ws.home / ".netrc").write_text(f"machine host login me password {canary('netrc')}\n")
    script = (
        f'echo it is {GITHUB}; echo password={canary("value")} >&2; echo \'{{"api_key": "{canary("json")}"}}\';'
        f"echo https://me:{canary('url')}@host/; cat .env ~/.netrc"
    )
    done = project.monitor("-q", "sh", "-c", script)
    assert canary("netrc") in done.stdout.decode()
    words = [GITHUB, *map(canary, ("env", "netrc", "value", "json", "url"))]
    assert leaks(project, *words) == []
    assert "visible7visible7" in project.read("post-run-info.json")["stdout"]


def test_the_word_in_the_address_of_a_remote_is_hidden_where_a_program_prints_it(project):
    project.git("init", "-q")
    project.git("remote", "add", "origin", f"https://me:{canary('remote')}@host/x.git")
    done = project.monitor("-q", "sh", "-c", f"cd /; echo pushed with {canary('remote')}")
    assert canary("remote") in done.stdout.decode()
    assert leaks(project, canary("remote")) == []


FILES = [
    ".env", ".env.local", ".netrc", ".pgpass", "id_rsa", "sub/server.pem", ".npmrc", ".pypirc", "credentials.json",
    "kubeconfig", ".aws/credentials", ".docker/config.json", "secrets.yaml", ".git-credentials", "service-account.json",
]  # fmt: skip


def test_untracked_files_of_credentials_stay_out_of_the_snapshot_and_are_listed(project):
    project.write(".gitignore", "vault\n")
    committed(project)
    for name in FILES:
        project.write(name, f"it = {canary('file')}\n")
    project.write("plain.txt", "visible\n")
    assert project.run("capsula", "capture").returncode == 0
    assert leaks(project, canary("file")) == leaks(project, canary("file"), where="../cache") == []
    (repository,) = project.read("context.json")["git"].values()
    left_out = "\n".join(repository["snapshot"]["left_out"])
    assert [name for name in FILES if name not in left_out] == []
    assert repository["snapshot"]["untracked"] == ["plain.txt"]


def test_credentials_of_git(project):
    committed(project)
    project.git("remote", "add", "origin", f"https://me:{canary('remote')}@host/x.git")
    project.git("remote", "add", "other", f"https://{GITHUB}@host/x.git")
    project.git("config", "http.extraheader", f"AUTHORIZATION: basic {canary('header')}")
    project.git("commit", "-q", "--allow-empty", "-m", f"password={canary('message')}")
    assert project.run("capsula", "capture").returncode == 0
    assert leaks(project, GITHUB, *map(canary, ("remote", "header", "message"))) == []
    assert project.read("context.json")["probes"]["git:work"]["masked"]


def test_credentials_of_a_cached_run(project):
    """The vault has none; the store has what a hit replays, and nothing else."""
    project.write("in.txt", "in\n")
    asked = ("--cache", "--input", "in.txt", "--output", "out.txt", "--env", "MY_TOKEN")
    run = ("sh", "-c", f"echo $MY_TOKEN | tee out.txt; : --password={canary('argv')}")
    for _ in range(2):
        done = project.monitor(*asked, *run, environ={"MY_TOKEN": canary("declared")})
        assert done.stdout.decode() == canary("declared") + "\n", done
        assert (project.root / "out.txt").read_text() == canary("declared") + "\n"
    assert [project.read("capsule.json", at)["outcome"] for at in range(2)] == ["miss", "hit"]
    assert leaks(project, canary("declared"), canary("argv")) == []
    assert leaks(project, canary("argv"), where="../cache") == []


def test_what_a_program_says_of_itself(project):
    done = project.python(
        f"""
import capsula

with capsula.run("x --password={canary("parameter")}") as run:
    run.record("said", "password={canary("record")}")
    run.note("see https://me:{canary("note")}@host/")
    run.tag("token={canary("tag")}")
    run.record("token", "{GITHUB}")
"""
    )
    assert done.returncode == 0, done
    assert leaks(project, GITHUB, *map(canary, ("parameter", "record", "note", "tag"))) == []


def test_a_probe_that_fails_does_not_tell_either(project):
    project.write(
        "capsula.toml", HEAD + f"[capture.git.repositories]\nx = 'https://me:{canary('repository')}@host/x'\n"
    )
    project.run("capsula", "capture")
    assert "failed" in json.dumps(project.read("context.json")["probes"])
    assert leaks(project, canary("repository")) == []


def test_a_credential_in_the_origin_of_a_package(project):
    """direct_url.json of a distribution, as `pip install https://me:word@host/x.tar.gz` writes it."""
    place = project.root / "lib/thing-1.0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Name: thing\nVersion: 1.0\n")
    url = f"https://me:{canary('origin')}@host/thing-1.0.tar.gz"
    (place / "direct_url.json").write_text(json.dumps({"url": url, "archive_info": {}}))
    done = project.python(
        "import capsula\n@capsula.monitor\ndef f(): pass\nf()\n",
        environ={"PYTHONPATH": str(project.root / "lib")},
    )
    assert done.returncode == 0, done
    assert "thing" in [row["name"] for row in project.read("packages.json")["distributions"]]
    assert leaks(project, canary("origin")) == []


# ---------------------------------------------------------------------------------------------- functions


def test_credentials_in_arguments_results_and_tracebacks(project):
    done = project.python(
        f'''
import capsula, dataclasses, os

@dataclasses.dataclass
class Login:
    user: str
    password: str

@capsula.monitor
def enter(user, password, *more, **options):
    return {{"user": user, "token": password, "deep": [{{"api_key": password}}], "said": "password=" + password}}

@capsula.monitor
def fail(login):
    api_key = "{canary("line")}"; raise ValueError(f"no entry for {{login!r}} at https://me:{canary("url")}@host/")

options = {{"secret": "{canary("named")}", "cfg": {{"auth": {{"token": "{canary("deep")}"}}}}}}
enter("me", "{canary("positional")}", "--token={canary("more")}", **options)
try:
    fail(Login("me", "{canary("repr")}"))
except ValueError as error:
    assert "{canary("url")}" in str(error)
enter("me", os.environ["API_TOKEN"], "x" * 9_990 + os.environ["API_TOKEN"])
''',
        environ={"API_TOKEN": canary("token")},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    places = ("line", "url", "positional", "more", "named", "deep", "repr", "token")
    assert leaks(project, *map(canary, places)) == []
    assert project.read("pre-run-info.json", 0)["args"][0] == "me"
    assert leaks(project, canary("token")[:12]) == [], "half of one is one, too"


def test_an_argument_that_is_no_unicode_does_not_stop_the_function(project):
    done = project.python(
        "import capsula\n@capsula.monitor\ndef f(password): return len(password)\nprint(f('\\ud800' * 9))\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"9\n", b"")


# ---------------------------------------------------------------------------------------------- kept on purpose


def test_a_variable_that_is_to_be_kept_is(project):
    project.write("capsula.toml", HEAD + "environment-variables = ['GH_TOKEN']\nkeep = ['GH_TOKEN']\n")
    other = canary("other")
    project.monitor(
        "-q", "sh", "-c", "echo $GH_TOKEN $OTHER_TOKEN", environ={"GH_TOKEN": GITHUB, "OTHER_TOKEN": other}
    )
    assert project.read("context.json")["environment_variables"] == {"GH_TOKEN": GITHUB}
    assert project.read("post-run-info.json")["stdout"] == f"{GITHUB} ***\n"
    assert leaks(project, other) == []


@pytest.mark.parametrize("verb", ["capture", "monitor"])
def test_variables_are_named_that_are_to_be_kept_this_time(project, verb):
    environ = {"GH_TOKEN": GITHUB, "OTHER_TOKEN": canary("other")}
    words = {"capture": (), "monitor": ("sh", "-c", "echo $GH_TOKEN $OTHER_TOKEN")}[verb]
    done = project.run("capsula", verb, "--keep", "GH_TOKEN", "--keep=NOT_SET", *words, environ=environ)
    assert done.returncode == 0, done
    assert project.read("context.json")["environment"]["others"]["GH_TOKEN"] == GITHUB
    assert leaks(project, canary("other")) == []
    assert verb == "capture" or project.read("post-run-info.json")["stdout"] == f"{GITHUB} ***\n"


def test_a_file_that_the_user_named_is_kept_exactly_and_flagged_with_its_line(project):
    word = canary("config")
    content = f"[service]\nuser = me\npassword = {word}\n\ntoken = {GITHUB}\nvalue = {canary('variable')}\n"
    project.write("conf/settings.ini", content)
    project.write("data.bin", b"\0\1\2" + GITHUB.encode() + b"\0")
    project.write(".env", "NOTHING=telling\n")
    project.write("plain.txt", "d41d8cd98f00b204e9800998ecf8427e 123e4567-e89b-12d3-a456-426614174000\n")
    names = ("conf/settings.ini", "data.bin", ".env", "plain.txt")
    project.write(
        "capsula.toml",
        HEAD + "[capture.files]\n" + "".join(f"'{name}' = {{copy = true}}\n" for name in names),
    )
    done = project.run("capsula", "capture", environ={"API_TOKEN": canary("variable")})
    assert done.returncode == 0
    (capsule,) = project.capsules()
    assert (capsule / "settings.ini").read_text() == content
    assert project.read("capsule.json")["secrets"] == [
        {"file": "settings.ini", "line": 3, "kind": "password", "source": "conf/settings.ini:3"},
        {"file": "settings.ini", "line": 5, "kind": "GitHub token", "source": "conf/settings.ini:5"},
        {
            "file": "settings.ini",
            "line": 6,
            "kind": "value of a secret variable",
            "source": "conf/settings.ini:6",
        },
        {"file": "data.bin", "line": None, "kind": "GitHub token", "source": "data.bin"},
        {"file": ".env", "line": None, "kind": "file of credentials by its name", "source": ".env"},
    ]
    (line,) = done.stderr.decode().splitlines()
    assert line == (
        "capsula: kept as it is, and looks like a credential: conf/settings.ini:3 (password) and 4 more"
    )
    told = json.dumps(project.read("capsule.json"))
    assert word not in told


def test_the_diff_of_a_tracked_file_is_kept_exactly_and_flagged_with_the_line_in_both(project):
    project.write("src/a.py", "".join(f"line {n}\n" for n in range(20)))
    project.write(".gitignore", "vault\n")
    committed(project)
    project.write(
        "src/a.py", "".join(f"token = '{GITHUB}'\n" if n == 10 else f"line {n}\n" for n in range(20))
    )
    done = project.run("capsula", "capture")
    (capsule,) = project.capsules()
    (row,) = project.read("capsule.json")["secrets"]
    diff = (capsule / row["file"]).read_text().split("\n")
    assert GITHUB in diff[row["line"] - 1]
    assert (row["kind"], row["source"]) == ("GitHub token", "src/a.py:11")
    assert b"src/a.py:11" in done.stderr
    project.run("git", "checkout", "-q", ".")
    assert project.run("git", "apply", str(capsule / row["file"])).returncode == 0
    assert GITHUB in project.ws.read("src/a.py")


def test_a_capsule_without_credentials_says_nothing(project):
    committed(project)
    project.write("capsula.toml", HEAD + "# changed\n[capture.files]\n'capsula.toml' = {copy = true}\n")
    done = project.run("capsula", "capture", "-q")
    assert (done.returncode, done.stderr) == (0, b"")
    assert project.read("capsule.json")["secrets"] == []


def test_nothing_is_in_the_journal_of_cached_runs(project):
    word = canary("cached")
    for _ in range(2):
        done = project.run("capsule", "-i", "capsula.toml", "-e", "MY_TOKEN", "--", "echo", f"--token={word}",
                           environ={"MY_TOKEN": canary("declared")})  # fmt: skip
        assert done.returncode == 0, done
    stored = project.ws.store.relative_to(project.ws.base)
    found = leaks(project, canary("declared"), where=f"../{stored}")
    assert found == []
    journals = [path for path in project.ws.store.rglob("*journal*") if path.is_file()]
    assert journals
    assert all(word.encode() not in path.read_bytes() for path in journals)
