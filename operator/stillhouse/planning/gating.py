"""What a candidate is held against, as steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillhouse.api.model import Spec
from stillhouse.planning.imports import TEACHER, import_data
from stillhouse.planning.plan import Environment, StepDraft
from stillhouse.planning.preparing import judged
from stillhouse.planning.request import gate_config, serve_config
from stillhouse.planning.teaching import tuned_on

__all__ = ["GATE", "INDEX", "gate", "reference"]

GATE, INDEX = "gate/gate", "gate/index"


def gate(spec: Spec, ladder: list[str], served: list[str], calibration: str | None, env: Environment) -> Iterator[StepDraft]:
    """Draft the gate. `ladder`: what the candidates are called, `served`: the steps whose results are served for them."""
    parents = {f"candidate-{position}": step_id for position, step_id in enumerate(served)}
    config: dict[str, Any] = {
        "task": spec.source.task,
        "candidates": [step_id.partition("/")[2] for step_id in ladder],
        "serve": serve_config(spec.serve),
        "runtime": spec.serve.runtime,
        "cpus": env.cpus,
        **gate_config(spec.gate),
        # Only where there is one: a gate without has the key that it had before there were any.
        **({"goal": spec.compress.goal} if spec.compress.goal else {}),
    }
    if spec.gate:
        yield import_data("resolve/gate-data", spec.gate.data, spec.source, env)
        parents["data"] = "resolve/gate-data"
        if spec.gate.metrics:
            yield reference("gate/teacher-reference", "resolve/gate-data", spec, env)
            parents["reference"] = "gate/teacher-reference"
        if spec.distill:
            parents |= judged(spec.distill)
        if calibration and calibration not in parents.values():
            parents["calibration"] = calibration
        if spec.distill and spec.distill.validation:
            parents["validation"] = "resolve/validation"
        parents |= tuned_on(spec.source)
    yield StepDraft(GATE, "gate", "gate", config, parents)


def reference(step_id: str, data: str, spec: Spec, env: Environment) -> StepDraft:
    """Draft what the source says of some rows."""
    onnx = env.pins[spec.source.uri].info.get("format") == "onnx"
    name = "onnx-teacher-reference" if onnx else "teacher-reference"
    config = {"maxLength": spec.source.max_length, "threads": 1}
    return StepDraft(step_id, "gate", name, config, {"teacher": TEACHER, "data": data})
