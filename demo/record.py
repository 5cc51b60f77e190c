"""The second demo: pi is calculated and drawn, recorded each time, and two of the runs are compared.

The project is examples/, copied into build/demo/pi, with matplotlib in a virtual environment of its own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from stage import HERE, SCRATCH, clear, note, shell, title

WORK = SCRATCH / "pi"
VENV = SCRATCH / "venv"
EXAMPLES = HERE.parent / "examples"
GIT = "git -c user.name=demo -c user.email=demo@localhost -c init.defaultBranch=main"


def install() -> None:
    """The example's environment: matplotlib, and this version of capsula."""
    pip = [VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    if not (VENV / "bin" / "python").exists():
        note("making a virtual environment with matplotlib ...")
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    wheels = SCRATCH / "wheel"
    clear(wheels)
    build = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel", "--no-deps"]
    subprocess.run([*build, "--no-build-isolation", "-w", wheels, HERE.parent], check=True)
    subprocess.run([*pip, "install", "-r", EXAMPLES / "requirements.txt"], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--force-reinstall", *wheels.iterdir()], check=True)
    os.environ["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"


def prepare() -> None:
    """A project in git, with everything committed."""
    clear(WORK, SCRATCH / "home")
    for name in (
        ".gitignore",
        "capsula.toml",
        "requirements.txt",
        *(path.name for path in EXAMPLES.glob("*.py")),
    ):
        shutil.copy(EXAMPLES / name, WORK)
    for words in ("init --quiet", "add .", "commit --quiet -m 'calculate pi'"):
        subprocess.run(f"{GIT} {words}", shell=True, cwd=WORK, check=True)


def capsules() -> list[Path]:
    """Oldest first."""
    found = list(WORK.glob("vault/*/capsule.json"))
    return [path.parent for path in sorted(found, key=lambda path: json.loads(path.read_text())["id"])]


def is_recorded(count: int, figure: str) -> None:
    """Checks that so many runs are recorded, and that the last one has drawn what it should."""
    found = capsules()
    if len(found) != count:
        sys.exit(f"demo: {len(found)} capsules, and should be {count}")
    if (found[-1] / figure).read_bytes()[:8] != b"\x89PNG\r\n\x1a\n":
        sys.exit(f"demo: {figure} is no figure")


def main() -> None:
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    install()
    prepare()

    title("Record a run: a command, as it is, behind `capsula monitor`")
    shell("capsula monitor -i calculate-pi-cli python calculate_pi_cli.py -n 1000000 --seed 1", WORK)
    is_recorded(1, "pi_cli.png")
    shell("ls vault/*/", WORK)

    title("Change something, and forget about it")
    shell("sed -i.bak 's/<= 1$/< 0.99/' calculate_pi.py && rm calculate_pi.py.bak", WORK)
    shell("capsula monitor -i calculate-pi-cli python calculate_pi_cli.py -n 1000000 --seed 1", WORK)
    is_recorded(2, "pi_cli.png")

    title("Which of them was it? What differs, and what came of it")
    shell("capsula diff", WORK)
    shell("git checkout --quiet calculate_pi.py", WORK)

    title("A function of Python, each call of it")
    shell("sed -n '/^@capsula/,/^def/p' calculate_pi_dec.py", WORK)
    shell("python calculate_pi_dec.py", WORK)
    is_recorded(3, "pi_dec.png")

    title("What there is")
    shell("capsula list", WORK)
    shell("capsula show", WORK)
    shell("capsula show --verify", WORK)
    note(f"\nThe capsules, and the figures in them, are in {WORK / 'vault'}.")


if __name__ == "__main__":
    main()
