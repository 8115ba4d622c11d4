"""The log as the gateway's loop sees it: records go into a bounded queue, a thread writes them in batches.

`record` takes no lock and touches no file. What happens when the disk is slow or full is a policy:

- `refuse`: while the disk takes nothing, or the queue is full, `record` returns a refusal, and the request is not answered.
- `drop`: requests go on; what the queue cannot hold is counted, and a record `gap` says how many there were, from when to when,
  at the very place in the log where they are missing.

What is on disk when: with `sync` `batch`, each batch, some milliseconds after its records; with `interval`, at most that many
seconds later; with `never`, when the system likes. A process that is killed loses what is in its queue, a machine that stops
also what was not synced.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from stillhouse.edge.guard.audit.chain import Chain, Entry
from stillhouse.edge.guard.audit.records import stamp
from stillhouse.edge.guard.refusals import Refusal
from stillhouse.errors import Problem

__all__ = ["AuditLog"]

BATCH = 32
"""Records that are encoded at a time, a quarter of a millisecond. Then comes a write, which lets the loop's thread run: with
more of them requests would wait, up to the five milliseconds after which the interpreter ends a thread's turn."""
RETRY = 1.0
"""Seconds between two tries of a disk that takes nothing."""


class AuditLog:
    """Records what the gateway does. `record` is for one thread, the loop's."""

    def __init__(
        self,
        chain: Chain,
        *,
        full: Literal["refuse", "drop"] = "refuse",
        queue: int = 10_000,
        sync: Literal["batch", "interval", "never"] = "interval",
        interval: float = 1.0,
        linger: float = 0.02,
        retry: float = RETRY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start the thread.

        `linger`: seconds that it waits for more records to write with the first; `retry`: between two tries of a disk that
        takes nothing. `chain` is closed with the log.
        """
        self._chain = chain
        self._policy = full
        self._most = queue
        self._sync = sync
        self._interval = interval if sync == "interval" else 0.0
        self._linger = linger
        self._retry = retry
        self._clock = clock
        self._queue: deque[Entry] = deque()
        self._batch: deque[Entry] = deque()
        self._gap: list[Any] | None = None  # count, first time, last time
        self._gaps = threading.Lock()  # taken only where something was dropped
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._idle = threading.Event()  # not set: somebody waits in `flush`
        self._idle.set()
        self._trouble = ""
        self._unsynced = False
        self._told = False
        self._synced_at = time.monotonic()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why the disk takes nothing; empty while it does."""
        return self._trouble

    @property
    def waiting(self) -> int:
        """How many records are not in the file yet."""
        return len(self._queue) + len(self._batch)

    def record(self, kind: str, data: dict[str, Any]) -> Refusal | None:
        """Record something: None, or by the policy `refuse` the refusal. `data` is JSON data that nobody changes any more."""
        if self._closing.is_set() or (self._trouble and self._policy == "refuse"):
            return self._refusal(self._trouble or "the log is closed")
        now = self._clock()
        if len(self._queue) >= self._most:
            if self._policy == "refuse":
                return self._refusal("the disk is slower than the requests")
            self._drop(now)
            return None
        if self._gap is not None:
            self._tell_gap()
        self._queue.append(Entry(now, kind, data))
        if not self._wake.is_set():
            self._wake.set()
        return None

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was recorded is in the file, and synced unless the policy is `never`. Says whether it is."""
        self._idle.clear()
        self._wake.set()
        return self._idle.wait(timeout)

    def close(self, timeout: float | None = 5.0) -> int:
        """Write what waits, sync and close. Returns how many records are lost because the disk took them not."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)
        return self.waiting

    @staticmethod
    def _refusal(why: str) -> Refusal:
        return Refusal(
            "UNAVAILABLE", Problem("requests are answered only where they can be recorded", field="audit", found=why), RETRY
        )

    def _drop(self, now: float) -> None:
        self.dropped += 1
        with self._gaps:
            if self._gap is None:
                self._gap = [1, now, now]
            else:
                self._gap[0] += 1
                self._gap[2] = now

    def _tell_gap(self) -> None:
        """Put the record of what was dropped where it is missing: behind what was recorded before, ahead of what comes."""
        with self._gaps:
            gap = self._gap
            if gap is not None:
                self._queue.append(Entry(gap[2], "gap", {"dropped": gap[0], "from": stamp(gap[1]), "to": stamp(gap[2])}))
            self._gap = None  # last: whoever sees none finds its record in the queue

    def _run(self) -> None:
        """Write until closed. An error that nobody thought of is trouble of the disk's kind: it is tried again, and told."""
        while True:
            self._wake.wait(self._interval if self._unsynced and self._interval else None)
            if not self._closing.is_set() and self._linger:
                self._closing.wait(self._linger)
            self._wake.clear()
            last, awaited = self._closing.is_set(), not self._idle.is_set()
            try:
                self._drain()
                self._put_on_disk(last or awaited)
                self._trouble = ""
                if self.waiting or self._gap is not None:
                    self._wake.set()
                    last = False
                elif awaited:
                    self._idle.set()
            except Exception as error:  # the log must outlive whatever a disk does
                self._trouble = str(getattr(error, "strerror", "") or error) or type(error).__name__
                if not last:
                    self._closing.wait(self._retry)
                    self._wake.set()
            if last:
                break
        with contextlib.suppress(OSError):
            self._chain.close()

    def _drain(self) -> None:
        """Write what waits by now; what comes meanwhile has its turn after the disk's."""
        left = len(self._queue)
        if not left and not self._batch and self._gap is not None:
            self._tell_gap()
            left = 1
        while left > 0 or self._batch:
            while self._queue and left > 0 and len(self._batch) < BATCH:
                self._batch.append(self._queue.popleft())
                left -= 1
            self._unsynced = True
            self._chain.append(self._batch)

    def _put_on_disk(self, now: bool) -> None:
        if self._sync == "never" or not self._unsynced:
            return
        if now or self._sync == "batch" or time.monotonic() - self._synced_at >= self._interval:
            try:
                self._chain.sync()
            except OSError as error:
                if not self._told:  # the system may have lost what it could not write, and succeed at the next try
                    self._queue.append(Entry(self._clock(), "unsynced", {"why": error.strerror or str(error)}))
                self._told = True
                raise
            self._unsynced = self._told = False
            self._synced_at = time.monotonic()
