"""`%%capsula` and `%capsula`, in a real IPython shell and through a real kernel."""

import atexit
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.manager import KernelManager
from traitlets.config import Config

import capsula
from capsula.api import current

SRC = str(Path(capsula.__file__).parents[1])


@pytest.fixture
def shell(project: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(project.root / "ipython"))
    config = Config()
    config.HistoryManager.enabled = False
    made = InteractiveShell(config=config)
    made.run_line_magic("load_ext", "capsula")
    yield made
    made.run_line_magic("unload_ext", "capsula")
    atexit.unregister(made.atexit_operations)
    current._context.set(None)


def test_a_cell_is_recorded_and_runs_as_without_the_magic(project: Any, shell: Any, capsys: Any) -> None:
    result = shell.run_cell("%%capsula first look\nx = 20\nprint('told')\nx + 1\n", store_history=True)
    assert result.success
    assert result.result == 21
    assert capsys.readouterr().out.startswith("told\n")
    assert shell.user_ns["x"] == 20
    record = project.read()
    assert (record["kind"], record["command"], record["status"]) == ("cell", "first look", "finished")
    before, after = project.read("pre-run-info.json"), project.read("post-run-info.json")
    assert before["cell"] == "x = 20\nprint('told')\nx + 1\n"
    assert after["execution_count"] == 1
    assert after["stdout"].startswith("told\n")
    assert after["return_value"] == 21
    assert (project.capsules()[0] / "stdout.txt").read_text().startswith("told\n")


def test_an_exception_in_a_cell_is_recorded_and_shown_once(project: Any, shell: Any, capsys: Any) -> None:
    result = shell.run_cell("%%capsula\nprint('before')\n1 / 0\n")
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert capsys.readouterr().out.count("ZeroDivisionError") <= 2  # the head and the end of one traceback
    assert project.read()["status"] == "failed"
    told = project.read("post-run-info.json")["exception_info"]
    assert told["exc_type"] == "ZeroDivisionError"
    assert "interactiveshell" not in told["traceback"]
    assert "1 / 0" in told["traceback"]
    assert result.error_in_exec.__traceback__.tb_next.tb_lineno == 3


def test_a_cell_that_cannot_be_compiled_is_recorded(project: Any, shell: Any) -> None:
    assert isinstance(shell.run_cell("%%capsula\nif:\n").error_before_exec, SyntaxError)
    assert project.read()["status"] == "failed"


def test_await_at_the_top_of_a_cell_works(project: Any, shell: Any) -> None:
    source = "import asyncio\nawait asyncio.sleep(0)\nimport capsula\ncapsula.record('x', 1)\n5"
    result = shell.run_cell(f"%%capsula\n{source}")
    assert result.success, result
    assert result.result == 5
    assert project.read()["metrics"] == {"x": 1}


def test_cells_without_the_magic_are_not_recorded(project: Any, shell: Any) -> None:
    for source in ("1", "%%capsulas\n1", "x = '%%capsula'", "%%time\n1"):
        shell.run_cell(source)
    assert project.capsules() == []


def test_the_items_of_a_cell(project: Any, shell: Any) -> None:
    Path("capsula.toml").write_text(
        "[monitor]\ncapture = false\n[monitor.item.plot.files]\n'made' = {hash = 'sha256', copy = true}\n"
    )
    shell.run_cell("%%capsula -i plot a name\nfrom pathlib import Path\nPath('made').write_text('x')")
    shell.run_cell("%%capsula another -iplot\n1")
    first, second = project.read(at=0), project.read(at=1)
    assert (first["command"], first["items"]) == ("a name", ["plot"])
    assert (second["command"], second["items"]) == ("another", ["plot"])
    assert (project.capsules()[0] / "made").read_text() == "x"


@pytest.mark.parametrize("head", ["%%capsula -x", "%%capsula -i", "%%capsula --item=x"])
def test_a_wrong_option_is_refused_and_the_cell_does_not_run(
    project: Any, shell: Any, head: str, capsys: Any
) -> None:
    result = shell.run_cell(f"{head}\nopen('made', 'w')")
    assert not result.success
    assert not Path("made").exists()
    assert "%%capsula [NAME]" in "".join(capsys.readouterr())
    assert project.capsules() == []


def test_other_magics_work_within_and_around(project: Any, shell: Any) -> None:
    assert shell.run_cell("%%capsula timed\n%%time\nx = 1\n").success
    assert project.read()["command"] == "timed"
    assert shell.run_cell("%%capture held\n%%capsula inside\nprint('held')\n").success
    assert project.read()["command"] == "inside"
    assert project.read("post-run-info.json")["stdout"] == "held\n"
    assert shell.user_ns["held"].stdout == "held\n"
    assert len(project.capsules()) == 2


def test_a_statement_is_recorded_and_gives_its_value(project: Any, shell: Any) -> None:
    shell.run_cell("def f(x):\n    print('told')\n    return x + 1\n")
    shell.run_cell("y = %capsula f(1)")
    assert shell.user_ns["y"] == 2
    assert project.read()["command"] == "f(1)"
    assert project.read("post-run-info.json")["stdout"] == "told\n"
    shell.run_cell("%capsula z = f(2)")
    assert shell.user_ns["z"] == 3
    result = shell.run_cell("%capsula 1 / 0")
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert project.read()["status"] == "failed"
    assert shell.run_cell("%capsula").result == str(project.capsules()[-1])


def test_nothing_of_the_streams_is_left_changed(project: Any, shell: Any) -> None:
    before = {name: dict(vars(getattr(sys, name))) for name in ("stdout", "stderr")}
    out = sys.stdout
    shell.run_cell("%%capsula\nimport sys, io\nkept = sys.stdout\nprint('x', file=sys.stderr)")
    assert {name: dict(vars(getattr(sys, name))) for name in ("stdout", "stderr")} == before
    assert shell.user_ns["kept"] is out
    assert project.read("post-run-info.json")["stderr"] == "x\n"


def test_credentials_that_a_cell_has_or_prints_are_left_out(
    project: Any, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = "canary7canary7"
    monkeypatch.setenv("MY_TOKEN", word)
    shell.run_cell(f"%%capsula\nprint('{word}')\n'{word}'")
    for path in project.capsules()[0].iterdir():
        assert word not in path.read_text(), path


def test_loading_twice_and_unloading_leave_one_and_none(project: Any, shell: Any) -> None:
    shell.run_line_magic("reload_ext", "capsula")
    capsula.load_ipython_extension(shell)
    shell.run_cell("%%capsula\n1")
    assert len(project.capsules()) == 1
    capsula.unload_ipython_extension(shell)
    assert not shell.run_cell("%%capsula\n1").success
    capsula.load_ipython_extension(shell)
    assert len(project.capsules()) == 1


def test_a_terminal_waits_for_the_end_of_the_cell(shell: Any) -> None:
    for name in ("%%capsula", "%%time"):
        check = shell.input_transformer_manager.check_complete
        assert check(f"{name}\n") == check(f"{name}\nx = 1") == ("incomplete", 0)
        assert check(f"{name}\nx = 1\n\n")[0] == "complete"


@pytest.fixture
def kernel(project: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(project.root / name.lower()))
    env = {**os.environ, "PYTHONPATH": SRC, "MPLBACKEND": "agg"}
    # Through sockets with names: ports that were free a moment ago may be taken when the kernel gets to them.
    with tempfile.TemporaryDirectory() as place:  # whose names may not be long
        manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{place}/k")
        manager.start_kernel(cwd=str(project.root), env=env)
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=200)
            yield client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def ask(client: Any, source: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    messages: list[dict[str, Any]] = []
    reply = client.execute_interactive(source, timeout=200, output_hook=messages.append, allow_stdin=False)
    return reply["content"], messages


def test_a_real_kernel_records_cells(project: Any, kernel: Any) -> None:
    assert ask(kernel, "%load_ext capsula")[0]["status"] == "ok"
    source = """%%capsula train
import capsula, asyncio
from IPython.display import display, SVG
for step in range(3):
    capsula.record("loss", 1 / (step + 1), step)
print("told")
await asyncio.sleep(0)
await asyncio.to_thread(capsula.record, "thread", 1)
display(SVG("<svg xmlns='http://www.w3.org/2000/svg'/>"))
capsula.current().id
"""
    reply, messages = ask(kernel, source)
    assert reply["status"] == "ok", reply
    streams = [m["content"]["text"] for m in messages if m["msg_type"] == "stream"]
    assert "".join(streams) == "told\n"
    (result,) = [m["content"]["data"]["text/plain"] for m in messages if m["msg_type"] == "execute_result"]
    record = project.read()
    assert record["id"] in result
    assert record["metrics"] == {"loss": 1 / 3, "thread": 1}
    before, after = project.read("pre-run-info.json"), project.read("post-run-info.json")
    assert before["cell"].startswith("import capsula")
    assert after["execution_count"] == reply["execution_count"]
    assert after["stdout"] == "told\n"
    assert after["return_value"] == record["id"]
    (display,) = after["displays"]
    assert (project.capsules()[0] / display["files"][0]).read_text().startswith("<svg")
    reply, _ = ask(kernel, "%%capsula\n1 / 0")
    assert (reply["status"], reply["ename"]) == ("error", "ZeroDivisionError")
    assert project.read()["status"] == "failed"
    assert ask(kernel, "import capsula; assert capsula.current() is None")[0]["status"] == "ok"
