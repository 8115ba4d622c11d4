"""INT8 that the student learns to live with, as steps: it goes on learning, is exported, and rounded as it was then. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from stillhouse.api.int8 import Int8
from stillhouse.api.model import Spec
from stillhouse.errors import SpecError
from stillhouse.planning.places import STAGE
from stillhouse.planning.plan import Environment, StepDraft
from stillhouse.planning.static import rounding

__all__ = ["QAT", "TRAINED", "aware", "learning"]

TRAINED, EXPORTED, QAT = "train/qat", "compress/qat-fp32", "compress/int8-qat"
_NOT_AGAIN = ("prune", "progressive", "earlyStopping", "mixedPrecision")
"""What the last stage did once and for all, or over a whole training; and BF16, whose steps are coarser than INT8's."""


def learning(spec: Spec, lesson: StepDraft, calibration: str, env: Environment) -> Iterator[StepDraft]:
    """Draft the training, where it is asked for: `lesson`, the last stage, goes on from its own end with numbers rounded.

    Raises:
        SpecError: a stage has its name.
    """
    qat = spec.compress.qat
    if qat is None or spec.distill is None:
        return
    if any(f"train/{stage.name}" == TRAINED for stage in spec.distill.stages):
        raise SpecError(
            "stages need names of their own",
            field="spec.distill.stages",
            found="qat, which compress.qat's training is called",
            fix="call the stage otherwise, or remove compress.qat",
        )
    config = {
        **{name: value for name, value in lesson.config.items() if name not in _NOT_AGAIN},
        "stage": TRAINED.partition("/")[2],
        "losses": [_settled(loss) for loss in lesson.config["losses"]],
        "epochs": qat.epochs,
        "learningRate": float(qat.learning_rate),
        "embeddingLearningRate": None,
        "seed": lesson.config["seed"] + 1,
        "quantize": _rounding(spec, env),
    }
    parents = {**lesson.parents, "student": lesson.id, "calibration": calibration}
    # All else is the last stage's, and stands there.
    places = {**lesson.places, f"{STAGE}.learningRate": "spec.compress.qat.learningRate"}
    yield dataclasses.replace(lesson, id=TRAINED, config=config, parents=parents, places=places)


def aware(spec: Spec, calibration: str, export: Mapping[str, Any], env: Environment) -> Iterator[tuple[StepDraft, bool]]:
    """Yield (draft, whether it makes a candidate) of what is made of the student that `learning` gives; `export`: how."""
    yield StepDraft(EXPORTED, "compress", "export", export, {"model": TRAINED}), False
    parents = {"model": EXPORTED, "trained": TRAINED, "data": calibration}
    yield StepDraft(QAT, "compress", "quantize-trained", _rounding(spec, env), parents), True


def _rounding(spec: Spec, env: Environment) -> dict[str, Any]:
    return rounding(spec.compress.int8 or Int8(), env)


def _settled(loss: Mapping[str, Any]) -> dict[str, Any]:
    """Return a term with the weight and temperature that it ended with."""
    found = {name: value for name, value in loss.items() if not name.endswith("Course")}
    for name in ("weight", "temperature"):
        if f"{name}Course" in loss:
            found[name] = loss[f"{name}Course"]["to"]
    return found
