"""Watching a command: what the recorder itself holds isn't the command's."""

import subprocess
import sys

# Grows after it has been made ready, and before the command is started.
CODE = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from capsula.execute.process import run_command
from capsula.execute.watch import Watch
watch = Watch()
held = b"x" * (64 << 20)
outcome = run_command(("true",), dict(os.environb), spool_dir=None, capture=(False, False), watch=watch)
used = watch.resources(outcome)
print(used["largest_process"], *used["unknown"])
"""


def test_what_the_recorder_held_at_its_start_is_not_the_largest_process() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("None the largest process: no more than the "), done.stdout
