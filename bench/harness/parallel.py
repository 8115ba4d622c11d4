"""Independent parts of a benchmark side by side, each on its share of the cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
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
    for share in shares(sorted(os.sched_getaffinity(0)), count):
        free.put(share)
    with ProcessPoolExecutor(count, mp_context=context, initializer=_settle, initargs=(free,)) as pool:
        return list(pool.map(work, items))


def _settle(free: multiprocessing.Queue[set[int]]) -> None:
    """Hold the process to a share of the cores, before a library counts them."""
    share = free.get()
    os.sched_setaffinity(0, share)
    os.environ["OMP_NUM_THREADS"] = str(len(share))
