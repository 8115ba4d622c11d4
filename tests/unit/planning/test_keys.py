"""Every field changes the keys that it must and no others: what is cached stays cached, what is stale runs again."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml
from tests.support.api_objects import GONE, complete, edited
from tests.support.plans import HARDWARE, environment, keys, pin_of, plan_of

from stillhouse.api.load import load_text, parse
from stillhouse.planning.build import build_plan, request_hash
from stillhouse.planning.plan import Pin

BASE = plan_of()
ALL = [step.id for step in BASE.steps]
GATE = {"gate/gate", "gate/index", "gate/cascade"}
LARGER = {f"gate/larger-{role}" for role in ("threshold", "calibration", "test", "index")}
ASKED = {"gate/teacher-reference", *LARGER}
COMPRESS = {"compress/fp32", "compress/int8", "compress/sensitivity", "compress/int8-mixed"}
STATIC = {"compress/int8-static", "compress/sensitivity-static", "compress/int8-static-mixed"}
"""Of images, and of what asks for it."""
JOINED = {f"{each}-pipeline" for each in COMPRESS | STATIC if "sensitivity" not in each}
STAGES = {"train/soft", "train/more"}
AFTER_STUDENT = {"train/student", *STAGES, *COMPRESS, *GATE}
NOT_FROM_TEACHER = {
    *(f"resolve/{role}" for role in ("data", "validation", "calibration", "gate-data", "index-data")),
    *(f"resolve/cascade-{role}" for role in ("threshold", "calibration", "test")),
}
RESOLVE = {"resolve/source", *NOT_FROM_TEACHER}


def changed(plan: Any) -> set[str]:
    """Return the ids whose key differs from the complete text model's."""
    before, after = keys(BASE), keys(plan)
    return {step for step in before.keys() | after.keys() if before.get(step) != after.get(step)}


SPEC: list[tuple[str, Any, set[str]]] = [
    ("metadata.name", "another", set()),
    ("metadata.labels", {"team": "search"}, set()),
    ("spec.scale", {"minReplicas": 2, "maxReplicas": 9}, set()),
    ("spec.serve.resources.requests", {"cpu": "250m"}, set()),
    ("spec.serve.pin", "sha256:" + "1" * 64, set()),
    ("spec.serve.batching.maxBatchSize", 64, GATE),
    ("spec.serve.batching.maxQueueDelay", "1ms", GATE),
    ("spec.serve.queue.maxSize", 7, GATE),
    ("spec.serve.queue.timeout", "2s", GATE),
    ("spec.serve.instances", 1, GATE),
    ("spec.serve.threads", 2, GATE),
    ("spec.serve.resources.limits.cpu", "2", GATE),
    ("spec.gate.metrics[0].min", "80%", GATE),
    ("spec.gate.load.concurrency", 8, GATE),
    ("spec.gate.load.requests", 2000, GATE),
    ("spec.gate.maxLatencyP99", "30ms", GATE),
    ("spec.gate.maxSize", "13Mi", GATE),
    ("spec.gate.repeats", 1, GATE),
    ("spec.gate.data.maxRows", 9, {"resolve/gate-data", "gate/teacher-reference", *GATE}),
    ("spec.index.data.columns", {"text": "body"}, {"resolve/index-data", "gate/larger-index", "gate/index", "gate/cascade"}),
    ("spec.edge.cascade.targetAgreement", "97%", {"gate/cascade"}),
    ("spec.edge.cascade.neighbors", 7, {"gate/cascade"}),
    ("spec.edge.cascade.outliers", GONE, {"gate/cascade"}),
    ("spec.edge.cascade.test.maxRows", 9, {"resolve/cascade-test", "gate/larger-test", "gate/cascade"}),
    ("spec.edge.cascade.larger", {"model": "other"}, set()),
    ("spec.edge.away", {}, set()),
    ("spec.edge.run", {"kind": "DaemonSet"}, set()),
    ("spec.compress.keepFp32", 5, {"compress/int8-mixed", *GATE}),
    ("spec.compress.keepFp32", 9, {"compress/sensitivity", "compress/int8-mixed", *GATE}),
    ("spec.compress.calibration.maxRows", 9, {"resolve/calibration", "compress/sensitivity", "compress/int8-mixed", *GATE}),
    ("spec.distill.student.hiddenLayers", 3, AFTER_STUDENT),
    ("spec.distill.student.hiddenSize", 96, AFTER_STUDENT),
    ("spec.distill.student.intermediateSize", 384, AFTER_STUDENT),
    ("spec.distill.student.attentionHeads", 3, AFTER_STUDENT),
    ("spec.distill.student.init", "random", AFTER_STUDENT),
    ("spec.distill.student.init", "static", AFTER_STUDENT),
    ("spec.distill.student.vocabulary.maxSize", 8000, AFTER_STUDENT),
    ("spec.distill.seed", 8, AFTER_STUDENT),
    ("spec.build.workers", 2, set()),
    ("spec.distill.stages[0].epochs", 5, AFTER_STUDENT - {"train/student"}),
    ("spec.distill.stages[0].batchSize", 64, AFTER_STUDENT - {"train/student"}),
    ("spec.distill.stages[0].learningRate", "0.002", AFTER_STUDENT - {"train/student"}),
    ("spec.distill.stages[0].warmup", "6%", AFTER_STUDENT - {"train/student"}),
    ("spec.distill.stages[0].weightDecay", "0.02", AFTER_STUDENT - {"train/student"}),
    ("spec.distill.stages[0].losses[0].weight", "2", AFTER_STUDENT - {"train/student"}),
    ("spec.distill.stages[0].losses[0].distance", "cosine", AFTER_STUDENT - {"train/student"}),
    ("spec.distill.stages[0].losses[1].temperature", "0.1", AFTER_STUDENT - {"train/student"}),
    ("spec.distill.stages[0].losses[1].keys", 1024, AFTER_STUDENT - {"train/student"}),
    ("spec.distill.stages[0].losses[2].layer", 2, {"train/teacher-outputs", *AFTER_STUDENT} - {"train/student"}),
    ("spec.distill.stages[1].epochs", 9, {"train/more", *COMPRESS, *GATE}),
    ("spec.distill.maxLength", 32, {"train/teacher-outputs", *AFTER_STUDENT}),
    ("spec.distill.validation.maxRows", 5, {"resolve/validation", *STAGES, *COMPRESS, *GATE}),
    ("spec.distill.data.maxRows", 5, {"resolve/data", "train/teacher-outputs", *AFTER_STUDENT}),
    ("spec.distill.data.columns.text", "other", {"resolve/data", "train/teacher-outputs", *AFTER_STUDENT}),
    ("spec.distill.data.columns.weight", "w", {"resolve/data", "train/teacher-outputs", *AFTER_STUDENT}),
    ("spec.source.maxLength", 256, set(ALL) - NOT_FROM_TEACHER),
]


@pytest.mark.parametrize(("path", "value", "steps"), SPEC, ids=[f"{path}={value}" for path, value, _ in SPEC])
def test_a_field_of_the_spec_changes_the_steps_that_depend_on_it(path: str, value: Any, steps: set[str]) -> None:
    assert changed(plan_of(edits={path: value})) == steps


PINS = [
    ("models:minilm", set(ALL) - NOT_FROM_TEACHER),
    ("data:docstrings", {"resolve/data", "train/teacher-outputs", *AFTER_STUDENT}),
    ("data:validation", {"resolve/validation", *STAGES, *COMPRESS, *GATE}),
    ("data:calibration", {"resolve/calibration", "compress/sensitivity", "compress/int8-mixed", *GATE}),
    ("data:search-gate", {"resolve/gate-data", "gate/teacher-reference", *GATE}),
    ("data:documents", {"resolve/index-data", "gate/larger-index", "gate/index", "gate/cascade"}),
]


@pytest.mark.parametrize(("uri", "steps"), PINS, ids=[uri for uri, _ in PINS])
def test_other_contents_behind_a_uri_change_what_is_made_from_them(uri: str, steps: set[str]) -> None:
    model = parse(complete("text"))
    env = environment(model)
    pins = {**env.pins, uri: Pin(pin_of("other contents"), env.pins[uri].size, env.pins[uri].info)}
    assert changed(build_plan(model, dataclasses.replace(env, pins=pins))) == steps


def test_the_size_and_shape_behind_a_uri_are_for_estimates_only() -> None:
    model = parse(complete("text"))
    env = environment(model)
    pins = {uri: Pin(pin.digest, pin.size + 1, {**pin.info, "rows": 3}) for uri, pin in env.pins.items()}
    assert changed(build_plan(model, dataclasses.replace(env, pins=pins))) == set()


TRAINED = {"train/teacher-outputs", *ASKED, *AFTER_STUDENT}
TOOLS = [
    ("onnxruntime", COMPRESS | GATE),
    ("onnx", COMPRESS | GATE),
    ("tritonclient", GATE),
    ("pytriton", GATE),
    ("tokenizers", GATE),
    ("pyarrow", {"gate/index", "gate/cascade"}),
    ("accelerate", STAGES | COMPRESS | GATE),
    ("torch", TRAINED),
    ("transformers", TRAINED),
    ("something-else", set()),
]


@pytest.mark.parametrize(("tool", "steps"), TOOLS, ids=[tool for tool, _ in TOOLS])
def test_another_version_of_a_tool_changes_what_it_makes(tool: str, steps: set[str]) -> None:
    model = parse(complete("text"))
    toolchain = {**environment(model).toolchain, tool: "2.0"}
    assert changed(plan_of(toolchain=toolchain)) == steps


def test_other_hardware_changes_what_is_measured_and_what_follows() -> None:
    assert changed(plan_of(hardware={**HARDWARE, "cpu": "Other 1"})) == COMPRESS | GATE
    measuring = {step.id for step in BASE.steps if step.measures}
    assert measuring == {"compress/fp32", "gate/gate"}


def test_more_cpus_change_the_gate_only() -> None:
    assert changed(plan_of(cpus=4.0)) == GATE


def test_learning_in_int8_changes_what_it_makes_and_nothing_before() -> None:
    before, asked = keys(BASE), keys(plan_of(edits={"spec.compress.qat": {}}))
    assert set(asked) - set(before) == {"train/qat", "compress/qat-fp32", "compress/int8-qat"}
    assert {step for step in before if before[step] != asked[step]} == GATE
    longer = keys(plan_of(edits={"spec.compress.qat": {"epochs": 2}}))
    assert {step for step in asked if asked[step] != longer[step]} == (set(asked) - set(before)) | GATE
    narrow = keys(plan_of(edits={"spec.compress.qat": {}}, reduce_range=True))
    assert asked["train/qat"] != narrow["train/qat"], "it learns the seven bits that it will serve with"


def test_a_cpu_that_needs_seven_bits_changes_the_quantized_models() -> None:
    assert changed(plan_of(reduce_range=True)) == (COMPRESS - {"compress/fp32"}) | GATE


def test_a_rebuild_token_changes_everything_but_the_sources() -> None:
    assert changed(plan_of(rebuild="2026-11-22T06:00:00Z")) == set(ALL) - RESOLVE
    assert keys(plan_of(rebuild="a")) != keys(plan_of(rebuild="b"))


def test_the_factorys_file_is_part_of_the_student() -> None:
    model = parse(complete("image"))
    env = environment(model)
    pins = {**env.pins, "factory:nets.small:student": Pin(pin_of("edited"))}
    before, after = keys(build_plan(model, env)), keys(build_plan(model, dataclasses.replace(env, pins=pins)))
    stale = {"train/student", "train/stage-1", *COMPRESS, *STATIC, *JOINED, "gate/gate"}
    assert {step for step in before if before[step] != after[step]} == stale


def test_a_steps_file_or_joint_is_part_of_what_is_joined_and_gated() -> None:
    model = parse(complete("image"))
    env = environment(model)
    plan = build_plan(model, env)
    joined = {step.id for step in plan.steps if step.pass_name == "join-steps"}
    assert joined == JOINED
    gate = plan.step("gate/gate")
    assert {parent for role, parent in gate.parents.items() if role.startswith("candidate-")} == joined
    assert gate.config["candidates"] == ["int8-static", "int8-static-mixed", "int8", "int8-mixed", "fp32"]
    other = dataclasses.replace(env, pins={**env.pins, "file://decide.onnx": Pin(pin_of("edited"))})
    renamed = parse(edited(complete("image"), {"spec.pipeline.steps[1].outputs": {"yes:0": "SURE"}}))
    for changed_plan in (build_plan(model, other), build_plan(renamed, env)):
        stale = {step for step, key in keys(changed_plan).items() if keys(plan)[step] != key}
        assert stale == {"resolve/step-1", *joined, "gate/gate"}
    bound = {"models:odds": "file:///one.onnx"}
    hashes = {
        request_hash(model, bound),
        request_hash(model, {"models:odds": "file:///two.onnx"}),
        request_hash(renamed, bound),
        request_hash(parse(edited(complete("image"), {"spec.pipeline": GONE})), bound),
    }
    assert len(hashes) == 4


STATIC_FIELDS: list[tuple[Any, set[str]]] = [
    ({"ranges": "minmax", "balance": "0.5"}, set()),
    ({"ranges": "entropy"}, {*STATIC, *GATE}),
    ({"ranges": "percentile"}, {*STATIC, *GATE}),
    ({"balance": "0"}, {*STATIC, *GATE}),
]


@pytest.mark.parametrize(("int8", "steps"), STATIC_FIELDS, ids=[str(each) for each, _ in STATIC_FIELDS])
def test_what_is_said_of_ranges_is_part_of_the_static_steps_alone(int8: dict[str, Any], steps: set[str]) -> None:
    before, after = (plan_of(edits={"spec.compress.int8": each}) for each in ({}, int8))
    assert changed(before) == {*STATIC, *GATE}
    assert {step.id for step in after.steps if step.key != before.step(step.id).key} == steps


def test_the_version_of_a_pass_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from stillhouse.planning import manifest

    entry = manifest.PASSES["quantize-dynamic"]
    monkeypatch.setitem(manifest.PASSES, "quantize-dynamic", dataclasses.replace(entry, version=entry.version + 1))
    assert changed(plan_of()) == {"compress/int8", "compress/int8-mixed", *GATE}


def test_the_form_of_the_file_is_irrelevant() -> None:
    data = complete("text")
    shuffled = yaml.safe_dump({name: data[name] for name in reversed(data)}, sort_keys=True, default_flow_style=True)
    model = load_text("# a comment\n" + shuffled)
    assert keys(build_plan(model, environment(model))) == keys(BASE)


SAME = [
    ("spec.gate.maxLatencyP99", "20ms", "0.02s"),
    ("spec.gate.maxLatencyP99", "20ms", "20000us"),
    ("spec.serve.queue.timeout", "1s", "1000ms"),
    ("spec.serve.resources.limits.cpu", "1", "1000m"),
    ("spec.serve.resources.limits.memory", "512Mi", "524288Ki"),
    ("spec.gate.metrics[0].min", "70%", "0.7"),
    ("spec.gate.metrics[0].min", "70%", "70.0%"),
    ("spec.distill.stages[0].learningRate", "0.001", "0.00100"),
    ("spec.distill.stages[0].losses[0].weight", "1", "1.0"),
    ("spec.distill.seed", 7, GONE),
    ("spec.distill.stages[0].epochs", 4, GONE),
    ("spec.distill.stages[0].warmup", "5%", GONE),
    ("spec.distill.stages[0].losses[1].temperature", "0.05", GONE),
    ("spec.compress.precision", "auto", GONE),
    ("spec.gate.repeats", 3, GONE),
]


@pytest.mark.parametrize(("path", "one", "other"), SAME, ids=[f"{path}: {one}, {other}" for path, one, other in SAME])
def test_two_ways_to_say_the_same_are_the_same_step(path: str, one: Any, other: Any) -> None:
    assert keys(plan_of(edits={path: one})) == keys(plan_of(edits={path: other}))


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [*SAME, ("spec.distill.stages[1].name", "stage-2", GONE), ("spec.distill.student.init", "static", GONE)],
)
def test_two_ways_to_say_the_same_are_the_same_request(path: str, one: Any, other: Any) -> None:
    first, second, third = (plan_of(edits={path: value}).request_hash for value in (one, other, DIFFERENT[path]))
    assert first == second
    assert first != third


DIFFERENT = {
    "spec.gate.maxLatencyP99": "21ms",
    "spec.serve.queue.timeout": "2s",
    "spec.serve.resources.limits.cpu": "2",
    "spec.serve.resources.limits.memory": "513Mi",
    "spec.gate.metrics[0].min": "71%",
    "spec.distill.stages[0].learningRate": "0.002",
    "spec.distill.stages[0].losses[0].weight": "1.01",
    "spec.distill.seed": 8,
    "spec.distill.stages[0].epochs": 5,
    "spec.distill.stages[0].warmup": "6%",
    "spec.distill.stages[0].losses[1].temperature": "0.06",
    "spec.compress.precision": "int8",
    "spec.gate.repeats": 4,
    "spec.distill.stages[1].name": "last",
    "spec.distill.student.init": "random",
}


def test_the_order_of_pins_and_tools_is_irrelevant() -> None:
    model = parse(complete("text"))
    env = environment(model)
    turned = dataclasses.replace(
        env,
        pins=dict(reversed(list(env.pins.items()))),
        toolchain=dict(reversed(list(env.toolchain.items()))),
        hardware=dict(reversed(list(env.hardware.items()))),
    )
    assert keys(build_plan(model, turned)) == keys(BASE)


def test_another_name_for_the_same_contents_is_the_same_step() -> None:
    """A URI says where to look; what is found there counts."""
    edits = {"spec.distill.data.uri": "file:///elsewhere/docstrings.parquet"}
    model = parse(edited(complete("text"), edits))
    env = environment(model)
    pins = {**env.pins, "file:///elsewhere/docstrings.parquet": Pin(pin_of("data:docstrings"))}
    assert keys(build_plan(model, dataclasses.replace(env, pins=pins))) == keys(BASE)


def test_exports_are_asked_for_and_change_nothing_else() -> None:
    """A request without them has the hash that it had before there were any; with them, no other step has another key."""
    plain, none = plan_of("text"), plan_of("text", {"spec.export": []})
    some = plan_of("text", {"spec.export": [{"format": "openvino"}, {"format": "litert"}]})
    assert plain.request_hash == none.request_hash != some.request_hash
    known = {step.id: step.key for step in plain.steps}
    assert {step.id: step.key for step in some.steps if step.id in known} == known
    assert {step.id for step in some.steps} - set(known) == {"compress/export-openvino", "compress/export-litert"}
    assert set(some.targets) - set(plain.targets) == {"compress/export-openvino", "compress/export-litert"}
    half = plan_of("text", {"spec.export": [{"format": "openvino", "precision": "fp16"}]})
    assert half.step("compress/export-openvino").key != some.step("compress/export-openvino").key


def test_the_request_hash_needs_no_data_and_changes_with_what_is_asked_for() -> None:
    model = parse(complete("text"))
    bound = {"models:minilm": "package://minilm", "data:docstrings": "file:///d"}
    base = request_hash(model, bound)
    assert base == request_hash(model, dict(reversed(bound.items())))
    assert base == request_hash(parse(edited(complete("text"), {"spec.scale.maxReplicas": 9, "metadata.name": "other"})), bound)
    others = {
        request_hash(parse(edited(complete("text"), {"spec.distill.seed": 8})), bound),
        request_hash(parse(edited(complete("text"), {"spec.serve.batching.maxBatchSize": 8})), bound),
        request_hash(parse(edited(complete("text"), {"spec.gate.repeats": 8})), bound),
        request_hash(model, {**bound, "data:docstrings": "file:///e"}),
        request_hash(model, bound, "token"),
    }
    assert len(others | {base}) == 6


def test_the_plan_hash_is_over_every_step() -> None:
    assert BASE.plan_hash == plan_of().plan_hash
    assert BASE.plan_hash != plan_of(edits={"spec.index.data.maxRows": 3}).plan_hash


def test_another_container_that_serves_is_measured_anew_and_nothing_is_built_for_it() -> None:
    server = {**HARDWARE, "cpuLimit": 1.0, "runtimeImage": "serve:1"}
    before = keys(plan_of(server=server))
    assert {step for step, key in keys(BASE).items() if before[step] != key} == GATE
    for other in ({"runtimeImage": "serve:2"}, {"cpuLimit": 2.0}):
        after = keys(plan_of(server={**server, **other}))
        assert {step for step in before if before[step] != after[step]} == GATE
