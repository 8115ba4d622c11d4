"""Compare sessions by the clock, fairly: in turns, so that a noisy neighbour slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillhouse.inference.options import session_options

__all__ = ["interleaved", "open_session", "quartile_ms"]


def open_session(model: bytes | Path, threads: int) -> Any:
    """Open an ONNX Runtime session as those that serve are, and silent: what fails is told by who asked for it.

    Raises:
        Exception: ONNX Runtime's own, when the graph is not valid.
    """
    import onnxruntime

    options = session_options(threads)
    options.log_severity_level = 4
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 21,
    budget_s: float = 10.0,
    tick: Callable[[], None] | None = None,
) -> dict[str, list[float]]:
    """Return each call's times in seconds, round by round.

    Every round runs all of them once, in turn, after two rounds that are thrown away. At least five rounds count; more
    are run until `repeats` or until `budget_s` seconds are over.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for round_number in range(repeats + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_number >= 2:
                times[name].append(time.perf_counter() - start)
        if tick is not None:
            tick()
        if round_number >= 6 and time.perf_counter() - began > budget_s:
            break
    return times


def quartile_ms(times: Sequence[float]) -> float:
    """Return the lower quartile of times in seconds, in milliseconds.

    The quartile, not the median: on a shared machine up to half of the rounds are disturbed, always upwards.
    """
    return round(sorted(times)[len(times) // 4] * 1e3, 4)
