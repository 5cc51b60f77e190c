"""Runs `capsule` in processes that break where they are told to: killed, refused by the system, or by a bug of ours.

Not a test: the tests start it, write one job a line (JSON) to its stdin, and read one answer a line from its stdout. A
run is a fork of this process, in which everything is imported already, so one costs a few milliseconds and hundreds
can be had. Nothing in the product knows of it: steps are counted by an audit hook and in place of a few functions of
`posix`, calls by a profiler.

A *step* changes something outside of the process: a file opened for writing, a write, a rename, a lock, a process made
or waited for. What only looks is none: being killed before a look or after it comes to the same.
A *call* is any call of a function of capsula's.
"""

import ctypes
import gc
import json
import mmap
import os
import posix
import signal
import sys
import time
import traceback

COUNT, WHERE = slice(0, 12), slice(12, 4096)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = frozenset(
    [
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "os.remove",
        "os.chmod",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.utime",
        "os.posix_spawn",
        "os.fork",
        "os.lockf",
        "fcntl.flock",
        "fcntl.ioctl",
    ]
)
# These make processes, or wait: a system refuses them for reasons of its own, which other tests are about.
NEVER_REFUSED = frozenset(
    ["os.posix_spawn", "os.fork", "os.lockf", "fcntl.flock", "fcntl.ioctl", "wait4", "close"]
)
WRITE = posix.write
ERRORS = {"RuntimeError": RuntimeError, "MemoryError": MemoryError, "ImportError": ImportError}


class Fault:
    """What happens at which step or call of one run. `kind` is "kill", "refuse" (`error` is the number of the system's
    error), "raise" (`error` is a name), "list" (calls are listed) or "" (nothing). `seen` is shared with the server."""

    def __init__(self, kind, at, error, only, seen):
        self.kind = kind
        self.at = at
        self.error = error
        self.only = only
        self.seen = seen
        self.count = 0
        self.listed = -1

    def step(self, what, subject=""):
        """Whether the caller has to write only a half now and then call `strike`."""
        self.count += 1
        if self.count <= self.at or not self.at:
            self.seen[COUNT] = b"%12d" % self.count
            where = f"{what} {subject!r}".encode("utf-8", "replace")[:2000]
            self.seen[WHERE] = where.ljust(WHERE.stop - WHERE.start)
        if self.count == self.at and what != "write":
            self.strike(what)
        return self.count == self.at

    def strike(self, what):
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "refuse" and what not in NEVER_REFUSED:
            raise OSError(self.error, os.strerror(self.error), "refused by the test")

    def watch_steps(self):
        def hook(event, args):
            if event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & WRITING):
                self.step(event, args[0] if args else "")

        def write(fd, content, *rest, original=posix.write):
            if self.step("write", fd):
                if self.kind == "kill":
                    original(fd, bytes(content)[: len(content) // 2], *rest)
                self.strike("write")
            return original(fd, content, *rest)

        def wait4(*arguments, original=posix.wait4):
            self.step("wait4")
            return original(*arguments)

        for module in (posix, os):
            module.write = write
            module.wait4 = wait4
        sys.addaudithook(hook)

    def watch_calls(self):
        def profiler(frame, event, _):
            if event != "call":
                return
            name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
            if not module.startswith("capsula.") or name == "main" or (self.only and name != self.only):
                return
            self.count += 1
            if self.listed >= 0:
                WRITE(self.listed, f"{module} {name}\n".encode())
            if self.count <= self.at or not self.at:
                self.seen[COUNT] = b"%12d" % self.count
                where = f"{module}:{frame.f_lineno} {name}".encode()
                self.seen[WHERE] = where.ljust(WHERE.stop - WHERE.start)
            if self.count == self.at:
                raise ERRORS[self.error](f"raised by the test at call {self.at}")

        sys.setprofile(profiler)


def move_clock(seconds):
    wall, nanoseconds = time.time, time.time_ns
    time.time = lambda: wall() + seconds
    time.time_ns = lambda: nanoseconds() + int(seconds * 1e9)


def run(job, seen):
    """In the child: become a run of `capsule`. Never returns."""
    os.chdir(job["cwd"])
    for name, value in job["env"].items():
        os.environ[name] = value
        posix.environ[os.fsencode(name)] = os.fsencode(value)
    for fd, path in ((0, "/dev/null"), (1, job["out"]), (2, job["err"])):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, fd, inheritable=True)
        os.close(opened)
    from capsula.cli.capsule import main

    fault = Fault(job["kind"], job["at"], job["error"], job["only"], seen)
    if job["list"]:
        fault.listed = os.open(job["list"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    if job["clock"]:
        move_clock(job["clock"])
    if job["kind"] in ("kill", "refuse"):
        fault.watch_steps()
    elif job["kind"]:
        fault.watch_calls()
    main(job["argv0"], job["argv"])


def answer(job, seen):
    """Run one job, and wait until nothing that it started is left: orphans become children of this process."""
    seen[:] = bytes(len(seen))
    child = os.fork()
    if child == 0:
        try:
            run(job, seen)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    return {
        "status": os.waitstatus_to_exitcode(status),
        "count": int(seen[COUNT].strip(b"\0 ") or 0),
        "where": seen[WHERE].strip(b"\0 ").decode("utf-8", "replace"),
    }


# What no run of `capsule` loads. A smaller process is forked more quickly.
OTHERS = (
    "capsula.__main__",
    "capsula.testing",
    "capsula.cli.capsula",
    "capsula.cli.cache",
    "capsula.cli.history",
)


def import_everything():
    from importlib import import_module

    import capsula

    import_below(capsula)
    for name in ("fcntl", "json", "termios", "tomllib"):
        import_module(name)


def import_below(package):
    import pkgutil
    from importlib import import_module

    # Not walk_packages: that imports each package, also those that aren't wanted.
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if not found.name.startswith(OTHERS):
            module = import_module(found.name)
            if found.ispkg:
                import_below(module)


def serve():
    # PR_SET_CHILD_SUBREAPER: what a killed run leaves behind is ours to wait for.
    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)
    if "--cold" not in sys.argv:
        import_everything()
    gc.collect()
    gc.freeze()  # so that the forks share its pages
    seen = mmap.mmap(-1, 4096)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), seen)), flush=True)


if __name__ == "__main__":
    serve()
