"""How a run is shown: bars with an ETA on a terminal, plain lines elsewhere. Neither stands still for long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from stillhouse.clients.store.receipts import Receipt
from stillhouse.entrypoints.local.text import duration, size
from stillhouse.passes.base import Progress
from stillhouse.passes.runner import Listener
from stillhouse.planning.plan import Step

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Count", "showing"]

QUIET_SECONDS = 5.0


@contextmanager
def showing(stream: TextIO | None = None) -> Iterator[Listener]:
    """Yield a listener that draws on `stream` (standard error when left out)."""
    stream = stream or sys.stderr
    if stream.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=Console(file=stream),
            transient=True,
        )
        with bars:
            yield Terminal(bars)
    else:
        plain = Plain(stream)
        try:
            yield plain
        finally:
            plain.close()


class Count:
    """One count towards one total, with what is left of it by the mean speed since it began.

    It begins anew with another unit or total, or when it falls: not with the message, which may hold a figure of its own,
    nor with the step, which may have loaded something first. What was there at its beginning, from an earlier attempt,
    took no time.
    """

    def __init__(self) -> None:
        self._of: tuple[float | None, str] = (None, "")
        self._began = time.monotonic()
        self._first = self._done = 0.0

    def figures(self, done: float, total: float | None, unit: str, message: str) -> str:
        """Take note of a report; return it in words: what is done first, else `left` would seem to be of it."""
        if (total, unit) != self._of or done < self._done:
            self._of, self._began, self._first = (total, unit), time.monotonic(), done
        self._done = done
        count = f"{done:,.0f}/{total:,.0f} {unit}" if total else f"{done:,.0f} {unit}" if done else ""
        return ": ".join(part for part in (message, count.strip() + self._left()) if part)

    def _left(self) -> str:
        total, elapsed = self._of[0], time.monotonic() - self._began
        if not total or self._done <= self._first or elapsed < 1 or self._done >= total:
            return ""
        return f", {duration(elapsed / (self._done - self._first) * (total - self._done))} left"


def _summary(step: Step, receipt: Receipt, cached: bool) -> str:
    how = "" if cached else duration(receipt.seconds)  # a receipt names the step that made it first; another may share its result
    return f"{step.id:<28} {how:>8}  {size(receipt.size):>9}  {receipt.artifact[7:19]}"


class Terminal:
    """Bars, drawn by rich."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def started(self, step: Step, position: int, total: int) -> Progress:
        """Add the step's bar."""
        self._task = self._bars.add_task(f"[bold]\\[{position}/{total}] {step.id}", total=None, figures="")
        return TerminalBar(self._bars, self._task)

    def finished(self, step: Step, receipt: Receipt, *, cached: bool) -> None:
        """Replace the bar by a line that stays."""
        if self._task is not None and not cached:
            self._bars.remove_task(self._task)
            self._task = None
        mark, style = ("·", "dim") if cached else ("✓", "green")
        self._bars.console.print(f"[{style}]{mark}[/] {_summary(step, receipt, cached)}", highlight=False)

    @contextmanager
    def busy(self, what: str) -> Iterator[Progress]:
        """Show a bar within the block."""
        task = self._bars.add_task(what, total=None, figures="")
        try:
            yield TerminalBar(self._bars, task)
        finally:
            self._bars.remove_task(task)

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(f"  {message}", highlight=False, markup=False)


class TerminalBar:
    """One step's bar."""

    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars = bars
        self._task = task
        self._count = Count()

    def update(self, done: float, total: float | None = None, unit: str = "", message: str = "") -> None:
        """Move the bar."""
        figures = self._count.figures(done, total, unit, message)
        self._bars.update(self._task, completed=done, total=total, figures=figures)

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(f"  {message}", highlight=False, markup=False)


class Plain:
    """Lines for logs and pipes; whatever goes on says something at least every five seconds, and nothing if it is quick."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._current: PlainStep | None = None
        self._stop = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def close(self) -> None:
        """Stop the lines."""
        self._current = None
        self._stop.set()

    def say(self, line: str) -> None:
        """Write one line."""
        with self._lock:
            print(line, file=self._stream, flush=True)

    def started(self, step: Step, position: int, total: int) -> Progress:
        """Say that a step starts."""
        self.say(f"[{position}/{total}] {step.id} ...")
        self._current = PlainStep(self, step.id)
        return self._current

    def finished(self, step: Step, receipt: Receipt, *, cached: bool) -> None:
        """Say that a step has ended."""
        if not cached:
            self._current = None
        self.say(f"  {'cached' if cached else 'done  '} {_summary(step, receipt, cached)}")

    @contextmanager
    def busy(self, what: str) -> Iterator[Progress]:
        """Say where this is every few seconds within the block."""
        before, here = self._current, PlainStep(self, what)
        self._current = here
        try:
            yield here
        finally:
            self._current = before

    def note(self, message: str) -> None:
        """Say something."""
        self.say(f"  {message}")

    def _beat(self) -> None:
        while not self._stop.wait(0.5):
            current = self._current
            if current is not None and time.monotonic() - current.said >= QUIET_SECONDS - 1:
                current.repeat()


class PlainStep:
    """One step's lines."""

    def __init__(self, plain: Plain, name: str) -> None:
        self._plain = plain
        self._name = name
        self._started = time.monotonic()
        self._count = Count()
        self._figures = ""
        self.said = time.monotonic()

    def update(self, done: float, total: float | None = None, unit: str = "", message: str = "") -> None:
        """Keep the figures; they are written every few seconds."""
        self._figures = self._count.figures(done, total, unit, message)

    def repeat(self) -> None:
        """Write where the step is."""
        self.said = time.monotonic()
        elapsed = duration(self.said - self._started)
        self._plain.say(f"      {self._name}: {self._figures or 'working'} ({elapsed} so far)")

    def note(self, message: str) -> None:
        """Write a line."""
        self._plain.say(f"      {message}")
