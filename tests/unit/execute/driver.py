"""A process that runs one command and reports the outcome: `driver.py REPORT OPTIONS command …`.

OPTIONS is a Python dict: the keyword arguments of run_command, and what is to be broken first.
"""

import ast
import os
import sys

sys.path.insert(0, sys.argv[1])
report, options, argv = sys.argv[2], ast.literal_eval(sys.argv[3]), tuple(sys.argv[4:])

from capsula.execute import log, process, signals, spawn, stdio  # noqa: E402

stdio.hold_standard_fds()


def no_terminal() -> None:
    raise OSError(28, "no more terminals")


def no_proc(path: str, list_directory=os.listdir) -> "list[str]":
    if path == "/dev/fd":
        raise FileNotFoundError(2, "no /proc", path)
    return list_directory(path)


for broken in options.pop("broken", ()):
    if broken == "openpty":
        os.openpty = no_terminal
    elif broken == "proc":
        os.listdir = no_proc
    elif broken == "pidfd":
        del os.pidfd_open
    elif broken == "log":
        log.Log.keep = None
    elif broken == "close":
        log.Log.close = None
    elif broken == "sigwaitinfo":
        del signals._signal.sigwaitinfo, signals._signal.sigtimedwait
    elif broken == "fsize":
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

environ = spawn.child_environment(dict(os.environb))
if options.pop("become", False):
    spawn.exec_command(argv, environ)
if (chunks := options.pop("replay", None)) is not None:
    stdio.replay((number, content * (times[0] if times else 1)) for number, content, *times in chunks)
    os._exit(0)

held = os.open(report + ".held", os.O_WRONLY | os.O_CREAT)
lock = options.pop("lock", None)
if lock:
    import fcntl

    fcntl.flock(held, fcntl.LOCK_EX)
stay = options.pop("stay", None)
outcome = process.run_command(argv, environ, **options)

import json  # noqa: E402
import resource  # noqa: E402

found = {name: getattr(outcome, name) for name in outcome.__slots__}
for name in ("stdout", "stderr"):
    log = found[name]
    if log is not None:
        content = log.content
        if content is None:
            with open(log.path, "rb") as spooled:
                content = spooled.read(1 << 20)
        found[name] = {"content": content.hex(), "spooled": log.path is not None, "size": log.size}
found["our_rss_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found["standard"] = [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)]
found["fds_left"] = [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and int(fd) != held]
with open(report + ".tmp", "w") as out:
    json.dump(found, out)
os.rename(report + ".tmp", report)
if stay:  # recording
    os.read(os.open(stay, os.O_RDONLY), 1)
sys.exit(outcome.exit_code)
