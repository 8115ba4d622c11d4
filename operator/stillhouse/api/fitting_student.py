"""What a student's shape may say of texts, of images, and of tables and time series, and who may train it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stillhouse.api.base import CelRule
from stillhouse.api.features import FEATURE_TASKS
from stillhouse.api.source import TEXT_TASKS

if TYPE_CHECKING:
    from stillhouse.api.distill import Distill

__all__ = ["STUDENT_RULES", "student_fits"]

_TEXTS: Final = f"self.source.task in {list(TEXT_TASKS)}"
_BILSTM_READS = CelRule(
    f"!has(self.distill) || !has(self.distill.student.architecture) || self.distill.student.architecture != 'bilstm' || {_TEXTS}",
    "architecture: bilstm belongs to tasks that take texts",
    "distill.student.architecture",
)
_NO_TOKENS_IN_ARRAYS = CelRule(
    "!has(self.distill) || !has(self.distill.student.architecture) || !(self.distill.student.architecture in ['cnn', 'mlp'])"
    f" || {_TEXTS} || !(has(self.distill.student.vocabulary)"
    " || has(self.distill.student.embeddingSize) || has(self.distill.student.pooling) || has(self.distill.student.bigrams)"
    " || has(self.distill.student.init) && self.distill.student.init == 'svd' || has(self.distill.student.convolution)"
    " && (has(self.distill.student.convolution.kernelSizes) || has(self.distill.student.convolution.dilated)))",
    "vocabulary, embeddingSize, pooling, bigrams, init: svd, kernelSizes and dilated belong to students of texts",
    "distill.student",
)
_STAGES_OF_ARRAYS = CelRule(
    "!has(self.distill) || !has(self.distill.student.convolution) || !has(self.distill.student.convolution.channels)"
    " || self.source.task in ['image-classification', 'time-series-classification']",
    "convolution.channels belongs to tasks image-classification and time-series-classification;"
    " of texts hiddenSize and hiddenLayers say it",
    "distill.student.convolution.channels",
)
_NO_ORDER_IN_TABLES = CelRule(
    "!has(self.distill) || !has(self.distill.student.architecture) || self.distill.student.architecture != 'cnn'"
    " || self.source.task != 'tabular-classification'",
    "architecture: cnn looks at neighbours, and the columns of a table have none",
    "distill.student.architecture",
)
_SHAPE_OF_FEATURES = CelRule(
    f"!has(self.distill) || !(self.source.task in {list(FEATURE_TASKS)}) || !(has(self.distill.student.vocabulary)"
    " || has(self.distill.student.embeddingSize) || has(self.distill.student.pooling) || has(self.distill.student.bigrams)"
    " || has(self.distill.student.intermediateSize) || has(self.distill.student.attentionHeads)"
    " || has(self.distill.student.init) && self.distill.student.init != 'random'"
    " || has(self.distill.student.architecture) && self.distill.student.architecture == 'encoder')",
    "a student of tables or time series begins at random as an mlp, of time series also as a cnn: hiddenLayers, hiddenSize and"
    " convolution say its shape",
    "distill.student",
)
_SEARCH_OF_TEXTS = CelRule(
    f"!has(self.distill) || !has(self.distill.search) || {_TEXTS}",
    "search belongs to tasks that take texts: it times shapes on them",
    "distill.search",
)
_NO_CHANNELS_IN_TEXTS = CelRule(
    "!has(self.distill) || !has(self.distill.student.architecture) || self.distill.student.architecture != 'cnn'"
    f" || !({_TEXTS}) || self.distill.stages.all(s, !has(s.prune) || !has(s.prune.channels))",
    "a cnn of texts has no channels to prune: each of its layers adds to all that the one before says",
    "distill.stages",
)
_ALONE_IN_ITS_BATCH = CelRule(
    "!has(self.distill) || !has(self.distill.student.architecture) || self.distill.student.architecture != 'cnn'"
    f" || {_TEXTS} || self.build.workers == 1",
    "a cnn of images or time series normalises over its batch, of which each of several workers would see a share",
    "build.workers",
)
_NO_CHANGES_OF_FEATURES = CelRule(
    f"!has(self.distill) || !has(self.distill.augment) || !(self.source.task in {list(FEATURE_TASKS)})",
    "augment changes texts and images: no operation is known that leaves the label of any table or time series as it is",
    "distill.augment",
)
STUDENT_RULES = (
    _BILSTM_READS, _NO_ORDER_IN_TABLES, _NO_TOKENS_IN_ARRAYS, _SHAPE_OF_FEATURES, _STAGES_OF_ARRAYS,
    _SEARCH_OF_TEXTS, _NO_CHANGES_OF_FEATURES, _NO_CHANNELS_IN_TEXTS, _ALONE_IN_ITS_BATCH,
)  # fmt: skip


def student_fits(distill: Distill, task: str, *, workers: int) -> None:
    """Raise where a student is asked for something that the inputs of its task have not, or cannot learn on `workers`."""
    student = distill.student
    convolution = student.convolution
    texts, table = task in TEXT_TASKS, task == "tabular-classification"
    if not texts and distill.search is not None:
        raise _SEARCH_OF_TEXTS.broken(fix="leave search out, and say the shape in student")
    if not texts and student.architecture == "bilstm":
        raise _BILSTM_READS.broken(fix="write architecture: mlp" if table else "write architecture: cnn or mlp")
    if table and student.architecture == "cnn":
        raise _NO_ORDER_IN_TABLES.broken(fix="write architecture: mlp")
    words = (student.vocabulary, student.embedding_size, student.pooling, student.bigrams)
    near = convolution is not None and (convolution.kernel_sizes is not None or convolution.dilated is not None)
    told_of_words = near or student.init == "svd" or any(each is not None for each in words)
    if not texts and student.architecture in {"cnn", "mlp"} and told_of_words:
        raise _NO_TOKENS_IN_ARRAYS.broken(fix="leave them out")
    heads = student.intermediate_size is not None or student.attention_heads is not None
    begun = student.architecture == "encoder" or student.init not in {None, "random"}
    if task in FEATURE_TASKS and (heads or begun or any(each is not None for each in words)):
        raise _SHAPE_OF_FEATURES.broken(fix="leave the others out: student: {architecture: mlp, hiddenLayers: 2, hiddenSize: 64}")
    if texts and convolution is not None and convolution.channels is not None:
        raise _STAGES_OF_ARRAYS.broken(fix="write hiddenSize instead")
    if task in FEATURE_TASKS and distill.augment is not None:
        raise _NO_CHANGES_OF_FEATURES.broken(fix="leave augment out")
    if student.architecture != "cnn":
        return
    if texts and any(stage.prune is not None and stage.prune.channels for stage in distill.stages):
        raise _NO_CHANNELS_IN_TEXTS.broken(fix="leave channels out, or prune weights")
    if not texts and workers > 1:
        raise _ALONE_IN_ITS_BATCH.broken(allowed="1", fix="leave workers out, or write architecture: mlp")
