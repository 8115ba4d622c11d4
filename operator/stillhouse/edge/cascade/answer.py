"""An answer of the cascade as a `ModelInferResponse`: the model's own outputs, what was asked for beside, and where from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.edge.cascade.decide import Course, Merged
from stillhouse.edge.cascade.legs import Leg, told_digest
from stillhouse.edge.cascade.policy import Policy
from stillhouse.edge.cascade.question import (
    CONFIDENCE,
    EMBEDDING,
    LABEL,
    LEG,
    NEIGHBOR,
    PROBABILITIES,
    PROVENANCE,
    SCORE,
    Question,
)
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import add_output
from stillhouse.triton.model_config import CONTRACT_VERSION

__all__ = ["NONE", "Composer", "Told"]

NONE = "none"
"""The leg of a row that abstains."""
_LONGEST = 200
_RESPONSE = message("ModelInferResponse")


@dataclass(slots=True)
class Told:
    """What an answer says beside its rows. `away`: the policy that answered in the cloud's place.

    `queued`: the key of what waits. `edge_error`: the code that the first leg failed with. `trace`: by name, milliseconds or
    a number.
    """

    away: str = ""
    queued: str = ""
    edge_error: str = ""
    trace: dict[str, float | int] = field(default_factory=dict)


class Composer:
    """Writes answers. `legs` and `policies` are those of the stages; the last stage has none."""

    def __init__(self, model: str, labels: Sequence[str], legs: Sequence[Leg], policies: Sequence[Policy | None], k: int) -> None:
        self._model, self._legs, self._policies, self._k = model, legs, policies, k
        self._labels = [each.encode() for each in labels]
        self._leg_names = [each.name.encode() for each in legs]
        first = policies[0]
        self._names = first.edge.names if first is not None and first.edge is not None else ()

    def written(self, question: Question, course: Course, told: Told) -> bytes:
        """Return the response."""
        response = _RESPONSE(model_name=self._model, model_version="1", id=question.request.id)
        merged = course.merged()
        for name in question.outputs:
            if name == PROBABILITIES and question.classes:
                add_output(response, name, self._classes(merged.values, question.classes))
            else:
                add_output(response, name, self._tensor(name, merged, course))
        self._parameters(response.parameters, course, merged, told)
        return bytes(response.SerializeToString())

    def _tensor(self, name: str, merged: Merged, course: Course) -> npt.NDArray[Any]:
        if name in (EMBEDDING, PROBABILITIES):
            return merged.values
        if name == LABEL:
            best = merged.values.argmax(axis=1).tolist()
            return _column([b"" if gone else self._labels[at] for at, gone in zip(best, course.abstained.tolist(), strict=True)])
        if name == CONFIDENCE:
            return course.confidence.astype(np.float32)[:, np.newaxis]
        if name == LEG:
            pairs = zip(course.by.tolist(), course.abstained.tolist(), strict=True)
            return _column([NONE.encode() if gone else self._leg_names[at] for at, gone in pairs])
        if name == SCORE:
            assert merged.found is not None  # offered only where there is an index
            return merged.found.scores[:, : self._k].astype(np.float32)
        if name == NEIGHBOR:
            assert merged.found is not None
            rows = merged.found.rows[:, : self._k]
            names = np.empty(rows.size, dtype=object)
            names[:] = [self._names[at] if at >= 0 else b"" for at in rows.reshape(-1).tolist()]
            return names.reshape(rows.shape)
        assert name == PROVENANCE
        return _column([self._provenance(row, merged, course) for row in range(len(course.by))])

    def _provenance(self, row: int, merged: Merged, course: Course) -> bytes:
        told = merged.provenance[row]
        if told is not None:
            return told
        leg = self._legs[int(course.by[row])]
        said = {"contract": CONTRACT_VERSION, "digest": leg.digest, "truncated": merged.cut[row], "variant": leg.variant}
        return json.dumps(said, sort_keys=True).encode()

    def _classes(self, values: npt.NDArray[np.float32], k: int) -> npt.NDArray[Any]:
        """Return the protocol's `value:index:label`, BYTES [n, k], the most probable first."""
        order = np.argsort(-values, axis=1, kind="stable")[:, :k]
        found = np.empty(order.shape, dtype=object)
        for (row, column), at in np.ndenumerate(order):
            found[row, column] = f"{values[row, at]:f}:{at}:".encode() + self._labels[at]
        return found

    def _digest(self, stage: int, merged: Merged, course: Course) -> str:
        """Return of which artifact a stage's answer is; empty where nobody says it."""
        for row in np.flatnonzero(course.by == stage).tolist():
            said = merged.provenance[row]
            if said is not None:
                digest = told_digest(said)
                return digest if 0 < len(digest) <= _LONGEST else self._legs[stage].digest
        return self._legs[stage].digest

    def _parameters(self, parameters: Any, course: Course, merged: Merged, told: Told) -> None:
        used = sorted(set(course.by[~course.abstained].tolist()))
        stages = used or [0]
        legs = [self._legs[at] for at in stages]
        parameters["variant"].string_param = ",".join(each.variant for each in legs)
        digests = [digest for digest in (self._digest(at, merged, course) for at in stages) if digest]
        if digests:
            parameters["digest"].string_param = ",".join(digests)
        outside = int(course.outside.sum())
        if outside:
            parameters["outlier"].int64_param = outside
        if course.stale:
            parameters["calibration"].string_param = "stale"
        abstained = int(course.abstained.sum())
        names = [each.name for each in legs] if used else []
        if abstained:
            names.append(NONE)
            parameters["abstained"].int64_param = abstained
        parameters["leg"].string_param = names[0] if len(names) == 1 else "mixed"
        lowest = course.lowest
        policy = self._policies[max(int(course.told_by[lowest]), 0)]
        if policy is not None:  # one model alone has no threshold
            parameters["confidence"].double_param = float(course.confidence[lowest])
            parameters["threshold"].double_param = policy.threshold
            parameters["escalated"].int64_param = course.escalated
        for name, text in (("away", told.away), ("queued", told.queued), ("edge_error", told.edge_error)):
            if text:
                parameters[name].string_param = text
        for name, value in told.trace.items():
            if isinstance(value, int):
                parameters[f"trace_{name}"].int64_param = value
            else:
                parameters[f"trace_{name}"].double_param = value


def _column(values: list[bytes]) -> npt.NDArray[Any]:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found[:, np.newaxis]
