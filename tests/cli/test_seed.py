"""The example of the seed as it stands, and its files field by field: same names, nesting, types and formats, with ours
beside them."""

import re
import subprocess
import sys

import pytest

CONFIG = """\
vault-directory = 'vault'
capsule-template = '%Y%m%d_%H%M%S'
[capture]
include-cpu = true
pre-capture-commands = [
    'poetry lock --check',
    'pip freeze --exclude-editable > requirements.txt',
]
environment-variables = [
    'HOME',
]
[capture.files]
"pyproject.toml" = { hash = "sha256", copy = true }
"poetry.lock" = { hash = "sha256", copy = true }
"requirements.txt" = { hash = "sha256", move = true }
[capture.git.repositories]
"repository-name" = '.'
[monitor]
capture = true
[monitor.item.calculate-pi-cli.files]
"examples/pi_cli.png" = { hash = "sha256", move = true }
[monitor.item.calculate-pi-dec.files]
"examples/pi_dec.png" = { hash = "sha256", move = true }
"""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d")
DURATION = re.compile(r"PT\d+(\.\d+)?S")
SHA = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
HASHED = {"hash_algorithm": "sha256", "file_hash": SHA256}
# What a field holds: a type, a pattern for a text, a value, an object with at least these, or a list of one kind.
PLATFORM = {
    **dict.fromkeys(("machine", "node", "platform", "release", "version", "system", "processor"), str),
    "python": {
        "executable_architecture": {"bits": re.compile("(64|32)bit"), "linkage": str},
        **dict.fromkeys(("build_no", "build_date", "compiler", "branch", "implementation", "version"), str),
    },
}
CPU = {
    "python_version": re.compile(r"\d+\.\d+\.\d+\.final\.0 \(\d\d bit\)"),
    "cpuinfo_version": [int],
    "cpuinfo_version_string": str,
    "arch": str,
    "bits": int,
    "count": int,
    "arch_string_raw": str,
}
# What only some processors say.
CPU_PERHAPS = {
    **dict.fromkeys(("vendor_id_raw", "brand_raw", "hz_advertised_friendly", "hz_actual_friendly"), str),
    "hz_advertised": [int],
    "hz_actual": [int],
    **dict.fromkeys(("stepping", "model", "family", "l2_cache_line_size", "l2_cache_associativity"), int),
    **dict.fromkeys(
        ("l1_data_cache_size", "l1_instruction_cache_size", "l2_cache_size", "l3_cache_size"), int
    ),
    "flags": [str],
}


def wrong(wanted, value, where=""):
    """In which fields a value isn't as wanted."""
    if isinstance(wanted, dict):
        if not isinstance(value, dict):
            return [where]
        return [
            each
            for name, part in wanted.items()
            for each in (
                wrong(part, value[name], f"{where}.{name}") if name in value else [f"{where}.{name}: none"]
            )
        ]
    if isinstance(wanted, list):
        return (
            [where] if not isinstance(value, list) else [e for v in value for e in wrong(wanted[0], v, where)]
        )
    if isinstance(wanted, re.Pattern):
        return [] if isinstance(value, str) and wanted.fullmatch(value) else [f"{where}: {value!r}"]
    if isinstance(wanted, type):
        return [] if type(value) is wanted else [f"{where}: {value!r}"]
    return [] if value == wanted else [f"{where}: {value!r}"]


@pytest.fixture
def seeded(project):
    project.write("capsula.toml", CONFIG)
    for name in ("pyproject.toml", "poetry.lock"):
        project.write(name, f"# {name}\n")
    # Both tools are other people's: what they do here is known.
    for name, does in (("poetry", 'test "$*" = "lock --check"'), ("pip", "echo numpy==1.0")):
        project.write(f"bin/{name}", f"#!/bin/sh\n{does}\n").chmod(0o755)
    project.environ["PATH"] = f"{project.root}/bin:{project.environ['PATH']}"
    project.write(
        "examples/calculate_pi_cli.py",
        "open('examples/pi_cli.png', 'wb').write(b'figure')\nprint(3.140888)\n",
    )
    project.git("init", "-q")
    project.git("remote", "add", "origin", "git@github.com:shunichironomura/capsula.git")
    project.git("add", ".")
    project.git("commit", "-qm", "one")
    project.write("poetry.lock", "# changed\n")
    return project


def test_capture(seeded):
    done = seeded.run("capsula", "capture")
    assert (done.returncode, done.stderr) == (0, b""), done
    context = seeded.read("context.json")
    assert (
        wrong(
            {
                "root_directory": str(seeded.root),
                "cwd": str(seeded.root),
                "platform": PLATFORM,
                "environment_variables": {"HOME": str(seeded.ws.home)},
                "git": {
                    "repository-name": {
                        "path": ".",
                        "sha": SHA,
                        "branch": "main",
                        "remotes": [{"name": "origin", "url": "git@github.com:shunichironomura/capsula.git"}],
                    }
                },
                "files": {"pyproject.toml": HASHED, "poetry.lock": HASHED, "requirements.txt": HASHED},
                "cpu": CPU,
            },
            context,
        )
        == []
    )
    assert (
        wrong({name: kind for name, kind in CPU_PERHAPS.items() if name in context["cpu"]}, context["cpu"])
        == []
    )
    (capsule,) = seeded.capsules()
    assert re.fullmatch(r"\d{8}_\d{6}-[0-9a-f]{6}", capsule.name)
    assert {"context.json", "repository-name.diff", "pyproject.toml", "poetry.lock", "requirements.txt"} <= {
        path.name for path in capsule.iterdir()
    }
    assert (capsule / "requirements.txt").read_text() == "numpy==1.0\n"
    assert not (seeded.root / "requirements.txt").exists()
    assert "+# changed" in (capsule / "repository-name.diff").read_text()


def test_a_tool_that_is_not_there_is_said_and_is_no_end(seeded):
    seeded.ws.path("bin/poetry").unlink()
    done = seeded.monitor("-i", "calculate-pi-cli", sys.executable, "examples/calculate_pi_cli.py")
    assert (done.returncode, done.stdout) == (0, b"3.140888\n")
    assert b"poetry lock --check failed (exit code 127)" in done.stderr
    context = seeded.read("context.json")
    assert wrong(HASHED, context["files"]["pyproject.toml"]) == []
    assert context["files"]["requirements.txt"]["file_hash"] is None, "the commands after it aren't run"


def test_monitor_a_command(seeded):
    done = seeded.monitor("-i", "calculate-pi-cli", sys.executable, "examples/calculate_pi_cli.py")
    assert (done.returncode, done.stdout) == (0, b"3.140888\n")
    before = {
        "root_directory": str(seeded.root),
        "cwd": str(seeded.root),
        "timestamp": TIME,
        "args": [str],
    }
    assert wrong(before, seeded.read("pre-run-info.json")) == []
    assert seeded.read("pre-run-info.json")["args"] == [sys.executable, "examples/calculate_pi_cli.py"]
    after = {
        "root_directory": str(seeded.root),
        "timestamp": TIME,
        "run_time": DURATION,
        "files": {"examples/pi_cli.png": HASHED},
        "stdout": "3.140888\n",
        "stderr": "",
        "exit_code": 0,
    }
    assert wrong(after, seeded.read("post-run-info.json")) == []
    assert (seeded.capsules()[0] / "pi_cli.png").read_bytes() == b"figure"
    assert not (seeded.root / "examples/pi_cli.png").exists()


def test_monitor_a_function(seeded):
    seeded.write(
        "examples/calculate_pi_dec.py",
        """\
from pathlib import Path

import capsula

@capsula.monitor(
    directory=Path(__file__).parents[1],
    include_return_value=True,
    items=("calculate-pi-dec",),
)
def main(n: int, seed: int | None = None) -> float:
    (Path(__file__).parent / "pi_dec.png").write_bytes(b"figure")
    return 3.143432

assert main(1000000) == 3.143432
""",
    )
    done = subprocess.run(
        [sys.executable, seeded.root / "examples/calculate_pi_dec.py"],
        cwd=seeded.ws.home, env=seeded.environ, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    before = {
        "root_directory": str(seeded.root),
        "cwd": str(seeded.ws.home),
        "timestamp": TIME,
        "source_file": str(seeded.root / "examples/calculate_pi_dec.py"),
        "source_line": 5,
        "function_name": "main",
        "args": [1000000],
        "kwargs": {},
    }
    assert wrong(before, seeded.read("pre-run-info.json")) == []
    after = {
        "root_directory": str(seeded.root),
        "timestamp": TIME,
        "run_time": DURATION,
        "files": {"examples/pi_dec.png": HASHED},
        "return_value": 3.143432,
        "exception_info": None,
    }
    assert wrong(after, seeded.read("post-run-info.json")) == []
    assert (seeded.capsules()[0] / "pi_dec.png").read_bytes() == b"figure"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("vault-dir = 'x'", ("capsula.toml:1: vault-dir", "vault-directory")),
        ("[capture]\ninclude-cpus = true", ("capsula.toml:2: include-cpus", "include-cpu")),
        (
            "[capture]\npre-capture-command = []",
            ("capsula.toml:2: pre-capture-command", "pre-capture-commands"),
        ),
        (
            "[capture.files]\n'x' = { copy = true, move = true }",
            ("capsula.toml:2: x: copy and move together",),
        ),
        ("[capture.files]\n'x' = { hsh = 'sha256' }", ("capsula.toml:2: x", "hsh", "did you mean hash?")),
        (
            "[capture.files]\n'x' = { hash = 'sha257' }",
            ("capsula.toml:2: x: there is no hash sha257", "sha256"),
        ),
        ("[capture.git]\nrepository = '.'", ("capsula.toml:2: repository", "repositories")),
        ("[monitor]\ncaptur = true", ("capsula.toml:2: captur", "capture")),
        ("[monitor.item.x]\nfile = {}", ("capsula.toml:2: file", "files")),
    ],
)
def test_what_the_configuration_does_not_know_is_refused_by_name_with_the_nearest(project, line, said):
    project.write("capsula.toml", line + "\n")
    done = project.run("capsula", "capture")
    assert (done.returncode, done.stdout) == (2, b"")
    assert [text for text in said if text not in done.stderr.decode()] == []
    assert not (project.root / "vault").exists()


@pytest.mark.parametrize(
    ("name", "is_"),
    [("sha256", "sha256"), ("SHA-256", "sha256"), ("md5", "md5"), ("sha1", "sha1"), ("sha3_256", "sha3_256"),
     ("SHA3-512", "sha3_512"), ("blake2b", "blake2b"), ("sha512", "sha512")],
)  # fmt: skip
def test_hash_algorithms_are_those_of_hashlib(project, name, is_):
    import hashlib

    project.write(
        "capsula.toml", f"[capture]\ninclude-cpu = false\n[capture.files]\n'x' = {{ hash = '{name}' }}\n"
    )
    project.write("x", "abc")
    assert project.run("capsula", "capture").returncode == 0
    wanted = {"hash_algorithm": is_, "file_hash": hashlib.new(is_, b"abc").hexdigest()}
    assert project.read("context.json")["files"]["x"] == wanted


@pytest.mark.parametrize("spelling", [("-C", "{}"), ("--directory", "{}"), ("--directory={}",)])
def test_the_root_is_found_upwards_or_named(project, spelling):
    project.write("sub/deeper/file", "")
    assert project.run("capsula", "capture", cwd=project.root / "sub/deeper").returncode == 0
    elsewhere = [word.format(project.root) for word in spelling]
    assert project.run("capsula", "capture", *elsewhere, cwd=project.ws.home).returncode == 0
    assert project.run("capsula", "monitor", *elsewhere, "true", cwd=project.ws.home).returncode == 0
    contexts = [project.read("context.json", at) for at in range(3)]
    assert {context["root_directory"] for context in contexts} == {str(project.root)}
    assert [context["cwd"] for context in contexts] == [
        str(project.root / "sub/deeper"), str(project.ws.home), str(project.ws.home),
    ]  # fmt: skip
