"""What passes exist. One line a pass; nothing here imports what it names.

The version is part of every step's key: raise it (here and in the class) when the same inputs give another result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PASSES", "PassEntry", "Stage"]

Stage = Literal["resolve", "train", "compress", "gate"]


@dataclass(frozen=True, slots=True)
class PassEntry:
    """A pass: where it lives and what it needs.

    `measures` marks passes whose result depends on the hardware: their key includes it. `needs` are import names
    (torch, onnxruntime, …) that must be installed to run it. `target` is `module:Class`.
    """

    name: str
    version: int
    target: str
    makes: str
    measures: bool = False
    needs: tuple[str, ...] = ()


_TORCH = ("torch", "transformers", "safetensors")
_ONNX = ("onnx", "onnxruntime")

PASSES: dict[str, PassEntry] = {
    entry.name: entry
    for entry in (
        PassEntry("import-model", 1, "stillhouse.passes.sources.model:ImportModel", "torch-model"),
        PassEntry("import-data", 3, "stillhouse.passes.sources.data:ImportData", "dataset", needs=("datasets",)),
        PassEntry("teacher-outputs", 1, "stillhouse.passes.distill.teacher:TeacherOutputs", "teacher-outputs", needs=_TORCH),
        PassEntry("student", 2, "stillhouse.passes.distill.student:InitStudent", "torch-model", needs=_TORCH),
        PassEntry("distill", 3, "stillhouse.passes.distill.train:Distill", "torch-model", needs=(*_TORCH, "accelerate")),
        PassEntry("export", 1, "stillhouse.passes.export.onnx:ExportOnnx", "onnx-model", measures=True, needs=(*_TORCH, *_ONNX)),
        PassEntry("quantize-dynamic", 1, "stillhouse.passes.compress.dynamic:QuantizeDynamic", "onnx-model", needs=_ONNX),
        PassEntry("sensitivity", 1, "stillhouse.passes.compress.sensitivity:Sensitivity", "measurement", needs=_ONNX),
        PassEntry("teacher-reference", 1, "stillhouse.passes.evaluate.reference:TeacherReference", "measurement", needs=_TORCH),
        PassEntry(
            "onnx-teacher-reference",
            1,
            "stillhouse.passes.evaluate.reference:OnnxTeacherReference",
            "measurement",
            needs=("onnxruntime", "safetensors"),
        ),
        PassEntry(
            "gate", 2, "stillhouse.passes.evaluate.gate:Gate", "revision", measures=True, needs=("onnxruntime", "tritonclient")
        ),
        PassEntry("index", 1, "stillhouse.passes.evaluate.index:BuildIndex", "index", needs=("onnxruntime", "pyarrow")),
    )
}
