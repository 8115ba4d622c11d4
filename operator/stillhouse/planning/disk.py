"""What the results of a plan will take on the disk, by what the file says of them. An estimate. Pure.

It is what lies in the store when all is done. A vocabulary counts as large as the file lets it be: data with fewer tokens makes a
smaller one. What a stage keeps for itself while it runs (checkpoints) is not in it, and a teacher's shape stands for whatever is
not known better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stillhouse.planning.macs import usual_shape
from stillhouse.planning.parameters import parameters
from stillhouse.planning.plan import Environment, Plan, Step
from stillhouse.planning.students import HIDDEN_SIZE, form_of, is_small

__all__ = ["FLOOR", "Weights", "disk", "weights"]

FLOOR: Final = 64 * 2**10
"""Of a step's small files: reports, a graph without its weights."""
FLOAT = 4
TOKEN_BYTES: Final = 16
"""Of a tokenizer's file, for each token: 466 KB of MiniLM's 30,522, 173 KB of 10,798."""
POSITIONS: Final = 512
"""That an encoder has vectors of, as most teachers have: a plan does not know how many."""
INT8, INT4, MIXED = 0.26, 0.16, 0.25
"""Shares of FP32: weights and their scales (bench/results/compress.json: 0.254, 0.154, 0.198 to 0.252)."""
TOP_BYTES = 4
"""Of each logit that is kept, in half precision with its class."""

_REPORTS = ("sensitivity", "sensitivity-mixed")
_TRAINED = {"distill": "student", "fine-tune": "encoder"}
"""Passes whose model is as large as the one that they begin with, and which of their parents that is."""
_MAKES_MODELS = ("student", "distill", "fine-tune")


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of a model in FP32: the tables of token vectors, all else, and the tokenizer beside them."""

    tables: float
    rest: float
    tokenizer: float = 0.0

    def at(self, share: float, tables: float | None = None) -> int:
        """Return the bytes with weights at a share of FP32's; `tables`: theirs, where it is another."""
        return int(self.tables * (share if tables is None else tables) + self.rest * share + self.tokenizer)


def disk(step: Step, plan: Plan, env: Environment, rows: int, numbers: int) -> int:
    """Return the bytes of a step's result. `rows` of the data that it reads; `numbers` of the teacher's embedding."""
    match step.pass_name:
        case name if name.startswith("import-"):
            return _imported(step, env)
        case "pool-data" | "deduplicate" | "balance" | "augment":
            return FLOOR + _rows(step, plan, env)
        case "teacher-outputs":
            return FLOOR + rows * _said(step.config, plan, numbers)
        case "combine-outputs":
            return FLOOR + rows * _said({**step.config, "outputs": [step.config["output"]]}, plan, numbers)
        case "teacher-reference" | "onnx-teacher-reference":
            # Of a pair both texts: whether there are pairs only the rows can tell.
            texts = 1 if _labels(plan) is not None else 2
            return FLOOR + rows * FLOAT * texts * (_labels(plan) or numbers)
        case "index":
            return FLOOR + rows * numbers * FLOAT + _rows(step, plan, env)
        case "join-steps":
            joined = [plan.step(parent) for role, parent in step.parents.items() if role.startswith(("model", "step"))]
            return FLOOR + sum(disk(each, plan, env, rows, numbers) for each in joined)
        case "cut":  # both halves are the model; the gate tries its first candidate first, and mostly takes it
            gate = plan.find(step.parents.get("model", ""))
            first = plan.find(gate.parents.get("candidate-0", "")) if gate else None
            return FLOOR + (disk(first, plan, env, rows, numbers) if first else 0)
        case name if name in _MAKES_MODELS or _graph(name):
            return FLOOR + _model(step, weights(step, plan, env))
        case _:  # the gate's too: the chosen model's files are linked, and lie there once
            return FLOOR


def weights(step: Step, plan: Plan, env: Environment) -> Weights:
    """Return the weights of the model that a step makes, as they are in FP32; a precision is of what it was made from."""
    if step.pass_name == "student":
        found = _of_student(step, plan, env)
        return _of_source(plan.find("resolve/source"), env) if found is None else found
    role = _TRAINED.get(step.pass_name, "model")
    parent = plan.find(step.parents.get(role, ""))
    return _of_source(step, env) if parent is None else weights(parent, plan, env)


def _graph(name: str) -> bool:
    return (name == "halve" or name.startswith(("export", "quantize-"))) and name not in _REPORTS


def _model(step: Step, full: Weights) -> int:
    match step.pass_name:
        case "halve":
            return full.at(0.5)
        case "quantize-int4":
            return full.at(INT4)
        case "quantize-mixed":
            return full.at(MIXED)
        case name if name.startswith("quantize-"):
            # What is most sensitive is often the table, which in a small student is most of it.
            return full.at(INT8, 1.0 if step.config.get("exclude") else None)
        case name if name.startswith("export-") and name != "export-tensorrt":  # which keeps the graph as it is
            return full.at(0.5 if step.config.get("precision") == "fp16" else 1.0)
        case _:
            return full.at(1.0)


def _of_student(step: Step, plan: Plan, env: Environment) -> Weights | None:
    """Return a student's weights by its shape; None where too little of it is known."""
    shape = usual_shape(step, plan)
    source = plan.find("resolve/source")
    teacher = env.pins[source.uri].info if source is not None and source.uri in env.pins else {}
    image = form_of(source.config) if source is not None else None
    hidden = int(teacher.get("hiddenSize") or 0)
    if shape.get("factory"):
        return None
    if image is not None and is_small(shape):
        _, inner = parameters(shape, teacher, 0, image)
        return Weights(0.0, FLOAT * inner)
    known = int(teacher.get("vocabularySize") or 0)
    vocabulary = min(known or 10**9, int(shape.get("vocabularySize") or known or 0))
    if not vocabulary or not hidden or not (teacher.get("layers") or shape.get("hiddenLayers") or is_small(shape)):
        return None
    table, inner = parameters(shape, teacher, vocabulary)
    width = int(shape.get("hiddenSize") or (HIDDEN_SIZE if is_small(shape) else hidden))
    if is_small(shape):
        inner += width * (_labels(plan) or hidden)  # the layer that answers
    elif shape.get("architecture") == "residual":
        inner += width * int(shape.get("maxLength") or POSITIONS)
    else:  # of another width it has a layer to the teacher's
        inner += width * (POSITIONS + (hidden if width != hidden else 0))
    return Weights(FLOAT * table, FLOAT * inner, TOKEN_BYTES * vocabulary)


def _of_source(source: Step | None, env: Environment) -> Weights:
    """Return the weights of a model that is imported, by its size and what is known of its shape."""
    pin = env.pins.get(source.uri) if source is not None else None
    info: Mapping[str, Any] = pin.info if pin is not None else {}
    hidden, tokens, layers = (int(info.get(name) or 0) for name in ("hiddenSize", "vocabularySize", "layers"))
    size = float(pin.size) if pin is not None and pin.size else 0.0
    if not size:
        size = FLOAT * float((tokens or 30_000) * (hidden or 768) + (layers or 12) * 12 * (hidden or 768) ** 2)
    table = min(size, FLOAT * float(tokens * hidden))
    return Weights(table, size - table)


def _imported(step: Step, env: Environment) -> int:
    pin = env.pins.get(step.uri)
    if pin is None:
        return 0
    rows, limit = pin.info.get("rows"), step.config.get("maxRows")
    return int(pin.size * min(1.0, limit / rows)) if rows and limit else pin.size


def _rows(step: Step, plan: Plan, env: Environment) -> int:
    """Return the bytes of the rows that a step reads, or makes of those: what is left of them only they can tell."""
    if step.pass_name.startswith("import-"):
        return _imported(step, env)
    parents = (plan.find(step.parents.get(role, "")) for role in ("data", "unlabelled"))
    return sum(_rows(each, plan, env) for each in parents if each is not None) * (1 + int(step.config.get("copies") or 0))


def _said(config: Mapping[str, Any], plan: Plan, numbers: int) -> int:
    """Return the bytes that are kept of what a teacher says of a row."""
    found = 0
    for output in config["outputs"]:
        if output == "hidden":
            found += 2 * numbers * len(config.get("layers") or (0,))
        elif output == "logits":
            top = config.get("topLogits")
            found += FLOAT + TOP_BYTES * int(top) if top else FLOAT * (_labels(plan) or numbers)
        else:
            found += 2 * numbers
    return found


def _labels(plan: Plan) -> int | None:
    """Return how many labels there are, 0 where only the model can tell; None: it embeds."""
    tuned, source = plan.find("train/teacher"), plan.find("resolve/source")
    if tuned is None and source is not None and source.config.get("task") == "sentence-embedding":
        return None
    named = [each.config.get("labels") for each in (tuned, source) if each is not None]
    return next((len(labels) for labels in named if labels), 0)
