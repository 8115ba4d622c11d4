"""What a plan says of the disk: by the student's own shape, and close to what builds have left there."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.support.api_objects import GONE, complete, edited
from tests.support.plans import environment, onnx_plan

from stillhouse.api.load import parse
from stillhouse.planning.build import build_plan
from stillhouse.planning.estimate import estimate
from stillhouse.planning.plan import Environment, Pin, Plan

STUDENT = "spec.distill.student"
MINILM = 91_335_687
"""Bytes of all-MiniLM-L6-v2: what `environment` says of its shape is true."""


def planned(edits: dict[str, Any], base: str = "text", rows: int = 16_000) -> tuple[Plan, Environment]:
    model = parse(edited(complete(base), edits))
    env = environment(model)
    pins = {
        uri: dataclasses.replace(pin, info={"rows": rows}) if "rows" in pin.info else dataclasses.replace(pin, size=MINILM)
        for uri, pin in env.pins.items()
    }
    env = dataclasses.replace(env, pins=pins)
    return build_plan(model, env), env


def disk(step: str, edits: dict[str, Any], base: str = "text", rows: int = 16_000) -> int:
    plan, env = planned(edits, base, rows)
    return estimate(plan.step(step), plan, env).disk


EMBEDDING = {"spec.distill.stages": [{"name": "soft", "losses": [{"kind": "embedding"}]}], "spec.distill.data.maxRows": GONE}
QUICKSTART = {
    **EMBEDDING,
    STUDENT: {
        "architecture": "residual", "hiddenLayers": 1, "hiddenSize": 128, "convolution": {"kernelSizes": [3]},
        "vocabulary": {"maxSize": 10_798},
    },
    "spec.distill.maxLength": 128,
    "spec.compress": {"precision": "auto"},
    "spec.edge": GONE,
}  # fmt: skip
BUILT = {
    "resolve/source": MINILM,
    "train/teacher-outputs": 12_288_975,
    "train/student": 17_461_610,
    "train/soft": 17_461_610,
    "compress/fp32": 17_473_001,
    "compress/int8": 4_597_921,
    "compress/int8-mixed": 17_327_571,
}
"""Sizes in the store after a build of examples/docstring-search, whose texts had 10,798 tokens."""


@pytest.mark.parametrize("step", BUILT)
def test_the_quickstarts_results_are_as_large_as_they_became(step: str) -> None:
    assert disk(step, QUICKSTART) == pytest.approx(BUILT[step], rel=0.05)


def test_reports_and_links_take_next_to_nothing() -> None:
    assert disk("compress/sensitivity", QUICKSTART) < 1 << 20
    assert disk("gate/gate", QUICKSTART) < 1 << 20, "the chosen model's files are linked"


def test_a_trimmed_vocabulary_and_a_narrow_width_make_it_smaller() -> None:
    """The whole vocabulary of a narrow student is most of it."""

    def size(**student: Any) -> int:
        return disk("train/student", {**EMBEDDING, STUDENT: student})

    whole = size(hiddenLayers=2, hiddenSize=64, init="svd")
    trimmed = size(hiddenLayers=2, hiddenSize=64, init="svd", vocabulary={"maxSize": 2_000})
    assert MINILM / 15 < whole < MINILM / 8
    assert trimmed < MINILM / 60
    assert size(hiddenLayers=6, init="layers") == pytest.approx(MINILM, rel=0.03), "as its teacher"
    assert trimmed < size(hiddenLayers=2, hiddenSize=96, init="svd", vocabulary={"maxSize": 2_000}) < whole
    more = size(hiddenLayers=2, hiddenSize=64, init="svd", vocabulary={"maxSize": 1_000_000})
    assert more == whole, "the teacher has no more tokens"


@pytest.mark.parametrize(
    ("precision", "share"), [("fp32", 1.0), ("fp16", 0.5), ("bf16", 0.5), ("int8", 0.254), ("int4", 0.154), ("mixed", 0.23)]
)
def test_precisions_are_as_large_as_measured(precision: str, share: float) -> None:
    """Of MiniLM without a student: bench/results/compress.json."""
    plan, env = planned({"spec.distill": GONE, "spec.edge": GONE, "spec.compress.precision": precision})
    assert estimate(plan.step(f"compress/{precision}"), plan, env).disk == pytest.approx(MINILM * share, rel=0.1)


@pytest.mark.parametrize(
    ("student", "millions"),
    [
        ({"architecture": "mlp"}, (30_522 * 128 + 128 * 256 + 256 * 384) / 1e6),
        ({"architecture": "mlp", "bigrams": 32_768, "vocabulary": {"maxSize": 8_000}}, 40_768 * 128 / 1e6),
        (
            {"architecture": "cnn", "embeddingSize": 64, "vocabulary": {"maxSize": 4_000}},
            (4_000 * 64 + 64 * 256 * 4 + 256 * 384) / 1e6,
        ),
        (
            {"architecture": "bilstm", "embeddingSize": 32, "hiddenSize": 64, "vocabulary": {"maxSize": 4_000}},
            0.147 + 64 * 384 / 1e6,
        ),
    ],
)
def test_other_kinds_are_as_large_as_their_parameters(student: dict[str, Any], millions: float) -> None:
    found = disk("train/student", {**EMBEDDING, STUDENT: student})
    vocabulary = student.get("vocabulary", {}).get("maxSize", 30_522)
    assert found == pytest.approx(4e6 * millions + 16 * vocabulary + (64 << 10), rel=0.05)


def test_where_nothing_better_is_known_it_is_the_teachers_size() -> None:
    factory = {"factory": {"target": "nets:student"}}
    assert disk("train/student", {**EMBEDDING, STUDENT: factory}) == pytest.approx(MINILM, rel=0.01)
    plan, env = planned(EMBEDDING | {STUDENT: {"hiddenLayers": 2, "init": "layers"}})
    unknown = {
        uri: Pin(pin.digest, pin.size, {"format": "safetensors"}) if "rows" not in pin.info else pin
        for uri, pin in env.pins.items()
    }
    env = dataclasses.replace(env, pins=unknown)
    assert estimate(plan.step("train/student"), plan, env).disk == pytest.approx(MINILM, rel=0.01)
    model = parse(edited(complete("text"), {"spec.distill": GONE, "spec.compress": {"precision": "int8"}}))
    onnx = onnx_plan()
    pins = {**environment(model).pins, "models:minilm": Pin("sha256:" + "0" * 64, 8_000_000, {"format": "onnx"})}
    env = dataclasses.replace(environment(model), pins=pins)
    assert 0.2 < estimate(onnx.step("compress/int8"), onnx, env).disk / 8_000_000 < 0.3


def test_a_student_of_its_own_file_is_as_large_as_that() -> None:
    plan, env = planned({**EMBEDDING, STUDENT: {"uri": "models:other"}})
    pins = {**env.pins, "models:other": dataclasses.replace(env.pins["models:other"], size=5_000_000)}
    env = dataclasses.replace(env, pins=pins)
    assert estimate(plan.step("train/student"), plan, env).disk == 5_000_000
    assert estimate(plan.step("train/soft"), plan, env).disk == pytest.approx(5_000_000, rel=0.02)


def test_images_have_no_vocabulary() -> None:
    small = disk("train/student", {STUDENT: {"architecture": "cnn", "convolution": {"channels": [8, 16]}}}, "image")
    wide = disk("train/student", {STUDENT: {"architecture": "cnn", "convolution": {"channels": [128, 256]}}}, "image")
    # 3 channels or fewer come in; 9 weights for each pair of channels.
    assert small < 150_000
    assert wide == pytest.approx(4 * 9 * 128 * 256, rel=0.15)


def test_fewer_rows_take_less() -> None:
    plan, env = planned({**EMBEDDING, "spec.distill.data.maxRows": 4_000}, rows=16_000)
    found = estimate(plan.step("resolve/data"), plan, env)
    assert found.disk == 1_000_000, "a quarter of the file"
    few, many = (disk("train/teacher-outputs", EMBEDDING, rows=rows) for rows in (1_000, 100_000))
    assert many / few > 50


def test_a_teachers_logits_are_as_many_as_its_labels() -> None:
    edits = {
        "spec.source.task": "text-classification", "spec.source.labels": ["a", "b", "c"], "spec.index": GONE, "spec.edge": GONE,
        "spec.gate.metrics": [{"name": "accuracy", "min": "0.5"}], STUDENT: {"hiddenLayers": 2, "init": "layers"},
        "spec.distill.stages": [{"name": "soft", "losses": [{"kind": "logits"}]}], "spec.distill.data.maxRows": GONE,
    }  # fmt: skip
    assert disk("train/teacher-outputs", edits, rows=100_000) == pytest.approx(100_000 * 3 * 4, rel=0.1)
    named = {**edits, "spec.distill.topLogits": 2}
    assert disk("train/teacher-outputs", named, rows=100_000) == pytest.approx(100_000 * (2 * 4 + 4), rel=0.1)
