"""What the demos have in common: they show a command and run it, in a directory and with a home of their own."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRATCH = HERE.parent / "build" / "demo"
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def title(text: str) -> None:
    print("\n" + (f"\033[1m{text}\033[0m" if COLOUR else text), flush=True)


def note(text: str) -> None:
    print(f"\033[2m{text}\033[0m" if COLOUR else text, flush=True)


def shell(command: str, work: Path) -> float:
    """Shows a command and runs it; answers the seconds that it took."""
    print("$ " + (f"\033[36m{command}\033[0m" if COLOUR else command), flush=True)
    started = time.perf_counter()
    done = subprocess.run(command, shell=True, cwd=work, env=environment())
    took = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"demo: that command failed with exit code {done.returncode}")
    return took


def seconds(took: float) -> str:
    return f"{took:.1f} s" if took >= 1 else f"{took * 1000:.0f} ms"


def environment() -> dict[str, str]:
    """The caller's, with a home and a store of the demo's own, and without settings of the caller's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CAPSULE", "CAPSULA", "XDG_"))
    }
    return kept | {"HOME": str(SCRATCH / "home"), "XDG_CACHE_HOME": str(SCRATCH / "cache")}


def clear(*places: Path) -> None:
    for old in places:
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir(parents=True)
