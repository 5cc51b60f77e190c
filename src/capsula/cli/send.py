"""Sends what waits to be sent, in a process of its own that the run didn't wait for (`--upload background`)."""

import json
import sys

from capsula.config.options import BY_NAME
from capsula.config.settings import Settings
from capsula.plugins.remotes import send_all


def main() -> None:
    """The store's directory and the settings come as JSON on stdin. Nobody reads what we say: the outbox remembers."""
    root, asked = json.load(sys.stdin)
    given = [
        (BY_NAME[name], tuple(value) if isinstance(value, list) else value, "")
        for name, value in asked.items()
    ]
    send_all(Settings(given, (), ()), root)


if __name__ == "__main__":
    main()
