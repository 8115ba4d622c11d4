"""`/progress` of a worker: where its stage is, as JSON, from the listener that writes its log. It can be asked and not told."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from stillhouse.clients.store.receipts import Receipt
from stillhouse.entrypoints.answering import Answering
from stillhouse.entrypoints.local.display import Count
from stillhouse.passes.base import Progress
from stillhouse.passes.runner import Listener
from stillhouse.planning.plan import Step

__all__ = ["PATH", "Place", "Told", "telling"]

PATH = "/progress"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage is: the step, its place among the `total` of the plan (0: beside the steps), and its count in words."""

    stage: str
    step: str = ""
    position: int = 0
    total: int = 0
    done: float = 0.0
    of: float | None = None
    unit: str = ""
    figures: str = ""


class Told:
    """A listener that keeps where the run is, and passes everything on to another."""

    def __init__(self, stage: str, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._place = Place(stage)

    @property
    def place(self) -> Place:
        """Return where the run is now."""
        with self._lock:
            return self._place

    def json(self) -> bytes:
        """Return the same as JSON."""
        return json.dumps(asdict(self.place)).encode()

    def to(self, place: Place) -> None:
        """Take note of where the run is."""
        with self._lock:
            self._place = place

    def started(self, step: Step, position: int, total: int) -> Progress:
        """Take note that a step starts."""
        place = Place(self.place.stage, step.id, position, total)
        self.to(place)
        return _Bar(self, place, self._listener.started(step, position, total))

    def finished(self, step: Step, receipt: Receipt, *, cached: bool) -> None:
        """Take note that a step has ended."""
        self._listener.finished(step, receipt, cached=cached)

    @contextmanager
    def busy(self, what: str) -> Iterator[Progress]:
        """Be beside the steps within the block."""
        before, place = self.place, Place(self.place.stage, what)
        self.to(place)
        try:
            with self._listener.busy(what) as progress:
                yield _Bar(self, place, progress)
        finally:
            self.to(before)

    def note(self, message: str) -> None:
        """Pass a line on."""
        self._listener.note(message)


class _Bar:
    """One step's count."""

    def __init__(self, told: Told, place: Place, progress: Progress) -> None:
        self._told, self._place, self._progress = told, place, progress
        self._count = Count()

    def update(self, done: float, total: float | None = None, unit: str = "", message: str = "") -> None:
        """Keep the count."""
        figures = self._count.figures(done, total, unit, message)
        self._told.to(replace(self._place, done=done, of=total, unit=unit, figures=figures))
        self._progress.update(done, total, unit, message)

    def note(self, message: str) -> None:
        """Pass a line on."""
        self._progress.note(message)


@contextmanager
def telling(stage: str, listener: Listener, port: int | None, host: str = "0.0.0.0") -> Iterator[Told]:  # noqa: S104 - a pod's own
    """Answer `/progress` at a port (None: nowhere) within the block; yield the listener to run with.

    A port that is taken stops no build: it is noted.
    """
    told = Told(stage, listener)
    endpoint: Answering | None = None
    if port is not None:
        try:
            endpoint = Answering(host, port, {PATH: lambda: (200, told.json())}, "progress", "application/json")
        except OSError as error:
            listener.note(f"progress is told in this log alone: port {port}: {error}")
    with contextlib.ExitStack() as stack:
        if endpoint is not None:
            stack.callback(endpoint.close)
        yield told
