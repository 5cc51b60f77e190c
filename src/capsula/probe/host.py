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

from capsula.core.found import Found, pointer
from capsula.probe import job
from capsula.probe.cpu import cpu_block

if TYPE_CHECKING:
    from capsula.core.found import Value

_GPU_SECONDS = 1.0
_GPU = ("--query-gpu=name,driver_version,memory.total,uuid", "--format=csv,noheader")
# All else is a note: names, what is derived, what changes by itself (the offset of a zone in spring).
_PLATFORM_KEYS = ("machine", "release", "version", "system", "python")
_HOST_KEYS = (
    *("os_release", "libc", "usable_cpus", "gpu_kernel", "locale", "encoding", "zone", "umask"),
    *("limits", "hash_seed"),
)
NVIDIA = Path("/proc/driver/nvidia")
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
        keys = [pointer("platform", name) for name in _PLATFORM_KEYS]
        keys += [pointer("host", name) for name in _HOST_KEYS]
        if self._include_cpu:
            cpu = cpu_block()
            sections["cpu"] = cpu
            # How fast it goes just now changes by itself.
            keys += [pointer("cpu", name) for name in cpu if not name.startswith("hz_actual")]
        return Found(sections, keys=tuple(keys))

    def _host(self) -> dict[str, Value]:
        environ = self._environ
        return {
            "os_release": _os_release(),
            "libc": " ".join(platform.libc_ver()).strip() or None,
            "memory_bytes": _memory(),
            "memory_limit_bytes": _memory_limit(),
            "usable_cpus": _usable_cpus(),
            "gpu_kernel": _gpu_kernel(NVIDIA),
            "gpu": _gpus(environ),
            "container": _container(environ),
            "ci": job.ci(environ),
            "scheduler": job.scheduler(environ),
            "locale": {
                name: environ[name] for name in sorted(environ) if name == "LANG" or name.startswith("LC_")
            },
            "encoding": locale.getpreferredencoding(False),
            "zone": environ.get("TZ") or _zone(),
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


def _memory_limit() -> int | None:
    """Of the control group, when there is one: in a container it is less than the machine has."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _text(path)
        if text.isdigit() and int(text) < 1 << 60:  # version 1 says "none" by a number near 2**63
            return int(text)
    return None


def _usable_cpus() -> int | None:
    """How many this process may run on: as many threads numeric libraries start."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _zone() -> str | None:
    try:
        return os.path.realpath("/etc/localtime").partition("zoneinfo/")[2] or _text("/etc/timezone") or None
    except OSError:
        return None


def _gpu_kernel(place: Path) -> Value:
    """What the driver says of itself and its cards: at once, where its tool may take seconds."""
    try:
        cards = sorted((place / "gpus").glob("*/information"))
    except OSError:
        return None
    version = _text(str(place / "version")).split("\n")[0].removeprefix("NVRM version:").strip()
    models: list[Value] = []
    for card in cards:
        facts = [line.partition(":") for line in _text(str(card)).split("\n")]
        models += [value.strip() for name, _, value in facts if name.strip() == "Model"]
    return {"driver": version, "models": models} if version or models else None


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
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    for path, kind in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if os.path.exists(path):
            return kind
    for variable, kind in (("APPTAINER_NAME", "apptainer"), ("SINGULARITY_NAME", "singularity")):
        if environ.get(variable):
            return f"{kind} {environ[variable]}"
    # systemd's convention, which most others follow.
    return environ.get("container") or _text("/run/systemd/container") or None


def _umask() -> str | None:
    """Linux tells it without its being set."""
    for line in _text("/proc/self/status").split("\n"):
        if line.startswith("Umask:"):
            return line.split()[1]
    return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
