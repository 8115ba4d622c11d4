"""Making the residual student: sizes, vocabulary, token vectors, fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Progress
from stillhouse.passes.distill.bag import MOST_ROWS, fill, fit, weighted
from stillhouse.passes.distill.encoded import Texts, encode_texts
from stillhouse.passes.distill.static import token_vectors
from stillhouse.passes.distill.teacher import read_outputs
from stillhouse.passes.distill.validation import outputs_of
from stillhouse.passes.models.architecture import Architecture
from stillhouse.passes.models.device import there
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.precision import reading_precision
from stillhouse.passes.models.residual import ResidualEncoder
from stillhouse.passes.models.shapes import ResidualShape

__all__ = ["ResidualPlan", "check_teacher", "make_residual", "sample", "wanted_of"]

_WITHOUT_OUTPUTS = 4096
"""Rows for which the teacher is asked here where its outputs are not at hand."""


@dataclass(frozen=True, slots=True)
class ResidualPlan:
    """What a residual student is made from.

    `folder` holds the student's tokenizer; `kept` are the teacher's ids of its tokens, `special` bool, one for each;
    `around` the teacher's ids before and behind a text; `texts` all of the data's.
    """

    shape: ResidualShape
    signature: Signature
    folder: Path
    kept: Tensor
    special: Tensor
    around: tuple[list[int], list[int]]
    texts: list[str]


def check_teacher(teacher: Network) -> None:
    """Refuse a teacher whose embeddings a residual student cannot learn.

    Raises:
        SpecError: it gives logits.
    """
    if teacher.signature.task != "sentence-embedding":
        raise SpecError(
            "a residual student gives sentence embeddings",
            field="spec.distill.student.architecture",
            found=f"a teacher for {teacher.signature.task}",
            allowed="encoder",
            fix="architecture: encoder",
        )


def make_residual(
    plan: ResidualPlan, teacher: Network, wanted: Callable[[list[int]], Tensor], progress: Progress
) -> tuple[Network, float]:
    """Return the network in evaluation mode, and its mean cosine to the teacher on texts that it was not fitted to.

    `wanted` gives the teacher's embeddings, float32 [rows, dimension], of texts by their row numbers.
    """
    if not plan.texts:
        raise DataError("the data has no rows", found="0 rows", allowed="at least one")
    signature = dataclasses.replace(plan.signature, inputs=("input_ids", "attention_mask"))
    architecture = Architecture(kind="residual-encoder", residual=plan.shape, normalize=True)
    network = Network(ResidualEncoder(plan.shape), architecture, signature).eval()
    # Counted in the student's own tokens: a trimmed vocabulary cuts rare words into pieces that are frequent.
    encoded = encode_texts(plan.texts, plan.folder, signature, signature.max_length, progress)
    vectors = token_vectors(teacher, plan.kept, plan.around, progress)
    fill(network, weighted(vectors, np.bincount(encoded.ids, minlength=len(plan.kept)), plan.special))
    rows = sample(len(plan.texts), MOST_ROWS)
    targets = wanted(rows)
    return network, fit(network, _some(encoded, rows[: len(targets)]), targets, progress)


def wanted_of(
    teacher: Network, folder: Path, texts: list[str], limit: int, outputs: Path | None, progress: Progress
) -> Callable[[list[int]], Tensor]:
    """Return a function from row numbers to the teacher's embeddings: out of `outputs`, or else by asking the teacher.

    Without `outputs` only the first 4,096 of the rows are answered.
    """

    def read(rows: list[int]) -> Tensor:
        assert outputs is not None
        found = read_outputs(outputs)[0].get("embedding")
        if found is None or len(found) != len(texts):
            raise DataError(
                "the teacher's outputs belong to other rows",
                field="embedding",
                found="none" if found is None else f"{len(found)} rows",
                allowed=f"{len(texts)} rows",
                fix="build again: still rebuild NAME",
            )
        return found[torch.tensor(rows)].float()

    def ask(rows: list[int]) -> Tensor:
        chosen = [texts[row] for row in rows[:_WITHOUT_OUTPUTS]]
        encoded = encode_texts(chosen, folder, teacher.signature, limit, progress)
        with there(teacher), reading_precision(teacher):
            return outputs_of(teacher, encoded, progress, "asking the teacher about a sample")

    return ask if outputs is None else read


def sample(count: int, most: int) -> list[int]:
    """Return at most `most` row numbers in a fixed random order: data is often sorted by where it comes from."""
    return [int(row) for row in np.random.Generator(np.random.PCG64(0)).permutation(count)[:most]]


def _some(texts: Texts, rows: list[int]) -> Texts:
    """Return the texts of these rows."""
    starts = texts.starts
    parts = [texts.ids[starts[row] : starts[row + 1]] for row in rows]
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    return dataclasses.replace(
        texts,
        ids=np.concatenate(parts) if parts else texts.ids[:0],
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        cut=texts.cut[np.array(rows, dtype=np.int64)],
    )
