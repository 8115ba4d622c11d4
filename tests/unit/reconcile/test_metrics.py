"""What the operator says of itself to Prometheus."""

from __future__ import annotations

import asyncio

from prometheus_client import generate_latest
from tests.support.cluster import SOURCES, model

from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.kinds import MODEL
from stillhouse.reconcile.controller import Controller
from stillhouse.reconcile.metrics import Metrics
from stillhouse.resources.wanted import ClusterSettings


def said(metrics: Metrics, name: str) -> float:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


def test_the_depth_of_the_queue_is_the_models_that_wait() -> None:
    async def life() -> tuple[float, float, float]:
        kube, metrics = FakeKube(), Metrics()
        controller = Controller(kube, ClusterSettings(sources=SOURCES), metrics)
        for name in ("a", "b", "c"):
            controller.see("ADDED", await kube.create(MODEL, "default", model(name)))
        controller.see("MODIFIED", controller.cache.observe(("default", "a")).model)  # type: ignore[union-attr]
        waiting = said(metrics, "stillhouse_queue_depth")
        oldest = said(metrics, "stillhouse_queue_oldest_seconds")
        controller.lead()
        while not controller.queue.idle:
            await asyncio.sleep(0.01)
        done = said(metrics, "stillhouse_queue_depth")
        await controller.rest()
        return waiting, oldest, done

    waiting, oldest, done = asyncio.run(life())
    assert waiting == 3, "each once, whatever is told of it"
    assert oldest > 0
    assert done == 0
