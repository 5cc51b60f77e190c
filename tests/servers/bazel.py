"""Bazel itself, out of npm's package: a build of two actions, with a remote cache."""

import os
import subprocess
from pathlib import Path

from servers.installed import installed_for_all

_BUILD = """
load(":tree.bzl", "tree")
genrule(name = "file", srcs = ["in.txt"], outs = ["out.txt"], cmd = "cat $(SRCS) > $@; echo bazel >> $@")
tree(name = "tree")
"""
_RULE = """
def _made(ctx):
    made = ctx.actions.declare_directory(ctx.label.name)
    ctx.actions.run_shell(outputs = [made], command = "mkdir -p %s/sub; echo bazel > %s/sub/a" % (made.path, made.path))
    return [DefaultInfo(files = depset([made]))]
tree = rule(implementation = _made)
"""
# Where its outputs are in its entries.
OUTPUTS = "bazel-out/k8-fastbuild/bin"


class Bazel:
    """Makes `out.txt` and the directory `tree`, both in bazel-bin of `root`."""

    def __init__(self, base: Path) -> None:
        self.root = base / "workspace"
        self._own = base / "own"
        self.root.mkdir(parents=True)
        for name, content in {
            "WORKSPACE": "",
            "BUILD": _BUILD,
            "tree.bzl": _RULE,
            "in.txt": "input\n",
        }.items():
            (self.root / name).write_text(content)
        package = installed_for_all("node_modules/@bazel/bazel-linux_x64")
        self._program = next(package.glob("bazel-*"))
        self._program.chmod(0o755)

    def build(self, target: str, cache: str) -> str:
        """What it says. All that it knew from before is forgotten; without a server that would stay behind."""
        self._run("clean")
        return self._run("build", f"//:{target}", f"--remote_cache={cache}", "--remote_upload_local_results")

    def made(self, name: str) -> str:
        return (self.root / "bazel-bin" / name).read_text()

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [
                self._program,
                "--batch",
                "--nohome_rc",
                "--nosystem_rc",
                f"--output_user_root={self._own}",
                *words,
            ],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=280,
            env={"PATH": os.environ["PATH"], "HOME": str(self._own), "USER": "me"},
        )
        assert done.returncode == 0, done.stderr
        return done.stderr
