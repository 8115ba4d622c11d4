"""Requests kept on the disk while the cloud is away, and delivered later: at least once, each under an idempotency key.

    put ──▶ waiting ── take ──▶ (leased, in memory) ── settle ──▶ delivered | failed ── forget ──▶ read ── keep ──▶ gone
               ▲                        │
               └── again, a crash ──────┘         too old: expired

What `put` has answered is on the disk. What `settle` has answered is never handed out again. Between a backend's answer and the
answer of `settle` lies the window in which a crash leads to a second delivery; the key tells the backend.

One thread does all that blocks. Whatever has come while it wrote is the next transaction: one sync for many requests.
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
from pathlib import Path
from typing import Any, Self

from stillhouse.edge.away.age import Clocks, SystemClocks
from stillhouse.edge.away.file import BATCH_BYTES, is_torn, queue_error
from stillhouse.edge.away.keys import check_key, new_key
from stillhouse.edge.away.ledger import Book, Ledger, Settlement
from stillhouse.edge.away.records import Limits, Outcome, QueueError, QueueFull, Record, Request, Stand
from stillhouse.edge.status import Code

__all__ = ["DiskQueue"]

BATCH = 256
UNWRITTEN_BYTES = 64 * 2**20
UNSAVED_CHUNK = 16
IDLE = 15.0
SWEEP = 5.0


@dataclass(slots=True, eq=False)
class _Job:
    """What the thread is to do. `after(job, taken)` runs in the loop once it is done; `taken`: somebody gets the answer."""

    work: Callable[[], Any]
    future: asyncio.Future[Any] | None = None
    writes: bool = True
    frees: bool = False
    size: int = 0
    after: Callable[[_Job, bool], None] | None = None
    answer: Any = None
    error: Exception | None = None


class DiskQueue:
    """The queue of one process; a second one that opens the same file is refused."""

    def __init__(self, path: Path, limits: Limits | None = None, *, clocks: Clocks | None = None) -> None:
        self.clocks = clocks or SystemClocks()
        self.changed = asyncio.Event()
        self._ledger = Ledger(path, limits or Limits(), self.clocks)
        self._book = Book()
        self._oldest = 0.0
        self._refused = 0
        self._unwritten = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="disk-queue", daemon=True)
        self._swept = float("-inf")
        self._closed = True

    @classmethod
    async def open(cls, path: Path, limits: Limits | None = None, *, clocks: Clocks | None = None) -> Self:
        """Open the queue in the file `path`, which is made where there is none. Raises `QueueError`."""
        made = cls(path, limits, clocks=clocks)
        made._loop = asyncio.get_running_loop()
        made._closed = False
        made._thread.start()
        try:
            await made._ask(lambda: None)
        except BaseException:
            await made.close()
            raise
        return made

    _loop: asyncio.AbstractEventLoop

    def stand(self) -> Stand:
        """Give the figures."""
        book, ledger = self._book, self._ledger
        return Stand(
            book.waiting,
            book.waiting_bytes,
            book.outcomes,
            book.outcome_bytes,
            self._oldest,
            len(ledger.leased),
            book.accepted,
            book.delivered,
            book.failed,
            book.expired,
            self._refused,
            ledger.file.damaged,
            len(ledger.unsaved),
        )

    async def put(
        self, target: str, body: bytes, *, owner: str = "", key: str | None = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> Outcome:
        """Keep a request; when this returns it is on the disk.

        The outcome tells its key, and how far a request with this key is already. Raises `QueueFull`, `QueueError`
        (ALREADY_EXISTS: the key belongs to another request; UNAVAILABLE: the disk fails), `Refused` INVALID_ARGUMENT for a key
        that is none.
        """
        request = Request(owner, new_key(self.clocks.wall()) if key is None else check_key(key), target, body, headers)
        size = request.size()
        if self._unwritten + size > UNWRITTEN_BYTES:
            self._refused += 1
            raise QueueFull(f"the disk is too slow: {self._unwritten} bytes are still to be written")
        self._unwritten += size
        try:
            found: Outcome = await self._ask(lambda: self._ledger.put(request), size=size)
        except QueueError:
            self._refused += 1
            raise
        finally:
            self._unwritten -= size
        self.changed.set()
        return found

    async def take(self, most: int = 1) -> tuple[list[Record], float | None]:
        """Lease the oldest requests that are due, and say in how many seconds the next one is (None: none waits).

        Each is given back once, to `settle`, `again` or `release`. Requests that wait for their next try do not
        hold up those behind them.
        """

        def after(job: _Job, taken: bool) -> None:
            if not taken and job.answer is not None:
                self._ledger.leased.difference_update([each.number for each in job.answer[0]])

        found: tuple[list[Record], float | None] = await self._ask(lambda: self._take(most), writes=False, after=after)
        return found

    async def settle(self, record: Record, code: int, message: str = "", body: bytes = b"") -> None:
        """Write how a delivery ended. When this returns the request is never delivered again.

        Raises `QueueError` where the disk fails: the end is then kept in memory and written as soon as it can be; only a crash
        before that leads to a second delivery.
        """
        end = Settlement(record, code, message, body)
        ledger = self._ledger

        def after(job: _Job, taken: bool) -> None:
            if job.error is not None:
                ledger.remember(end)
            else:
                ledger.leased.discard(record.number)

        await self._ask(lambda: ledger.settle(end), frees=True, size=len(body), after=after)

    async def again(self, record: Record, delay: float) -> None:
        """Let a request wait `delay` seconds, at most `Limits.retry_most`, for its next try.

        Raises `QueueError` where that cannot be written; the wait holds even then.
        """
        ledger = self._ledger
        due = ledger.held[record.number] = ledger.due(delay)

        def after(job: _Job, taken: bool) -> None:
            if job.error is None:
                ledger.held.pop(record.number, None)
            self.release(record)

        await self._ask(lambda: ledger.again(record, due), after=after)

    def hold(self, record: Record, delay: float) -> None:
        """Give a request back that was not tried, and keep it `delay` seconds; on the disk nothing changes."""
        self._ledger.held[record.number] = self._ledger.due(delay)
        self.release(record)

    def release(self, record: Record) -> None:
        """Give a request back that was not tried."""
        self._ledger.leased.discard(record.number)
        self.changed.set()

    async def outcome(self, owner: str, key: str) -> Outcome | None:
        """Say where the request with this key of this client stands; None where nothing is known of it."""
        found: Outcome | None = await self._ask(lambda: self._ledger.outcome(owner, key), writes=False)
        return found

    async def forget(self, owner: str, key: str) -> None:
        """Drop an answer; to be called once the client has it."""
        await self._ask(lambda: self._ledger.forget(owner, key), frees=True)

    async def sweep(self) -> None:
        """End what is too old and drop what was kept long enough; happens by itself every few seconds."""
        await self._ask(self._ledger.sweep, frees=True)

    async def close(self) -> None:
        """Finish what was asked for and close the file."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    async def _ask(
        self,
        work: Callable[[], Any],
        *,
        writes: bool = True,
        frees: bool = False,
        size: int = 0,
        after: Callable[[_Job, bool], None] | None = None,
    ) -> Any:
        if self._closed:
            raise QueueError(Code.UNAVAILABLE, "the queue is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(_Job(work, future, writes, frees, size, after))
        return await future

    # From here on: the thread.

    def _work(self) -> None:
        going = True
        while going:
            jobs: list[_Job] = []
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
            self._book = self._ledger.book
            with contextlib.suppress(RuntimeError):  # the loop may be gone
                self._loop.call_soon_threadsafe(self._tell, jobs)
        self._ledger.file.close()

    def _take(self, most: int) -> tuple[list[Record], float | None]:
        records, torn, due = self._ledger.take(most)
        if torn:
            with self._ledger.transaction():
                for number in torn:
                    self._ledger.give_up(number)
        return records, due

    def _serve(self, jobs: list[_Job]) -> None:
        ledger = self._ledger
        self._save_the_unsaved()
        if (not jobs or self._sweep_due()) and (ledger.book.waiting or ledger.book.outcomes):
            self._write([_Job(ledger.sweep, frees=True)])
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
        self._oldest = ledger.oldest() if ledger.file.is_open else 0.0

    def _save_the_unsaved(self) -> None:
        ledger = self._ledger
        ends = list(ledger.unsaved.values())
        for start in range(0, len(ends), UNSAVED_CHUNK):  # in pieces: all of them may not fit where some do
            some = ends[start : start + UNSAVED_CHUNK]
            if not self._write([_Job(partial(ledger.settle, end), frees=True) for end in some]):
                return
            ledger.saved(some)

    def _sweep_due(self) -> bool:
        return self._ledger.file.is_open and self._ledger.age.now() - self._swept >= SWEEP

    def _open(self) -> None:
        if not self._ledger.file.is_open:
            self._ledger.open()

    def _write(self, jobs: list[_Job], *, again: bool = True) -> bool:
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

    def _fail(self, job: _Job, error: Exception) -> None:
        job.error, job.answer = queue_error(error, self._ledger.file.path), None
        if is_torn(error):
            self._ledger.suspect = True
        if not isinstance(job.error, QueueFull):
            self._ledger.file.close()  # after a sync that failed nobody knows what is on the disk: the log is read anew

    # The loop again.

    def _tell(self, jobs: list[_Job]) -> None:
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
