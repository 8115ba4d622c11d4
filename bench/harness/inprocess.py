"""Measure Stillhouse's engine without a server: the baseline that says what Triton adds.

Each instance is a process of its own, as in Triton's Python backend, and answers one batch after the other: batches of
equal size, or of sizes drawn as often as a server was seen to form them, so that both sides batch alike. The report has
the load generator's fields: a batch's time is the latency of each of its texts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast


def nearest_rank(ordered: list[float], share: float) -> float:
    """Smallest value with at least `share` of all values at or below it, as the load generator counts."""
    rank = -int(-(share * len(ordered) - 1e-9) // 1)
    return ordered[max(rank, 1) - 1]


def latency(samples: list[float]) -> dict[str, float]:
    """Mean, percentiles and maximum of at least one sample."""
    ordered = sorted(samples)
    percentiles = {f"p{percent}": nearest_rank(ordered, percent / 100) for percent in (50, 90, 99)}
    return {"mean": sum(ordered) / len(ordered), **percentiles, "max": ordered[-1]}


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


# Instances take turns at runs of so many texts, so that together they answer the texts that a server is sent.
TURN = 32


def own_texts(texts: list[str], number: int, instances: int) -> list[tuple[int, str]]:
    """Give the texts of one instance with their places in the file; all of them where there are fewer than a turn each."""
    own = [(place, text) for place, text in enumerate(texts) if place // TURN % instances == number]
    return own or list(enumerate(texts))


def sizes(batch: int, observed: dict[int, int], seed: int) -> Iterator[int]:
    """Give batch sizes without end: `batch` each time, or drawn from `observed` (size → how often)."""
    if not observed:
        while True:
            yield batch
    draw = random.Random(seed)
    while True:
        yield from draw.choices(list(observed), weights=list(observed.values()), k=1024)


def instance(number: int, options: argparse.Namespace, gate: Any, results: Any) -> None:
    """One process: load, warm up, wait for the others, answer until the time is over, report."""
    import numpy as np

    from stillhouse.inference.engine import Engine

    texts = [json.loads(line) for line in options.texts.read_text(encoding="utf-8").splitlines()]
    engine = Engine(options.model, threads=options.threads)
    own = own_texts(texts, number, options.instances)

    def batches(direction: int) -> Iterator[list[tuple[int, str]]]:
        position = 0 if direction > 0 else -1
        for size in sizes(options.batch, options.observed, number):
            yield [own[(position + direction * row) % len(own)] for row in range(size)]
            position += direction * size

    warm_until = time.monotonic() + options.warmup
    for warming in batches(-1):  # from the list's end, like the load generator's warm-up
        engine.run_rows([text for _, text in warming], count=False)
        if time.monotonic() >= warm_until:
            break
    gate.wait()
    answers: dict[int, list[float]] = {}
    latencies: list[float] = []
    right = errors = 0
    cpu, start = _cpu(), time.monotonic()
    for chosen in batches(1):
        begun = time.monotonic()
        if begun >= start + options.duration:
            break
        values = engine.run_rows([text for _, text in chosen], count=False).values  # as the server does
        latencies.extend([1000 * (time.monotonic() - begun)] * len(chosen))
        good = np.isfinite(values).all(axis=1) & (values != 0).any(axis=1)
        good &= options.expect_dim in (0, values.shape[1])
        right += int(good.sum())
        errors += int((~good).sum())
        for (place, _), row in zip(chosen, values, strict=True):
            if place < options.answers:
                answers[place] = [float(value) for value in row]
    seconds = time.monotonic() - start
    results.put(
        {
            "right": right,
            "errors": errors,
            "seconds": seconds,
            "latencies": latencies,
            "cpu_seconds": _cpu() - cpu,
            "total_cpu_seconds": _cpu(),
            "answers": answers,
        }
    )


def observed(text: str) -> dict[int, int]:
    """Read `SIZE:COUNT,…`."""
    return {int(size): int(count) for size, count in (pair.split(":") for pair in text.split(","))}


def main() -> int:
    """Run the instances and print one report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with model.onnx, signature.json, tokenizer.json")
    parser.add_argument("--texts", type=Path, required=True, help="JSONL of strings")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--observed", type=observed, default={}, help="SIZE:COUNT,…: draw sizes like these instead of --batch")
    parser.add_argument("--instances", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--duration", type=float, default=20.0)
    parser.add_argument("--warmup", type=float, default=3.0)
    parser.add_argument("--expect-dim", type=int, default=0)
    parser.add_argument("--answers", type=int, default=0)
    options = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(options.instances), context.Queue()
    processes = [context.Process(target=instance, args=(number, options, gate, results)) for number in range(options.instances)]
    for process in processes:
        process.start()
    reports: list[dict[str, Any]] = []
    while len(reports) < options.instances:
        if any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()
            print("an instance failed", file=sys.stderr)
            return 1
        if not results.empty():
            reports.append(cast("dict[str, Any]", results.get()))
        else:
            time.sleep(0.05)
    for process in processes:
        process.join()
    samples = [sample for report in reports for sample in report["latencies"]]
    json.dump(
        {
            "mode": "in-process",
            "batch": options.batch,
            "observed": options.observed,
            "instances": options.instances,
            "threads": options.threads,
            "right": sum(report["right"] for report in reports),
            "errors": sum(report["errors"] for report in reports),
            "throughput": sum(report["right"] / report["seconds"] for report in reports),
            "seconds": max(report["seconds"] for report in reports),
            "latency_ms": latency(samples),
            "cpu_seconds": sum(report["cpu_seconds"] for report in reports),
            "total_cpu_seconds": sum(report["total_cpu_seconds"] for report in reports),
            "answers": {key: value for report in reports for key, value in report["answers"].items()},
        },
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
