"""The pass that makes a cascade: what it writes is what decides at request time, and it tells what that is worth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.support.artifacts import Recorder, context, dataset
from tests.support.tiny_model import WORDS, write_tiny_model

from stillhouse.errors import DataError
from stillhouse.inference.confidence import Calibration, answers, nearest, peak
from stillhouse.inference.drift import Reference
from stillhouse.inference.engine import Engine
from stillhouse.inference.outliers import OutlierRule
from stillhouse.passes.base import Artifact
from stillhouse.passes.evaluate.cascade import BuildCascade, CascadeConfig
from stillhouse.passes.evaluate.index import BuildIndex, IndexConfig

LABELS = ("no", "yes", "perhaps")


def config(**given: Any) -> CascadeConfig:
    defaults = {"aim": "targetAgreement", "value": 0.8, "method": "auto", "judgedBy": "answer", "neighbors": 5}
    return CascadeConfig(**{**defaults, "keep": None, "cost": 10.0, **given})


def texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{' '.join(rng.choice(WORDS[4:], int(rng.integers(1, 12))))} {seed}x{row}" for row in range(count)]


def revision(folder: Path, **model: Any) -> Artifact:
    write_tiny_model(folder, **model)
    (folder / "receipt.json").write_text(json.dumps({"precision": "int8"}))
    return Artifact("sha256:" + "a" * 64, "revision", folder, 1)


def said(folder: Path, labels: tuple[str, ...] = LABELS, **outputs: np.ndarray) -> Artifact:
    """What a larger model answered."""
    folder.mkdir()
    save_file(
        {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in outputs.items()},
        str(folder / "outputs.safetensors"),
    )
    (folder / "measurement.json").write_text(json.dumps({"labels": list(labels)}))
    return Artifact("sha256:" + "b" * 64, "measurement", folder, 1)


def classes(folder: Path, rows: dict[str, int], noise: float = 0.7, labelled: bool = True) -> dict[str, Artifact]:
    """A small classifier, and a larger one that says the same where the small one is sure, mostly."""
    inputs = {"model": revision(folder / "model", task="text-classification", labels=LABELS)}
    engine = Engine(folder / "model")
    for number, (role, count) in enumerate(rows.items()):
        rng = np.random.default_rng(number)
        given = texts(count, number)
        logits = np.log(engine.predict(given)) + rng.normal(size=(count, 3)) * noise
        columns = {"text": given} | ({"label": [LABELS[each] for each in logits.argmax(axis=1)]} if labelled else {})
        inputs |= {role: dataset(folder / role, **columns), f"larger-{role}": said(folder / f"l-{role}", logits=logits)}
    return inputs


def test_what_is_written_decides_as_it_was_solved(tmp_path: Path) -> None:
    inputs = classes(tmp_path, {"threshold": 700, "calibration": 300, "test": 900})
    inputs["fp32"] = inputs["model"]
    progress = Recorder()
    ctx = context(tmp_path, progress)
    facts = BuildCascade().run(config(), inputs, ctx)

    written = json.loads((ctx.out / "cascade.json").read_text())
    calibration = Calibration.from_json(written["calibration"])
    engine = Engine(inputs["model"].path)
    asked = texts(900, 2)  # the test split
    confidence = calibration.of_logits(np.log(engine.predict(asked)))
    local = answers(confidence, written["threshold"])
    assert 1 - local.mean() == pytest.approx(written["verified"]["point"]["escalation"]["estimate"])
    assert 0 < facts.escalation < 1
    assert facts.reachable
    assert facts.agreement_low >= 0.8
    assert facts.verdict == "met"
    assert written["variant"] == "int8"
    assert written["digest"] == inputs["model"].digest
    assert written["calibration"]["kind"] == "temperature"
    assert set(written["reliability"]) == {"served", "servedRaw", "fp32", "fp32Raw"}
    assert Reference.from_json(written["confidences"]).total == 700
    assert (ctx.out / "curve.svg").read_text().startswith("<svg")
    assert "◆" in (ctx.out / "curve.txt").read_text()
    assert any("targetAgreement 80.00%" in note for note in progress.notes)


def test_one_file_of_rows_is_halved(tmp_path: Path) -> None:
    inputs = classes(tmp_path, {"threshold": 801})
    facts = BuildCascade().run(config(aim="escalationBudget", value=0.5), inputs, context(tmp_path))

    assert facts.rows == 400
    assert facts.escalation < 0.5


def between(inputs: dict[str, Artifact], folder: Path, labels: tuple[str, ...] = LABELS) -> None:
    """Put a model between that says what the larger one says, better than the small one does."""
    write_tiny_model(folder / "middle", task="text-classification", labels=labels, seed=1)
    (folder / "middle" / "receipt.json").write_text(json.dumps({"precision": "fp32"}))
    inputs["middle"] = Artifact("sha256:" + "d" * 64, "revision", folder / "middle", 1)


@pytest.mark.parametrize("aim", ["targetAgreement", "escalationBudget"])
def test_two_thresholds_do_at_request_time_what_they_were_solved_for(tmp_path: Path, aim: str) -> None:
    rows = {"threshold": 700, "calibration": 300, "test": 400}
    inputs = classes(tmp_path, rows)
    between(inputs, tmp_path)
    small, middle = Engine(inputs["model"].path), Engine(inputs["middle"].path)
    for number, (role, count) in enumerate(rows.items()):  # the larger model is of one mind with either, by halves
        given = texts(count, number)
        answers_ = [np.log(each.predict(given)) for each in (small, middle)]
        noise = np.random.default_rng(number).normal(size=(count, 3)) * 0.3
        mixed = np.where(np.arange(count)[:, None] % 3 == 0, *answers_) + noise
        inputs[f"larger-{role}"] = said(tmp_path / f"two-{role}", logits=mixed)
    value = 0.6 if aim == "targetAgreement" else 0.5
    ctx = context(tmp_path)
    facts = BuildCascade().run(config(aim=aim, value=value, middle="between", middleCost=3.0), inputs, ctx)

    written = json.loads((ctx.out / "cascade.json").read_text())
    assert facts.reachable
    assert written["stages"] == 2
    assert written["middle"]["model"] == "between"
    assert written["middle"]["digest"] == inputs["middle"].digest
    point = written["solved"]["point"]
    assert point["thresholds"] == [written["threshold"], written["middle"]["threshold"]]
    assert "middle" in written["reliability"]

    # By brute force: what the written thresholds do at request time, row by row, on the solving and on the test split.
    def outcome(number: int, role: str) -> tuple[float, float]:
        given, escalated, agreeing = texts(rows[role], number), 0, 0
        large = load_file(str(inputs[f"larger-{role}"].path / "outputs.safetensors"))["logits"].argmax(axis=1)
        told = []
        for engine, part in ((small, written), (middle, written["middle"])):
            values = engine.predict(given)
            confidence = Calibration.from_json(part["calibration"]).of_logits(np.log(values))
            limit = math.inf if part["threshold"] is None else part["threshold"]
            told.append((answers(confidence, limit), values.argmax(axis=1)))
        for row in range(len(given)):
            by = next((each for each in told if each[0][row]), None)
            escalated += by is None
            agreeing += by is None or bool(by[1][row] == large[row])
        return escalated / len(given), agreeing / len(given)

    for number, role, at in ((0, "threshold", point), (2, "test", written["verified"]["point"])):
        assert outcome(number, role) == pytest.approx((at["escalation"]["estimate"], at["agreement"]["estimate"]), abs=0.006)
    bound = point["agreement"]["low"] >= value if aim == "targetAgreement" else point["escalation"]["high"] <= value
    assert bound


def test_a_model_between_that_answers_another_question_is_refused(tmp_path: Path) -> None:
    inputs = classes(tmp_path, {"threshold": 60})
    between(inputs, tmp_path, ("yes", "no", "perhaps"))
    with pytest.raises(DataError, match="another question") as refused:
        BuildCascade().run(config(middle="between", middleCost=3.0), inputs, context(tmp_path))

    assert refused.value.problem.field == "spec.edge.cascade.middle.model"


def test_too_few_rows_escalate_everything_and_say_so(tmp_path: Path) -> None:
    inputs = classes(tmp_path, {"threshold": 60})
    progress = Recorder()
    ctx = context(tmp_path, progress)
    facts = BuildCascade().run(config(value=0.99), inputs, ctx)

    assert facts.threshold is None
    assert not facts.reachable
    assert facts.escalation == 1
    assert json.loads((ctx.out / "cascade.json").read_text())["threshold"] is None
    assert any("cannot be met" in note and "368" in note for note in progress.notes)


def search(folder: Path, rows: int = 400) -> dict[str, Artifact]:
    """A search of 60 names by a small model, and by a larger one in a space of its own."""
    inputs = {"model": revision(folder / "model")}
    engine = Engine(folder / "model")
    rng = np.random.default_rng(5)
    corpus = [f"{first} {second}" for first in WORDS[4:12] for second in WORDS[8:16]]
    data = dataset(folder / "corpus", text=corpus, name=[f"n{row}" for row in range(len(corpus))])
    ctx = context(folder / "index")
    BuildIndex().run(IndexConfig(), {"model": inputs["model"], "data": data}, ctx)
    inputs["index"] = Artifact("sha256:" + "c" * 64, "index", ctx.out, 1)
    turn = np.linalg.qr(rng.normal(size=(16, 16)))[0]

    def larger(given: list[str]) -> np.ndarray:
        return (engine.embed(given) + rng.normal(size=(len(given), 16)) * 0.02) @ turn

    inputs["larger-index"] = said(folder / "l-index", (), text=larger(corpus))
    asked = texts(rows, 3)
    return inputs | {
        "threshold": dataset(folder / "rows", text=asked),
        "larger-threshold": said(folder / "l-rows", (), text=larger(asked)),
    }


def test_a_search_is_judged_by_what_is_found(tmp_path: Path) -> None:
    inputs = search(tmp_path)
    ctx = context(tmp_path)
    facts = BuildCascade().run(config(keep=0.9, value=0.7), inputs, ctx)

    written = json.loads((ctx.out / "cascade.json").read_text())
    edge, larger = np.load(ctx.out / "edge.npy"), np.load(ctx.out / "larger.npy")
    names = json.loads((ctx.out / "names.json").read_text())
    assert edge.shape == larger.shape == (64, 16)
    assert len(names) == 64
    assert written["retrieval"] == {"k": 5}
    assert written["calibration"]["signal"] == "peak"
    queries = Engine(inputs["model"].path).embed(texts(400, 3))[1::2]  # the half that was solved on
    found = nearest(queries, edge, 5)
    confidence = Calibration.from_json(written["calibration"]).of_signal(peak(found))
    outside = OutlierRule.from_json(written["outliers"]).outside(found.scores[:, 0])
    threshold = math.inf if written["threshold"] is None else written["threshold"]
    local = answers(np.where(outside, np.nan, confidence), threshold)
    assert 1 - local.mean() == pytest.approx(facts.escalation, abs=0.011)  # embeddings of other batches differ in the last bits
    assert outside.any()


def gone(inputs: dict[str, Artifact], folder: Path) -> None:
    inputs["threshold"] = dataset(folder / "empty", name=["n"])


def other_labels(inputs: dict[str, Artifact], folder: Path) -> None:
    inputs["larger-threshold"] = said(folder / "other", ("no", "yes", "maybe"), logits=np.zeros((200, 3)))


def unknown_label(inputs: dict[str, Artifact], folder: Path) -> None:
    inputs["threshold"] = dataset(folder / "odd", text=texts(200, 0), label=["maybe"] * 200)


def unlabelled(inputs: dict[str, Artifact], folder: Path) -> None:
    inputs["threshold"] = dataset(folder / "bare", text=texts(200, 0))


def trained_on(inputs: dict[str, Artifact], folder: Path) -> None:
    inputs["training"] = dataset(folder / "training", text=[texts(200, 0)[7].upper()])


def in_the_gate(inputs: dict[str, Artifact], folder: Path) -> None:
    inputs["gate"] = dataset(folder / "gate", text=[texts(200, 0)[7]])


def both_chosen_and_tested(inputs: dict[str, Artifact], folder: Path) -> None:
    inputs |= {"test": inputs["threshold"], "larger-test": inputs["larger-threshold"]}


@pytest.mark.parametrize(
    ("break_it", "field", "says"),
    [
        (gone, "spec.edge.cascade.data.columns.text", "column for text"),
        (other_labels, "spec.source.labels", "other labels"),
        (unknown_label, "spec.edge.cascade.data.columns.label", "none that the model can answer"),
        (unlabelled, "spec.edge.cascade.calibration.columns.label", "needs labels"),
        (trained_on, "spec.edge.cascade.data", "also in spec.distill.data"),
        (in_the_gate, "spec.edge.cascade.data", "also in spec.gate.data"),
        (both_chosen_and_tested, "spec.edge.cascade.test", "also in spec.edge.cascade.data"),
    ],
)
def test_rows_that_will_not_do_are_refused_with_their_field(
    tmp_path: Path, break_it: Callable[[dict[str, Artifact], Path], None], field: str, says: str
) -> None:
    inputs = classes(tmp_path, {"threshold": 200})
    break_it(inputs, tmp_path)
    with pytest.raises(DataError) as refused:
        BuildCascade().run(config(judgedBy="labels"), inputs, context(tmp_path))

    assert refused.value.problem.field == field
    assert says in refused.value.problem.message
