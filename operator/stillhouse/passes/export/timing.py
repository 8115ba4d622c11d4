"""Compare sessions by the clock, fairly: in turns, so that a noisy neighbour slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["choose", "interleaved", "open_session"]


def open_session(model: bytes | Path, threads: int) -> Any:
    """Open an ONNX Runtime session on the CPU; idle threads do not spin.

    Raises:
        Exception: ONNX Runtime's own, when the graph is not valid.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(threads, 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 21,
    budget_s: float = 10.0,
    tick: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Return the median time of each call in milliseconds.

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
    return {name: round(statistics.median(values) * 1e3, 4) for name, values in times.items()}


def choose(latencies: Mapping[str, Mapping[str, float]], prefer: str, tie: float = 0.05) -> str:
    """Return the name with the lowest latency, geometric mean over the shapes.

    `latencies` is name → shape → milliseconds. Within `tie` (a share) of the fastest, `prefer` wins: a difference that
    small is noise, and the preferred graph has other merits.
    """
    means = {name: statistics.geometric_mean(shapes.values()) for name, shapes in latencies.items()}
    fastest = min(means, key=lambda name: (means[name], name))
    if prefer in means and means[prefer] <= means[fastest] * (1 + tie):
        return prefer
    return fastest
