"""Requests kept on the disk while the cloud is away, and delivered later: at least once, each under an idempotency key.

    put ──▶ waiting ── take ──▶ (leased, in memory) ── settle ──▶ delivered | failed ── forget ──▶ read ── keep ──▶ gone
               ▲                        │
               └── again, a crash ──────┘         too old: expired

What `put` has answered is on the disk. What `settle` has answered is never handed out again. Between a backend's answer and the
answer of `settle` lies the window in which a crash leads to a second delivery; the key tells the backend.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self

from stillhouse.edge.away.age import Clocks, SystemClocks
from stillhouse.edge.away.keys import check_key, new_key
from stillhouse.edge.away.ledger import Ledger
from stillhouse.edge.away.records import Limits, Outcome, QueueError, QueueFull, Record, Request, Stand
from stillhouse.edge.away.settlements import Settlement
from stillhouse.edge.away.writer import Job, Writer

__all__ = ["DiskQueue"]

UNWRITTEN_BYTES = 64 * 2**20


class DiskQueue:
    """The queue of one process; a second one that opens the same file is refused."""

    def __init__(self, path: Path, limits: Limits | None = None, *, clocks: Clocks | None = None) -> None:
        self.clocks = clocks or SystemClocks()
        self.changed = asyncio.Event()
        self._ledger = Ledger(path, limits or Limits(), self.clocks)
        self._writer = Writer(self._ledger)
        self._refused = 0
        self._unwritten = 0

    @classmethod
    async def open(cls, path: Path, limits: Limits | None = None, *, clocks: Clocks | None = None) -> Self:
        """Open the queue in the file `path`, which is made where there is none. Raises `QueueError`."""
        made = cls(path, limits, clocks=clocks)
        made._writer.start()
        try:
            await made._writer.ask(lambda: None)
        except BaseException:
            await made.close()
            raise
        return made

    def stand(self) -> Stand:
        """Give the figures."""
        book, ledger = self._writer.book, self._ledger
        return Stand(
            book.waiting,
            book.waiting_bytes,
            book.outcomes,
            book.outcome_bytes,
            self._writer.oldest,
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
            found: Outcome = await self._writer.ask(lambda: self._ledger.put(request), size=size)
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

        def after(job: Job, taken: bool) -> None:
            if not taken and job.answer is not None:
                self._ledger.leased.difference_update([each.number for each in job.answer[0]])

        found: tuple[list[Record], float | None] = await self._writer.ask(lambda: self._take(most), writes=False, after=after)
        return found

    async def settle(self, record: Record, code: int, message: str = "", body: bytes = b"") -> None:
        """Write how a delivery ended. When this returns the request is never delivered again.

        Raises `QueueError` where the disk fails: the end is then kept in memory and written as soon as it can be; only a crash
        before that leads to a second delivery.
        """
        end = Settlement(record, code, message, body)
        ledger = self._ledger

        def after(job: Job, taken: bool) -> None:
            if job.error is not None:
                ledger.unsaved.remember(end)
            else:
                ledger.leased.discard(record.number)

        await self._writer.ask(lambda: ledger.settle(end), frees=True, size=len(body), after=after)

    async def again(self, record: Record, delay: float) -> None:
        """Let a request wait `delay` seconds, at most `Limits.retry_most`, for its next try.

        Raises `QueueError` where that cannot be written; the wait holds even then.
        """
        ledger = self._ledger
        due = ledger.held[record.number] = ledger.due(delay)

        def after(job: Job, taken: bool) -> None:
            if job.error is None:
                ledger.held.pop(record.number, None)
            self.release(record)

        await self._writer.ask(lambda: ledger.again(record, due), after=after)

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
        found: Outcome | None = await self._writer.ask(lambda: self._ledger.outcome(owner, key), writes=False)
        return found

    async def forget(self, owner: str, key: str) -> None:
        """Drop an answer; to be called once the client has it."""
        await self._writer.ask(lambda: self._ledger.forget(owner, key), frees=True)

    async def sweep(self) -> None:
        """End what is too old and drop what was kept long enough; happens by itself every few seconds."""
        await self._writer.ask(self._ledger.sweep, frees=True)

    async def close(self) -> None:
        """Finish what was asked for and close the file."""
        await self._writer.close()

    def _take(self, most: int) -> tuple[list[Record], float | None]:
        records, torn, due = self._ledger.take(most)
        if torn:
            with self._ledger.transaction():
                for number in torn:
                    self._ledger.give_up(number)
        return records, due
