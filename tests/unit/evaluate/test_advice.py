"""What a failed gate advises must be possible, and must help against what was missed."""

from __future__ import annotations

import pytest

from stillhouse.passes.evaluate.advice import advice


def test_more_training_is_advised_only_where_something_was_trained() -> None:
    assert advice({"cosine"}, distilled=True).startswith("train longer")
    assert advice({"cosine"}, distilled=True, rows=400).startswith("give it more to learn from (400 rows now")
    untrained = advice({"cosine"}, distilled=False)
    assert "train longer" not in untrained
    assert "in safetensors can be distilled" in untrained


def test_a_student_that_is_only_too_large_is_made_smaller_and_trained_no_longer() -> None:
    said = advice({"size"}, distilled=True, rows=400, precisions=["int8", "int8-mixed", "fp32"])
    for way in ("smaller student", "hiddenSize", "hiddenLayers", "vocabulary.maxSize", "or move spec.gate.maxSize"):
        assert way in said
    assert not any(word in said for word in ("learn from", "train longer", "leave spec.distill out", "int8"))
    assert "int8 (spec.compress.precision: auto)" in advice({"size"}, distilled=True, precisions=["fp32"])
    assert "4 bits (spec.compress.precision: mixed, or goal: small)" in said
    assert "4 bits" not in advice({"size"}, distilled=True, precisions=["int8", "mixed", "int4"])
    assert "4 bits" not in advice({"throughput"}, distilled=True, precisions=["int8"])
    assert "int8" not in advice({"size"}, distilled=True, precisions=["int8-static"])
    assert "smaller model (spec.source.uri" in advice({"size"}, distilled=False)


@pytest.mark.parametrize(("missed", "field"), [("latencyP99", "maxLatencyP99"), ("throughput", "minThroughput")])
def test_what_is_only_too_slow_is_given_less_to_compute_or_more_to_compute_it_with(missed: str, field: str) -> None:
    said = advice({missed}, distilled=True, rows=400, precisions=["int8"])
    for way in ("smaller student", "spec.serve.resources.limits.cpu", "spec.serve.batching", f"or move spec.gate.{field}"):
        assert way in said
    assert "learn from" not in said


def test_too_large_and_not_good_enough_is_not_helped_by_the_teacher_nor_by_a_larger_student() -> None:
    said = advice({"size", "mrr@10 / teacher"}, distilled=True, rows=400)
    assert said.startswith("give it more to learn from (400 rows now")
    assert "leave spec.distill out" not in said
    assert "larger student" not in said
