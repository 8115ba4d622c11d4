"""What holds for all tiers."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Give the processes that tests start the signals a terminal gives them.

    A suite started in the background may have Ctrl-C or hang-up ignored, and what is ignored stays so in every child.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
