"""A teacher that reads every batch beside its student, for terms that look at each position.

What it says of whole rows is computed once and kept (`teacher.py`). States, queries, keys and values of every token are not:
see docs/design/20261126-live-teacher.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stillhouse.errors import SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.distill.encoded import Arrays, Texts, read_inputs
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.models.artifact import load
from stillhouse.passes.models.device import tensors_of
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.precision import reading_precision
from stillhouse.passes.models.traces import Traces

__all__ = ["FIELD", "MASK", "LiveTeacher", "check_tokenizer", "joined", "mask_of"]

FIELD = "spec.distill.stages[].losses[].layer"
MASK = "mask"


class LiveTeacher:
    """The teacher of a torch-model artifact, and the student's rows as it reads them."""

    def __init__(self, folder: Path, rows: Rows, data: Texts | Arrays, student: Network, max_length: int | None) -> None:
        """Load it.

        Raises:
            SpecError: it does not read the same tokens as the student, or not as many.
        """
        self.network = load(folder, role="teacher")
        self.network.requires_grad_(False)
        signature = self.network.signature
        if isinstance(data, Texts):
            _same_tokens(self.network, student, data)
            self._data: Texts | Arrays = dataclasses.replace(data, inputs=signature.inputs, pad_id=signature.pad_id)
        else:
            self._data = read_inputs(rows, folder, signature, max_length)
        self._traces: Traces | None = None

    def watch(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Say what is to be kept of a forward.

        Raises:
            SpecError: it has no such layer.
        """
        self._traces = Traces(self.network, wanted, FIELD)

    def __call__(self, slices: Sequence[npt.NDArray[np.int64]], device: torch.device) -> dict[str, Tensor]:
        """Return the traces of the rows, slice after slice, float32 [batch, positions, width] each."""
        assert self._traces is not None
        self.network.to(device)
        parts = []
        for rows in slices:
            arrays = tensors_of(self._data.batch(rows), device)
            with torch.inference_mode(False), torch.no_grad(), reading_precision(self.network):
                self.network(*arrays)
            parts.append({name: value.float() for name, value in self._traces.take().items()})
        return joined(parts)


def mask_of(data: Texts | Arrays, arrays: Sequence[Tensor]) -> Tensor | None:
    """Return which positions of a batch are no padding, int64 [batch, positions]; None where there is no padding."""
    return arrays[data.inputs.index("attention_mask")] if isinstance(data, Texts) else None


def joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the traces of several slices as one batch, the shorter ones padded with 0 at their ends."""
    out = {}
    for name in parts[0]:
        longest = max(part[name].shape[1] for part in parts)
        padded = []
        for part in parts:
            value = part[name]
            # Pairs from the last dimension backwards: none for the width, then the positions' end.
            padded.append(nn.functional.pad(value, (*(0, 0) * (value.dim() - 2), 0, longest - value.shape[1])))
        out[name] = torch.cat(padded)
    return out


def check_tokenizer(mine: Signature, theirs: Signature) -> None:
    """Refuse a student that cuts texts into other tokens than the teacher that reads along.

    Raises:
        SpecError: their tokenizers differ.
    """
    if theirs.tokenizer_digest != mine.tokenizer_digest:
        raise SpecError(
            "a loss that looks at every token needs one tokenizer for teacher and student",
            field="spec.distill.student",
            found="a student that cuts texts into other tokens than its teacher",
            allowed="the teacher's tokenizer, its vocabulary not trimmed",
            fix="leave vocabulary out, or give a uri with the teacher's tokenizer.json; or take loss hidden, which compares what"
            " is averaged over a text",
        )


def _same_tokens(teacher: Network, student: Network, data: Texts) -> None:
    theirs, mine = teacher.signature, student.signature
    check_tokenizer(mine, theirs)
    longest = int(data.lengths.max(initial=0))
    if theirs.max_length and longest > theirs.max_length:
        raise SpecError(
            "the student reads longer texts than its teacher",
            field="spec.distill.maxLength",
            found=f"{longest} tokens",
            allowed=f"at most {theirs.max_length}",
            fix=f"maxLength: {theirs.max_length}",
        )
