"""The model between the small and the larger one of a cascade: opened, joined to the small one's rows, and written down."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stillhouse.errors import DataError
from stillhouse.inference.confidence import Calibration
from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.evaluate.curve import Rows
from stillhouse.passes.evaluate.threshold import Solved

__all__ = ["middle_of", "open_middle", "together_with"]


def open_middle(given: Artifact, small: Engine, threads: int) -> Engine:
    """Return the model between, once it is found to answer the same question.

    Raises:
        DataError: it has another task, other labels, or takes arrays of another shape.
    """
    engine, mine = Engine(given.path, threads), small.signature
    theirs = engine.signature
    if theirs.task != mine.task or theirs.labels != mine.labels or _form(theirs) != _form(mine):
        raise DataError(
            "the model between answers another question",
            field="spec.edge.cascade.middle.model",
            found=f"{theirs.task}: {', '.join(theirs.labels[:20])}",
            allowed=f"{mine.task}: {', '.join(mine.labels[:20])}",
            fix="name a model of the same task, labels (in their order) and images or features",
        )
    return engine


def _form(signature: Signature) -> tuple[object, ...]:
    """Return what a request holds: of features not the statistics of whoever learned from them."""
    features = signature.features
    return (signature.image, features.shape, features.columns) if features else (signature.image,)


def together_with(stages: Sequence[Rows], cost: float) -> Rows:
    """Return the rows of one stage, or of two that were asked about the same rows; `cost`: of an answer by the second."""
    if len(stages) == 1:
        return stages[0]
    one, two = stages
    right = None
    if one.right is not None and two.right is not None:
        right = np.concatenate([one.right[:, :1], two.right], axis=1)
    confidence = np.concatenate([one.confidence, two.confidence], axis=1)
    agrees = np.concatenate([one.agrees, two.agrees], axis=1)
    return Rows(confidence, agrees, (one.costs[0], cost, one.costs[1]), right)


def middle_of(name: str, given: Artifact, calibration: Calibration, solved: Solved) -> dict[str, Any]:
    """Return what `cascade.json` says of it.

    Who does not know this part passes it by: more is asked of the larger model then, and no answer is another, so the file's
    version is the same.
    """
    threshold = solved.point.thresholds[1]
    return {
        "model": name,
        "digest": given.digest,
        "variant": json.loads((given.path / "receipt.json").read_bytes())["precision"],
        "calibration": calibration.to_json(),
        "threshold": threshold if math.isfinite(threshold) else None,
    }
