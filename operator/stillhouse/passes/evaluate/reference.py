"""What the teacher says about the gate's rows: the measure that relative limits are held against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor

from stillhouse.errors import DataError
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.distill.rows import Images, Rows, Texts, encode_texts, read_inputs
from stillhouse.passes.distill.validation import outputs_of
from stillhouse.passes.models.artifact import load

__all__ = ["REFERENCE_FILE", "ReferenceConfig", "ReferenceFacts", "TeacherReference"]

REFERENCE_FILE: Final = "outputs.safetensors"


class ReferenceConfig(CamelConfig):
    """`max_length` is the longest text in tokens, never more than the teacher's own limit."""

    max_length: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, slots=True)
class ReferenceFacts:
    """How much there was to say and how long it took."""

    rows: int
    tokens: int
    truncated_rows: int
    truncated_tokens: int
    dimension: int
    seconds: float


class TeacherReference(Pass[ReferenceConfig, ReferenceFacts]):
    """Run the teacher over the gate's rows.

    `outputs.safetensors` holds float32 [rows, dimension] in the data's order: `query` and `document` where the data has
    both columns and the teacher embeds, else `text` (embeddings) or `logits` [rows, labels]. `measurement.json` says
    which, with the counts.
    """

    name: ClassVar[str] = "teacher-reference"
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "measurement"
    config_type = ReferenceConfig

    def run(self, config: ReferenceConfig, inputs: Mapping[str, Artifact], ctx: Context) -> ReferenceFacts:
        """Fill `ctx.out` with `outputs.safetensors` and `measurement.json`.

        Raises:
            DataError: the rows are not what the teacher reads.
        """
        import time

        began = time.monotonic()
        torch.set_num_threads(config.threads or ctx.threads)
        ctx.progress.update(0, None, "rows", "loading the teacher")
        folder = inputs["teacher"].path
        teacher = load(folder)
        signature = teacher.signature
        limit = config.max_length or signature.max_length
        rows = Rows(inputs["data"].path)
        parts: dict[str, Texts | Images] = {}
        if signature.task == "sentence-embedding" and {"query", "document"} <= set(rows.columns):
            parts = {column: encode_texts(rows.texts(column), folder, signature, limit) for column in ("query", "document")}
        else:
            name = "text" if signature.task == "sentence-embedding" else "logits"
            parts = {name: read_inputs(rows, folder, signature, limit)}
        outputs: dict[str, Tensor] = {}
        for name, data in parts.items():
            outputs[name] = outputs_of(teacher, data, ctx, f"asking the teacher: {name}").contiguous()
            if not torch.isfinite(outputs[name]).all():
                raise DataError("the teacher gives values that are not finite", field=name, fix="check the teacher's weights")
        save_file(outputs, str(ctx.out / REFERENCE_FILE), metadata={"format": "pt"})
        texts = [data for data in parts.values() if isinstance(data, Texts)]
        counts = {
            "rows": rows.count,
            "tokens": sum(int(data.lengths.sum()) for data in texts),
            "truncated_rows": sum(int((data.cut > 0).sum()) for data in texts),
            "truncated_tokens": sum(int(data.cut.sum()) for data in texts),
            "dimension": next(iter(outputs.values())).shape[1],
        }
        measurement = {
            "measures": self.name,
            "task": signature.task,
            "labels": list(signature.labels),
            "max_length": limit,
            "outputs": {name: list(tensor.shape) for name, tensor in outputs.items()},
            "teacher": inputs["teacher"].digest,
            "data": inputs["data"].digest,
            **counts,
        }
        (ctx.out / "measurement.json").write_text(json.dumps(measurement, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return ReferenceFacts(**counts, seconds=round(time.monotonic() - began, 3))
