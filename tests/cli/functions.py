"""A project with a script whose functions are cached."""

import subprocess
import sys

from recorded import Recorded

HEAD = """\
import capsula, os
GATE = os.environ.get("GATE")
def ran():
    with open("ran", "a") as log:
        log.write("ran\\n")
"""


SQUARE = """
@capsula.monitor(cache=True)
def square(n, *, seed=0):
    ran()
    return {"n": n * n, "seed": seed}
"""


class Project(Recorded):
    def __init__(self, ws) -> None:
        self.ws, self.root = ws, ws.root
        ws.write("capsula.toml", "[monitor]\ncapture = false\n")

    def python(self, script, *words, name="script.py", environ=None):
        self.ws.write(name, HEAD + script)
        return subprocess.run(
            [sys.executable, "-B", name, *words],
            cwd=self.ws.root,
            env=self.ws.environ_with(environ),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=200,
        )

    def start(self, name="script.py", **more):
        process = subprocess.Popen(
            [sys.executable, "-B", name],
            cwd=self.ws.root,
            env=self.ws.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        self.ws.started.append(process)
        return process

    @property
    def ran(self):
        path = self.ws.path("ran")
        return path.read_text().count("\n") if path.exists() else 0

    @property
    def why(self):
        return self.read("capsule.json")["why"]
