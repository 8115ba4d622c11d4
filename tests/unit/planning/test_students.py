"""Students that are no transformers: what is written of them, what they are thought to cost, who is larger than its teacher."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.support.api_objects import complete, edited
from tests.support.plans import environment, keys, plan_of

from stillhouse.api.load import parse
from stillhouse.entrypoints.local.limits import beyond
from stillhouse.planning.build import build_plan
from stillhouse.planning.estimate import estimate, work_of
from stillhouse.planning.larger import larger_student
from stillhouse.planning.plan import Pin, Plan

STUDENT = "spec.distill.student"
EMBEDDING = {"spec.distill.stages": [{"name": "soft", "losses": [{"kind": "embedding"}]}]}
KNOWN = {
    "architecture", "hiddenLayers", "hiddenSize", "intermediateSize", "attentionHeads", "init", "vocabularySize", "maxLength",
    "factory", "seed",
}  # fmt: skip


def plan(student: dict[str, Any], **more: Any) -> Plan:
    return plan_of("text", edits={**EMBEDDING, STUDENT: student, **more})


def test_a_request_without_them_has_the_same_configuration_as_before() -> None:
    assert set(plan_of().step("train/student").config) == KNOWN
    assert "recurrent" not in plan_of().step("compress/int8").config
    assert "recurrent" not in plan_of().step("compress/sensitivity").config


@pytest.mark.parametrize(
    ("student", "written"),
    [
        ({"architecture": "cnn"}, {}),
        (
            {"architecture": "cnn", "convolution": {"kernelSizes": [3, 5]}, "pooling": "mean"},
            {"kernelSizes": [3, 5], "pooling": "mean"},
        ),
        ({"architecture": "cnn", "convolution": {"separable": True, "dilated": False}}, {"separable": True, "dilated": False}),
        ({"architecture": "bilstm", "embeddingSize": 64}, {"embeddingSize": 64}),
        ({"architecture": "mlp", "bigrams": 4096}, {"bigrams": 4096}),
    ],
)
def test_what_is_said_of_them_is_written(student: dict[str, Any], written: dict[str, Any]) -> None:
    config = plan(student).step("train/student").config
    assert {name: value for name, value in config.items() if name not in KNOWN} == written
    assert (config["architecture"], config["init"]) == (student["architecture"], "svd")


@pytest.mark.parametrize(
    ("convolution", "written"),
    [
        (None, {}),
        ({}, {"kernelSizes": [3, 4, 5]}),
        ({"kernelSizes": [2], "dilated": True}, {"kernelSizes": [2], "dilated": True}),
    ],
)
def test_a_residual_student_has_convolutions_where_they_are_named(convolution: Any, written: dict[str, Any]) -> None:
    student = {"architecture": "residual", **({} if convolution is None else {"convolution": convolution})}
    config = plan(student).step("train/student").config
    assert {name: value for name, value in config.items() if name not in KNOWN} == written
    assert (config["architecture"], config["init"]) == ("residual", "static")


def test_only_an_lstm_is_quantized_as_one() -> None:
    for kind in ("cnn", "bilstm", "mlp"):
        found = plan({"architecture": kind})
        for step in ("compress/int8", "compress/int8-mixed", "compress/sensitivity"):
            assert found.step(step).config.get("recurrent", False) == (kind == "bilstm")
    searched = plan({"architecture": "bilstm"}, **{"spec.distill.search": {"hiddenSize": [32, 64]}})
    assert searched.step("train/search").config["quantize"]["recurrent"] is True


def test_another_kind_is_another_student_of_the_same_teacher() -> None:
    first, second = keys(plan({"architecture": "cnn"})), keys(plan({"architecture": "bilstm"}))
    assert first["train/teacher-outputs"] == second["train/teacher-outputs"]
    assert first["train/student"] != second["train/student"]


def work(student: dict[str, Any], base: str = "text") -> float:
    edits = {**(EMBEDDING if base == "text" else {}), STUDENT: student}
    env = environment(parse(edited(complete(base), edits)))
    found = plan_of(base, edits=edits)
    assert estimate(found.step("train/student"), found, env).seconds > 0
    return work_of(found.step("train/soft" if base == "text" else "train/stage-1"), found, env)[0]


def test_the_estimate_knows_their_kinds() -> None:
    bag, plain = work({"architecture": "mlp"}), work({"architecture": "cnn"})
    split = work({"architecture": "cnn", "convolution": {"separable": True}})
    deep = work({"architecture": "cnn", "hiddenLayers": 3})
    lstm, transformer = work({"architecture": "bilstm"}), work({"hiddenLayers": 6, "init": "layers"})
    assert bag < split < plain < deep < transformer
    assert plain < lstm < transformer
    bag = {"architecture": "residual", "hiddenLayers": 2, "hiddenSize": 192}
    assert work({**bag, "convolution": {"kernelSizes": [3]}}) < work(bag)
    wide = {"architecture": "cnn", "convolution": {"channels": [64, 128, 256]}}
    assert work({"architecture": "mlp"}, "image") < work(wide, "image")


@pytest.mark.parametrize(
    ("student", "larger"),
    [
        ({"architecture": "cnn"}, False),
        ({"architecture": "bilstm", "embeddingSize": 384, "hiddenSize": 4096}, True),
        ({"architecture": "mlp", "embeddingSize": 384, "bigrams": 1_000_000}, True),
        ({"hiddenLayers": 2, "init": "layers"}, False),
        ({"architecture": "residual", "convolution": {"kernelSizes": [3]}}, False),
        ({"architecture": "residual", "convolution": {"kernelSizes": [15]}, "hiddenLayers": 24}, True),
        ({"hiddenLayers": 12, "init": "random"}, True),
        ({"uri": "models:other"}, False),
    ],
)
def test_a_student_larger_than_its_teacher_is_told_before_it_is_made(student: dict[str, Any], larger: bool) -> None:
    model = parse(edited(complete("text"), {**EMBEDDING, STUDENT: student}))
    assert model.spec.distill is not None
    said = larger_student(model.spec.distill, model.spec.source, environment(model))
    assert bool(said) == larger
    assert not said or said.startswith("spec.distill.student: about ")


def test_a_width_that_no_heads_divide_is_as_good_as_another() -> None:
    found = {"hiddenSize": 384}
    convolved = {"architecture": "residual", "convolution": {}, "hiddenSize": 100}
    wide = ({"architecture": "cnn", "hiddenSize": 100}, 0), (convolved, 0), ({"hiddenSize": 100, "init": "svd"}, 1)
    for student, refused in wide:
        model = parse(edited(complete("text"), {**EMBEDDING, STUDENT: student}))
        assert len(list(beyond(model.spec, None, found))) == refused


@pytest.mark.parametrize(
    ("base", "form", "architecture"),
    [
        ("table", {"columns": ["age", "mean radius", "größe"]}, "mlp"),
        ("series", {"length": 128, "channels": 9}, "cnn"),
    ],
)
def test_tables_and_series_are_told_to_whoever_reads_them(base: str, form: dict[str, Any], architecture: str) -> None:
    found = plan_of(base, {"spec.gate": {"data": {"uri": "data:gate"}}})
    for step in ("resolve/source", "resolve/data", "resolve/gate-data"):
        assert found.step(step).config["features"] == form
    config = found.step("train/student").config
    assert (config["architecture"], config["init"]) == (architecture, "random")
    assert ("compress/int8-static" in keys(found)) == (base == "series"), "convolutions gain by it"
    assert not any("features" in step.config for step in plan_of("image").steps)


def test_an_onnx_graph_teaches_what_is_shown_numbers() -> None:
    model = parse(complete("table"))
    env = environment(model)
    pins = {**env.pins, "models:trees": Pin(env.pins["models:trees"].digest, 40_000, {"format": "onnx"})}
    found = build_plan(model, dataclasses.replace(env, pins=pins))
    assert found.step("train/teacher-outputs").parents["teacher"] == "resolve/source"
    assert all(estimate(step, found, env).seconds >= 0 for step in found.steps)


def test_a_table_has_an_mlp_where_nothing_is_said() -> None:
    config = plan_of("table", {STUDENT: {"hiddenSize": 16}}).step("train/student").config
    assert (config["architecture"], config["init"], config["hiddenSize"]) == ("mlp", "random", 16)
