"""For all tests: no example has a time limit of its own; a busy machine is slow, not wrong. Nor does it matter how the
tests were started, or by whom."""

import os
import shutil
import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The same examples in each run: what fails, fails for a change. CAPSULA_EXPLORE=1 looks for others.
settings.register_profile(
    "capsula",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not os.environ.get("CAPSULA_EXPLORE"),
)
settings.load_profile("capsula")

# A shell starts what is in the background with SIGINT and SIGQUIT ignored, nohup does it with SIGHUP. What is ignored
# is passed on to every command, which then waits for ever for a signal that a test sends.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture
def ordinary(ws: Any) -> Any:
    """A workspace whose commands have no privileges: for root, permissions would forbid nothing."""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("runs as root, and there is no setpriv to give its privileges up")
        ws.prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    return ws
