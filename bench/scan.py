"""The floor, what no Python tool can do without: one look (scandir, lstat) at every file below its arguments."""

import sys
from posix import scandir


def scan(directory: str) -> int:
    seen = 0
    for entry in scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            seen += scan(entry.path)
        else:
            entry.stat(follow_symlinks=False)
            seen += 1
    return seen


sys.exit(0 if sum([scan(directory) for directory in sys.argv[1:]]) else 1)
