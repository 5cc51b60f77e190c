"""The script `capsule`: which Python it finds, what it hands on, and that the command runs whatever is missing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"

# Stands in for the wrapper: says how it was started.
WRAPPER = """
import json, os, sys
def main(argv0, argv):
    print(json.dumps({
        "argv0": argv0, "argv": argv, "executable": sys.executable, "environ": dict(os.environ),
        "library": __file__,
        "path": sys.path,
    }))
    sys.exit(7)
"""

Install = Callable[..., Path]


def write_package(folder: Path) -> None:
    (folder / "capsula" / "cli").mkdir(parents=True)
    (folder / "capsula" / "__init__.py").touch()
    (folder / "capsula" / "cli" / "__init__.py").touch()
    (folder / "capsula" / "cli" / "capsule.py").write_text(WRAPPER)


def environment_at(home: Path, *, package: bool = True) -> Path:
    """A virtual environment with the launcher, its sibling and the stand-in; answers its bin directory."""
    venv.create(home, with_pip=False, symlinks=True)
    scripts = home / "bin"
    # As installers do it: the interpreter's path for the word python in the first line.
    text = (PROJECT / "scripts" / "capsule").read_text()
    assert text.startswith("#!python\n")
    (scripts / "capsule").write_text(text.replace("#!python", f"#!{scripts}/python", 1))
    (scripts / "capsule").chmod(0o755)
    if package:
        write_package(home / "lib" / PYTHON / "site-packages")
    return scripts


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    return environment_at(tmp_path / "venv")


def run(*command: str | Path, **keywords: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=200, **keywords)  # type: ignore[call-overload]


def told(*command: str | Path, **keywords: object) -> dict[str, object]:
    """What the stand-in says of its start."""
    done = run(*command, **keywords)
    assert done.returncode == 7, done
    assert done.stderr == ""
    said: dict[str, object] = json.loads(done.stdout)
    return said


def test_the_environment_s_python_runs_it(scripts: Path) -> None:
    said = told(scripts / "capsule", "-i", "a b", "--", "make", "")
    assert said["argv"] == ["-i", "a b", "--", "make", ""]
    assert said["executable"] == str(scripts / "python")
    assert said["library"] == str(scripts.parent / "lib" / PYTHON / "site-packages/capsula/cli/capsule.py")


def test_modules_beside_the_script_stand_in_for_nothing(scripts: Path) -> None:
    (scripts / "json.py").write_text("raise SystemExit('the wrong json')")
    assert str(scripts) not in told(scripts / "capsule")["path"]


def test_modules_in_pythonpath_stand_in_for_nothing_and_may_be_the_way_to_us(
    scripts: Path, tmp_path: Path
) -> None:
    library = scripts.parent / "lib" / PYTHON / "site-packages/capsula"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    assert told(scripts / "capsule", env=environ)["library"] == str(library / "cli/capsule.py")
    library.rename(tmp_path / "capsula")
    assert told(scripts / "capsule", env=environ)["library"] == str(tmp_path / "capsula/cli/capsule.py")


@pytest.mark.parametrize("name", ["capsule", "placebo", "my capsule"])
def test_a_symbolic_link_from_elsewhere_keeps_its_name(scripts: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    first = elsewhere / "first"
    first.symlink_to(scripts / "capsule")
    link = elsewhere / name
    link.symlink_to("first")
    said = told(link)
    assert said["argv0"] == str(link)
    assert said["executable"] == str(scripts / "python")


def test_a_hard_link_beside_it_keeps_its_name(scripts: Path) -> None:
    os.link(scripts / "capsule", scripts / "placebo")
    said = told(scripts / "placebo")
    assert said["argv0"] == str(scripts / "placebo")
    assert said["executable"] == str(scripts / "python")


def test_it_is_found_by_a_relative_path_and_by_name(scripts: Path) -> None:
    for command, folder, path in (
        ("./capsule", scripts, ""),
        ("bin/capsule", scripts.parent, ""),
        ("capsule", scripts, "."),
        ("capsule", scripts.parent, "bin"),
        ("capsule", scripts.parent, str(scripts)),
    ):
        said = told("/usr/bin/env", f"PATH={path}:{os.environ['PATH']}", command, cwd=folder)
        assert said["executable"] == str(scripts / "python"), (command, path)


def test_the_environment_variables_are_those_of_the_caller(scripts: Path) -> None:
    """Python may add LC_CTYPE in the C locale; execute.spawn.child_environment takes that out for the command."""
    given = {
        "A": "1",
        "EMPTY": "",
        "npm_config_//host/:_authToken": "t",
        "INPUT_MY-VAR": "v",
        "PWD": "/wrong",
        "IFS": ",",
    }
    environ = told(scripts / "capsule", env={**given, "LC_ALL": "C"})["environ"]
    assert environ == {**given, "LC_ALL": "C"}


def test_an_empty_environment_is_enough(scripts: Path) -> None:
    environ = told("/usr/bin/env", "-i", scripts / "capsule")["environ"]
    assert isinstance(environ, dict)
    assert set(environ) <= {"LC_CTYPE"}


def test_an_editable_installation_is_found(tmp_path: Path) -> None:
    scripts = environment_at(tmp_path / "venv", package=False)
    write_package(tmp_path / "source")
    (tmp_path / "venv/lib" / PYTHON / "site-packages/_capsula.pth").write_text(f"{tmp_path}/source\n")
    said = told(scripts / "capsule", "-i", "x", env={"A": "1"})
    assert said["argv0"] == str(scripts / "capsule")
    assert said["argv"] == ["-i", "x"]
    assert said["library"] == str(tmp_path / "source/capsula/cli/capsule.py")


def test_what_an_uninstallation_left_behind_does_not_hide_the_package(tmp_path: Path) -> None:
    scripts = environment_at(tmp_path / "venv", package=False)
    library = tmp_path / "venv/lib" / PYTHON / "site-packages"
    (library / "capsula" / "__pycache__").mkdir(parents=True)
    write_package(tmp_path / "source")
    (library / "_capsula.pth").write_text(f"{tmp_path}/source\n")
    assert told(scripts / "capsule")["library"] == str(tmp_path / "source/capsula/cli/capsule.py")


def breakage(what: str, scripts: Path) -> dict[str, str]:
    """Breaks the installation; answers the environment to run in."""
    library = scripts.parent / "lib" / PYTHON / "site-packages" / "capsula"
    if what == "no package":
        shutil.rmtree(library)
    elif what == "syntax error":
        (library / "cli" / "capsule.py").write_text("def main(:\n")
    elif what == "raises":
        (library / "__init__.py").write_text("1 / 0\n")
    return dict(os.environ)


@pytest.mark.parametrize("what", ["no package", "syntax error", "raises"])
def test_whatever_is_broken_the_command_runs_once_as_if_alone(scripts: Path, what: str) -> None:
    tools = scripts.parent / "tools"
    tools.mkdir()
    for tool in "sh", "cat", "echo":
        (tools / tool).symlink_to(str(shutil.which(tool)))
    environ = breakage(what, scripts)
    launcher = scripts / "capsule"
    script = 'cat; echo "$1" >&2; echo ran >> "$2"; exit 9'
    mark = scripts.parent / "mark"
    command = ("-i", "x", "--", "sh", "-c", script, "sh", "a  b", str(mark))
    done = run(launcher, *command, input="typed\n", env=environ)
    assert (done.returncode, done.stdout) == (9, "typed\n")
    assert mark.read_text() == "ran\n"
    line, *rest = done.stderr.splitlines()
    assert line.startswith("capsule: not cached: ")
    assert rest == ["a  b"]

    assert run(launcher, "--", "no-such-command", env=environ).returncode == 127
    assert run(launcher, "--", scripts / "pyvenv", env=environ).returncode == 127
    assert run(launcher, "--", scripts, env=environ).returncode == 126
    assert run(launcher, "-i", "x", env=environ).returncode == 125
    assert run(launcher, env=environ).returncode == 125


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_broken_installation_leaves_signals_at_their_defaults(scripts: Path) -> None:
    environ = breakage("raises", scripts)
    done = run(scripts / "capsule", "--", "grep", "SigIgn", "/proc/self/status", env=environ)
    ignored = int(done.stdout.split()[1], 16)
    for number in signal.SIGPIPE, signal.SIGXFSZ:
        assert not ignored >> (number - 1) & 1


def test_a_closed_stderr_does_not_stop_the_command(scripts: Path) -> None:
    breakage("raises", scripts)
    done = run("sh", "-c", 'exec 2>&-; "$0" -- echo ran', scripts / "capsule")
    assert (done.returncode, done.stdout) == (0, "ran\n")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The project's own wheels, the ordinary one and the editable one."""
    build = (
        "import sys, hatchling.build as build\n"
        "print(build.build_wheel(sys.argv[1])); print(build.build_editable(sys.argv[2]))"
    )
    folders = [tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("editable")]
    done = run(sys.executable, "-c", build, *folders, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    return {"wheel": folders[0] / names[0], "editable": folders[1] / names[1]}


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_an_installation_by_pip_works(wheels: dict[str, Path], tmp_path: Path, kind: str) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    scripts = tmp_path / "venv" / "bin"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", scripts / "python")
    done = run(*pip, "install", "--no-index", "--no-deps", wheels[kind])
    assert done.returncode == 0, done.stderr
    for name in "capsule", "placebo":
        said = run(scripts / name, "--version")
        assert (said.returncode, said.stderr) == (0, ""), said
        assert "0." in said.stdout
        link = tmp_path / name
        link.symlink_to(scripts / name)
        assert run(link, "--version").stdout == said.stdout
    module = run(scripts / "python", "-m", "capsula", "--version")
    assert module.stdout.startswith("capsule ")
