"""The machine: what the `platform` module says of it, as a recorder of runs has always written it down, and what else
tells one host from another. No process is started but the graphics card's own tool, where there is one."""

from __future__ import annotations

import locale
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from capsula.core.found import Found
from capsula.probe.cpu import cpu_block

if TYPE_CHECKING:
    from capsula.core.found import Value

_GPU_SECONDS = 1.0
_GPU = ("--query-gpu=name,driver_version,memory.total,uuid", "--format=csv,noheader")
# A variable that a service sets, and the service.
_CI = {
    "GITHUB_ACTIONS": "GitHub Actions", "GITLAB_CI": "GitLab CI", "JENKINS_URL": "Jenkins", "BUILDKITE": "Buildkite",
    "CIRCLECI": "CircleCI", "TF_BUILD": "Azure Pipelines", "TRAVIS": "Travis CI", "TEAMCITY_VERSION": "TeamCity",
    "CI": "unknown",
}  # fmt: skip
_SCHEDULERS = {
    "SLURM_JOB_ID": "Slurm", "PBS_JOBID": "PBS", "LSB_JOBID": "LSF", "SGE_TASK_ID": "Grid Engine",
    "FLUX_JOB_ID": "Flux",
}  # fmt: skip
_LIMITS = {
    "open_files": resource.RLIMIT_NOFILE, "stack": resource.RLIMIT_STACK, "address_space": resource.RLIMIT_AS,
    "core": resource.RLIMIT_CORE, "cpu_seconds": resource.RLIMIT_CPU,
}  # fmt: skip


class HostProbe:
    name = "host"

    def __init__(self, include_cpu: bool, environ: Mapping[str, str]) -> None:
        self._include_cpu = include_cpu
        self._environ = environ

    def read(self) -> Found:
        sections: dict[str, Value] = {"platform": _platform(), "host": self._host()}
        if self._include_cpu:
            sections["cpu"] = cpu_block()
        return Found(sections, keys=("platform",))

    def _host(self) -> dict[str, Value]:
        environ = self._environ
        return {
            "os_release": _os_release(),
            "libc": " ".join(platform.libc_ver()).strip() or None,
            "memory_bytes": _memory(),
            "gpu": _gpus(environ),
            "container": _container(environ),
            "ci": next((name for variable, name in _CI.items() if environ.get(variable)), None),
            "scheduler": next(
                (name for variable, name in _SCHEDULERS.items() if environ.get(variable)), None
            ),
            "locale": {
                name: environ[name] for name in sorted(environ) if name == "LANG" or name.startswith("LC_")
            },
            "encoding": locale.getpreferredencoding(False),
            "timezone": {"TZ": environ.get("TZ"), "name": time.strftime("%Z"), "offset": time.strftime("%z")},
            "umask": _umask(),
            "limits": {name: list(resource.getrlimit(which)) for name, which in _LIMITS.items()},
            "hash_seed": environ.get("PYTHONHASHSEED"),
        }


def _platform() -> dict[str, Value]:
    seen = platform.uname()
    bits, linkage = platform.architecture(bits="64bit" if sys.maxsize > 2**32 else "32bit", linkage="ELF")
    build_no, build_date = platform.python_build()
    return {
        "machine": seen.machine,
        "node": seen.node,
        "platform": platform.platform(),
        "release": seen.release,
        "version": seen.version,
        "system": seen.system,
        # platform.processor() starts a program to ask; on Linux the answer is this, or nothing.
        "processor": seen.machine,
        "python": {
            "executable_architecture": {"bits": bits, "linkage": linkage},
            "build_no": build_no,
            "build_date": build_date,
            "compiler": platform.python_compiler(),
            "branch": platform.python_branch(),
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
        },
    }


def _os_release() -> Value:
    try:
        return dict(platform.freedesktop_os_release())
    except OSError:
        return None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _gpus(environ: Mapping[str, str]) -> Value:
    tool = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, *_GPU], capture_output=True, stdin=subprocess.DEVNULL, timeout=_GPU_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {"error": f"nvidia-smi: {error}"}
    return [
        line.strip() for line in done.stdout.decode("utf-8", "backslashreplace").splitlines() if line.strip()
    ]


def _container(environ: Mapping[str, str]) -> str | None:
    for path, kind in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if os.path.exists(path):
            return kind
    return environ.get("container") or environ.get("SINGULARITY_NAME") or environ.get("APPTAINER_NAME")


def _umask() -> str | None:
    """Linux tells it without its being set."""
    try:
        for line in Path("/proc/self/status").read_text().split("\n"):
            if line.startswith("Umask:"):
                return line.split()[1]
    except OSError:
        pass
    return None
