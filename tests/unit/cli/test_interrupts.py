"""Ctrl-C in the middle of an import waits for its end; a second one does not."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from stillhouse.entrypoints import interrupts


@pytest.fixture(autouse=True)
def handlers() -> object:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    former = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that started the tests has said
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in former.items():
        signal.signal(number, handler)


def slow(folder: Path, signals: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module that is asked to stop while it is imported, and says how far it came."""
    name = f"slow_{signals}_{folder.name}"
    (folder / f"{name}.py").write_text(f"""
import signal, sys, time
reached = sys.modules[__name__].__dict__.setdefault("told", [])
sys.reached = reached
for _ in range({signals}):
    signal.raise_signal(signal.SIGINT)
    reached.append("after the signal")
time.sleep(0.2)
reached.append("the end")
""")
    monkeypatch.syspath_prepend(str(folder))
    return name


def wait() -> None:
    while True:
        signal.pause()


def test_an_import_is_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = slow(tmp_path, 1, monkeypatch)
    interrupts.listen()
    with pytest.raises(KeyboardInterrupt):
        __import__(name)
        assert sys.modules[name].told == ["after the signal", "the end"]
        wait()
    assert name in sys.modules, "it was imported whole"
    assert interrupts.requested()


def test_who_asks_twice_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = slow(tmp_path, 2, monkeypatch)
    interrupts.listen()
    with pytest.raises(KeyboardInterrupt):
        __import__(name)
    assert name not in sys.modules
    assert sys.reached == ["after the signal"]  # type: ignore[attr-defined]


def test_outside_of_imports_it_stops_at_once() -> None:
    interrupts.listen()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it went on")
