"""What a student's shape may say of texts and of images, and who may train it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhouse.api.base import CelRule

if TYPE_CHECKING:
    from stillhouse.api.distill import Distill

__all__ = ["STUDENT_RULES", "student_fits"]

_BILSTM_READS = CelRule(
    "!has(self.distill) || !has(self.distill.student.architecture) || self.distill.student.architecture != 'bilstm'"
    " || self.source.task != 'image-classification'",
    "architecture: bilstm belongs to tasks that take texts",
    "distill.student.architecture",
)
_NO_TOKENS_IN_IMAGES = CelRule(
    "!has(self.distill) || !has(self.distill.student.architecture) || !(self.distill.student.architecture in ['cnn', 'mlp'])"
    " || self.source.task != 'image-classification' || !(has(self.distill.student.vocabulary)"
    " || has(self.distill.student.embeddingSize) || has(self.distill.student.pooling) || has(self.distill.student.bigrams)"
    " || has(self.distill.student.init) && self.distill.student.init == 'svd' || has(self.distill.student.convolution)"
    " && (has(self.distill.student.convolution.kernelSizes) || has(self.distill.student.convolution.dilated)))",
    "vocabulary, embeddingSize, pooling, bigrams, init: svd, kernelSizes and dilated belong to students of texts",
    "distill.student",
)
_STAGES_OF_IMAGES = CelRule(
    "!has(self.distill) || !has(self.distill.student.convolution) || self.source.task == 'image-classification'"
    " || !has(self.distill.student.convolution.channels)",
    "convolution.channels belongs to task image-classification; of texts hiddenSize and hiddenLayers say it",
    "distill.student.convolution.channels",
)
_SEARCH_OF_TEXTS = CelRule(
    "!has(self.distill) || !has(self.distill.search) || self.source.task != 'image-classification'",
    "search belongs to tasks that take texts: it times shapes on them",
    "distill.search",
)
_NO_CHANNELS_IN_TEXTS = CelRule(
    "!has(self.distill) || !has(self.distill.student.architecture) || self.distill.student.architecture != 'cnn'"
    " || self.source.task == 'image-classification' || self.distill.stages.all(s, !has(s.prune) || !has(s.prune.channels))",
    "a cnn of texts has no channels to prune: each of its layers adds to all that the one before says",
    "distill.stages",
)
_ALONE_IN_ITS_BATCH = CelRule(
    "!has(self.distill) || !has(self.distill.student.architecture) || self.distill.student.architecture != 'cnn'"
    " || self.source.task != 'image-classification' || self.build.workers == 1",
    "a cnn of images normalises over its batch, of which each of several workers would see a share",
    "build.workers",
)
STUDENT_RULES = (
    *(_BILSTM_READS, _NO_TOKENS_IN_IMAGES, _STAGES_OF_IMAGES, _SEARCH_OF_TEXTS, _NO_CHANNELS_IN_TEXTS),
    _ALONE_IN_ITS_BATCH,
)


def student_fits(distill: Distill, *, images: bool, workers: int) -> None:
    """Raise where a student of texts is asked for something of images or the other way round, or cannot learn on `workers`."""
    student = distill.student
    convolution = student.convolution
    if images and distill.search is not None:
        raise _SEARCH_OF_TEXTS.broken(fix="leave search out, and say the shape in student")
    if images and student.architecture == "bilstm":
        raise _BILSTM_READS.broken(fix="write architecture: cnn or mlp")
    words = (student.vocabulary, student.embedding_size, student.pooling, student.bigrams)
    near = convolution is not None and (convolution.kernel_sizes is not None or convolution.dilated is not None)
    told_of_words = near or student.init == "svd" or any(each is not None for each in words)
    if images and student.architecture in {"cnn", "mlp"} and told_of_words:
        raise _NO_TOKENS_IN_IMAGES.broken(fix="leave them out")
    if not images and convolution is not None and convolution.channels is not None:
        raise _STAGES_OF_IMAGES.broken(fix="write hiddenSize instead")
    if student.architecture != "cnn":
        return
    if not images and any(stage.prune is not None and stage.prune.channels for stage in distill.stages):
        raise _NO_CHANNELS_IN_TEXTS.broken(fix="leave channels out, or prune weights")
    if images and workers > 1:
        raise _ALONE_IN_ITS_BATCH.broken(allowed="1", fix="leave workers out, or write architecture: mlp")
