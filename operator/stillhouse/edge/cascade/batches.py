"""Requests that wait are run together; one that finds a thread idle is run at once. Nobody waits in order to be joined."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stillhouse.edge.status import Code, Refused, RpcError

__all__ = ["Batches", "Ran"]

W = TypeVar("W")
R = TypeVar("R")
Submit = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Ran(Generic[R]):
    """A result, and how it came about: seconds that it waited and that its batch ran, rows of the batch."""

    result: R
    waited_s: float
    ran_s: float
    batch: int


class _Job(Generic[W, R]):
    __slots__ = ("at", "future", "rows", "work")

    def __init__(self, work: W, rows: int, future: asyncio.Future[Ran[R]], at: float) -> None:
        self.work, self.rows, self.future, self.at = work, rows, future, at


class Batches(Generic[W, R]):
    """Runs work in threads, up to `most` rows together, in the order in which it came.

    `run` gives a result or an error for each work of a batch; where it raises, the works of the batch are run one by one, so that
    none fails for another one's sake. `waiting`: rows that may wait. What nobody waits for any more is not run.
    """

    def __init__(
        self,
        run: Callable[[Sequence[W]], Sequence[R | Exception]],
        executor: Executor,
        *,
        at_once: int,
        most: int,
        waiting: int,
        submit: Submit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._executor, self._submit, self._clock = run, executor, submit, clock
        self._free, self._most, self._bound = at_once, most, waiting
        self._jobs: deque[_Job[W, R]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self.waiting = 0
        """Rows that wait."""
        self.runs = self.dropped = self.refused = 0

    async def ask(self, work: W, rows: int, left_s: float | None) -> Ran[R]:
        """Return the result of work of so many rows.

        Raises:
            Refused: RESOURCE_EXHAUSTED; too much waits already.
            RpcError: DEADLINE_EXCEEDED after `left_s` seconds, and what became of the work.
        """
        loop = asyncio.get_running_loop()
        if left_s is not None and left_s <= 0:
            raise _late()
        if not self._free and self.waiting + rows > self._bound:
            self._sweep()
            if self.waiting + rows > self._bound:
                self.refused += 1
                raise Refused(Code.RESOURCE_EXHAUSTED, f"the model here has enough to do: {self.waiting} rows wait")
        future: asyncio.Future[Ran[R]] = loop.create_future()
        self._jobs.append(_Job(work, rows, future, self._clock()))
        self.waiting += rows
        timer = None if left_s is None else loop.call_later(left_s, _expire, future)
        if self._free:
            self._start(loop)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()

    async def close(self) -> None:
        """Run nothing that has not begun; wait for what has."""
        for job in self._jobs:
            if not job.future.done():
                job.future.set_exception(RpcError(Code.UNAVAILABLE, "the gateway ends", unprocessed=True))
                job.future.exception()
        self._jobs.clear()
        self.waiting = 0
        if self._under_way:
            await asyncio.wait(self._under_way)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._free and (batch := self._next()):
            self._free -= 1
            task = loop.create_task(self._work(batch, loop))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def _next(self) -> list[_Job[W, R]]:
        batch: list[_Job[W, R]] = []
        rows = 0
        while self._jobs and (not batch or rows + self._jobs[0].rows <= self._most):
            job = self._jobs.popleft()
            self.waiting -= job.rows
            if job.future.done():
                self.dropped += 1
                continue
            batch.append(job)
            rows += job.rows
        return batch

    def _sweep(self) -> None:
        """Forget what nobody waits for: it must not keep others out."""
        kept = [job for job in self._jobs if not job.future.done()]
        self.dropped += len(self._jobs) - len(kept)
        self._jobs = deque(kept)
        self.waiting = sum(job.rows for job in kept)

    async def _work(self, batch: list[_Job[W, R]], loop: asyncio.AbstractEventLoop) -> None:
        begun = self._clock()
        works = [job.work for job in batch]
        try:
            results = await self._submitted(lambda: self._each(works), loop)
        except Exception as error:  # an executor that has ended
            results = [error] * len(batch)
        finally:
            self._free += 1
        self.runs += 1
        took, rows = self._clock() - begun, sum(job.rows for job in batch)
        for job, result in zip(batch, results, strict=True):
            if job.future.done():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(Ran(result, begun - job.at, took, rows))
        self._start(loop)

    def _submitted(self, what: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> Awaitable[Any]:
        return loop.run_in_executor(self._executor, what) if self._submit is None else self._submit(what)

    def _each(self, works: list[W]) -> Sequence[R | Exception]:
        """Run in a thread."""
        try:
            return self._run(works)
        except Exception as error:  # a runtime's, whatever its class
            if len(works) == 1:
                return [error]
        found: list[R | Exception] = []
        for work in works:
            try:
                found.extend(self._run([work]))
            except Exception as error:
                found.append(error)
        return found


def _late() -> RpcError:
    return RpcError(Code.DEADLINE_EXCEEDED, "the model here has not answered in its part of the time", ours=True)


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(_late())
