"""What a failed gate advises must be possible, and must help against what was missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.errors import GateFailed, GateInconclusive
from stillhouse.passes.base import Artifact
from stillhouse.passes.evaluate.advice import Learned, advice, refusal
from stillhouse.passes.evaluate.candidate import Measured
from stillhouse.passes.evaluate.intervals import Interval
from stillhouse.passes.evaluate.rows import Truncation
from stillhouse.passes.evaluate.verdict import Check, compare


def test_more_training_is_advised_only_where_something_was_trained() -> None:
    assert advice({"cosine"}, learned=Learned()).startswith("train longer")
    assert advice({"cosine"}, learned=Learned(400)).startswith("give it more to learn from (400 rows now")
    untrained = advice({"cosine"}, learned=None)
    assert "train longer" not in untrained
    assert "in safetensors can be distilled" in untrained


def test_a_student_that_is_only_too_large_is_made_smaller_and_trained_no_longer() -> None:
    said = advice({"size"}, learned=Learned(400), precisions=["int8", "int8-mixed", "fp32"])
    for way in ("smaller student", "hiddenSize", "hiddenLayers", "vocabulary.maxSize", "or move spec.gate.maxSize"):
        assert way in said
    assert not any(word in said for word in ("learn from", "train longer", "leave spec.distill out", "int8"))
    assert "int8 (spec.compress.precision: auto)" in advice({"size"}, learned=Learned(), precisions=["fp32"])
    assert "4 bits (spec.compress.precision: mixed, or goal: small)" in said
    assert "4 bits" not in advice({"size"}, learned=Learned(), precisions=["int8", "mixed", "int4"])
    assert "4 bits" not in advice({"throughput"}, learned=Learned(), precisions=["int8"])
    assert "int8" not in advice({"size"}, learned=Learned(), precisions=["int8-static"])
    assert "smaller model (spec.source.uri" in advice({"size"}, learned=None)


@pytest.mark.parametrize(("missed", "field"), [("latencyP99", "maxLatencyP99"), ("throughput", "minThroughput")])
def test_what_is_only_too_slow_is_given_less_to_compute_or_more_to_compute_it_with(missed: str, field: str) -> None:
    said = advice({missed}, learned=Learned(400), precisions=["int8"])
    for way in ("smaller student", "spec.serve.resources.limits.cpu", "spec.serve.batching", f"or move spec.gate.{field}"):
        assert way in said
    assert "learn from" not in said


def test_too_large_and_not_good_enough_is_not_helped_by_the_teacher_nor_by_a_larger_student() -> None:
    said = advice({"size", "mrr@10 / teacher"}, learned=Learned(400))
    assert said.startswith("give it more to learn from (400 rows now")
    assert "leave spec.distill out" not in said
    assert "larger student" not in said


def test_rows_without_labels_were_learned_from_as_well(tmp_path: Path) -> None:
    facts = {"rows": 300, "named": {"text": "body", "label": "topic"}}
    rows = {role: Artifact(role, "dataset", tmp_path, 1, facts) for role in ("training", "unlabelled")}
    said = advice({"accuracy"}, learned=Learned.of(rows))
    assert said.startswith("give it more to learn from (600 rows now: spec.distill.data and spec.distill.unlabelled)")
    del rows["unlabelled"]
    said = advice({"accuracy"}, learned=Learned.of(rows))
    assert said.startswith("give it more to learn from (300 rows now: spec.distill.data; rows without labels go into")
    assert "spec.distill.unlabelled" in said


def test_a_place_for_rows_without_labels_is_named_where_the_others_have_some(tmp_path: Path) -> None:
    rows = {"training": Artifact("training", "dataset", tmp_path, 1, {"rows": 300, "named": {"query": "ask", "text": "body"}})}
    assert advice({"mrr@10"}, learned=Learned.of(rows)).startswith(
        "give it more to learn from (300 rows now: spec.distill.data), or leave"
    )
    assert Learned.of({}) is None


def test_text_that_is_cut_is_told_where_it_is_much_and_quality_was_missed() -> None:
    much, little = Truncation(32, 150, 76, 3790, 2830), Truncation(128, 150, 2, 3790, 40)
    said = advice({"accuracy"}, learned=Learned(300), truncated=much)
    assert said.startswith("let it read longer texts (spec.source.maxLength: 32 now, which cuts 43% of the tokens); give it more")
    assert "maxLength" in advice({"accuracy"}, learned=None, truncated=much)
    assert "maxLength" not in advice({"accuracy"}, learned=Learned(300), truncated=little)
    assert "maxLength" not in advice({"latencyP99"}, learned=Learned(300), truncated=much)


QUALITY = compare("accuracy", "min", 0.9, Interval(0.9, 0.85, 0.95, 150))
SPEED = compare("latencyP99", "max", 0.01, Interval(0.01, 0.008, 0.02, 400), "s")
FAILED = compare("accuracy", "min", 0.9, Interval(0.5, 0.4, 0.6, 150))


@pytest.mark.parametrize(
    ("checks", "wanted", "unwanted"),
    [
        ([QUALITY], ["spec.gate.data"], ["requests", "machine"]),
        ([SPEED], ["spec.gate.load.requests", "quieter machine"], ["spec.gate.data"]),
        ([QUALITY, SPEED], ["spec.gate.data", "spec.gate.load.requests"], []),
    ],
)
def test_what_could_not_be_told_is_helped_by_what_narrows_it(checks: list[Check], wanted: list[str], unwanted: list[str]) -> None:
    failed = Measured("int8", "sha256:2", 1, checks=[FAILED, SPEED])  # its speed decides nothing: it failed
    error = refusal([Measured("fp32", "sha256:1", 1, checks=checks), failed], "no matter")
    assert isinstance(error, GateInconclusive)
    assert error.problem.fix.endswith("or move the limit")
    assert all(way in error.problem.fix for way in wanted)
    assert not any(way in error.problem.fix for way in unwanted)
    assert isinstance(refusal([failed], "no matter"), GateFailed)
