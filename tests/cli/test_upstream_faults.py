"""What the upstream recorder gets wrong, each fault with a test of its own: recording never changes, loses or delays
what the user's program does.

Each test is named after its fault; through the installed command, or a program of the user's.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(sys.executable).parent
PLAIN = "[capture]\ninclude-cpu = false\n"
HEAD = "import capsula\n"


def files_outside_the_vault(project):
    """But for the store, which has names of its own."""
    ours = (project.root / "vault", project.ws.cache)
    return {
        str(path.relative_to(project.ws.base))
        for path in project.ws.base.rglob("*")
        if not any(path.is_relative_to(place) for place in ours) and ".git/" not in str(path)
    }


# ---------------------------------------------------------------------------------------------- commands


def test_output_swallowed(project):
    """It is passed on byte for byte, each stream to its own, at once, and recorded besides."""
    process = subprocess.Popen(
        ["capsula", "monitor", "-q", "sh", "-c", "echo first; read x; echo second; echo warned >&2"],
        cwd=project.root, env=project.environ,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    project.ws.started.append(process)
    assert process.stdout.readline() == b"first\n", "while the command still runs"
    out, err = process.communicate(b"go on\n", timeout=200)
    assert (out, err, process.returncode) == (b"second\n", b"warned\n", 0)
    after = project.read("post-run-info.json")
    assert (after["stdout"], after["stderr"]) == ("first\nsecond\n", "warned\n")


@pytest.mark.parametrize(
    ("script", "code", "status"),
    [
        ("exit 0", 0, "finished"),
        ("exit 7", 7, "failed"),
        ("exit 255", 255, "failed"),
        ("kill -TERM $$", 128 + signal.SIGTERM, "failed"),
        ("kill -KILL $$", 128 + signal.SIGKILL, "failed"),
    ],
)
def test_exit_code_lost(project, script, code, status):
    assert project.monitor("-q", "sh", "-c", script).returncode == code
    assert project.read("post-run-info.json")["exit_code"] == code
    assert project.read("capsule.json")["status"] == status


@pytest.mark.parametrize("output", [b"\xff\xfe\0[x]\n", b"caf\xe9\r\n", b"\x80" * 5000, b"\xed\xa0\x80"])
def test_non_utf_8_output_loses_the_record(project, output):
    project.write("out.bin", output)
    done = project.monitor("-q", "sh", "-c", "cat out.bin; cat out.bin >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == (output, output, 3)
    after = project.read("post-run-info.json")
    assert after["stdout"] == after["stderr"] == output.decode("utf-8", "backslashreplace")
    (capsule,) = project.capsules()
    assert (capsule / "stdout.txt").read_bytes() == (capsule / "stderr.txt").read_bytes() == output
    assert project.run("capsula", "show").returncode == 0


def test_non_utf_8_words_lose_the_record(project):
    done = project.monitor("-q", "printf", "%s", b"caf\xe9")
    assert done.stdout == b"caf\xe9"
    assert project.read("pre-run-info.json")["args"][2] in ("caf\\xe9", "caf\udce9")


def test_missing_program_leaves_no_record(project):
    done = project.monitor("no-such-program", "x")
    assert done.returncode == 127
    assert project.read("post-run-info.json")["started"] is False
    assert project.read("capsule.json")["status"] == "failed"
    project.write("not-executable", "#!/bin/sh\n")
    assert project.monitor("./not-executable").returncode == 126
    assert [project.read("post-run-info.json", at)["exit_code"] for at in (0, 1)] == [127, 126]


def test_markup_in_child_output_is_eaten(project):
    text = "[bold]x[/bold] [/] [link=y] [red]\\[z] {braces} %s %(name)s \x1b[1mbold\x1b[0m\n"
    project.write("text", text)
    done = project.monitor("-q", "cat", "text")
    assert done.stdout.decode() == text
    assert project.read("post-run-info.json")["stdout"] == text
    shown = project.run("capsula", "show").stdout.decode()
    assert "[bold]x[/bold] [/] [link=y] [red]" in shown


@pytest.mark.parametrize("fault", ["missing file", "vault gone", "vault read-only", "file in the way"])
def test_failing_post_run_step_masks_the_result_of_a_command(project, fault, ordinary):
    project.write("capsula.toml", PLAIN + "[monitor.item.x.files]\n'made' = {hash = 'sha256', copy = true}\n")
    spoil = {
        "missing file": "true",
        "vault gone": "rm -rf vault",
        "vault read-only": "chmod 500 vault/*/",
        "file in the way": "echo mine > made; for d in vault/*/; do mkdir $d/stdout.txt $d/post-run-info.json; done",
    }[fault]
    done = project.run(
        *ordinary.prefix, "capsula", "monitor", "-i", "x", "sh", "-c", f"echo told; {spoil}; exit 5"
    )
    project.ws.spoiled = {*project.root.glob("vault/*/*.json")}
    assert (done.returncode, done.stdout) == (5, b"told\n")
    assert done.stderr.startswith(b"capsula: ")
    assert b"Traceback" not in done.stderr


# ---------------------------------------------------------------------------------------------- captures


@pytest.mark.parametrize(
    "state", ["detached HEAD", "no commits", "subdirectory", "bare", "damaged", "no git installed"]
)
def test_state_of_a_repository_aborts_the_capture(project, state):
    project.git("init", "-q", *(("--bare", ".") if state == "bare" else ()))
    where, environ = project.root, {}
    if state in ("detached HEAD", "subdirectory"):
        project.git("add", ".")
        project.git("commit", "-qm", "one")
    if state == "detached HEAD":
        project.git("checkout", "-q", "--detach")
    if state == "subdirectory":
        project.write("sub/capsula.toml", PLAIN)
        where = project.root / "sub"
    if state == "damaged":
        project.write(".git/HEAD", "nonsense")
    if state == "no git installed":
        environ = {"PATH": str(SCRIPTS)}
    done = project.run(str(SCRIPTS / "capsula"), "capture", cwd=where, environ=environ)
    is_whole = state in ("detached HEAD", "no commits", "subdirectory")
    context = json.loads(next(where.glob("vault/*/context.json")).read_text())
    assert "platform" in context
    assert "python" in context
    if is_whole:
        assert done.returncode == 0, done
        (repository,) = context["git"].values()
        assert repository["branch"] == (None if state == "detached HEAD" else "main")
        assert (repository["sha"] is None) == (state == "no commits")
    elif state != "bare":
        assert done.returncode == 1, done
        assert any("failed" in probe for name, probe in context["probes"].items() if name.startswith("git"))


def test_two_captures_in_one_second_collide(project):
    processes = [
        subprocess.Popen(["capsula", "capture", "-q"], cwd=project.root, env=project.environ)
        for _ in range(4)
    ]
    assert [process.wait(200) for process in processes] == [0] * 4
    assert len(project.capsules()) == 4
    assert {project.read("capsule.json", at)["status"] for at in range(4)} == {"finished"}


def test_equal_base_names_overwrite_each_other(project):
    names = ("one/data.txt", "two/data.txt", "three/data.txt", "four/context.json", "five/capsule.json")
    for name in names:
        project.write(name, name)
    project.write(
        "capsula.toml",
        PLAIN + "[capture.files]\n" + "".join(f"'{name}' = {{copy = true}}\n" for name in names[1:])
        + "'one/data.txt' = {move = true}\n",
    )  # fmt: skip
    assert project.run("capsula", "capture").returncode == 0
    (capsule,) = project.capsules()
    kept = {path.read_text() for path in capsule.iterdir() if path.is_file()}
    assert set(names) <= kept
    assert project.read("context.json")["root_directory"] == str(project.root)
    assert [(project.root / name).exists() for name in names] == [False, True, True, True, True]


GIT_CONFIGS = {
    "plain": {},
    "of somebody": {
        "diff.noprefix": "true", "diff.mnemonicPrefix": "true", "color.ui": "always", "core.autocrlf": "true",
        "diff.external": "false", "diff.renames": "copies", "diff.context": "0", "diff.algorithm": "patience",
        "core.quotePath": "true", "diff.wsErrorHighlight": "all", "diff.submodule": "log",
    },
}  # fmt: skip


@pytest.mark.parametrize("config", GIT_CONFIGS)
def test_diff_that_git_apply_refuses(project, config):
    project.write(".gitignore", "vault\nignored\n")
    project.write("kept.txt", "".join(f"line {n}\n" for n in range(30)))
    project.write("gone.txt", "gone\n")
    project.write("old name.txt", "moved\n" * 5)
    project.write("run.sh", "#!/bin/sh\n")
    project.write("crlf.txt", b"one\r\ntwo\r\n")
    project.write("binary", bytes(range(256)))
    os.symlink("kept.txt", project.root / "link")
    project.git("init", "-q")
    project.git("add", ".")
    project.git("commit", "-qm", "one")
    for key, value in GIT_CONFIGS[config].items():
        project.git("config", key, value)
    project.write(
        "kept.txt", "".join(f"line {n}{'!' * (n in (0, 15, 29))}\n" for n in range(30)).rstrip("\n")
    )
    project.write("staged.txt", "staged\n")
    project.git("add", "staged.txt", "kept.txt")
    project.write("staged.txt", "and changed\n")
    project.git("mv", "old name.txt", "new é name.txt")
    project.git("rm", "-q", "gone.txt")
    project.ws.path("run.sh").chmod(0o755)
    project.write("crlf.txt", b"one\r\n2\r\nthree\n")
    project.write("binary", bytes(range(255, -1, -1)) * 2)
    project.write("untracked/deep/file", "no newline at the end")
    project.write("empty", "")
    project.write("ignored", "ignored")
    (project.root / "link").unlink()
    os.symlink("staged.txt", project.root / "link")

    def state():
        found = {}
        for path in sorted(project.root.rglob("*")):
            name = str(path.relative_to(project.root))
            if not name.startswith((".git/", "vault", "ignored")) and not (
                path.is_dir() and not path.is_symlink()
            ):
                content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
                found[name] = (content, path.lstat().st_mode & 0o111)
        return found

    wanted = state()
    status = project.git("status", "--porcelain")
    done = project.run("capsula", "capture", "-q")
    assert done.returncode == 0, done
    assert (state(), project.git("status", "--porcelain")) == (wanted, status), (
        "nothing of the user's was touched"
    )
    (patch,) = (project.root / "vault").glob("*/*.diff")
    project.git("reset", "-q", "--hard")
    project.git("clean", "-qfd", "-e", "vault")
    for key in GIT_CONFIGS[config]:
        project.git("config", "--unset", key)
    project.git("reset", "-q", "--hard")
    assert state() != wanted
    project.git("apply", str(patch))
    assert state() == wanted


def test_credentials_in_the_url_of_a_remote_are_stored(project):
    word = "canary7canary7"
    project.git("init", "-q")
    project.git("remote", "add", "origin", f"https://me:{word}@host/x.git")
    project.git("remote", "add", "by-token", f"https://{word}@host/x.git")
    assert project.run("capsula", "capture").returncode == 0
    for path in project.root.glob("vault/**/*"):
        assert not path.is_file() or word.encode() not in path.read_bytes(), path
    (repository,) = project.read("context.json")["git"].values()
    urls = {remote["name"]: remote["url"] for remote in repository["remotes"]}
    assert urls == {"origin": "https://***@host/x.git", "by-token": "https://***@host/x.git"}


@pytest.mark.parametrize(
    "name", ["../../escaped", "/tmp/escaped", "a/b", "..", ".", "-x", "a\\b", "con\ntrol"]
)
def test_name_with_a_slash_escapes_the_vault(project, name):
    """Names of repositories, items, runs, files and the template of capsules."""
    project.git("init", "-q")
    project.write("some/data", "data\n")
    spelled = json.dumps(name)
    project.write(
        "capsula.toml",
        PLAIN
        + f"[capture.git.repositories]\n{spelled} = '.'\n[capture.files]\n'some/../some/data' = {{copy = true}}\n"
        f"[monitor.item.{spelled}.files]\n'some/data' = {{copy = true}}\n[capture.commands]\n{spelled} = 'echo x'\n",
    )
    project.write("script.py", HEAD + f"with capsula.run({name!r}): pass\n")
    before = files_outside_the_vault(project)
    done = project.monitor("-i", name, sys.executable, "script.py")
    assert done.returncode == 0, done
    assert files_outside_the_vault(project) <= before
    assert not Path("/tmp/escaped").exists()
    assert not Path("/tmp/escaped.diff").exists()
    assert len(project.capsules()) == 2
    assert any(path.name.endswith(".diff") for path in project.capsules()[0].iterdir())


@pytest.mark.parametrize("template", ["../%Y", "a/b", "", "..", "%D"])
def test_template_with_a_slash_escapes_the_vault(project, template):
    project.write("capsula.toml", f"capsule-template = '{template}'\n" + PLAIN)
    before = files_outside_the_vault(project)
    done = project.monitor("echo", "told")
    assert files_outside_the_vault(project) <= before
    if template == "%D":  # only the time shows that there is a slash in it
        assert done.returncode == 0
        assert len(project.capsules()) == 1
    else:
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"capsule-template" in done.stderr


# ---------------------------------------------------------------------------------------------- functions


def test_second_call_of_a_decorated_function_overwrites_the_first_capsule(project):
    done = project.python(HEAD + "@capsula.monitor\ndef f(n): return n\nfor n in range(3): f(n)\n")
    assert done.returncode == 0, done
    assert [project.read("post-run-info.json", at)["return_value"] for at in range(3)] == [0, 1, 2]
    assert [project.read("pre-run-info.json", at)["args"] for at in range(3)] == [[0], [1], [2]]


def test_include_return_value_false_stores_it_anyway(project):
    word = "return7value7x9"
    done = project.python(
        HEAD + "@capsula.monitor(include_return_value=False)\n"
        f"def f(): return {word!r}\nassert f() == {word!r}\n"
        "@capsula.monitor(include_return_value=False)\n"
        "def g():\n    yield 1\n    return 'return7' + 'value7x9'\nlist(g())\n"
    )  # fmt: skip
    assert done.returncode == 0, done
    for at in range(2):
        assert "return_value" not in project.read("post-run-info.json", at)
    for path in project.root.glob("vault/**/*"):
        # The source of f is in the patch of a repository, where there is one.
        assert not path.is_file() or word.encode() not in path.read_bytes(), path


VALUES = [
    "object()", "{1: 2, (3, 4): object()}", "float('nan')", "float('-inf')", "b'\\xff'", "{1, 'a'}",
    "open('script.py')", "lambda: 1",
    "'\\ud800'", "10 ** 5000", "Odd()", "loop()", "deep()", "type", "...", "range(10)", "1j", "Path('x')",
    "Decimal('1.5')", "datetime.now()", "Lazy()", "[0] * 200_000", "'x' * 200_000", "ValueError('x')", "sys", "Liar()",
]  # fmt: skip


@pytest.mark.parametrize("way", ["argument", "return value"])
def test_value_that_is_no_json_stops_the_program_or_loses_the_result(project, way):
    done = project.python(
        HEAD
        + f"""
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path

class Odd:
    def __repr__(self): raise RuntimeError("no")
    __str__ = __repr__
    def __eq__(self, other): raise RuntimeError("no")
    def __bool__(self): raise RuntimeError("no")
    def __len__(self): raise RuntimeError("no")

class Lazy:
    def __getattr__(self, name): raise RuntimeError(name)

class Liar:
    shape = "x"
    dtype = 7
    __class__ = dict

def loop():
    made = []
    made.append(made)
    return made

def deep():
    made = []
    for _ in range(100_000):
        made = [made]
    return made

@capsula.monitor
def taken(value): return 1

@capsula.monitor
def given(make): return make()

makers = [{", ".join(f"lambda: {value}" for value in VALUES)}]
for make in makers:
    if {way!r} == "argument":
        assert taken(make()) == 1
    else:
        assert given(make) is not None
print("all", len(makers))
"""
    )
    assert (done.returncode, done.stdout.decode()) == (0, f"all {len(VALUES)}\n"), done
    assert done.stderr == b""
    assert len(project.capsules()) == len(VALUES)
    assert {project.read("capsule.json", at)["status"] for at in range(len(VALUES))} == {"finished"}
    field = ("pre-run-info.json", "args") if way == "argument" else ("post-run-info.json", "return_value")
    assert all(project.read(field[0], at)[field[1]] is not None for at in range(len(VALUES)))


def test_generator_argument_is_consumed(project):
    done = project.python(
        HEAD
        + """
@capsula.monitor
def eat(numbers, lines, more): return [*numbers, *lines, *more]

@capsula.monitor
def give(n): return (x for x in range(n))

print(eat((x for x in (1, 2)), iter([3]), map(str, [4])), list(give(3)))
"""
    )
    assert done.stdout.decode() == "[1, 2, 3, '4'] [0, 1, 2]\n", done
    assert len(project.capsules()) == 2


def test_async_functions_fail(project):
    done = project.python(
        HEAD
        + """
import asyncio, inspect

@capsula.monitor
async def later(x):
    await asyncio.sleep(0)
    return x

@capsula.monitor
async def stream(n):
    for x in range(n):
        yield x

@capsula.monitor
async def bad():
    await asyncio.sleep(0)
    raise ValueError("odd")

async def main():
    both = await asyncio.gather(later(1), later(2))
    try:
        await bad()
    except ValueError as error:
        both.append(str(error))
    task = asyncio.ensure_future(later(3))
    return [*both, [x async for x in stream(3)], await task]

assert inspect.iscoroutinefunction(later) and inspect.isasyncgenfunction(stream)
print(asyncio.run(main()))
"""
    )
    assert done.stdout.decode() == "[1, 2, 'odd', [0, 1, 2], 3]\n", done
    results = [project.read("post-run-info.json", at) for at in range(5)]
    assert sorted(each["return_value"] for each in results if each["return_value"] is not None) == [1, 2, 3]
    assert [each["exception_info"]["exc_type"] for each in results if each["exception_info"]] == [
        "ValueError"
    ]


def test_methods_fail(project):
    done = project.python(
        HEAD
        + """
class Model:
    def __init__(self): self.n = 1
    @capsula.monitor
    def fit(self, x): return x + self.n
    @classmethod
    @capsula.monitor
    def made(cls): return cls.__name__
    @staticmethod
    @capsula.monitor
    def still(x): return x
    @property
    @capsula.monitor
    def size(self): return 7

model = Model()
print(model.fit(1), Model.fit(model, 2), Model.made(), model.made(), Model.still(2), model.size)
"""
    )
    assert done.stdout.decode() == "2 3 Model Model 2 7\n", done
    assert len(project.capsules()) == 6
    assert project.read("pre-run-info.json", 0)["arguments"]["x"] == 1


def test_decorated_function_loses_its_name_and_cannot_be_pickled(project):
    done = project.python(
        HEAD
        + '''
import inspect, pickle
from multiprocessing import get_context

@capsula.monitor
def add(a: int, b: int = 2) -> int:
    """Adds."""
    return a + b

if __name__ == "__main__":
    print(add.__name__, add.__qualname__, add.__module__, add.__doc__, inspect.signature(add))
    print(pickle.loads(pickle.dumps(add)) is add)
    with get_context("spawn").Pool(1) as pool:
        print(pool.map(add, [1, 2]))
'''
    )
    assert done.stdout.decode() == "add add __main__ Adds. (a: int, b: int = 2) -> int\nTrue\n[3, 4]\n", done
    assert len(project.capsules()) == 2


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        ("ValueError('odd')", "failed"),
        ("SystemExit(3)", "failed"),
        ("SystemExit()", "finished"),
        ("KeyboardInterrupt()", "interrupted"),
    ],
)
def test_system_exit_and_keyboard_interrupt_leave_no_record(project, raised, status):
    done = project.python(HEAD + f"@capsula.monitor\ndef f(): raise {raised}\nf()\n")
    plain = project.run(sys.executable, "-c", f"def f(): raise {raised}\nf()\n")
    assert done.returncode == plain.returncode
    after = project.read("post-run-info.json")
    assert after["exception_info"]["exc_type"] == raised.partition("(")[0]
    assert after["return_value"] is None
    assert project.read("capsule.json")["status"] == status


def test_interrupt_from_the_terminal_leaves_no_record(project):
    project.write(
        "script.py",
        HEAD
        + "import time\n@capsula.monitor\ndef f():\n    print('in', flush=True)\n    time.sleep(60)\nf()\n",
    )
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=project.root, env=project.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    project.ws.started.append(process)
    assert process.stdout.readline() == b"in\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(200) == -signal.SIGINT
    assert project.read("capsule.json")["status"] == "interrupted"
    assert project.read("post-run-info.json")["exception_info"]["exc_type"] == "KeyboardInterrupt"


@pytest.mark.parametrize("ends", ["return 42", "raise ValueError('odd')"])
@pytest.mark.parametrize("fault", ["missing file", "vault gone", "file in the way", "error of ours"])
def test_failing_post_run_step_masks_the_result_or_exception_of_a_function(project, fault, ends):
    project.write("capsula.toml", PLAIN + "[monitor.item.x.files]\n'made' = {hash = 'sha256', move = true}\n")
    spoil = {
        "missing file": "pass",
        "vault gone": "shutil.rmtree('vault')",
        "file in the way": "[os.mkdir(p + '/post-run-info.json') for p in glob.glob('vault/*')]",
        "error of ours": "hashlib.file_digest = json.dumps = None",
    }[fault]
    done = project.python(
        f"""
import capsula, glob, hashlib, json, os, shutil

@capsula.monitor(items=("x",))
def f():
    {spoil}
    {ends}

try:
    print(f())
except ValueError as error:
    print(repr(error), error.__cause__, error.__context__)
"""
    )
    project.ws.spoiled = {*project.root.glob("vault/*/*.json")}
    told = "42\n" if ends == "return 42" else "ValueError('odd') None None\n"
    assert (done.returncode, done.stdout.decode()) == (0, told), done
    assert done.stderr.startswith(b"capsula: ")
    assert b"Traceback" not in done.stderr


def test_command_finds_another_environment(project):
    """But for the name of the live capsule it is the same, and so is the directory."""
    done = project.monitor("-q", sys.executable, "-c", "import os; print(os.getcwd(), sorted(os.environ))")
    plain = project.run(sys.executable, "-c", "import os; print(os.getcwd(), sorted(os.environ))")
    assert done.stdout.replace(b"'CAPSULA_CAPSULE', ", b"") == plain.stdout
