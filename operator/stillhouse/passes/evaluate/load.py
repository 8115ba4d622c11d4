"""A closed loop of clients against a server: each waits for its answer before it asks again."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.errors import StillhouseError

__all__ = ["LoadResult", "closed_loop"]

BLOCKS = 6


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`latencies` float64 [requests] in seconds; `blocks` answers per second of each sixth of the run, in order."""

    latencies: npt.NDArray[np.float64]
    blocks: tuple[float, ...]
    seconds: float


def closed_loop(
    connect: Callable[[], Any],
    ask: Callable[[Any, Any], object],
    payloads: Sequence[Any],
    *,
    concurrency: int,
    requests: int,
    progress: Callable[[int], None] | None = None,
) -> LoadResult:
    """Send `requests` requests, the payloads in order and over again, from `concurrency` clients of their own.

    `connect` returns a client (a context manager), `ask` sends one payload with it and returns when it is answered.

    Raises:
        StillhouseError: the first error that a client met.
    """
    tickets = itertools.count()
    finished = np.zeros(requests)
    latencies = np.zeros(requests)
    errors: list[BaseException] = []
    done = itertools.count(1)
    begins: list[float] = []
    # Read by whoever comes last, before anyone is let go: a thread that is woken late would begin after the first request.
    ready = threading.Barrier(concurrency + 1, action=lambda: begins.append(time.perf_counter()))

    def client() -> None:
        try:
            with connect() as connection:
                ask(connection, payloads[0])  # the channel's set-up is not the model's latency
                ready.wait(timeout=60)
                while not errors and (ticket := next(tickets)) < requests:
                    start = time.perf_counter()
                    ask(connection, payloads[ticket % len(payloads)])
                    end = time.perf_counter()
                    latencies[ticket], finished[ticket] = end - start, end
                    count = next(done)
                    if progress is not None and count % 50 == 0:
                        progress(count)
        except BaseException as error:
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=client, daemon=True) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait(timeout=60)
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:  # Ctrl-C: the clients must not go on asking
        errors.append(error)
        raise
    if errors:
        raise next((error for error in errors if isinstance(error, StillhouseError)), errors[0])
    ends = np.sort(finished)
    parts = np.array_split(ends, min(BLOCKS, requests))
    [begin] = begins
    edges = [begin, *(float(part[-1]) for part in parts)]
    counts = [len(part) for part in parts]
    blocks = tuple(n / max(b - a, 1e-9) for n, a, b in zip(counts, edges, edges[1:], strict=False))
    return LoadResult(latencies, blocks, float(ends[-1]) - begin)
