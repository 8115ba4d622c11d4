"""Lines for logs and pipes: whatever takes long says so again and again, whatever is quick says nothing."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.support.cli import Project
from tests.support.passes import Events

from stillhouse.clients.sources import Resolved
from stillhouse.entrypoints.local import building, display, sources
from stillhouse.errors import StillhouseError
from stillhouse.passes.runner import Listener

from .conftest import Still
from .test_commands import project

__all__ = ["project"]

LONG = 30.0
"""A limit for a thread that does not do what it should, never a measure of anything."""


class Lines(io.StringIO):
    """A stream that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        self.written.set()
        return count


def test_what_takes_long_is_said_with_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "QUIET_SECONDS", 1.0)  # said at the next beat
    stream = Lines()
    with display.showing(stream) as listener, listener.busy("sources") as progress:
        progress.update(3, 12, "bytes", "looking at models:minilm")
        assert stream.written.wait(LONG)
    assert re.search(r"sources: looking at models:minilm: 3/12 bytes \([\d.]+ s so far\)", stream.getvalue())


def test_a_call_that_reports_nothing_is_said_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "QUIET_SECONDS", 1.0)
    stream = Lines()
    with display.showing(stream) as listener, listener.busy("server"):
        for _ in range(2):
            stream.written.clear()
            assert stream.written.wait(LONG)
    assert "server: working" in stream.getvalue()


def test_what_is_left_is_told_from_the_count_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    count = display.Count()
    count.figures(0, None, "", "loading the teacher")
    now[0] += 20  # which is no part of the count
    assert count.figures(40, 100, "steps", "loss 0.9") == "loss 0.9: 40/100 steps", "what an earlier attempt did says nothing"
    now[0] += 3
    assert count.figures(50, 100, "steps", "loss 0.8") == "loss 0.8: 50/100 steps, 15 s left"
    now[0] += 3
    assert count.figures(60, 100, "steps", "loss 0.7") == "loss 0.7: 60/100 steps, 12 s left", "a new message is no new count"
    assert count.figures(10, 100, "steps", "once more") == "once more: 10/100 steps"
    now[0] += 9
    assert count.figures(100, 100, "steps", "") == "100/100 steps"


def test_what_is_quick_says_nothing() -> None:
    stream = Lines()
    with display.showing(stream) as listener, listener.busy("sources") as progress:
        progress.update(1, 1, "bytes", "looking at data:x")
    assert stream.getvalue() == ""


def test_a_terminal_has_a_bar_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Lines()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    with display.showing(stream) as listener, listener.busy("sources") as progress:
        progress.update(3, 12, "bytes", "looking at models:minilm")
        assert "sources" in stream.getvalue()


@pytest.mark.parametrize("command", ["plan", "lint", "build", "up"])
def test_hashing_the_sources_is_told(still: Still, project: Project, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    events = Events()

    @contextmanager
    def showing() -> Iterator[Listener]:
        yield events

    def stop(*_: object) -> None:
        raise StillhouseError("far enough")

    monkeypatch.setattr(display, "showing", showing)
    monkeypatch.setattr(building, "build", stop)
    still(command, str(project.file))
    messages = {message for message, done, total in events.updates if total and done == total}
    assert len([message for message in messages if message.startswith("looking at ")]) >= 2, "the model and the data"


def test_a_download_is_told_apart_from_the_hashing(still: Still, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    events = Events()

    @contextmanager
    def showing() -> Iterator[Listener]:
        yield events

    def resolve(uri: str, *, fetching: Callable[[int, int], None], **rest: Any) -> Resolved:
        fetching(3, 12)
        return found(uri, **rest)

    found = sources.resolve
    monkeypatch.setattr(display, "showing", showing)
    monkeypatch.setattr(sources, "resolve", resolve)
    still("plan", str(project.file))
    downloads = [(done, total) for message, done, total in events.updates if message.startswith("downloading ")]
    assert downloads
    assert set(downloads) == {(3, 12)}
