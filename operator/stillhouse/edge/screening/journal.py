"""The audit log's life beside the gateway: opened at the start, or later where it may be missing; closed at the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from stillhouse.edge.guard.audit.chain import Chain
from stillhouse.edge.guard.audit.log import AuditLog
from stillhouse.edge.guard.audit.records import Key, stamp
from stillhouse.edge.guard.audit.rotation import Rotation
from stillhouse.edge.guard.refusals import Refusal
from stillhouse.edge.screening.settings import AuditSettings
from stillhouse.errors import Problem, StillhouseError, StoreError

__all__ = ["Journal"]

_FILES = 16
"""Of the log's size, about one of so many files goes at a time when it is full."""
_SMALLEST, _LARGEST = 64 << 10, 64 << 20

_log = logging.getLogger(__name__)


class Journal:
    """Takes records, also while there is no log. `written`: records that were taken, `dropped`: that were not."""

    def __init__(self, settings: AuditSettings, clock: Callable[[], float] = time.time) -> None:
        """Open the log.

        Raises:
            UsageError: the key cannot be read. StoreError: the log cannot be opened, and it is required.
        """
        self._settings, self._clock = settings, clock
        self.key = Key.read(settings.key, "guard.audit.key") if settings.key is not None else None
        self._audit: AuditLog | None = None
        self._trouble = ""
        self._missed: list[Any] | None = None  # count, first time, last time; while there was no log
        self._lost = 0
        self.written = 0
        try:
            self._audit = self._opened()
        except StillhouseError as error:
            if settings.required:
                raise
            self._trouble = _words(error)
            _log.error("there is no audit log, and requests are answered all the same: %s", self._trouble)

    @property
    def required(self) -> bool:
        """Return whether nothing is answered without a record."""
        return self._settings.required

    @property
    def trouble(self) -> str:
        """Return why nothing can be written now; empty where it can."""
        return self._trouble if self._audit is None else self._audit.trouble

    @property
    def waiting(self) -> int:
        """Return how many records are not in a file yet."""
        return self._audit.waiting if self._audit is not None else 0

    @property
    def dropped(self) -> int:
        """Return how many records were not taken."""
        return self._lost + (self._audit.dropped if self._audit is not None else 0)

    def blocked(self) -> Refusal | None:
        """Return why a request cannot be answered now because it could not be recorded."""
        trouble = self.trouble if self._settings.required else ""
        if not trouble:
            return None
        return Refusal("UNAVAILABLE", Problem("requests are answered only where they can be recorded", found=trouble), 1.0)

    def record(self, kind: str, data: dict[str, Any]) -> Refusal | None:
        """Record something: None, or why what it tells of must not be answered. `data` is not changed any more."""
        audit = self._audit
        if audit is None:
            self._miss()
            return self.blocked()
        if self._missed is not None:
            self._tell_missed(audit)
        before = audit.dropped
        refusal = audit.record(kind, data)
        if refusal is None and audit.dropped == before:
            self.written += 1
        elif refusal is not None:
            self._lost += 1
        return refusal

    async def run(self) -> None:
        """Open the log once it can be, where it could not at the start."""
        while self._audit is None:
            await asyncio.sleep(self._settings.retry_s)
            await self.try_again()

    async def try_again(self) -> None:
        """Try once more to open the log."""
        try:
            self._audit = await asyncio.to_thread(self._opened)
            self._trouble = ""
            _log.info("the audit log is open: %s", self._settings.folder)
        except StillhouseError as error:
            self._trouble = _words(error)

    async def close(self) -> None:
        """Write what waits, and close the log."""
        if self._audit is not None:
            if self._missed is not None:
                self._tell_missed(self._audit)
            left = await asyncio.to_thread(self._audit.close)
            if left:
                _log.error("%d audit records are lost: %s", left, self._audit.trouble)

    def _opened(self) -> AuditLog:
        settings = self._settings
        size = min(max(settings.size // _FILES, _SMALLEST), _LARGEST)
        rotation = Rotation(size=size, files=max(settings.size // size, 2), kept=settings.keep_s)
        try:
            chain = Chain(settings.folder, key=self.key, rotation=rotation, clock=self._clock)
        except ValueError as error:
            raise StoreError("the audit log cannot be opened", field="guard.audit", found=str(error)) from error
        return AuditLog(chain, full="refuse" if settings.required else "drop", clock=self._clock)

    def _miss(self) -> None:
        self._lost += 1
        now = self._clock()
        if self._missed is None:
            self._missed = [0, now, now]
        self._missed[0] += 1
        self._missed[2] = now

    def _tell_missed(self, audit: AuditLog) -> None:
        """Record what was not: before there was a log there was no place for it."""
        if self._missed is not None:
            count, first, last = self._missed
            self._missed = None
            audit.record("gap", {"dropped": count, "from": stamp(first), "to": stamp(last)})


def _words(error: StillhouseError) -> str:
    problem = error.problem
    return f"{problem.message}: {problem.found}" if problem.found else problem.message
