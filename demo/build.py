"""The demo: jq, a well-known C program, is built in a capsule, and from then on fetched instead of built.

Everything happens in build/demo, with a store and a home directory of its own. The source comes from the package
registry that pip uses, pinned by version and SHA-256.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from stage import HERE, SCRATCH, clear, note, seconds, shell, title

DOWNLOADS = SCRATCH / "downloads"
WORK = SCRATCH / "work"

PACKAGE = "jq==1.13.0"  # Python's binding to jq: its source distribution carries jq's own release
SDIST = DOWNLOADS / "jq-1.13.0.tar.gz"
SHA256 = "e62bdddeab3b8a0a404581a7bb6f1e8c4cc6082280870031f746074f4cac52c0"
RELEASE = "jq-1.13.0/deps/jq-1.8.2.tar.gz"

CAPSULE = "capsule -i jq-1.8.2 -i build.sh -o out"
RUN = f"{CAPSULE} -- ./build.sh"

summary: list[tuple[str, bool, float]] = []


def capsule(what: str, command: str, *, builds: bool) -> None:
    """Runs a capsule, and checks by the build's own log that it was or wasn't built."""
    before = times_built()
    took = shell(command, WORK)
    built = times_built() > before
    if built:
        note(f"  built in {seconds(took)}")
    else:
        note(f"  fetched in {seconds(took)}, not built in {seconds(summary[0][2])}")
    if built != builds:
        sys.exit(
            f"demo: it was {'' if built else 'not '}built, and should{' not' if built else ''} have been"
        )
    if not os.access(WORK / "out" / "bin" / "jq", os.X_OK):
        sys.exit("demo: out/bin/jq is missing")
    summary.append((what, built, took))


def times_built() -> int:
    log = WORK / "builds.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def is_right(path: Path) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256


def download() -> None:
    """The source distribution, once; pip asks its build backend for metadata, which takes some seconds."""
    if is_right(SDIST):
        return
    note(f"fetching the source of {PACKAGE} ...")
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    SDIST.unlink(missing_ok=True)
    pinned = DOWNLOADS / "requirements.txt"
    pinned.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
    done = subprocess.run(
        [*pip, "--no-binary", "jq", "--require-hashes", "-r", pinned, "-d", DOWNLOADS],
        capture_output=True,
        text=True,
    )
    if not is_right(SDIST):
        sys.exit(f"demo: can't fetch {PACKAGE} with SHA-256 {SHA256}\n{done.stdout}{done.stderr}")


def prepare() -> None:
    """A fresh work directory with jq's source and the build script; an empty store."""
    clear(WORK, SCRATCH / "cache", SCRATCH / "home")
    with tarfile.open(SDIST) as sdist:
        release = sdist.extractfile(RELEASE)
        assert release is not None
        with tarfile.open(fileobj=release) as source:
            source.extractall(WORK, filter="tar")
    shutil.copy(HERE / "build.sh", WORK)
    (WORK / "capsula.toml").touch()  # marks the root of the workspace, so that paths are told from here


def main() -> None:
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    download()
    prepare()

    title("1  Build jq in a capsule: what it reads, what it makes, and the command as it is")
    capsule("first build", RUN, builds=True)

    title("2  Again: nothing has changed, nothing is done")
    capsule("again", RUN, builds=False)

    title("3  Clean, and get it back")
    shell("rm -rf out", WORK)
    capsule("outputs deleted", RUN, builds=False)
    shell("echo '{\"capsule\": [1, 2, 3]}' | out/bin/jq -c '.capsule | map(. * .)'", WORK)

    title("4  Touch a file: times don't count, contents do")
    shell("touch jq-1.8.2/src/*.c", WORK)
    capsule("sources touched", RUN, builds=False)

    title("5  Change a file: a miss, and --explain says which")
    shell("echo 'def cube: . * . * .;' >> jq-1.8.2/src/builtin.jq", WORK)
    capsule("one file edited", f"{CAPSULE} --explain -- ./build.sh", builds=True)
    shell("out/bin/jq -n '3 | cube'", WORK)

    title("6  Undo it: the earlier result is still known")
    shell("sed -i.bak '/def cube/d' jq-1.8.2/src/builtin.jq && rm jq-1.8.2/src/builtin.jq.bak", WORK)
    capsule("edit undone", f"{CAPSULE} --explain -- ./build.sh", builds=False)

    title("7  What it was good for")
    shell("capsula history", WORK)
    shell("capsula cache stats", WORK)

    title("jq 1.8.2, built or fetched")
    slowest = max(took for _, _, took in summary)
    for what, built, took in summary:
        bar = "█" * max(1, round(40 * took / slowest))
        print(f"  {what:<16} {'built  ' if built else 'fetched'} {seconds(took):>8}  {bar}")
    note(f"\nAll of it is in {SCRATCH}; make demo starts over, rm -rf removes it.")


if __name__ == "__main__":
    main()
