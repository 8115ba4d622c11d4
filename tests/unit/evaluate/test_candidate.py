"""Measuring a candidate: what is held against which limit, and how often a noisy speed is measured again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from tests.support.artifacts import Recorder

from stillhouse.clients.inference import Answer, FakeInferenceClient
from stillhouse.errors import QueueRefusal, SpecError
from stillhouse.passes.base import Artifact
from stillhouse.passes.evaluate.candidate import Candidate, Measured, measure
from stillhouse.passes.evaluate.metrics import Outputs
from stillhouse.passes.evaluate.rows import GateRows

TEXTS = [f"text {n}" for n in range(40)]
ROWS = GateRows({"text": TEXTS}, None, None)


def embed(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = np.array([[np.cos(hash_of(text)), np.sin(hash_of(text))] for text in texts], dtype=np.float32)
    return values


def hash_of(text: str) -> float:
    return float(sum(text.encode()) % 97)


def connect() -> FakeInferenceClient:
    return FakeInferenceClient(lambda model, texts: Answer(embeddings=embed(texts)))


def candidate(size: int = 1000) -> Candidate:
    return Candidate("int8", Artifact("sha256:" + "1" * 64, "onnx-model", Path("/nowhere"), size))


def settings(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "metrics": [],
        "limits": {},
        "repeats": 3,
        "load": {"concurrency": 2, "requests": 60},
        "serve": {"maxBatchSize": 8, "queueSize": 0, "queueTimeout": None},
    }
    return {**base, **changes}


def measured(
    rows: GateRows | None = ROWS, reference: Outputs | None = None, size: int = 1000, **changes: Any
) -> tuple[Measured, Recorder]:
    progress = Recorder()
    return measure(connect, candidate(size), settings(**changes), rows, reference, progress), progress


def metric(name: str, *, of: str = "absolute", **limit: float) -> dict[str, Any]:
    return {"name": name, "min": None, "max": None, "of": of, **limit}


def test_without_a_gate_nothing_is_measured_and_everything_passes() -> None:
    found, _ = measured(rows=None)
    assert (found.outcome, found.figures, found.checks, found.repeats) == ("passed", {}, [], 0)


@pytest.mark.parametrize(("limit", "outcome"), [(1000.0, "passed"), (999.0, "failed")])
def test_the_size_is_of_all_files(limit: float, outcome: str) -> None:
    found, _ = measured(rows=None, limits={"size": limit})
    assert found.outcome == outcome
    assert found.checks[0].name == "size"


@pytest.mark.parametrize(("limit", "outcome"), [(0.99, "passed"), (1.01, "failed")])
def test_quality_is_held_against_its_limit(limit: float, outcome: str) -> None:
    found, _ = measured(reference=Outputs(text=embed(TEXTS)), metrics=[metric("cosine", min=limit)])
    assert found.outcome == outcome
    assert found.figures["cosine"].estimate == pytest.approx(1.0, abs=1e-6)
    assert found.figures["cosine"].n == len(TEXTS)


def test_a_share_of_the_teachers_figure_is_named_as_one() -> None:
    rows = GateRows({"query": TEXTS, "document": TEXTS}, None, None)
    teacher = Outputs(query=embed(TEXTS), document=embed(TEXTS))
    found, _ = measured(rows, teacher, metrics=[metric("mrr@10", of="teacher", min=0.9), metric("mrr@10", min=0.0)])
    assert found.figures["mrr@10 / teacher"].estimate == 1.0
    assert "mrr@10" in found.figures
    assert found.outcome == "passed"


def test_speed_is_measured_without_limits_once() -> None:
    found, _ = measured()
    assert set(found.figures) == {"latencyP50", "latencyP99", "throughput"}
    assert found.checks == []
    assert found.repeats == 1
    assert found.figures["latencyP50"].n == 60


@pytest.mark.parametrize(
    ("limits", "name"),
    [({"latencyP50": 1e-9}, "latencyP50"), ({"latencyP99": 1e-9}, "latencyP99"), ({"throughput": 1e9}, "throughput")],
)
def test_a_speed_that_is_missed_clearly_is_not_measured_again(limits: dict[str, float], name: str) -> None:
    found, progress = measured(limits=limits)
    assert found.outcome == "failed"
    assert [check.name for check in found.checks] == [name]
    assert found.repeats == 1
    assert progress.notes == []


def test_a_speed_that_is_met_clearly_passes() -> None:
    found, _ = measured(limits={"latencyP50": 60.0, "throughput": 0.001})
    assert (found.outcome, found.repeats) == ("passed", 1)


def test_too_few_requests_for_a_percentile_are_sent_again_until_there_are_enough() -> None:
    found, progress = measured(limits={"latencyP99": 60.0}, load={"concurrency": 2, "requests": 150})
    assert found.outcome == "passed"
    assert found.repeats == 3
    assert found.figures["latencyP99"].n == 450
    assert len(progress.notes) == 2


def test_repeats_come_to_an_end() -> None:
    found, progress = measured(limits={"latencyP99": 60.0}, load={"concurrency": 1, "requests": 50}, repeats=2)
    assert found.outcome == "inconclusive"
    assert found.repeats == 3
    assert len(progress.notes) == 3


def test_images_are_measured_one_by_one() -> None:
    class Images(FakeInferenceClient):
        pass

    clients: list[Images] = []

    def to() -> Images:
        clients.append(Images(lambda model, texts: Answer(probabilities=np.array([[0.1, 0.9]] * len(texts), dtype=np.float32))))
        return clients[-1]

    rows = GateRows({}, np.zeros((9, 1, 2, 2), dtype=np.float32), np.ones(9, dtype=np.int64), "IMAGE")
    found = measure(to, candidate(), settings(metrics=[metric("accuracy", min=0.6)]), rows, None, Recorder())
    assert found.outcome == "passed"
    assert sum(client.images for client in clients) == 9 + 60 + 2


@pytest.mark.parametrize(
    ("limit", "field", "found"), [("size", "spec.serve.queue.maxSize", "2"), ("timeout", "spec.serve.queue.timeout", "0.5 s")]
)
@pytest.mark.parametrize("metrics", [[], [metric("cosine", min=0.5)]], ids=["under load", "on the rows"])
def test_a_queue_that_refuses_the_gate_is_the_users_to_widen(
    limit: Literal["size", "timeout"], field: str, found: str, metrics: list[dict[str, Any]]
) -> None:
    def refuse(model: str, texts: Sequence[str]) -> Answer:
        refusal = QueueRefusal("the server takes no more requests", found="Exceeds maximum queue size")
        refusal.limit = limit
        raise refusal

    config = settings(serve={"maxBatchSize": 8, "queueSize": 2, "queueTimeout": 0.5}, metrics=metrics)
    with pytest.raises(SpecError) as caught:
        measure(lambda: FakeInferenceClient(refuse), candidate(), config, ROWS, None, Recorder())
    problem = caught.value.problem
    assert (problem.field, problem.found) == (field, found)
    assert "spec.gate.load.concurrency (2)" in problem.fix
    assert "Exceeds maximum queue size" in problem.message


@pytest.mark.parametrize(("size", "most"), [(0, 2), (1, 1), (7, 2)])
def test_the_rows_are_asked_for_by_no_more_clients_than_the_queue_holds(size: int, most: int) -> None:
    clients: list[FakeInferenceClient] = []

    def to() -> FakeInferenceClient:
        clients.append(connect())
        return clients[-1]

    config = settings(
        serve={"maxBatchSize": 8, "queueSize": size, "queueTimeout": None},
        metrics=[metric("cosine", min=0.5)],
        load={"concurrency": 1, "requests": 50},
    )
    measure(to, candidate(), config, ROWS, Outputs(text=embed(TEXTS)), Recorder())
    assert len(clients) == most + 1, "and the one of the load"
