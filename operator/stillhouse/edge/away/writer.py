"""The thread that does all that blocks for a queue. Whatever has come while it wrote is the next transaction: one sync for many.

Jobs come from the loop, and their answers go back to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from stillhouse.edge.away.file import BATCH_BYTES, is_torn, queue_error
from stillhouse.edge.away.ledger import Ledger
from stillhouse.edge.away.records import Book, QueueError, QueueFull
from stillhouse.edge.status import Code

__all__ = ["Job", "Writer"]

BATCH = 256
UNSAVED_CHUNK = 16
IDLE = 15.0
SWEEP = 5.0


@dataclass(slots=True, eq=False)
class Job:
    """What the thread is to do. `after(job, taken)` runs in the loop once it is done; `taken`: somebody gets the answer."""

    work: Callable[[], Any]
    future: asyncio.Future[Any] | None = None
    writes: bool = True
    frees: bool = False
    size: int = 0
    after: Callable[[Job, bool], None] | None = None
    answer: Any = None
    error: Exception | None = None


class Writer:
    """Works on a ledger, in a thread that `start` begins. `book`, `oldest`: figures as of the last jobs that it did."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.book = Book()
        self.oldest = 0.0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="disk-queue", daemon=True)
        self._swept = float("-inf")
        self._closed = True

    _loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Begin, within the loop that the answers go to."""
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._thread.start()

    async def close(self) -> None:
        """Finish what was asked for and close the file."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    async def ask(
        self,
        work: Callable[[], Any],
        *,
        writes: bool = True,
        frees: bool = False,
        size: int = 0,
        after: Callable[[Job, bool], None] | None = None,
    ) -> Any:
        """Have `work` done and return what it gives; see `Job`. Raises `QueueError`."""
        if self._closed:
            raise QueueError(Code.UNAVAILABLE, "the queue is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(Job(work, future, writes, frees, size, after))
        return await future

    # From here on: the thread.

    def _work(self) -> None:
        going = True
        while going:
            jobs: list[Job] = []
            with contextlib.suppress(queue.Empty):
                job = self._jobs.get(timeout=IDLE)
                size = 0
                while going := job is not None:
                    assert job is not None
                    jobs.append(job)
                    size += job.size
                    if len(jobs) >= BATCH or size >= BATCH_BYTES:
                        break
                    job = self._jobs.get_nowait()
            try:
                self._serve(jobs)
            except Exception as error:  # whatever it was, nobody waits for ever
                for job in jobs:
                    self._fail(job, error)
            self.book = self._ledger.book
            with contextlib.suppress(RuntimeError):  # the loop may be gone
                self._loop.call_soon_threadsafe(self._tell, jobs)
        self._ledger.file.close()

    def _serve(self, jobs: list[Job]) -> None:
        ledger = self._ledger
        self._save_the_unsaved()
        if (not jobs or self._sweep_due()) and (ledger.book.waiting or ledger.book.outcomes):
            self._write([Job(ledger.sweep, frees=True)])
            self._swept = ledger.age.now()
        ledger.file.regain()
        writes = [job for job in jobs if job.writes]
        if writes and not self._write(writes) and len(writes) > 1:
            for job in writes:  # one that is too large must not take the others with it
                job.error = None
                self._write([job])
        for job in jobs:
            if not job.writes:
                try:
                    self._open()
                    job.answer = job.work()
                except (sqlite3.Error, OSError) as error:
                    self._fail(job, error)
        self.oldest = ledger.oldest() if ledger.file.is_open else 0.0

    def _save_the_unsaved(self) -> None:
        ledger = self._ledger
        ends = ledger.unsaved.ends
        for start in range(0, len(ends), UNSAVED_CHUNK):  # in pieces: all of them may not fit where some do
            some = ends[start : start + UNSAVED_CHUNK]
            if not self._write([Job(partial(ledger.settle, end), frees=True) for end in some]):
                return
            ledger.saved(some)

    def _sweep_due(self) -> bool:
        return self._ledger.file.is_open and self._ledger.age.now() - self._swept >= SWEEP

    def _open(self) -> None:
        if not self._ledger.file.is_open:
            self._ledger.open()

    def _write(self, jobs: list[Job], *, again: bool = True) -> bool:
        """Run jobs in one transaction; a refusal is one job's own, a failure of the disk is that of all."""
        try:
            self._open()
            with self._ledger.transaction():
                for job in jobs:
                    try:
                        job.answer = job.work()
                    except QueueError as error:  # raised before anything is written
                        job.error = error
        except (sqlite3.Error, OSError) as error:
            for job in jobs:
                self._fail(job, error)
            full = isinstance(jobs[0].error, QueueFull)
            if again and full and self._ledger.file.shrink(frees=all(job.frees for job in jobs)):
                for job in jobs:
                    job.error = None
                return self._write(jobs, again=False)
            return False
        return True

    def _fail(self, job: Job, error: Exception) -> None:
        job.error, job.answer = queue_error(error, self._ledger.file.path), None
        if is_torn(error):
            self._ledger.suspect = True
        if not isinstance(job.error, QueueFull):
            self._ledger.file.close()  # after a sync that failed nobody knows what is on the disk: the log is read anew

    # The loop again.

    def _tell(self, jobs: list[Job]) -> None:
        for job in jobs:
            taken = job.future is not None and not job.future.done()
            if job.after is not None:
                job.after(job, taken)
            if job.future is None or not taken:
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.answer)
