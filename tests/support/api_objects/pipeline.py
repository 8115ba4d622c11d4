"""`pipeline`: steps that go on from what a model answers."""

from __future__ import annotations

from tests.support.api_objects.case import GONE, Case, bad
from tests.support.api_objects.resources import Object

__all__ = ["INVALID", "VALID"]

_STEP = "spec.pipeline.steps[1]"
_GATED: Object = {"data": {"uri": "file://gate.csv"}, "metrics": [{"name": "agreement", "output": "YES", "min": "90%"}]}

VALID: tuple[Case, ...] = (Case("an output gated in the ensemble", "image", {"spec.gate": _GATED}),)

INVALID: tuple[Case, ...] = (
    bad("a pipeline of nothing", "image", "spec.pipeline.steps", []),
    bad("a step of both kinds", "image", f"{_STEP}.model", "other", "either onnx or model"),
    Case("a step of neither kind", "image", {f"{_STEP}.onnx": GONE}, f"{_STEP}.model", "either onnx or model"),
    bad("a step that takes nothing", "image", f"{_STEP}.inputs", {}),
    Case("a tensor's odd name", "image", {f"{_STEP}.inputs": {"a b": "PROBABILITIES"}}, _STEP, "names of tensors"),
    Case("an output's odd name", "image", {f"{_STEP}.outputs": {"": "YES"}}, _STEP, "names of tensors"),
    bad("a name in the answer that is none", "image", f"{_STEP}.outputs", {"yes": "a b"}),
    bad("a reference that is none", "image", f"{_STEP}.inputs", {"odds": "odds."}),
    bad("a step called request", "image", f"{_STEP}.name", "request", "another name"),
    bad("a step called base", "image", f"{_STEP}.name", "base", "another name"),
    bad("a step with a wrong name", "image", f"{_STEP}.name", "Decide"),
    bad("an output with the model's name", "image", f"{_STEP}.outputs", {"yes": "LABEL"}, "other names"),
    bad("an onnx step apart", "image", "spec.pipeline.placement", "apart", "takes steps of model"),
    bad("a model step together", "apart", "spec.pipeline.placement", "together", "takes steps of onnx"),
    bad("a placement that nobody knows", "image", "spec.pipeline.placement", "beside"),
    Case("two steps of one name", "apart", {f"{_STEP}.name": "topic"}, "spec.pipeline.steps", "the same name"),
    Case(
        "a step that comes later",
        "image",
        {"spec.pipeline.steps[0].inputs": {"x": "decide.yes"}},
        "spec.pipeline.steps",
        "before",
    ),
    Case("a step of itself", "image", {f"{_STEP}.inputs": {"odds": "decide.yes"}}, "spec.pipeline.steps", "before"),
    Case("a step that is not there", "image", {f"{_STEP}.inputs": {"odds": "even.x"}}, "spec.pipeline.steps", "before"),
    Case("two outputs of one name", "apart", {f"{_STEP}.outputs.LABEL": "MOODS"}, "spec.pipeline.steps", "two outputs"),
    Case("two steps' outputs of one name", "apart", {f"{_STEP}.outputs.LABEL": "TOPIC"}, "spec.pipeline.steps", "two outputs"),
    Case("a last step that says nothing", "image", {f"{_STEP}.outputs": GONE}, "spec.pipeline.steps", "last step needs outputs"),
    Case("a tensor of another task", "image", {f"{_STEP}.inputs": {"x": "EMBEDDING"}}, "spec.pipeline.steps", "a step takes"),
    Case("an input of another task", "image", {f"{_STEP}.inputs": {"x": "request.TEXT"}}, "spec.pipeline.steps", "a step takes"),
    Case(
        "an output that no step gives",
        "image",
        {"spec.gate": _GATED, f"{_STEP}.outputs": {"yes": "NO"}},
        "spec.gate",
        "output is",
    ),
    Case("an output gated without a pipeline", "text", {"spec.gate.metrics[0]": _GATED["metrics"][0]}, "spec.gate", "output is"),
    Case(
        "an output of another metric",
        "image",
        {"spec.gate": _GATED, "spec.gate.metrics[0].name": "accuracy"},
        "spec.gate",
        "belongs",
    ),
    Case("apart without a gateway", "apart", {"spec.edge": GONE}, "spec.pipeline.placement", "needs edge"),
    Case("a step of the model itself", "apart", {f"{_STEP}.model": "m"}, "", "another model"),
    Case(
        "a pipeline beside a cascade",
        "class",
        {
            "spec.pipeline": {
                "steps": [{"name": "a", "onnx": {"uri": "models:a"}, "inputs": {"x": "LABEL"}, "outputs": {"y": "Y"}}]
            }
        },
        "spec.pipeline",
        "exclude each other",
    ),
    Case(
        "a token for a file",
        "image",
        {"spec.pipeline.steps[0].backendToken": "mine"},
        "spec.pipeline.steps[0].backendToken",
        "step of model",
    ),
)
