"""The pages' links."""

import subprocess
import sys
from pathlib import Path


def test_every_link_between_the_pages_leads_somewhere() -> None:
    links = Path(__file__).resolve().parents[2] / "dev" / "links.py"
    done = subprocess.run([sys.executable, links], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
