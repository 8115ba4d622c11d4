"""What the teacher says about the gate's rows: the measure that relative limits are held against."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass, Progress
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.distill.encoded import Arrays, Texts, encode_texts, read_inputs
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.evaluate.columns import check_texts
from stillhouse.passes.finite import demand_finite

__all__ = ["REFERENCE_FILE", "OnnxTeacherReference", "ReferenceConfig", "ReferenceFacts", "TeacherReference"]

REFERENCE_FILE: Final = "outputs.safetensors"
_ONNX_ROWS: Final = 64
Array = npt.NDArray[np.float32]


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
            DataError: the rows are not what the teacher reads, or it gives no finite numbers for one.
        """
        from safetensors.numpy import save_file

        began = time.monotonic()
        threads = config.threads or ctx.threads
        ctx.progress.update(0, None, "rows", "loading the teacher")
        folder = inputs["teacher"].path
        signature = Signature.read(folder)
        limit = config.max_length or signature.max_length
        rows = Rows.of(inputs)
        if signature.takes_texts:
            check_texts(inputs["data"], rows.columns)
        parts: dict[str, Texts | Arrays] = {}
        if signature.task == "sentence-embedding" and {"query", "document"} <= set(rows.columns):
            parts = {column: encode_texts(rows.texts(column), folder, signature, limit) for column in ("query", "document")}
        else:
            name = "text" if signature.task == "sentence-embedding" else "logits"
            parts = {name: read_inputs(rows, folder, signature, limit)}
        outputs = self._ask(folder, rows, parts, threads, ctx.progress)
        for name, values in outputs.items():
            demand_finite(values, whose="teacher", what=name, field=rows.field, count=rows.count)
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
            "measures": "teacher-reference",
            "task": signature.task,
            "labels": list(signature.labels),
            "max_length": limit,
            "outputs": {name: list(values.shape) for name, values in outputs.items()},
            "teacher": inputs["teacher"].digest,
            "data": inputs["data"].digest,
            **counts,
        }
        (ctx.out / "measurement.json").write_text(json.dumps(measurement, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return ReferenceFacts(**counts, seconds=round(time.monotonic() - began, 3))

    def _ask(
        self, folder: Path, rows: Rows, parts: Mapping[str, Texts | Arrays], threads: int, progress: Progress
    ) -> dict[str, Array]:
        return _ask_network(folder, parts, threads, progress)


class OnnxTeacherReference(TeacherReference):
    """The same of a teacher that is an ONNX model: a pass of its own because it needs, and depends on, no torch."""

    name: ClassVar[str] = "onnx-teacher-reference"

    def _ask(
        self, folder: Path, rows: Rows, parts: Mapping[str, Texts | Arrays], threads: int, progress: Progress
    ) -> dict[str, Array]:
        return _ask_graph(folder, rows, parts, threads, progress)


def _ask_network(folder: Path, parts: Mapping[str, Texts | Arrays], threads: int, progress: Progress) -> dict[str, Array]:
    """Return what a torch teacher says: part → float32 [rows, dimension or labels]."""
    import torch

    from stillhouse.passes.distill.validation import outputs_of
    from stillhouse.passes.models.artifact import load
    from stillhouse.passes.models.device import there

    torch.set_num_threads(threads)
    teacher = load(folder, role="teacher")
    with there(teacher):
        return {
            name: np.ascontiguousarray(outputs_of(teacher, data, progress, f"asking the teacher: {name}").numpy())
            for name, data in parts.items()
        }


def _ask_graph(
    folder: Path, rows: Rows, parts: Mapping[str, Texts | Arrays], threads: int, progress: Progress
) -> dict[str, Array]:
    """Return what an ONNX teacher says: part → float32 [rows, dimension or labels]; torch stays unloaded.

    The engine answers with probabilities; their logarithms are the logits up to a constant per row, which a softmax
    does not see. Its longest text is the signature's, which was made from the same field as this pass's `maxLength`.
    """
    engine = Engine(folder, threads)
    outputs: dict[str, Array] = {}
    for name, data in parts.items():
        answers = []
        column = None if isinstance(data, Arrays) else rows.texts("text" if name == "logits" else name)
        for first in range(0, data.count, _ONNX_ROWS):
            last = min(first + _ONNX_ROWS, data.count)
            if column is None:
                array = data.batch(np.arange(first, last, dtype=np.int64))[0]
                values = engine.run_arrays(array.astype(np.float32, copy=False))
            else:
                values = engine.run_texts(column[first:last]).values
            answers.append(np.log(np.maximum(values, np.finfo(np.float32).tiny)) if name == "logits" else values)
            progress.update(last, data.count, "rows", f"asking the teacher: {name}")
        outputs[name] = np.ascontiguousarray(np.concatenate(answers), dtype=np.float32)
    return outputs
