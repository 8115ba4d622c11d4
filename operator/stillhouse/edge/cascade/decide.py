"""Which rows a stage answers, which go on, and one answer of them all. Nothing here waits or asks anybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from stillhouse.edge.cascade.legs import Rows
from stillhouse.edge.cascade.policy import Policy
from stillhouse.inference.confidence import Neighbours, answers, margin, peak, top_score

__all__ = ["NOBODY", "Course", "Merged", "Unsure", "confidence_of"]

Unsure = Literal["escalate", "flag", "refuse", "abstain"]
"""What becomes of an unusual input: it goes on, is answered as if it were usual and told, is refused, or nobody answers it.

Where values are no numbers, only `abstain` keeps a row from going on.
"""
NOBODY = -1
_SMALLEST = 1e-12
_SIGNALS = {"peak": peak, "margin": margin, "top": top_score}


def confidence_of(policy: Policy, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return how sure each row is, float64 [n], NaN where a value is not finite; and which rows are unusual inputs, bool [n]."""
    rule = policy.outliers
    found = rows.found
    if policy.edge is None:
        confidence = policy.calibration.of_logits(np.log(np.maximum(rows.values, _SMALLEST)))
        if rule is None:
            return confidence, np.zeros(len(confidence), dtype=np.bool_)
        assert rows.logits is not None  # looked at when the cascade was built
        return confidence, rule.outside(rows.logits)
    assert found is not None  # a leg of a cascade of embeddings has an index
    near = Neighbours(found.scores[:, : policy.calibration.neighbours], found.rows[:, : policy.calibration.neighbours])
    confidence = policy.calibration.of_signal(_SIGNALS[policy.calibration.signal](near))
    if rule is None:
        return confidence, np.zeros(len(confidence), dtype=np.bool_)
    return confidence, rule.outside(rows.values if rule.kind == "centroid" else top_score(found))


@dataclass(slots=True)
class Merged:
    """An answer of n rows; see `Rows`. `provenance`: by row, None where no server told it; `cut` likewise."""

    values: npt.NDArray[np.float32]
    found: Neighbours | None
    cut: list[int]
    provenance: list[bytes | None]


class Course:
    """What has become of the rows of one request so far.

    `by`: the stage whose answer stands, int64 [n], `NOBODY` while there is none. `confidence` float64 [n] and `told_by`: of the
    last stage that has one; `first`: of stage 0. `outside`: unusual inputs. `pending`: rows that go on. `together`: the answer
    must be of one space (embeddings), so all rows go on where one does.
    """

    def __init__(self, rows: int, *, together: bool) -> None:
        self.by = np.full(rows, NOBODY, dtype=np.int64)
        self.confidence = np.full(rows, np.nan)
        self.first = np.full(rows, np.nan)
        self.told_by = np.full(rows, NOBODY, dtype=np.int64)
        self.outside = np.zeros(rows, dtype=np.bool_)
        self.abstained = np.zeros(rows, dtype=np.bool_)
        self.pending: npt.NDArray[np.int64] = np.arange(rows)
        self.escalated = rows
        """Rows that the first stage did not answer."""
        self.stale = 0
        """Rows whose model is another one than the calibration is of."""
        self._together = together
        self.parts: list[tuple[int, npt.NDArray[np.int64], Rows]] = []
        """Stage, the rows that it was asked about, and what it said."""

    def take(self, stage: int, rows: Rows, policy: Policy | None, unsure: Unsure) -> None:
        """Take a stage's answer to the pending rows; without a policy it is the last word. Rows that are none stay pending."""
        asked = self.pending
        self.parts.append((stage, asked, rows))
        if policy is None:
            right = np.ones(len(asked), dtype=np.bool_) if rows.wrong is None else ~rows.wrong
            self.by[asked[right]] = stage
            self.pending = asked[~right]
            return
        self.by[asked] = stage
        confidence, outside = confidence_of(policy, rows)
        self.outside[asked] = outside
        if unsure != "flag" and outside.any():
            confidence = np.where(outside, np.nan, confidence)
        unsound = rows.wrong if rows.other is None else rows.other if rows.wrong is None else rows.wrong | rows.other
        if unsound is not None:  # probabilities that are none, or a calibration of another model: no confidence
            confidence = np.where(unsound, np.nan, confidence)
            self.stale += 0 if rows.other is None else int(rows.other.sum())
        self.confidence[asked], self.told_by[asked] = confidence, stage
        stays = answers(confidence, policy.threshold)
        if unsure == "abstain":
            nothing = np.isnan(confidence) if unsound is None else np.isnan(confidence) & ~unsound
            self.abstained[asked[nothing]] = True
            stays = stays | nothing
        self.pending = asked[~stays]
        if self._together and len(self.pending):
            self.pending = np.flatnonzero(~self.abstained)
        if stage == 0:
            self.first = self.confidence.copy()
            self.escalated = len(self.pending)

    def merged(self) -> Merged:
        """Return the answer: each row as the stage that stands for it gave it. Rows that abstain have no number in them."""
        count = len(self.by)
        if len(self.parts) == 1 and not self.abstained.any():
            rows = self.parts[0][2]
            provenance: list[bytes | None] = [None] * count if rows.provenance is None else list(rows.provenance)
            return Merged(rows.values, rows.found, [0] * count if rows.cut is None else list(rows.cut), provenance)
        standing = [part for part in self.parts if (self.by[part[1]] == part[0]).any()]
        values = np.full((count, standing[0][2].values.shape[1]), np.nan, dtype=np.float32)
        found: Neighbours | None = None
        if all(part[2].found is not None for part in standing):
            k = min(part[2].found.scores.shape[1] for part in standing if part[2].found is not None)
            found = Neighbours(np.full((count, k), np.nan), np.full((count, k), NOBODY, dtype=np.int64))
        cut, provenance = [0] * count, [None] * count
        same = len({part[2].values.shape[1] for part in standing}) == 1
        for stage, asked, rows in standing:
            mine = np.flatnonzero((self.by[asked] == stage) & ~self.abstained[asked])
            to = asked[mine]
            if same:
                values[to] = rows.values[mine]
            if found is not None and rows.found is not None:
                found.scores[to] = rows.found.scores[mine, : found.scores.shape[1]]
                found.rows[to] = rows.found.rows[mine, : found.scores.shape[1]]
            for at, row in zip(mine.tolist(), to.tolist(), strict=True):
                if rows.cut is not None:
                    cut[row] = rows.cut[at]
                if rows.provenance is not None:
                    provenance[row] = rows.provenance[at]
        return Merged(values, found, cut, provenance)

    @property
    def lowest(self) -> int:
        """Return the row that is the least sure; one that is no number is less sure than any."""
        return int(np.argmin(np.where(np.isnan(self.confidence), -np.inf, self.confidence)))
