"""`python -m capsula` is `capsule`: for an environment whose path no `#!` line can hold (a space in it)."""

import sys

from capsula.cli.capsule import main

main("capsule", sys.argv[1:])
