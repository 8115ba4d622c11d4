"""Cross-entropy with labels, smoothed and weighted by class: the labels' part of `hard` and `logits`.

For logits z [batch, K], a row's label y, q = softmax(z), smoothing ε and class weights w [K]:

    row = w_y · ( −(1 − ε) · log q_y  −  ε/K · Σ_c log q_c )

Smoothing: Szegedy et al. 2016, arXiv:1512.00567, section 7 (with a uniform prior). It takes from a network's outputs what
they say of the other labels (Müller, Kornblith & Hinton 2019, arXiv:1906.02629), which is why it is for students.
`balanced`: w_c = n / (K · n_c) with n rows that have a label and n_c that have label c: every label has the same weight in all,
and the mean over rows is 1 (King & Zeng 2001, "Logistic Regression in Rare Events Data", section 4.2). A row is weighted as a
whole, and the mean that is taken of the rows is not divided by their weights: a batch of rare rows counts for more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.term import Sizes
from stillhouse.passes.distill.rows import NO_LABEL

__all__ = ["CrossEntropy"]

_FIELD = "spec.distill.stages[].losses[].classWeights"


class CrossEntropy(nn.Module):  # type: ignore[misc]
    """The sum over a batch's rows; a row without a label (-100) adds 0."""

    def __init__(self, config: LossConfig, sizes: Sizes) -> None:
        """Work out the class weights.

        Raises:
            SpecError: a weight for a label that the model does not have.
            DataError: no row has a label that counts.
        """
        super().__init__()
        self.smoothing = config.label_smoothing
        weights = _weights(config, sizes)
        # Not part of a checkpoint: it follows from data and configuration.
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum, a float scalar, of logits float [batch, K] and labels int64 [batch]."""
        if self.weights is None:
            return nn.functional.cross_entropy(
                logits, labels, reduction="sum", ignore_index=NO_LABEL, label_smoothing=self.smoothing
            )
        rows = nn.functional.cross_entropy(
            logits, labels, reduction="none", ignore_index=NO_LABEL, label_smoothing=self.smoothing
        )
        return (rows * self.weights.to(rows.dtype)[labels.clamp(min=0)]).sum()


def _weights(config: LossConfig, sizes: Sizes) -> list[float] | None:
    wanted, rows = config.class_weights, sizes.label_rows
    if wanted is None:
        return None
    total = sum(rows.values())
    if not total:
        raise DataError(
            "class weights need labels",
            field="spec.distill.data.columns.label",
            found="no label column, or no row has a label",
            fix="name the column: columns: {label: YOUR_COLUMN}, or leave classWeights out",
        )
    if wanted == "balanced":
        return [total / (len(rows) * many) if many else 0.0 for many in rows.values()]
    unknown = [label for label in wanted if label not in rows]
    if unknown:
        raise SpecError(
            "a weight for a label that the model does not have",
            field=f"{_FIELD}.byLabel",
            found=unknown[0],
            allowed=", ".join(list(rows)[:12]) + (", …" if len(rows) > 12 else ""),
            fix="mend its name, or remove it",
        )
    if not any(many and wanted.get(label, 1.0) for label, many in rows.items()):
        raise DataError(
            "no row has a label that counts",
            field=f"{_FIELD}.byLabel",
            found="weight 0 for every label of the data",
            allowed="more than 0 for at least one label that rows have",
        )
    return [float(wanted.get(label, 1.0)) for label in rows]
