"""The queue's book: requests and their ends as rows, changed in transactions."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from stillhouse.edge.away.age import Age, Clocks, Mark
from stillhouse.edge.away.file import DISK_FULL, QueueFile, is_torn
from stillhouse.edge.away.records import Book, Limits, Outcome, QueueError, QueueFull, QueueState, Record, Request
from stillhouse.edge.away.rescue import TAKEN, request_of, rescued
from stillhouse.edge.away.settlements import Settlement, Unsaved
from stillhouse.edge.status import Code

__all__ = ["Ledger"]

WAITING, DELIVERED, FAILED, EXPIRED, READ = range(5)
STATES = (QueueState.WAITING, QueueState.DELIVERED, QueueState.FAILED, QueueState.EXPIRED, QueueState.READ)
OLDEST_END = "SELECT number, size FROM record INDEXED BY ended WHERE state <> 0 ORDER BY ended, number LIMIT 1"
ENDED = "SELECT number, size FROM record INDEXED BY ended WHERE state <> 0 AND ended <= ?"


class Ledger:
    """What is in the file. Every method but `open` wants an open file and, but for reads, a `transaction`."""

    def __init__(self, path: Path, limits: Limits, clocks: Clocks) -> None:
        self.file = QueueFile(path, limits.bytes + limits.outcome_bytes, limits.record_bytes)
        self.limits, self.clocks = limits, clocks
        self.book = Book()
        self.age = Age(clocks, None, 0.0)
        self.leased: set[int] = set()
        self.held: dict[int, float] = {}
        self.unsaved = Unsaved()
        self.suspect = False

    @property
    def db(self) -> sqlite3.Connection:
        """The file's connection."""
        return self.file.db

    def open(self) -> None:
        """Open the file. One that cannot be read is set aside, and what can be read of it is taken over.

        Raises `sqlite3.Error` (locked, disk full) and `OSError`.
        """
        rescued = self._set_aside() if self.suspect else []
        self.suspect = False
        try:
            self._begin()
        except sqlite3.Error as error:
            if not is_torn(error):
                raise
            rescued = self._set_aside()
            self._begin()
        if rescued:
            with self.transaction():
                for each in rescued:
                    self._insert(each)

    def _begin(self) -> None:
        self.file.connect()
        try:
            found = self.db.execute("SELECT age, running, wall, boot FROM clock").fetchone()
            self.age = Age(self.clocks, Mark(*found) if found else None, self.limits.age / 2)
            count = "SELECT count(*), coalesce(sum(size), 0) FROM record INDEXED BY"
            self.book.waiting, self.book.waiting_bytes = self.db.execute(f"{count} waiting WHERE state = 0").fetchone()
            self.book.outcomes, self.book.outcome_bytes = self.db.execute(f"{count} ended WHERE state <> 0").fetchone()
            with self.transaction():
                pass  # the mark
        except BaseException:
            self.file.close()
            raise

    def _set_aside(self) -> list[Request]:
        """Set a damaged file aside and give the whole requests that can still be found in it."""
        found = rescued(self.file.rename_aside())
        self.leased.clear()
        self.held.clear()
        return found

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block as one transaction that is on the disk when this ends; on any error nothing of it has happened."""
        kept = replace(self.book)
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._write_mark()
            self.db.execute("COMMIT")
        except BaseException:
            self.book = kept
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")
            raise

    def put(self, request: Request) -> Outcome:
        """Keep a request, or find it: one key is one request. Raises `QueueFull`, `QueueError` ALREADY_EXISTS."""
        digest = request.digest()
        row = self._find(request.owner, request.key, "digest, state, attempts")
        if row is not None:
            if row[0] != digest:
                raise QueueError(Code.ALREADY_EXISTS, f"the idempotency key {request.key} belongs to another request")
            return Outcome(STATES[row[1]], request.key, row[2])
        size, limits, book = request.size(), self.limits, self.book
        if size > limits.record_bytes:
            raise QueueFull(f"the request has {size} bytes, and at most {limits.record_bytes} are kept")
        if book.waiting >= limits.records or book.waiting_bytes + size > limits.bytes:
            raise QueueFull(f"the queue is full: {book.waiting} requests wait, {book.waiting_bytes} bytes")
        if not self.file.keep_reserve():
            raise QueueFull(DISK_FULL)
        self._insert(request)
        book.accepted += 1
        return Outcome(QueueState.WAITING, request.key, 0)

    def _insert(self, request: Request) -> None:
        size, digest = request.size(), request.digest()
        now = self.age.now()
        added = self.db.execute(
            "INSERT INTO record(owner, key, state, size, created, due, attempts, code, message, cut, digest, target, headers)"
            " VALUES(?, ?, 0, ?, ?, ?, 0, 0, '', 0, ?, ?, ?)",
            (request.owner, request.key, size, now, now, digest, request.target, request.headers_text()),
        )
        self.db.execute("INSERT INTO body VALUES(?, ?)", (added.lastrowid, request.body))
        self.book.waiting += 1
        self.book.waiting_bytes += size

    def take(self, most: int) -> tuple[list[Record], list[int], float | None]:
        """Lease the oldest requests that are due.

        Also gives the numbers of damaged ones, and in how many seconds the next one is due (None: none waits).
        """
        now = self.age.now()
        numbers: list[int] = []
        next_due: float | None = None
        for number, due in self.db.execute("SELECT number, due FROM record INDEXED BY waiting WHERE state = 0 ORDER BY number"):
            if number in self.leased:
                continue
            at = max(due, self.held.get(number, due))
            if at <= now and len(numbers) < most:
                numbers.append(number)
            else:
                next_due = at if next_due is None else min(at, next_due)
                if next_due <= now:
                    break
        records, torn = [], []
        for number in numbers:
            row = self.db.execute(f"{TAKEN} number = ?", (number,)).fetchone()
            request = request_of(row)
            if request is None:
                torn.append(number)
                continue
            self.held.pop(number, None)
            records.append(Record(number, request, row[3], now - row[4]))
        self.leased.update(each.number for each in records)
        return records, torn, None if next_due is None else max(0.0, next_due - now)

    def give_up(self, number: int) -> None:
        """End a request that is not what was written: better no answer than one to another question."""
        if self._end(number, FAILED, Code.DATA_LOSS, "the request was damaged on the disk", b"", attempted=0):
            self.book.failed += 1

    def settle(self, end: Settlement) -> None:
        """Write how a delivery ended; the request's body goes, the answer stays."""
        state = DELIVERED if end.code == Code.OK else FAILED
        row = self._find(end.record.request.owner, end.record.request.key, "number")
        if row != (end.record.number,):
            return  # it is gone: expired, or the file was set aside since
        if self._end(end.record.number, state, end.code, end.message, end.body, attempted=1, cut=end.cut):
            if state == DELIVERED:
                self.book.delivered += 1
            else:
                self.book.failed += 1

    def due(self, delay: float) -> float:
        """Give the time of a next try in `delay` seconds."""
        return self.age.now() + min(max(delay, 0.0), self.limits.retry_most)

    def saved(self, ends: list[Settlement]) -> None:
        """Forget ends that are on the disk now."""
        self.unsaved.forget(ends)
        self.leased.difference_update([end.record.number for end in ends])

    def again(self, record: Record, due: float) -> None:
        """Let a request wait, after a try that failed."""
        self.db.execute(
            "UPDATE record SET attempts = attempts + 1, due = ? WHERE number = ? AND owner = ? AND key = ? AND state = 0",
            (due, record.number, record.request.owner, record.request.key),
        )

    def oldest(self) -> float:
        """Give how long the oldest request has waited, in seconds."""
        row = self.db.execute("SELECT created FROM record INDEXED BY waiting WHERE state = 0 ORDER BY number LIMIT 1").fetchone()
        return max(0.0, self.age.now() - row[0]) if row else 0.0

    def outcome(self, owner: str, key: str) -> Outcome | None:
        """Say where a request stands."""
        row = self._find(owner, key, "state, attempts, code, message, cut, number")
        if row is None:
            return None
        state, attempts, code, message, cut, number = row
        found = self.db.execute("SELECT data FROM body WHERE number = ?", (number,)).fetchone() if state != WAITING else None
        return Outcome(STATES[state], key, attempts, code, message, found[0] if found else b"", bool(cut))

    def forget(self, owner: str, key: str) -> None:
        """Drop an answer that was read; the key stays for a while, so that the request is not run again."""
        row = self._find(owner, key, "number, state, size")
        if row is not None and row[1] in (DELIVERED, FAILED, EXPIRED):
            size = len(owner) + len(key) + 200
            self.db.execute("UPDATE record SET state = ?, size = ? WHERE number = ?", (READ, size, row[0]))
            self.db.execute("DELETE FROM body WHERE number = ?", (row[0],))
            self.book.outcome_bytes += size - row[2]

    def sweep(self) -> None:
        """End what is too old, drop outcomes that are, and give pages back."""
        now = self.age.now()
        old = self.db.execute(
            "SELECT number FROM record INDEXED BY waiting WHERE state = 0 AND created <= ? ORDER BY number",
            (now - self.limits.age,),
        ).fetchall()
        text = f"not delivered within {self.limits.age:.0f} s"
        for (number,) in old:
            if number not in self.leased and self._end(number, EXPIRED, Code.DEADLINE_EXCEEDED, text, b"", attempted=0):
                self.book.expired += 1
        self._drop(self.db.execute(ENDED, (now - self.limits.keep,)).fetchall())
        self.db.execute("PRAGMA incremental_vacuum(512)").fetchall()

    def _end(self, number: int, state: int, code: int, message: str, body: bytes, *, attempted: int, cut: bool = False) -> bool:
        row = self.db.execute(
            "SELECT size, length(owner) + length(key) FROM record WHERE number = ? AND state = 0", (number,)
        ).fetchone()
        if row is None:
            return False
        message = message[:1000]
        cut = cut or len(body) > min(self.limits.record_bytes, self.limits.outcome_bytes)
        if cut:
            body = b""
        size = len(body) + len(message) + row[1] + 200
        self.db.execute(
            "UPDATE record SET state = ?, ended = ?, code = ?, message = ?, cut = ?, headers = '', size = ?,"
            " attempts = attempts + ? WHERE number = ?",
            (state, self.age.now(), code, message, int(cut), size, attempted, number),
        )
        self.db.execute(
            "DELETE FROM body WHERE number = ?", (number,)
        )  # and not an update: pages that are half empty would stay so
        if body:
            self.db.execute("INSERT INTO body VALUES(?, ?)", (number, body))
        self.held.pop(number, None)
        book, limits = self.book, self.limits
        book.waiting -= 1
        book.waiting_bytes -= row[0]
        book.outcomes += 1
        book.outcome_bytes += size
        while book.outcomes > 1 and (book.outcomes > limits.outcomes or book.outcome_bytes > limits.outcome_bytes):
            self._drop(self.db.execute(OLDEST_END).fetchall())
        return True

    def _drop(self, gone: list[tuple[int, int]]) -> None:
        for table in ("DELETE FROM record WHERE number = ?", "DELETE FROM body WHERE number = ?"):
            self.db.executemany(table, [(number,) for number, _ in gone])
        self.book.outcomes -= len(gone)
        self.book.outcome_bytes -= sum(size for _, size in gone)

    def _find(self, owner: str, key: str, columns: str) -> tuple[Any, ...] | None:
        sql = f"SELECT {columns} FROM record WHERE owner = ? AND key = ?"  # noqa: S608 (columns are ours)
        row: tuple[Any, ...] | None = self.db.execute(sql, (owner, key)).fetchone()
        return row

    def _write_mark(self) -> None:
        mark = self.age.mark()
        self.db.execute("REPLACE INTO clock VALUES(1, ?, ?, ?, ?)", (mark.age, mark.running, mark.wall, mark.boot))
