"""Measures a running model with the gate's own load."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.clients.inference import infer_row
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.triton import TritonClient
from stillhouse.entrypoints.local import servers
from stillhouse.entrypoints.local.lines import lines_of
from stillhouse.errors import UsageError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.evaluate.intervals import block_interval, quantile_interval
from stillhouse.passes.evaluate.load import closed_loop
from stillhouse.passes.evaluate.rows import read_rows
from stillhouse.settings import load_settings

__all__ = ["bench"]


def _payloads(store: LocalStore, name: str, digest: str, texts: Path | None) -> tuple[str, list[Any]]:
    """Return (the model's input, payloads): lines of a file, or the rows of the gate's data."""
    if texts is not None:
        lines = lines_of(texts.read_bytes(), f"--texts {texts}")
        if not lines:
            raise UsageError("the file has no texts", field="--texts", found=str(texts))
        return "TEXT", lines
    for step in store.state(name).get("steps", []):
        receipt = store.receipt(step["key"]) if step["id"] == "resolve/gate-data" else None
        if receipt is not None:
            data = Artifact(receipt.artifact, receipt.kind, store.objects.opened(receipt.artifact), receipt.size)
            rows = read_rows(data, Signature.read(store.objects.opened(digest)))
            return rows.tensor, rows.requests
    raise UsageError("there are no texts to ask", field="--texts", fix=f"still bench {name} --texts FILE, one text a line")


def bench(
    name: str, *, concurrency: int, requests: int, texts: Path | None, report: Callable[[int, int], None]
) -> dict[str, Any]:
    """Return latency and throughput with one client and with `concurrency`, as plain data.

    `report` is told requests answered and requests in all, of both loads together.

    Raises:
        UsageError: the model is not being served, or there is nothing to ask it, or no UTF-8.
    """
    store = LocalStore(load_settings().home)
    running = servers.require(store, name)
    tensor, payloads = _payloads(store, name, running.revision, texts)
    loads = ((1, max(50, requests // 4)), (concurrency, requests))
    total = sum(count for _, count in loads)
    lock, earlier, seen = threading.Lock(), 0, 0

    def progress(done: int) -> None:
        nonlocal seen
        with lock:
            if earlier + done > seen:
                seen = earlier + done
                report(seen, total)

    def ask(client: TritonClient, payload: Any) -> None:
        infer_row(client, name, tensor, payload)

    runs = []
    with TritonClient(running.handle.address) as client:
        before = client.statistics(name)
        for clients, count in loads:
            result = closed_loop(
                lambda: TritonClient(running.handle.address, retries=0),
                ask,
                payloads,
                concurrency=clients,
                requests=count,
                progress=progress,
            )
            runs.append(
                {
                    "concurrency": clients,
                    "requests": count,
                    "distinct": min(count, len(payloads)),
                    "latencyP50": quantile_interval(result.latencies, 0.5).to_json(),
                    "latencyP99": quantile_interval(result.latencies, 0.99).to_json(),
                    "throughput": block_interval(result.blocks).to_json(),
                    "mean": float(np.mean(result.latencies)),
                }
            )
            earlier += count
        after = client.statistics(name)
    executions = after.executions - before.executions
    return {
        "name": name,
        "revision": running.revision,
        "precision": running.precision,
        "address": running.handle.address,
        "meanBatch": (after.inferences - before.inferences) / executions if executions else 0.0,
        "runs": runs,
    }
