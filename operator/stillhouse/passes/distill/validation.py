"""How good the student is after an epoch, on rows that it does not learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.base import Context, Progress
from stillhouse.passes.distill.encoded import Arrays, Texts, encode_texts, length_batches, read_inputs
from stillhouse.passes.distill.pace import Pace
from stillhouse.passes.distill.rows import NO_LABEL, Rows
from stillhouse.passes.finite import demand_finite
from stillhouse.passes.models.artifact import load
from stillhouse.passes.models.device import device_of, tensors_of, there
from stillhouse.passes.models.network import Network, count_parameters
from stillhouse.passes.ranking import ranks, reciprocal

__all__ = ["Validation", "outputs_of"]

# As many rows as tell two epochs apart; more would take time from training.
_ROWS: Final = 2000


class Validation:
    """Judges a network; `metric` says by what.

    `mrr@10` for query and document pairs (each query's own document among all of them), `accuracy` for labels, else
    closeness to the teacher: `cosine` of embeddings, `agreement` of the most probable label. `rows`: how many are judged.
    """

    def __init__(self, rows: Rows, model: Path, student: Network, teacher: Path, max_length: int | None, ctx: Context) -> None:
        self._ctx = ctx
        self._field, self._count = rows.field, rows.count
        signature = student.signature
        self._parts: list[Texts | Arrays]
        self._labels: npt.NDArray[np.int64] | None = None
        self._teacher: Tensor | None = None
        pairs = {"query", "document"} <= set(rows.columns)
        if signature.task == "sentence-embedding" and pairs:
            self.metric = "mrr@10"
            texts = [rows.texts(column)[:_ROWS] for column in ("query", "document")]
            self._parts = [encode_texts(part, model, signature, max_length) for part in texts]
            self.rows = self._parts[0].count
            return
        self._parts = [read_inputs(rows, model, signature, max_length)]
        self.rows = min(_ROWS, self._parts[0].count)
        if signature.task != "sentence-embedding":
            labels = rows.labels(signature.labels)
            if labels is not None and (labels != NO_LABEL).any():
                self.metric, self._labels = "accuracy", labels
                self.rows = int((labels[:_ROWS] != NO_LABEL).sum())
                return
        self.metric = "cosine" if signature.task == "sentence-embedding" else "agreement"
        other = load(teacher, role="teacher")
        if self.metric == "cosine" and signature.dimension != other.signature.dimension:
            raise SpecError(
                "how near the student comes to its teacher cannot be told: their embeddings differ in width",
                field=rows.field,
                found=f"{signature.dimension} numbers, the teacher's {other.signature.dimension}, and rows of single texts",
                allowed="rows with query and document, which the student ranks by itself",
                fix="name such columns (columns: {query: …, document: …}), or leave the validation out",
            )
        data = read_inputs(rows, teacher, other.signature, max_length)
        with there(other):
            self._teacher = outputs_of(other, data, ctx.progress, "asking the teacher about the validation rows", _ROWS)
        self._demand_finite(self._teacher, "teacher")

    def __call__(self, network: Network) -> float:
        """Return the figure, and say it: what comes next may take a while before it speaks.

        Raises:
            DataError: an output is not finite, or no row has a label.
        """
        found = [outputs_of(network, part, self._ctx.progress, "validating", _ROWS) for part in self._parts]
        for part in found:
            self._demand_finite(part, "student")
        figure = self._judge(found)
        self._ctx.progress.update(0, None, "", f"{self.metric} {figure:.4f} on the validation rows")
        return figure

    def _demand_finite(self, outputs: Tensor, whose: str) -> None:
        demand_finite(outputs.numpy(), whose=whose, what="on validation rows", field=self._field, count=self._count)

    def _judge(self, found: list[Tensor]) -> float:
        if self.metric == "mrr@10":
            return float(reciprocal(ranks(found[0].numpy(), found[1].numpy()), 10).mean())
        if self._teacher is not None:
            if self.metric == "cosine":
                return float(torch.nn.functional.cosine_similarity(found[0], self._teacher, dim=1).mean())
            return float((found[0].argmax(1) == self._teacher.argmax(1)).float().mean())
        assert self._labels is not None
        labels = torch.from_numpy(self._labels[: len(found[0])])
        known = labels != NO_LABEL
        if not known.any():
            raise DataError(
                "none of the rows that are looked at has a label",
                field=f"{self._field}.columns.label",
                found=f"no label in the first {len(labels):,} rows",
                allowed=f"at least one among the first {_ROWS:,}",
                fix="put rows with labels first, or name a column without nulls: columns: {label: COLUMN}",
            )
        return float((found[0].argmax(1) == labels)[known].float().mean())


def outputs_of(network: Network, data: Texts | Arrays, progress: Progress, message: str, most: int | None = None) -> Tensor:
    """Return the network's output for the first `most` rows, float32 [rows, dimension or labels] on the CPU."""
    count = data.count if most is None else min(most, data.count)
    device = device_of(network)
    out: Tensor | None = None
    pace = Pace(data.lengths[:count], progress, message)
    for batch in length_batches(data.lengths, np.arange(count, dtype=np.int64), *forward_size(network)):
        with torch.inference_mode():
            result = network(*tensors_of(data.batch(batch), device)).float().cpu()
        if out is None:
            out = torch.empty(count, result.shape[1])
        out[torch.from_numpy(batch)] = result
        pace.read(batch)
    if out is None:
        raise DataError("the data has no rows", found="0 rows", allowed="at least one")
    return out


def forward_size(network: Network) -> tuple[int, int]:
    """Return (padded tokens, rows) of one forward that takes well under a second on two cores."""
    parameters = count_parameters(network)[1]
    return max(512, min(8192, int(4e10 / max(1, parameters)))), 256
