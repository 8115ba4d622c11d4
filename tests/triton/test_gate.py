"""The gate with the real server: which candidate is taken, what is said when none is, and what is left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file
from tests.support.artifacts import Recorder, context
from tests.support.plans import plan_of
from tests.support.tiny_model import WORDS, write_tiny_model

from stillhouse.clients.store.local import LocalStore
from stillhouse.errors import DataError, GateFailed, GateInconclusive, ServerError
from stillhouse.inference.engine import Engine
from stillhouse.passes.base import Artifact, Context, Served
from stillhouse.passes.compress.int4 import Int4Config, QuantizeInt4
from stillhouse.passes.evaluate.gate import Gate, GateConfig, GateFacts
from stillhouse.passes.evaluate.serving import BesideUs
from stillhouse.passes.sources.dataset import Description

ROWS = 60
SAME, OTHER = 0, 1


def texts(seed: int, rows: int = ROWS) -> list[str]:
    """Return sentences of the tiny vocabulary, no two alike."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[4:], 6)) + f" {seed}x{n}" for n in range(rows)]


QUERIES = texts(1)


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate lays out its backend in the user's cache: give it one that the tests of this file share."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "gate-cache"))


def model(folder: Path, seed: int, **more: Any) -> Artifact:
    """Write a tiny model; equal seeds give equal answers."""
    write_tiny_model(folder, seed=seed, **more)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Artifact(f"sha256:{seed:064d}", "onnx-model", folder, size, {"exporter": "tiny"})


def dataset(folder: Path, **columns: list[Any]) -> Artifact:
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "data.parquet")
    Description(tuple(columns), ROWS, "sha256:0", "sha256:1").write(folder)
    return Artifact("sha256:" + "d" * 64, "dataset", folder, 1)


def reference(folder: Path, teacher: Artifact) -> Artifact:
    """Return what the teacher says: the tiny model with seed SAME is the teacher."""
    folder.mkdir()
    save_file({"text": Engine(teacher.path).embed(QUERIES)}, str(folder / "outputs.safetensors"))
    return Artifact("sha256:" + "e" * 64, "measurement", folder, 1)


def config(*precisions: str, **changes: Any) -> GateConfig:
    """Return a gate's configuration as planning writes it, with another ladder and other limits."""
    planned = dict(plan_of("text", {"spec.serve": {"resources": {"limits": {"cpu": "1"}}}}).step("gate/gate").config)
    base = {"metrics": [], "limits": {}, "repeats": 1, "load": {"concurrency": 2, "requests": 60}}
    return GateConfig.model_validate({**planned, **base, "candidates": list(precisions), **changes})


def cosine(limit: float) -> list[dict[str, Any]]:
    return [{"name": "cosine", "min": limit, "max": None, "of": "absolute"}]


def inputs(tmp_path: Path, *seeds: int, **more: Artifact) -> dict[str, Artifact]:
    """Return candidates with these seeds, the gate's data and the teacher's reference."""
    teacher = model(tmp_path / "teacher", SAME)
    return {
        **{f"candidate-{n}": model(tmp_path / f"candidate-{n}", seed) for n, seed in enumerate(seeds)},
        "data": dataset(tmp_path / "data", text=QUERIES),
        "reference": reference(tmp_path / "reference", teacher),
        **more,
    }


def run(tmp_path: Path, settings: GateConfig, given: Mapping[str, Artifact]) -> tuple[GateFacts, Context, Recorder]:
    progress = Recorder()
    ctx = context(tmp_path / "run", progress)
    return Gate().run(settings, given, ctx), ctx, progress


def servers() -> list[int]:
    """Return the servers that this process has started and that are still there."""
    return [child.pid for child in psutil.Process(os.getpid()).children(recursive=True) if "tritonserver" in child.name()]


def test_the_first_candidate_that_meets_every_limit_is_taken(tmp_path: Path) -> None:
    given = inputs(tmp_path, SAME, OTHER)
    facts, ctx, progress = run(tmp_path, config("int8", "fp32", metrics=cosine(0.99), limits={"size": 2**20}), given)

    assert (facts.precision, facts.model, facts.rows) == ("int8", given["candidate-0"].digest, ROWS)
    # Six words that are known, "1x0" and two special tokens make nine; the model reads at most 32.
    assert facts.truncated is not None
    assert (facts.truncated.texts, facts.truncated.cut, facts.truncated.left_out) == (ROWS, 0, 0)
    assert facts.candidates[0]["truncated"]["tokens"] == facts.truncated.tokens == 9 * ROWS
    assert [each["precision"] for each in facts.candidates] == ["int8"]  # the second one was not even started
    figures = facts.candidates[0]["figures"]
    assert figures["cosine"]["estimate"] == pytest.approx(1.0, abs=1e-3)
    assert figures["throughput"]["estimate"] > 0
    assert figures["latencyP50"]["low"] <= figures["latencyP50"]["estimate"] <= figures["latencyP50"]["high"]
    assert any("cosine" in note for note in progress.notes)
    assert {path.name for path in ctx.out.iterdir()} == {"model.onnx", "signature.json", "tokenizer.json", "receipt.json"}
    assert (ctx.out / "model.onnx").read_bytes() == (given["candidate-0"].path / "model.onnx").read_bytes()
    receipt = json.loads((ctx.out / "receipt.json").read_text())
    assert receipt["model"] == facts.model
    assert receipt["facts"] == {"exporter": "tiny"}
    assert receipt["parents"] == {role: artifact.digest for role, artifact in given.items()}
    assert servers() == []


def test_a_candidate_that_fails_gives_way_to_the_next_and_its_figures_are_kept(tmp_path: Path) -> None:
    given = inputs(tmp_path, OTHER, SAME)
    facts, ctx, _ = run(tmp_path, config("int8", "fp32", metrics=cosine(0.99)), given)

    assert facts.precision == "fp32"
    assert [(each["precision"], each["outcome"]) for each in facts.candidates] == [("int8", "failed"), ("fp32", "passed")]
    assert "missed by" in facts.candidates[0]["checks"][0]["text"]
    assert (ctx.out / "model.onnx").read_bytes() == (given["candidate-1"].path / "model.onnx").read_bytes()
    assert len(json.loads((ctx.out / "receipt.json").read_text())["gate"]) == 2


class Stopped(BesideUs):
    """Servers of which the one for a precision is never reached: the build is stopped there."""

    def __init__(self, before: str = "") -> None:
        self.before, self.started = before, list[str]()

    @contextmanager
    def serving(self, artifact: Artifact, precision: str, config: Mapping[str, Any], scratch: Path) -> Iterator[Served]:
        if precision == self.before:
            raise KeyboardInterrupt
        self.started.append(precision)
        with super().serving(artifact, precision, config, scratch) as served:
            yield served


def test_a_search_measures_all_and_takes_the_best_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    given = inputs(tmp_path, SAME, OTHER)
    small = given["candidate-0"]
    large = Artifact("sha256:" + "1" * 64, "onnx-model", small.path, 3 * small.size, {})  # as if it had more beside
    given |= {"candidate-0": large, "candidate-2": small}
    settings = config("fp32", "int4", "int8", metrics=cosine(0.99), goal="small")
    ctx = context(tmp_path / "run", Recorder())
    with pytest.raises(KeyboardInterrupt):
        Gate().run(settings, given, replace(ctx, server=Stopped("int8")))

    servers_again, progress = Stopped(), Recorder()
    facts = Gate().run(settings, given, replace(ctx, server=servers_again, progress=progress))
    assert servers_again.started == ["int8", "fp32"], "what was measured before is not measured again, but for the first's speed"
    assert (facts.precision, facts.model, facts.size) == ("int8", small.digest, small.size)
    by = {each["precision"]: each for each in facts.candidates}
    assert [(name, each["outcome"]) for name, each in by.items()] == [("fp32", "passed"), ("int4", "failed"), ("int8", "passed")]
    assert by["fp32"]["lost"].startswith("larger: ")
    assert by["int4"]["lost"].startswith("cosine")
    assert by["int8"]["lost"] == ""
    assert by["fp32"]["again"]["estimate"] > 0
    assert by["fp32"]["drifted"] in {"", *progress.notes}, "it may have, on a busy machine, and then it is said"
    assert not any("again" in by[each] for each in ("int4", "int8"))
    assert all(each["figures"]["throughput"]["estimate"] > 0 for each in by.values()), "one that fails is measured too"
    assert "int8: taken, small" in progress.notes
    assert facts.server["cores"] >= 1
    assert "int8" in (ctx.out / "candidates.svg").read_text()
    assert json.loads((ctx.out / "receipt.json").read_text())["gate"] == facts.candidates
    assert servers() == []


def test_weights_of_4_bits_answer_in_the_server_as_in_this_process(tmp_path: Path) -> None:
    ctx = context(tmp_path / "int4")
    QuantizeInt4().run(Int4Config(), {"model": model(tmp_path / "whole", SAME, dimension=128, work=1)}, ctx)
    found = {node.op_type for node in onnx.load(ctx.out / "model.onnx").graph.node}
    assert {"MatMulNBits", "GatherBlockQuantized"} <= found
    small = Artifact("sha256:" + "4" * 64, "onnx-model", ctx.out, 1000, {})
    given = {**inputs(tmp_path), "candidate-0": small, "reference": reference(tmp_path / "same", small)}
    facts, _, _ = run(tmp_path, config("int4", metrics=cosine(0.9999)), given)
    assert facts.precision == "int4"
    assert facts.candidates[0]["figures"]["cosine"]["estimate"] == pytest.approx(1.0, abs=1e-5)


LIMITS: list[tuple[str, dict[str, Any], str]] = [
    ("quality", {"metrics": cosine(0.999)}, "cosine"),
    ("latency", {"limits": {"latencyP50": 1e-6}}, "latencyP50"),
    ("throughput", {"limits": {"throughput": 1e8}}, "throughput"),
    ("size", {"limits": {"size": 100.0}}, "size"),
]


@pytest.mark.parametrize(("changes", "name"), [each[1:] for each in LIMITS], ids=[each[0] for each in LIMITS])
def test_a_limit_that_is_missed_is_named_with_how_much(tmp_path: Path, changes: dict[str, Any], name: str) -> None:
    given = inputs(tmp_path, OTHER)
    with pytest.raises(GateFailed) as refused:
        run(tmp_path, config("int8", **changes), given)

    problem = refused.value.problem
    assert refused.value.exit_code == 3
    assert problem.found.startswith(f"int8: {name} ")
    assert "missed by" in problem.found
    assert "spec.source.uri" in problem.fix  # nothing was trained: more training is no advice
    assert "of the limit" in problem.found
    assert [check["name"] for check in refused.value.report[0]["checks"] if check["outcome"] == "failed"] == [name]
    assert {"latencyP50", "throughput"} <= set(refused.value.report[0]["figures"])
    assert refused.value.report[0]["truncated"]["texts"] == ROWS
    assert list((tmp_path / "run" / "out").iterdir()) == []
    assert servers() == []


def test_a_limit_inside_the_interval_is_too_noisy_to_tell(tmp_path: Path) -> None:
    given = inputs(tmp_path, OTHER)
    student, teacher = Engine(given["candidate-0"].path), Engine(tmp_path / "teacher")
    mean = float((student.embed(QUERIES) * teacher.embed(QUERIES)).sum(axis=1).mean())

    with pytest.raises(GateInconclusive) as refused:
        run(tmp_path, config("int8", metrics=cosine(mean)), given)
    assert refused.value.exit_code == 4
    assert "too noisy to tell" in refused.value.problem.found
    assert "spec.gate.data" in refused.value.problem.fix
    assert refused.value.report[0]["outcome"] == "inconclusive"
    assert list((tmp_path / "run" / "out").iterdir()) == []
    assert "requests" not in refused.value.problem.fix
    again = Stopped("int8")
    with pytest.raises(GateInconclusive):
        Gate().run(config("int8", metrics=cosine(mean)), given, replace(context(tmp_path / "run", Recorder()), server=again))


def test_speed_that_was_too_noisy_is_measured_again(tmp_path: Path) -> None:
    """A quieter machine is what helps, so what was measured on a noisy one is not kept."""
    given = inputs(tmp_path, SAME)
    settings = config("int8", metrics=cosine(0.5), limits={"latencyP99": 1.0}, load={"concurrency": 1, "requests": 20})
    ctx = context(tmp_path / "run", Recorder())
    with pytest.raises(GateInconclusive) as refused:  # so few requests do not bound it, however fast they are
        Gate().run(settings, given, ctx)
    assert "spec.gate.load.requests" in refused.value.problem.fix
    assert "spec.gate.data" not in refused.value.problem.fix
    with pytest.raises(KeyboardInterrupt):
        Gate().run(settings, given, replace(ctx, server=Stopped("int8")))


def test_a_clear_pass_after_a_noisy_candidate_is_taken(tmp_path: Path) -> None:
    given = inputs(tmp_path, OTHER, SAME)
    student, teacher = Engine(given["candidate-0"].path), Engine(tmp_path / "teacher")
    mean = float((student.embed(QUERIES) * teacher.embed(QUERIES)).sum(axis=1).mean())
    facts, _, _ = run(tmp_path, config("int8", "fp32", metrics=cosine(mean)), given)
    assert facts.precision == "fp32"
    assert facts.candidates[0]["outcome"] == "inconclusive"


def test_without_a_gate_the_first_candidate_that_starts_is_taken(tmp_path: Path) -> None:
    given = {"candidate-0": model(tmp_path / "candidate-0", OTHER), "candidate-1": model(tmp_path / "candidate-1", SAME)}
    planned = plan_of("text", {"spec.gate": None}).step("gate/gate").config
    settings = GateConfig.model_validate({**planned, "candidates": ["int8", "fp32"]})
    facts, _, _ = run(tmp_path, settings, given)
    assert (facts.precision, facts.rows) == ("int8", 0)
    assert facts.candidates[0]["figures"] == {}


def test_a_classifier_is_held_against_labels(tmp_path: Path) -> None:
    candidate = model(tmp_path / "candidate-0", SAME, task="text-classification")
    engine = Engine(candidate.path)
    guessed = [engine.signature.labels[int(row.argmax())] for row in engine.predict(QUERIES)]
    given = {"candidate-0": candidate, "data": dataset(tmp_path / "data", text=QUERIES, label=guessed)}
    metrics = [
        {"name": "accuracy", "min": 0.9, "max": None, "of": "absolute"},
        {"name": "log-loss", "min": None, "max": 5.0, "of": "absolute"},
    ]
    facts, _, _ = run(tmp_path, config("fp32", task="text-classification", metrics=metrics), given)
    assert facts.candidates[0]["figures"]["accuracy"]["estimate"] == 1.0


def test_a_response_cache_does_not_answer_for_the_model(tmp_path: Path) -> None:
    """The load repeats the gate's rows; with the cache, all but the first round would come from memory."""
    settings = config("int8", serve={**config("int8").serve, "responseCache": True}).model_dump()
    with BesideUs().serving(inputs(tmp_path, SAME)["candidate-0"], "int8", settings, tmp_path / "scratch"):
        text = (tmp_path / "scratch" / "repository" / "candidate" / "config.pbtxt").read_text()
    assert 'name: "candidate"' in text
    assert "response_cache" not in text


def test_rows_that_the_model_was_trained_on_are_refused_before_a_server_starts(tmp_path: Path) -> None:
    given = inputs(tmp_path, SAME, training=dataset(tmp_path / "training", text=["other", QUERIES[7].upper()]))
    with pytest.raises(DataError) as refused:
        run(tmp_path, config("int8", metrics=cosine(0.5)), given)
    assert refused.value.problem.field == "spec.gate.data"
    assert not (tmp_path / "run" / "scratch" / "int8").exists()


def test_a_model_that_cannot_be_loaded_says_what_the_server_said(tmp_path: Path) -> None:
    given = inputs(tmp_path, SAME)
    (given["candidate-0"].path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ServerError) as refused:
        run(tmp_path, config("int8", metrics=cosine(0.5)), given)
    assert str(refused.value)
    assert list((tmp_path / "run" / "out").iterdir()) == []
    assert servers() == []


@pytest.mark.parametrize("unit", ["rows", "requests"])
def test_an_interruption_leaves_no_server(tmp_path: Path, unit: str) -> None:
    ctx = context(tmp_path / "run", Recorder(stop_at=1, unit=unit))
    with pytest.raises(KeyboardInterrupt):
        Gate().run(config("int8", metrics=cosine(0.5)), inputs(tmp_path, SAME), ctx)
    assert servers() == []
    assert list((tmp_path / "run" / "out").iterdir()) == []


def test_a_revision_is_an_artifact_of_the_store(tmp_path: Path) -> None:
    """Hard links to a read-only object become a read-only object; neither harms the other."""
    store = LocalStore(tmp_path / "store")
    folder = store.objects.new_dir()
    write_tiny_model(folder, seed=SAME)
    digest, size = store.objects.put(folder, "onnx-model")
    given = {"candidate-0": Artifact(digest, "onnx-model", store.objects.path(digest), size)}
    ctx = Context(store.objects.new_dir(), store.scratch("0" * 64), 1, 0, Recorder())
    settings = GateConfig.model_validate(
        {**plan_of("text", {"spec.gate": None}).step("gate/gate").config, "candidates": ["fp32"]}
    )
    Gate().run(settings, given, ctx)
    revision, _ = store.objects.put(ctx.out, "revision")
    assert store.objects.check(revision, full=True) == ""
    assert store.objects.check(digest, full=True) == ""
    store.objects.drop(digest)
    assert LocalStore(store.root).objects.check(revision, full=True) == ""
