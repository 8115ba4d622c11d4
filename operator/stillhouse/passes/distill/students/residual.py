"""A residual student out of what was asked for: the sizes and what `distill/residual.py` makes it from."""

from __future__ import annotations

from pathlib import Path

from stillhouse.api.student import heads_and_neurons
from stillhouse.passes.base import Progress
from stillhouse.passes.distill.bag import RARE
from stillhouse.passes.distill.residual import ResidualPlan, make_residual, wanted_of
from stillhouse.passes.distill.shrink import Shape, shape_of
from stillhouse.passes.distill.students.config import StudentConfig, check_heads, check_kernels
from stillhouse.passes.distill.students.facts import Student
from stillhouse.passes.distill.students.vocabulary import StudentVocabulary
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.shapes import ResidualShape

__all__ = ["residual_student"]


def residual_student(
    config: StudentConfig, teacher: Network, vocabulary: StudentVocabulary, outputs: Path | None, progress: Progress
) -> Student:
    """Return the student, fitted to the teacher's `outputs` (None: the teacher is asked about a sample).

    Raises:
        SpecError: the width is not a multiple of the heads, or has too few channels for the kernel sizes.
        DataError: the data has no rows, or the outputs belong to other rows.
    """
    large = shape_of(teacher.config)
    hidden = config.hidden_size or large.hidden
    heads = intermediate = 0
    if config.kernel_sizes:
        check_kernels(config.kernel_sizes, hidden)
    else:
        heads, intermediate = heads_and_neurons(hidden, config.attention_heads, config.intermediate_size)
        check_heads(hidden, heads, given=config.attention_heads is not None)
    limit = config.limit(teacher.signature, default=512)
    shape = ResidualShape(
        vocabulary=len(vocabulary.kept),
        dimension=teacher.signature.dimension,
        hidden_size=hidden,
        layers=config.hidden_layers or (1 if config.kernel_sizes else large.layers),
        heads=heads,
        intermediate_size=intermediate,
        max_length=limit,
        kernel_sizes=config.kernel_sizes,
        separable=config.separable,
        dilated=config.dilated,
    )
    plan = ResidualPlan(
        shape,
        vocabulary.signature(limit),
        vocabulary.tokenizer.parent,
        vocabulary.kept,
        vocabulary.special,
        vocabulary.around,
        vocabulary.texts,
    )
    answers = wanted_of(teacher, vocabulary.folder, vocabulary.texts, limit, outputs, progress)
    network, cosine = make_residual(plan, teacher, answers, progress)
    sizes = Shape(shape.layers, hidden, heads, shape.intermediate_size)
    return Student(network, "static", sizes, cosine=cosine, architecture="residual", rarity=RARE)
