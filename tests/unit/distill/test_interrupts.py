"""A request to stop waits for the end of a training step, whichever signal it comes by."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from stillhouse.passes.distill.interrupts import interrupts_between_steps

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_waits_and_the_second_does_not(number: signal.Signals) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(number, stop)
    with interrupts_between_steps() as asked:
        os.kill(os.getpid(), number)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is stop


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_ignored_stays_ignored(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    with interrupts_between_steps() as asked:
        os.kill(os.getpid(), number)
        assert not asked.is_set()
    assert signal.getsignal(number) is signal.SIG_IGN
