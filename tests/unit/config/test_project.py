"""capsula.toml: every key of it, what it is when it isn't there, and how it is refused."""

import os
from pathlib import Path

import pytest

from capsula.config.project import FileRule, Item, find_project, read_project
from capsula.config.tables import KEYS
from capsula.errors import CapsulaError, ConfigError, UsageError

FULL = """
vault-directory = 'kept'
capsule-template = '%H'
[capture]
include-cpu = false
pre-capture-commands = ['a', 'b']
environment_variables = ['HOME']
other-variables = false
keep = ['MY_TOKEN']
[capture.files]
"pyproject.toml" = { hash = "sha256", copy = true }
"requirements.txt" = { hash = "SHA-256", move = true }
"bare" = "md5"
"neither" = {}
[capture.git.repositories]
"name" = '.'
[capture.commands]
gpu = 'nvidia-smi'
[monitor]
capture = false
[monitor.item.plot.files]
"out.png" = { hash = "sha3-512" }
[monitor.item.plot.inputs]
"in.csv" = "sha256"
[monitor.item."other.one"]
"""


def project(tmp_path: Path, text: str):
    (tmp_path / "capsula.toml").write_text(text)
    return read_project(str(tmp_path))


def test_every_key_is_read(tmp_path: Path) -> None:
    found = project(tmp_path, FULL)
    assert (found.vault, found.capsule_template) == (f"{tmp_path}/kept", "%H")
    capture = found.capture
    assert (capture.include_cpu, capture.others, capture.keep) == (False, False, ("MY_TOKEN",))
    assert (capture.pre_capture_commands, capture.environment_variables) == (("a", "b"), ("HOME",))
    assert capture.files == (
        FileRule("pyproject.toml", "sha256", copy=True),
        FileRule("requirements.txt", "sha256", move=True),
        FileRule("bare", "md5"),
        FileRule("neither"),
    )
    assert (capture.repositories, capture.commands) == ((("name", "."),), (("gpu", "nvidia-smi"),))
    assert found.monitor.capture is False
    assert found.monitor.items == {
        "plot": Item("plot", (FileRule("out.png", "sha3_512"),), (FileRule("in.csv", "sha256"),)),
        "other.one": Item("other.one"),
    }


@pytest.mark.parametrize("text", ["", None])
def test_without_keys_or_without_a_file_there_are_good_defaults(tmp_path: Path, text: str | None) -> None:
    found = read_project(str(tmp_path)) if text is None else project(tmp_path, text)
    assert (found.vault, found.capsule_template) == (f"{tmp_path}/vault", "%Y%m%d_%H%M%S")
    assert found.capture.include_cpu
    assert found.monitor.capture
    assert found.capture.repositories == ()
    (tmp_path / ".git").mkdir()
    assert read_project(str(tmp_path)).capture.repositories == ((tmp_path.name, "."),)
    assert project(tmp_path, "[capture.git]\nrepositories = {}\n").capture.repositories == ()


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("vault-director = 'x'", ":1: vault-director: there is no such key", "vault-directory"),
        ("[capture]\ninclude-gpu = true", ":2: include-gpu: there is no such key", "include-cpu"),
        ("[captur]\n", ":1: captur: there is no such key", "capture"),
        ("[monitor.item.x]\nfile = 1", ":2: file: there is no such key", "files"),
        ("[capture.git]\nrepos = 1", ":2: repos: there is no such key", "repositories"),
        ("vault-directory = 1", "expected a string", ""),
        ("[capture]\ninclude-cpu = 'yes'", "expected true or false", ""),
        ("[capture]\nkeep = [1]", "expected an array of strings", ""),
        ("[capture.files]\na = {copy = true, move = true}", ":2: a: copy and move together", ""),
        ("[capture.files]\na = {hash = 'md7'}", "there is no hash md7", "sha256"),
        ("[capture.files]\na = {hash = 'shake_512'}", "there is no hash shake_512", ""),
        ("[capture.files]\na = {mode = 1}", "there is no mode of a file", "hash, copy or move"),
        ("[capture.files]\na = {copy = 1}", "copy: expected true or false", ""),
        ("[capture.files]\na = 1", "expected {", ""),
        ("[capture.files]\n'' = 'md5'", "an empty path", ""),
        ("[capture.files]\n'../a' = {move = true}", "only what is below the root", "copy"),
        ("[capture.git.repositories]\na = 1", "expected a string", ""),
        ("[monitor.item]\na = 1", "expected a table", ""),
        ("capsule-template = 'a/b'", "not a name for a directory", "%Y"),
        ("x =", "not valid TOML", ""),
    ],
)
def test_what_is_wrong_is_refused_by_file_line_and_key(
    tmp_path: Path, text: str, what: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        project(tmp_path, text)
    assert what in refused.value.what
    assert refused.value.what.startswith(f"{tmp_path}/capsula.toml")
    assert hint in refused.value.hint


def test_the_project_is_the_nearest_parent_that_has_the_file(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "a" / ".git").mkdir()
    assert find_project(None, str(below)).root == str(tmp_path / "a")
    (tmp_path / "capsula.toml").touch()
    assert find_project(None, str(below)).root == str(tmp_path)
    assert find_project("a", str(tmp_path)).root == str(tmp_path / "a")
    assert find_project(str(below), "/").file is None
    with pytest.raises(UsageError):
        find_project("nowhere", str(tmp_path))


def test_every_key_is_known_once_and_has_a_default_of_its_type() -> None:
    assert len({(key.section, key.name) for key in KEYS}) == len(KEYS)
    for key in KEYS:
        assert key.default is None or isinstance(key.default, key.type)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "capsula.toml").write_bytes(b"\xff")
    with pytest.raises(CapsulaError, match="UTF-8"):
        read_project(str(tmp_path))
    assert os.path.isfile(tmp_path / "capsula.toml")
