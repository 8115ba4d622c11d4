"""Which CPUs a server gets on one machine, and which are left to whoever asks it."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Placement", "place"]


@dataclass(frozen=True, slots=True)
class Placement:
    """`cpus` is what the server is rendered for; `server` the CPU numbers that it is pinned to (None: not pinned)."""

    cpus: float
    server: frozenset[int] | None


def place(limit: float | None, available: Collection[int] | None = None) -> Placement:
    """Return the placement for a CPU limit.

    `limit` are CPUs as in `serve.resources.limits.cpu`; None takes all of `available`, which is this process's
    affinity when left out. The last CPUs are taken: the first ones answer most interrupts and hold the clients.
    """
    cpus = sorted(available if available is not None else os.sched_getaffinity(0))
    if limit is None or limit >= len(cpus):
        return Placement(float(len(cpus)) if limit is None else min(limit, float(len(cpus))), None)
    return Placement(limit, frozenset(cpus[-max(1, math.ceil(limit)) :]))
