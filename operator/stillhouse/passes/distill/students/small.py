"""A student of another kind than its teacher: convolutions, recurrent, or a bag of tokens with layers over it."""

from __future__ import annotations

import dataclasses
from typing import Final, cast

import torch
from torch import Tensor, nn

from stillhouse.errors import SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.distill.shrink import Shape, right_singular_vectors
from stillhouse.passes.distill.students.config import StudentConfig, check_kernels
from stillhouse.passes.distill.students.facts import Student
from stillhouse.passes.distill.students.vocabulary import StudentVocabulary
from stillhouse.passes.models.architecture import Architecture
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.shapes import FeatureShape, ImageShape, TextShape
from stillhouse.passes.models.small.build import build_small
from stillhouse.passes.models.small.words import Words
from stillhouse.planning.students import CHANNELS, EMBEDDING_SIZE, HIDDEN_SIZE, KERNEL_SIZES

__all__ = ["small_image_student", "small_network", "small_sizes", "small_text_student"]

_SCALE: Final = 0.1
"""Root mean square of token vectors from the teacher: a normalisation follows, and small ones learn faster (see `Words`)."""


def small_text_student(config: StudentConfig, teacher: Network, vocabulary: StudentVocabulary) -> Student:
    """Return a student of texts: its token vectors from the teacher's, its last layer fitted to what the teacher says.

    Raises:
        SpecError: the token vectors cannot come from the teacher's, or the shape does not fit itself.
    """
    table = teacher.token_vectors
    random = config.init == "random"
    if not random and table is None:
        raise SpecError(
            "the teacher shows no token vectors that the student's could come from",
            field="spec.distill.student.init",
            found=f"init: svd, a teacher of kind {teacher.architecture.kind}",
            allowed="random",
            fix="init: random",
        )
    width = table.shape[1] if table is not None else EMBEDDING_SIZE
    size = config.embedding_size or min(width, EMBEDDING_SIZE)
    if not random and size > width:
        raise SpecError(
            "init 'svd' cannot make token vectors wider than the teacher's",
            field="spec.distill.student.embeddingSize",
            found=str(size),
            allowed=f"at most {width}",
            fix=f"embeddingSize: {width}, or init: random",
        )
    form = cast("str", config.architecture)
    hidden = config.hidden_size or HIDDEN_SIZE
    sizes = (config.kernel_sizes or KERNEL_SIZES) if form == "cnn" else ()
    if form == "bilstm" and hidden % 2:
        raise _uneven(hidden)
    check_kernels(sizes, hidden)
    shape = TextShape.model_validate(
        {
            "form": form,
            "vocabulary": len(vocabulary.kept),
            "embedding_size": size,
            "hidden_size": hidden,
            "layers": config.hidden_layers or 1,
            "pooling": config.pooling or "max",
            "kernel_sizes": sizes,
            "separable": config.separable,
            "dilated": config.dilated,
            "bigrams": config.bigrams or 0,
        }
    )
    signature = vocabulary.signature(config.limit(teacher.signature))
    signature = dataclasses.replace(signature, inputs=("input_ids", "attention_mask"))
    network = small_network(shape, signature)
    kept = cosine = 1.0
    if random:
        cosine = 0.0
    else:
        assert table is not None
        tokens, kept = _reduced(table.detach()[vocabulary.kept], size)
        with torch.no_grad():
            cast("Words", network.body).tokens.weight.copy_(tokens)
        cosine = vocabulary.fit(network)
    return Student(network, "random" if random else "svd", small_sizes(shape), kept=kept, cosine=cosine, architecture=form)


def small_image_student(config: StudentConfig, teacher: Network) -> Student:
    """Return a student of images, at random."""
    image = teacher.signature.image
    assert image is not None
    channels = (config.channels or CHANNELS) if config.architecture == "cnn" else ()
    shape = ImageShape.model_validate(
        {
            "form": f"image-{config.architecture}",
            "image": (image.channels, image.height, image.width),
            "layers": config.hidden_layers or 1,
            "hidden_size": channels[-1] if channels else config.hidden_size or HIDDEN_SIZE,
            "channels": channels,
            "separable": config.separable,
        }
    )
    network = small_network(shape, teacher.signature)
    return Student(network, "random", small_sizes(shape), cosine=0.0, architecture=cast("str", config.architecture))


def small_network(shape: TextShape | ImageShape | FeatureShape, signature: Signature) -> Network:
    """Return a network of a shape at random, with a linear layer to what the signature says."""
    dimension = signature.dimension
    embeds = signature.task == "sentence-embedding"
    architecture = Architecture(kind="small-network", small=shape, projection=dimension, normalize=embeds)
    head = nn.Linear(shape.hidden_size, dimension)
    network = Network(build_small(shape), architecture, signature, head)
    network.eval()
    return network


def small_sizes(shape: TextShape | ImageShape | FeatureShape) -> Shape:
    """Return what is told of a shape."""
    return Shape(shape.layers, shape.hidden_size, 0, 0)


def _reduced(table: Tensor, size: int) -> tuple[Tensor, float]:
    """Return token vectors [vocabulary, size] along the table's largest singular directions, and the energy that they keep."""
    basis = right_singular_vectors(table, size)
    found = table @ basis
    kept = float(found.pow(2).sum() / table.pow(2).sum().clamp(min=1e-30))
    return found / found.pow(2).mean().sqrt().clamp(min=1e-12) * _SCALE, kept


def _uneven(hidden: int) -> SpecError:
    return SpecError(
        "the width of a bilstm is both directions' together: it must be even",
        field="spec.distill.student.hiddenSize",
        found=str(hidden),
        allowed="an even number",
        fix=f"hiddenSize: {hidden + 1}",
    )
