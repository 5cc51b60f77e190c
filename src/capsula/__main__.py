"""`python -m capsula` is `capsule`: for an environment whose path no `#!` line can hold (a space in it)."""

import sys

# As in the launcher: what lies in the current directory or in PYTHONPATH (select.py) stands in for no module.
if not sys.flags.safe_path:
    del sys.path[0]
_library = getattr(sys, "_stdlib_dir", None)
if _library in sys.path:
    _own = sys.path.index(_library)
    sys.path[:] = sys.path[_own:] + sys.path[:_own]

from capsula.cli.capsule import main  # noqa: E402

main("capsule", sys.argv[1:])
