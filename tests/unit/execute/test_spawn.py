"""Looking a command up, starting it, and what is said when that can't be."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from capsula.execute import spawn
from capsula.execute.spawn import CannotRun


def script(path: Path, text: str = "#!/bin/sh\necho $0 $*\n", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture(params=["run", "become"])
def how(request):
    """Both ways to the command: as a child of ours, and as the last resort in our place."""
    return {"become": True} if request.param == "become" else {}


def test_a_command_is_found_on_the_path_of_its_own_environment(runner, how, tmp_path):
    script(tmp_path / "bin/hello", "#!/bin/sh\necho found\n")
    ran = runner.run("hello", popen={"env": {"PATH": f"/nowhere:{tmp_path}/bin:/bin:/usr/bin"}}, **how)
    assert (ran.out, ran.err, ran.returncode) == (b"found\n", b"", 0)


@pytest.mark.parametrize("path", ["", ":/nowhere", "/nowhere:", "/nowhere::/other"])
def test_an_empty_element_of_the_path_is_the_current_directory(runner, how, tmp_path, path):
    script(tmp_path / "here", "#!/bin/sh\necho here\n")
    ran = runner.run("here", popen={"env": {"PATH": path}, "cwd": tmp_path}, **how)
    assert (ran.out, ran.returncode) == (b"here\n", 0)


def test_without_a_path_the_default_one_is_searched(runner, how):
    ran = runner.run("true", popen={"env": {}}, **how)
    assert (ran.err, ran.returncode) == (b"", 0)


def test_a_name_with_a_slash_is_not_looked_up(runner, how, tmp_path):
    script(tmp_path / "bin/sub/tool")
    ran = runner.run("sub/tool", popen={"env": {"PATH": f"{tmp_path}/bin"}, "cwd": tmp_path}, **how)
    assert (ran.err, ran.returncode) == (b"capsule: sub/tool: No such file or directory\n", 127)


def test_a_file_that_cannot_be_executed_is_passed_over_for_a_later_one(runner, how, tmp_path):
    script(tmp_path / "a/tool", mode=0o644)
    (tmp_path / "b/tool").mkdir(parents=True)
    script(tmp_path / "c/tool", "#!/bin/sh\necho c\n")
    ran = runner.run("tool", popen={"env": {"PATH": f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"}}, **how)
    assert (ran.out, ran.returncode) == (b"c\n", 0)


@pytest.mark.parametrize(
    ("name", "exit_code", "text"),
    [
        ("no-such-command", 127, "command not found"),
        ("", 127, "command not found"),
        ("./no-such-command", 127, "No such file or directory"),
        ("./plain/below", 127, "No such file or directory"),
        ("./plain", 126, "Permission denied"),
        ("plain", 126, "Permission denied"),
        ("./", 126, "Permission denied"),
        ("./lost", 127, "cannot run: the interpreter that it names isn't there"),
        ("./loop", 126, "Too many levels of symbolic links"),
        ("./" + "x" * 300, 126, "File name too long"),
        ("x" * 300, 127, "command not found"),
    ],
)
def test_what_cannot_run_is_said_as_a_shell_says_it(runner, how, tmp_path, name, exit_code, text):
    script(tmp_path / "plain", mode=0o644)
    script(tmp_path / "lost", "#!/no/such/interpreter\n")
    (tmp_path / "loop").symlink_to("loop")
    ran = runner.run(name, popen={"env": {"PATH": str(tmp_path)}, "cwd": tmp_path}, **how)
    assert (ran.err.decode(), ran.returncode) == (f"capsule: {name}: {text}\n", exit_code)
    if not how:
        assert (ran.started, ran.exit_code, ran.stdout, ran.order) == (False, exit_code, None, [])


def test_a_script_without_an_interpreter_line_is_run_by_sh(runner, how, tmp_path):
    script(tmp_path / "bare", "echo $0 $2 $#\n")
    ran = runner.run("./bare", "a b", "-c", popen={"cwd": tmp_path}, **how)
    assert (ran.out, ran.returncode) == (b"./bare -c 2\n", 0)


def test_arguments_that_are_too_long_are_126():
    with pytest.raises(CannotRun) as refusal:
        spawn.spawn(("true", "x" * 3_000_000), {b"PATH": b"/bin"}, descriptors=(), mask=())
    assert (refusal.value.exit_code, refusal.value.text) == (126, b"true: Argument list too long")


def test_a_full_process_table_is_126(monkeypatch):
    def full(*_, **__):
        raise OSError(errno.EAGAIN, "none left")

    monkeypatch.setattr(os, "posix_spawn", full)
    with pytest.raises(CannotRun) as refusal:
        spawn.spawn(("true",), {b"PATH": b"/bin"}, descriptors=(), mask=())
    assert (refusal.value.exit_code, refusal.value.text) == (126, b"true: Resource temporarily unavailable")


def test_a_command_runs_in_a_directory_that_is_gone(runner, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = ["sh", "-c", 'cd "$1"; rmdir "$1"; shift; exec "$@"', "sh", str(gone)]
    ran = subprocess.run([*command, *runner.argv("echo", "ran")], capture_output=True)
    assert (ran.stdout, ran.stderr, ran.returncode) == (b"ran\n", b"", 0)


def test_names_and_arguments_need_not_be_utf8(runner, how, tmp_path):
    script(tmp_path / os.fsdecode(b"caf\xe9"), '#!/bin/sh\nprintf "$1"\n')
    ran = runner.run(os.fsdecode(b"./caf\xe9"), os.fsdecode(b"\xff\xfe"), popen={"cwd": tmp_path}, **how)
    assert (ran.out, ran.returncode) == (b"\xff\xfe", 0)
    ran = runner.run(os.fsdecode(b"no\xe9"), **how)
    assert (ran.err, ran.returncode) == (b"capsule: no\xe9: command not found\n", 127)


def test_an_environment_with_an_entry_without_a_name_is_no_obstacle():
    pid = spawn.spawn(("true",), {b"": b"x", b"PATH": b"/bin:/usr/bin"}, descriptors=(), mask=())
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("set_by_user", [True, False])
def test_the_locale_that_python_adds_is_taken_out_again(runner, how, set_by_user):
    mine = {"LC_CTYPE": "C.UTF-8"} if set_by_user else {}
    environ = {"PATH": "/bin:/usr/bin", "LANG": "C", "B": "2", "A": "", **mine}
    ran = runner.run("env", popen={"env": environ}, **how)
    assert dict(line.split("=", 1) for line in ran.out.decode().splitlines()) == environ


def test_another_locale_is_left_alone():
    environ = {b"LC_CTYPE": b"de_DE.UTF-8", b"A": b"1"}
    child = spawn.child_environment(environ)
    assert child == environ
    assert child is not environ
