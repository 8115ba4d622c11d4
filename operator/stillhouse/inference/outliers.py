"""Inputs unlike those a model was made for. A confidence says how often such answers are right; here is whether there were such.

The limit is solved on the calibration split (`passes.evaluate.calibration.fit_outlier`); what lies beyond it, and what is not
a number, is outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from stillhouse.digests import content_digest
from stillhouse.errors import SourceError

__all__ = ["OutlierKind", "OutlierRule", "centroid_of", "energy"]

Floats = npt.NDArray[np.float64]
OutlierKind = Literal["energy", "centroid", "nearest"]
VERSION = 1


def energy(logits: npt.NDArray[Any]) -> Floats:
    """Return -log Σ exp(logit), float64 [n] (Liu et al. 2020): the higher, the stranger; NaN where a logit is not finite.

    It needs logits: of probabilities it is 0 whatever they are.
    """
    values = np.asarray(logits, dtype=np.float64)
    finite = np.isfinite(values).all(axis=1)
    safe = np.where(finite[:, None], values, 0.0)
    top = safe.max(axis=1)
    result: Floats = np.where(finite, -(top + np.log(np.exp(safe - top[:, None]).sum(axis=1))), np.nan)
    return result


def centroid_of(embeddings: npt.NDArray[Any]) -> tuple[float, ...]:
    """Return the direction of the mean of the finite rows of embeddings [n, dimension], of length 1 (0 where they cancel)."""
    values = np.asarray(embeddings, dtype=np.float64)
    mean = values[np.isfinite(values).all(axis=1)].mean(axis=0)
    length = float(np.linalg.norm(mean))
    return tuple((mean / length if length > 0 else mean).tolist())


@dataclass(frozen=True, slots=True)
class OutlierRule:
    """What is measured and up to which `limit` an input is a usual one.

    `energy` takes logits [n, labels]; `centroid` embeddings [n, dimension], of which the distance is 1 - cosine to the
    centroid of the training texts; `nearest` best scores against an index [n], of which it is 1 - score. An infinite limit
    (too few rows to solve one) leaves out only what is not a number.

    Raises:
        ValueError: a parameter cannot be one.
    """

    kind: OutlierKind
    limit: float
    centroid: tuple[float, ...] = ()
    _centroid: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = np.array(self.centroid, dtype=np.float64)
        if self.kind not in get_args(OutlierKind) or math.isnan(self.limit):
            raise ValueError(f"kind {self.kind}, limit {self.limit}")
        if (self.kind == "centroid") != bool(self.centroid) or not np.isfinite(values).all():
            raise ValueError(f"centroid of {len(self.centroid)} numbers for {self.kind}")
        object.__setattr__(self, "_centroid", values)

    def distance(self, values: npt.NDArray[Any]) -> Floats:
        """Return how strange each row is, float64 [n]: comparable with the limit; NaN where a value is not finite."""
        if self.kind == "energy":
            return energy(values)
        given = np.asarray(values, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            found = 1.0 - (given @ self._centroid if self.kind == "centroid" else given)
        result: Floats = np.where(np.isfinite(found), found, np.nan)
        return result

    def outside(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which rows are beyond the limit, bool [n]."""
        result: npt.NDArray[np.bool_] = ~(self.distance(values) <= self.limit)  # NaN is outside
        return result

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; an infinite limit is null."""
        limit = self.limit if math.isfinite(self.limit) else None
        return {"version": VERSION, "kind": self.kind, "limit": limit, "centroid": list(self.centroid)}

    @property
    def digest(self) -> str:
        """Return `sha256:…` over the JSON form."""
        return content_digest(self.to_json())

    @classmethod
    def from_json(cls, data: Any) -> OutlierRule:
        """Build from JSON data.

        Raises:
            SourceError: another version, or something that no rule can be.
        """
        try:
            if data["version"] != VERSION:
                raise ValueError(f"version {data['version']}, not {VERSION}")
            limit = math.inf if data["limit"] is None else float(data["limit"])
            return cls(data["kind"], limit, tuple(float(value) for value in data["centroid"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SourceError(
                "the rule for unusual inputs is not readable",
                field="outliers",
                found=str(error),
                fix="build the model again with this version: still rebuild NAME",
            ) from error
