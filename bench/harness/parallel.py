"""Independent parts of a benchmark side by side, each on its share of the cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

__all__ = ["over", "shares"]

Item = TypeVar("Item")
Found = TypeVar("Found")


def shares(cores: Sequence[int], count: int) -> list[set[int]]:
    """Deal the cores out to `count` processes: none has a core more than another by two; with too few they are shared."""
    return [set(cores[number % len(cores) :: count]) or {cores[number % len(cores)]} for number in range(count)]


def over(work: Callable[[Item], Found], items: Sequence[Item], processes: int) -> list[Found]:
    """Do the work for every item, in the items' order.

    Args:
        work: a function of a module, or a partial one, so that another process can be given it.
        items: what it is asked for.
        processes: how many at once; 1: all in this one. Each is held to its share of the cores, as its libraries then are.
    """
    count = min(processes, len(items))
    if count <= 1:
        return [work(item) for item in items]
    context = multiprocessing.get_context("spawn")  # torch and ONNX Runtime have threads, which a fork would not take along
    free = context.Queue()
    dealt = shares(sorted(os.sched_getaffinity(0)), count)
    for share in dealt:
        free.put(share)
    with _threads(min(map(len, dealt))), ProcessPoolExecutor(count, context, _settle, (free,)) as pool:
        return list(pool.map(work, items))


@contextlib.contextmanager
def _threads(most: int) -> Iterator[None]:
    """Tell processes that are started meanwhile how many threads OpenMP may have: it counts them before `_settle` is called."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(most)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _settle(free: multiprocessing.Queue[set[int]]) -> None:
    """Hold the process to a share of the cores, which libraries that count them themselves then see."""
    os.sched_setaffinity(0, free.get())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End once the benchmark has, however it ended: a pool of one that was killed goes on with its work, unseen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # trainings have their checkpoints
