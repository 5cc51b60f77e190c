"""The peers: how each is installed, set up for the reference work, and run in its fastest honest form.

Where a tool can be started in several ways we time the quickest that its users have (the native program, not the
Node shim in front of it; wireit without npm), so that a ratio here is never owed to a wrapper.
"""

import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from measure import Command, CommandFailed, talk
from tools import Place, Tool, Unavailable


def _found(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"{name} is not installed")
    return os.path.realpath(path)


def _by_machine(**names: str) -> str:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in names:
        raise Unavailable(f"no build of it for {sys.platform} on {machine} is known here")
    return names[machine]


def from_npm(*packages: Callable[[], str]) -> Callable[[Path], None]:
    def install(folder: Path) -> None:
        wanted = [package() for package in packages]
        npm = shutil.which("npm")
        if npm is None:
            raise Unavailable("npm is not installed")
        # No install scripts: nothing of these packages runs before it is measured, and none needs them.
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
        talk((npm, "install", "--prefix", str(folder), *options, *wanted), folder, os.environ)

    return install


def from_pypi(requirement: str) -> Callable[[Path], None]:
    def install(folder: Path) -> None:
        talk((os.path.realpath(sys.executable), "-m", "venv", str(folder)), folder, os.environ)
        pip = (
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        )
        talk((*pip, requirement), folder, os.environ)

    return install


def _shell(place: Place) -> str:
    return shlex.join(place.task)


def _json(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"


# --- turbo ---------------------------------------------------------------------------------------------------------

TURBO_VERSION = "2.11.11"


def set_up_turbo(place: Place) -> Command:
    package = {"name": "p", "version": "1.0.0", "scripts": {"build": _shell(place)}}
    workspace = {"name": "ws", "private": True, "packageManager": "npm@10.0.0", "workspaces": ["packages/*"]}
    lock = {
        "name": "ws",
        "lockfileVersion": 3,
        "requires": True,
        "packages": {
            "": {"name": "ws", "workspaces": ["packages/*"]},
            "node_modules/p": {"resolved": "packages/p", "link": True},
            "packages/p": {"version": "1.0.0"},
        },
    }
    place.write("package.json", _json(workspace))
    place.write("package-lock.json", _json(lock))
    place.write("packages/p/package.json", _json(package))
    place.write("turbo.json", _json({"tasks": {"build": {"inputs": ["src/**"], "outputs": ["dist/**"]}}}))
    name = _by_machine(x86_64="linux-64", aarch64="linux-arm64")
    turbo = place.installed("turbo") / "node_modules/@turbo" / name / "bin/turbo"
    quiet = {"TURBO_TELEMETRY_DISABLED": "1", "TURBO_NO_UPDATE_NOTIFIER": "1"}
    argv = (str(turbo), "run", "build", "--output-logs=hash-only", "--ui=stream")
    return Command(argv, place.workspace, place.environment(**quiet))


# --- mise ----------------------------------------------------------------------------------------------------------

MISE_VERSION = "2026.9.15"


def _mise_package() -> str:
    return _by_machine(x86_64="@jdxcode/mise-linux-x64", aarch64="@jdxcode/mise-linux-arm64")


def set_up_mise(place: Place) -> Command:
    place.write(
        "mise.toml",
        "[settings]\nexperimental = true\n\n"
        f"[tasks.build]\nrun = {json.dumps(_shell(place))}\n"
        'sources = ["src/**/*"]\noutputs = ["dist"]\ncache = { enabled = true }\n',
    )
    folders = {
        f"MISE_{name}_DIR": str(place.base / f"mise-{name.lower()}")
        for name in ("TASK_CACHE", "DATA", "CACHE", "STATE")
    }
    quiet = {
        "MISE_OFFLINE": "1",
        "MISE_TRUSTED_CONFIG_PATHS": str(place.scratch),
        # Without this it would also read what lies above the scratch folder.
        "MISE_CEILING_PATHS": str(place.base),
    }
    mise = place.installed("mise") / "node_modules" / _mise_package() / "bin/mise"
    return Command((str(mise), "run", "build"), place.workspace, place.environment(**folders, **quiet))


# --- moon ----------------------------------------------------------------------------------------------------------

MOON_VERSION = "2.5.5"


def set_up_moon(place: Place) -> Command:
    place.write(".moon/workspace.yml", "projects: ['p']\ntelemetry: false\nversionConstraint: '>=2.0.0'\n")
    place.write(
        "p/moon.yml",
        "language: 'python'\ntasks:\n  build:\n"
        f"    command: {json.dumps(_shell(place))}\n    inputs: ['src/**/*']\n    outputs: ['dist']\n",
    )
    name = _by_machine(x86_64="core-linux-x64-gnu", aarch64="core-linux-arm64-gnu")
    moon = place.installed("moon") / "node_modules/@moonrepo" / name / "moon"
    return Command((str(moon), "run", "p:build"), place.workspace, place.environment(MOON_TELEMETRY="false"))


# --- nx ------------------------------------------------------------------------------------------------------------

NX_VERSION = "24.0.6"


def _nx(place: Place) -> tuple[str, str]:
    return _found("node"), str(place.workspace / "node_modules/nx/dist/bin/nx.js")


def _nx_environment(place: Place, daemon: str) -> dict[str, str]:
    return place.environment(NX_NO_CLOUD="true", NX_TUI="false", NX_DAEMON=daemon)


def _set_up_nx(place: Place, daemon: str) -> Command:
    place.write("package.json", _json({"name": "ws", "private": True, "version": "0.0.0"}))
    place.write("nx.json", _json({"neverConnectToCloud": True, "analytics": False}))
    build = {
        "executor": "nx:run-commands",
        "cache": True,
        "inputs": ["{projectRoot}/src/**/*"],
        "outputs": ["{projectRoot}/dist"],
        "options": {"command": _shell(place), "cwd": "p"},
    }
    place.write("p/project.json", _json({"name": "p", "root": "p", "targets": {"build": build}}))
    (place.workspace / "node_modules").symlink_to(place.installed("nx") / "node_modules")
    return Command((*_nx(place), "run", "p:build"), place.workspace, _nx_environment(place, daemon))


def set_up_nx(place: Place) -> Command:
    return _set_up_nx(place, "false")


def set_up_nx_with_daemon(place: Place) -> Command:
    return _set_up_nx(place, "true")


def stop_nx_daemon(place: Place) -> None:
    """Asks nx to end the daemon of this one workspace; it knows the process by the id that it wrote there."""
    try:
        talk((*_nx(place), "daemon", "--stop"), place.workspace, _nx_environment(place, "true"), seconds=60)
    except CommandFailed as error:
        print(f"  nx's daemon was not stopped: {error}", file=sys.stderr)


# --- wireit --------------------------------------------------------------------------------------------------------

WIREIT_VERSION = "0.14.13"


def set_up_wireit(place: Place) -> Command:
    script = {"command": _shell(place), "files": ["src/**"], "output": ["dist/**"]}
    package = {"name": "ws", "private": True, "version": "0.0.0", "scripts": {"build": "wireit"}}
    place.write("package.json", _json({**package, "wireit": {"build": script}}))
    (place.workspace / "node_modules").symlink_to(place.installed("wireit") / "node_modules")
    # What npm would set for it; npm's own start, which its users also pay, is left out in its favour.
    as_npm = {
        "npm_package_json": str(place.workspace / "package.json"),
        "npm_lifecycle_event": "build",
        "npm_execpath": _found("npm"),
        "npm_config_user_agent": "npm/10.0.0 node/v20",
    }
    argv = (_found("node"), str(place.workspace / "node_modules/wireit/bin/wireit.js"))
    return Command(argv, place.workspace, place.environment(**as_npm))


# --- go-task -------------------------------------------------------------------------------------------------------

GO_TASK_VERSION = "3.54.0"


def set_up_go_task(place: Place) -> Command:
    place.write(
        "Taskfile.yml",
        "version: '3'\ntasks:\n  build:\n    sources: ['src/**/*.txt']\n    generates: ['dist/**/*.txt']\n"
        f"    method: checksum\n    cmds: [{json.dumps(_shell(place))}]\n",
    )
    return Command(
        (str(place.installed("go-task") / "bin/task"), "build"), place.workspace, place.environment()
    )


# --- dvc -----------------------------------------------------------------------------------------------------------

DVC_VERSION = "3.67.1"


def set_up_dvc(place: Place) -> Command:
    dvc = str(place.installed("dvc") / "bin/dvc")
    env = place.environment(DVC_NO_ANALYTICS="1", DVC_SITE_CACHE_DIR=str(place.base / "dvc-site"))
    talk((dvc, "init", "-q"), place.workspace, env)
    for key, value in (
        ("core.analytics", "false"),
        ("core.check_update", "false"),
        ("cache.type", "reflink,copy"),
    ):
        talk((dvc, "config", key, value), place.workspace, env)
    talk(
        (dvc, "stage", "add", "-q", "-n", "build", "-d", "src", "-o", "dist", _shell(place)),
        place.workspace,
        env,
    )
    return Command((dvc, "repro"), place.workspace, env)


PEERS = (
    Tool(
        "turbo", TURBO_VERSION, from_npm(lambda: f"turbo@{TURBO_VERSION}"), set_up_turbo, project="packages/p"
    ),
    Tool(
        "mise",
        MISE_VERSION,
        from_npm(lambda: f"{_mise_package()}@{MISE_VERSION}"),
        set_up_mise,
        footnote="its A compares times of modification and does no look-up in its cache",
    ),
    Tool("moon", MOON_VERSION, from_npm(lambda: f"@moonrepo/cli@{MOON_VERSION}"), set_up_moon, project="p"),
    Tool(
        "nx",
        NX_VERSION,
        from_npm(lambda: f"nx@{NX_VERSION}"),
        set_up_nx,
        project="p",
        footnote="without its daemon",
    ),
    Tool(
        "nx-daemon",
        NX_VERSION,
        from_npm(lambda: f"nx@{NX_VERSION}"),
        set_up_nx_with_daemon,
        folder="nx",
        project="p",
        footnote="with its daemon, started before the timing",
        clean_up=stop_nx_daemon,
    ),
    Tool(
        "wireit",
        WIREIT_VERSION,
        from_npm(lambda: f"wireit@{WIREIT_VERSION}"),
        set_up_wireit,
        footnote="started without npm, whose own start its users pay as well",
    ),
    Tool(
        "go-task",
        GO_TASK_VERSION,
        from_pypi(f"go-task-bin=={GO_TASK_VERSION}"),
        set_up_go_task,
        restores=False,
        footnote="skips what is up to date; has no way to restore, so no B",
    ),
    Tool("dvc", DVC_VERSION, from_pypi(f"dvc=={DVC_VERSION}"), set_up_dvc),
)
