"""Planning and the passes agree without knowing each other: names, versions, kinds, configurations, roles."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.support.api_objects import GONE
from tests.support.plans import environment, models, onnx_plan, plan_of

from stillhouse.api.model import DistilledModel
from stillhouse.passes.base import Pass, PassConfig
from stillhouse.passes.runner import load_pass
from stillhouse.planning.build import build_plan
from stillhouse.planning.manifest import PASSES
from stillhouse.planning.plan import Plan, Step

KINDS = {
    *("cascade", "cut-model", "torch-model", "onnx-model", "onnx-step", "dataset", "teacher-outputs", "measurement", "index"),
    *("revision", "exported-model", "search", "steps"),
}


def plans() -> Iterator[Plan]:
    """Yield plans that between them hold every pass, with and without what may be left out."""
    for base in ("text", "class", "image"):
        yield plan_of(base)
        yield plan_of(base, {"spec.source.maxLength": GONE} if base == "text" else {})
    bare = {"spec.source.maxLength": GONE, "spec.distill.maxLength": GONE}
    yield plan_of("text", {**bare, "spec.distill.student": {"hiddenLayers": 2}, "spec.distill.validation": GONE})
    yield plan_of("text", {"spec.distill": GONE, "spec.gate": GONE, "spec.index": GONE, "spec.edge": GONE, "spec.serve": GONE})
    searched = {"spec.distill.student": {"hiddenSize": 64}, "spec.distill.search": {"hiddenLayers": [1, 2]}}
    yield plan_of("text", searched)
    losses = [{"kind": "embedding"}]
    taken = {"heads": "50%", "neurons": "75%", "channels": "5%", "by": "movement"}
    yield plan_of("text", {"spec.distill.stages": [{"losses": losses, "prune": each} for each in (taken, {"weights": "90%"})]})
    plain = {"spec.distill.stages": [{"losses": [{"kind": "embedding"}]}]}
    for student in (
        {"architecture": "cnn", "convolution": {"kernelSizes": [2, 3], "separable": True, "dilated": True}, "pooling": "mean"},
        {"architecture": "bilstm", "embeddingSize": 64},
        {"architecture": "mlp", "bigrams": 4096},
    ):
        yield plan_of("text", {**plain, "spec.distill.student": student})
    yield plan_of("image", {"spec.distill.student": {"architecture": "cnn", "convolution": {"channels": [8, 16]}}})
    teachers = {"spec.distill.teachers": [{"uri": "models:b", "labels": ["yes", "no"]}, {"uri": "file://teacher"}]}
    learned = {"spec.distill.weighting": "learned", "spec.distill.validation": {"uri": "data:v"}, "spec.distill.topLogits": 1}
    yield plan_of("class", {**teachers, **learned})
    between = {"student": {"hiddenLayers": 2}, "stages": [{"losses": [{"kind": "logits"}, {"kind": "hidden"}]}]}
    tuning = {"spec.source.fineTune": {"data": {"uri": "data:t"}, "freeze": {"layers": 1}, "labelSmoothing": "0.1"}}
    yield plan_of("class", {"spec.distill.assistants": [between], **tuning})
    yield onnx_plan()
    yield plan_of("text", {"spec.compress.goal": "small"})
    for halves in ("fp16", "bf16"):
        yield plan_of("text", {"spec.compress": {"precision": halves}})
    for ranges in ("minmax", "percentile"):
        yield plan_of("text", {"spec.compress.int8": {"ranges": ranges}})
        yield plan_of("text", {"spec.compress": {"qat": {}, "int8": {"ranges": ranges}}})
    yield plan_of("class", {"spec.edge.cascade.middle": {"model": "between"}})
    yield plan_of("text", {"spec.edge": {"cut": {"layer": "encoder.2"}}})
    for kind in ({"kind": "tokenise"}, {"kind": "window", "length": 8, "hop": 4}):
        yield plan_of("text", {"spec.edge": {"preprocess": {"steps": [kind], "model": "large"}}})
    everywhere = [{"format": each, "precision": "fp16"} for each in ("openvino", "litert", "coreml", "tensorrt")]
    yield plan_of("text", {"spec.export": everywhere})
    yield plan_of("image", {"spec.export": [{"format": "tensorrt", "batch": 8}, {"format": "litert"}]})
    yield plan_of("text", {"spec.source.factory": {"target": "nets:teacher", "arguments": {"width": 3, "name": "x"}}})


def _loaded(name: str) -> Pass[Any, Any]:
    """Load a pass whether or not its packages are here: those of two exports are in no lock, their classes need none of them."""
    module, _, attribute = PASSES[name].target.partition(":")
    return getattr(importlib.import_module(module), attribute)()  # type: ignore[no-any-return]


STEPS: dict[str, list[Step]] = {}
for _plan in plans():
    for _step in _plan.steps:
        STEPS.setdefault(_step.pass_name, []).append(_step)


def test_the_plans_above_hold_every_pass() -> None:
    missing = set(PASSES) - set(STEPS)
    assert not missing, f"plans() in {__file__}: yield a plan with a step of {', '.join(sorted(missing))}"


@pytest.mark.parametrize("name", PASSES)
def test_class_and_manifest_say_the_same(name: str) -> None:
    found, entry = _loaded(name), PASSES[name]
    assert isinstance(found, Pass)
    for what, its_own, listed in (
        ("name", type(found).name, entry.name),
        ("version", type(found).version, entry.version),
        ("kind", type(found).kind, entry.makes),
    ):
        assert its_own == listed, (
            f"{what} of {entry.target} is {its_own!r} in the class and {listed!r} in planning/manifest.py: write the same in "
            "both. Planning reads the manifest alone: what the class says by itself changes no key"
        )
    assert entry.makes in KINDS, (
        f"artifacts of kind {entry.makes!r} are new: describe them in docs/design/20261122-contracts.md, then add them to KINDS"
    )
    assert issubclass(type(found).config_type, PassConfig)


@pytest.mark.parametrize("name", PASSES)
def test_configurations_refuse_what_they_do_not_know(name: str) -> None:
    config_type = _loaded(name).config_type
    config = {**STEPS[name][0].config, "somethingElse": 1}
    with pytest.raises(ValueError, match="somethingElse"):
        config_type.model_validate(config)


@pytest.mark.parametrize("name", PASSES)
def test_what_planning_writes_is_accepted(name: str) -> None:
    config_type = _loaded(name).config_type
    for step in STEPS[name]:
        stored = json.loads(json.dumps(step.config))  # as receipts and remote runners see it
        config_type.model_validate(stored)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(models())
def test_what_planning_writes_for_any_model_is_accepted(model: DistilledModel) -> None:
    for step in build_plan(model, environment(model)).steps:
        load_pass(step.pass_name).config_type.model_validate(step.config)


def values_of(config: PassConfig) -> dict[str, Any]:
    """Return a configuration as planning wrote it."""
    return config.model_dump(by_alias=True, mode="json")


def of_what_was_written(read: Any, written: Any) -> Any:
    """Return of what was read the parts that were written: what is left out has its default."""
    if isinstance(written, dict) and isinstance(read, dict):
        return {field: of_what_was_written(read.get(field), value) for field, value in written.items()}
    if isinstance(written, list | tuple) and isinstance(read, list | tuple) and len(read) == len(written):
        return type(written)(of_what_was_written(*pair) for pair in zip(read, written, strict=True))
    return read


@pytest.mark.parametrize("name", PASSES)
def test_nothing_that_planning_writes_is_lost(name: str) -> None:
    """A value that the configuration would silently round, cut or drop would be in the key but not in the work."""
    config_type = _loaded(name).config_type
    for step in STEPS[name]:
        read = values_of(config_type.model_validate(step.config))
        assert of_what_was_written(read, step.config) == step.config


def test_planning_imports_no_pass() -> None:
    import subprocess
    import sys

    code = (
        "import sys, stillhouse.planning.build, stillhouse.passes.runner;"
        "print([name for name in ('torch', 'numpy', 'onnxruntime', 'pyarrow', 'transformers') if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={"PYTHONPATH": str(root / "operator"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
