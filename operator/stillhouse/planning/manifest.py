"""What passes exist, and what losses the training passes know. One line each; nothing here imports what it names.

The version is part of every step's key: raise it (here and in the class) when the same inputs give another result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LOSSES", "PASSES", "LossEntry", "PassEntry", "Stage"]

Stage = Literal["resolve", "train", "compress", "gate"]


@dataclass(frozen=True, slots=True)
class PassEntry:
    """A pass: where it lives and what it needs.

    `measures` marks passes whose result depends on the hardware: their key includes it; `serves` those of them that measure
    through the server, whose hardware and limits it is then. `needs` are import names
    (torch, onnxruntime, …) that must be installed to run it. `target` is `module:Class`. `foresees` marks passes whose
    `foresee` is asked before anything is trained. `extra`: the optional packages of ours that bring what it needs; `apart`: they
    ask for other versions than the rest, and installing them here would replace what is here.
    """

    name: str
    version: int
    target: str
    makes: str
    measures: bool = False
    serves: bool = False
    needs: tuple[str, ...] = ()
    foresees: bool = False
    extra: str = "build"
    apart: bool = False


_TORCH = ("torch", "transformers", "safetensors")
_ONNX = ("onnx", "onnxruntime")


def _exporter(form: str, target: str, *needs: str, extra: str = "", apart: bool = False) -> PassEntry:
    """Return the line of an export. It foresees: that its packages are missing is told before the training."""
    return PassEntry(
        f"export-{form}", 1, f"stillhouse.passes.export.{target}", "exported-model",
        needs=(*needs, *_ONNX, "tokenizers", "pyarrow"), foresees=True, extra=extra or f"export-{form}",
        apart=apart,
    )  # fmt: skip


PASSES: dict[str, PassEntry] = {
    entry.name: entry
    for entry in (
        PassEntry("import-model", 1, "stillhouse.passes.sources.model:ImportModel", "torch-model"),
        PassEntry("import-data", 3, "stillhouse.passes.sources.data:ImportData", "dataset", needs=("datasets",)),
        PassEntry("import-step", 1, "stillhouse.passes.sources.step:ImportStep", "onnx-step", needs=_ONNX),
        PassEntry("import-revision", 1, "stillhouse.passes.sources.revision:ImportRevision", "revision"),
        PassEntry("join-steps", 1, "stillhouse.passes.compress.join:JoinSteps", "onnx-model", needs=("onnx",), foresees=True),
        PassEntry("pack-steps", 1, "stillhouse.passes.sources.steps:PackSteps", "steps", needs=("tokenizers",), extra="edge"),
        PassEntry("pool-data", 1, "stillhouse.passes.sources.pool:PoolData", "dataset", needs=("pyarrow",)),
        PassEntry("deduplicate", 1, "stillhouse.passes.sources.deduplicate:Deduplicate", "dataset", needs=("pyarrow",)),
        PassEntry("balance", 1, "stillhouse.passes.sources.balance:Balance", "dataset", needs=("pyarrow",)),
        PassEntry("augment", 1, "stillhouse.passes.distill.augment.rows:Augment", "dataset", needs=("pyarrow", *_TORCH)),
        PassEntry(
            "data-report",
            1,
            "stillhouse.passes.evaluate.data_report:DataReport",
            "measurement",
            needs=("pyarrow", "tokenizers"),
        ),
        PassEntry("teacher-outputs", 1, "stillhouse.passes.distill.teacher:TeacherOutputs", "teacher-outputs", needs=_TORCH),
        PassEntry(
            "combine-outputs",
            1,
            "stillhouse.passes.distill.combine:CombineOutputs",
            "teacher-outputs",
            needs=_TORCH,
            foresees=True,
        ),
        PassEntry("fine-tune", 1, "stillhouse.passes.distill.tuning:FineTune", "torch-model", needs=(*_TORCH, "accelerate")),
        PassEntry("student", 4, "stillhouse.passes.distill.student:InitStudent", "torch-model", needs=_TORCH, foresees=True),
        PassEntry(
            "search-student",
            3,
            "stillhouse.passes.distill.search.search:SearchStudent",
            "search",
            measures=True,
            foresees=True,
            needs=(*_TORCH, *_ONNX, "accelerate", "optuna"),
        ),
        PassEntry(
            "distill", 3, "stillhouse.passes.distill.train:Distill", "torch-model", needs=(*_TORCH, "accelerate"), foresees=True
        ),
        PassEntry("export", 1, "stillhouse.passes.export.onnx:ExportOnnx", "onnx-model", measures=True, needs=(*_TORCH, *_ONNX)),
        PassEntry("quantize-dynamic", 1, "stillhouse.passes.compress.dynamic:QuantizeDynamic", "onnx-model", needs=_ONNX),
        PassEntry(
            "quantize-static",
            1,
            "stillhouse.passes.compress.static:QuantizeStatic",
            "onnx-model",
            needs=(*_ONNX, "tokenizers"),
            foresees=True,
        ),
        PassEntry(
            "quantize-trained",
            1,
            "stillhouse.passes.compress.trained:QuantizeTrained",
            "onnx-model",
            needs=(*_ONNX, "safetensors", "tokenizers"),
        ),
        PassEntry("halve", 1, "stillhouse.passes.compress.halve:Halve", "onnx-model", needs=_ONNX),
        PassEntry("quantize-int4", 1, "stillhouse.passes.compress.int4:QuantizeInt4", "onnx-model", needs=_ONNX, foresees=True),
        PassEntry(
            "sensitivity-mixed",
            1,
            "stillhouse.passes.compress.levels:SensitivityMixed",
            "measurement",
            needs=_ONNX,
            foresees=True,
        ),
        PassEntry("quantize-mixed", 1, "stillhouse.passes.compress.mixed:QuantizeMixed", "onnx-model", needs=_ONNX),
        PassEntry(
            "sensitivity", 1, "stillhouse.passes.compress.sensitivity:Sensitivity", "measurement", needs=_ONNX, foresees=True
        ),
        PassEntry("teacher-reference", 1, "stillhouse.passes.evaluate.reference:TeacherReference", "measurement", needs=_TORCH),
        PassEntry(
            "onnx-teacher-reference",
            1,
            "stillhouse.passes.evaluate.reference:OnnxTeacherReference",
            "measurement",
            needs=("onnxruntime", "safetensors"),
        ),
        PassEntry(
            "gate",
            3,
            "stillhouse.passes.evaluate.gate:Gate",
            "revision",
            measures=True,
            serves=True,
            needs=("onnxruntime", "tokenizers", "tritonclient", "pytriton"),
            foresees=True,
        ),
        PassEntry(
            "index", 1, "stillhouse.passes.evaluate.index:BuildIndex", "index", needs=("onnxruntime", "tokenizers", "pyarrow")
        ),
        PassEntry(
            "cascade",
            2,
            "stillhouse.passes.evaluate.cascade:BuildCascade",
            "cascade",
            needs=("onnxruntime", "tokenizers", "pyarrow", "safetensors"),
            foresees=True,
        ),
        PassEntry(
            "cut",
            1,
            "stillhouse.passes.compress.cut:CutModel",
            "cut-model",
            needs=("onnx", "onnxruntime", "tokenizers", "pyarrow"),
        ),
        _exporter("openvino", "to_openvino:ToOpenVino", "openvino"),
        _exporter("litert", "to_litert:ToLiteRt", "litert_torch", "ai_edge_litert", *_TORCH, apart=True),
        _exporter("coreml", "to_coreml:ToCoreMl", "coremltools", *_TORCH),
        _exporter("tensorrt", "to_tensorrt:ToTensorRt", extra="build"),
    )
}


@dataclass(frozen=True, slots=True)
class LossEntry:
    """A term of the training objective: where it lives, as `module:Class`, and what planning must know of it.

    `reads` is the teacher's output that it learns from, None where it asks nothing of the teacher, `tokens` where it looks at
    every position and the teacher has to read along. `temperature` is what
    counts when the file names none; it is in every step's key, so the terms that have no use for one keep their 1.
    """

    kind: str
    target: str
    reads: Literal["embedding", "logits", "hidden", "features", "tokens"] | None
    temperature: float = 1.0


LOSSES: dict[str, LossEntry] = {
    entry.kind: entry
    for entry in (
        LossEntry("embedding", "stillhouse.passes.distill.losses.embedding:EmbeddingLoss", "embedding"),
        LossEntry("similarity", "stillhouse.passes.distill.losses.similarity:SimilarityLoss", "embedding", 0.05),
        LossEntry(
            "relational-distance", "stillhouse.passes.distill.losses.relational_distance:RelationalDistanceLoss", "embedding"
        ),
        LossEntry("relational-angle", "stillhouse.passes.distill.losses.relational_angle:RelationalAngleLoss", "embedding"),
        LossEntry(
            "contrastive-teacher",
            "stillhouse.passes.distill.losses.contrastive_teacher:ContrastiveTeacherLoss",
            "embedding",
            0.05,
        ),
        LossEntry("contrastive", "stillhouse.passes.distill.losses.contrastive:ContrastiveLoss", None, 0.05),
        LossEntry("logits", "stillhouse.passes.distill.losses.logits:LogitsLoss", "logits", 3.0),
        LossEntry("reverse-kl", "stillhouse.passes.distill.losses.reverse_kl:ReverseKlLoss", "logits", 3.0),
        LossEntry("jsd", "stillhouse.passes.distill.losses.jsd:JsdLoss", "logits", 3.0),
        LossEntry("tvd", "stillhouse.passes.distill.losses.tvd:TvdLoss", "logits", 3.0),
        LossEntry("hard", "stillhouse.passes.distill.losses.hard:HardLoss", None),
        LossEntry("hidden", "stillhouse.passes.distill.losses.hidden:HiddenLoss", "hidden"),
        LossEntry("pooled", "stillhouse.passes.distill.losses.pooled:PooledLoss", "features"),
        LossEntry("hidden-tokens", "stillhouse.passes.distill.losses.hidden_tokens:HiddenTokensLoss", "tokens"),
        LossEntry("attention-transfer", "stillhouse.passes.distill.losses.attention_transfer:AttentionTransferLoss", "tokens"),
        LossEntry("attention-relation", "stillhouse.passes.distill.losses.attention_relation:AttentionRelationLoss", "tokens"),
        LossEntry("value-relation", "stillhouse.passes.distill.losses.value_relation:ValueRelationLoss", "tokens"),
    )
}
