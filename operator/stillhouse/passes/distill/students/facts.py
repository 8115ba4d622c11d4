"""What is told of a student before training, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass

from stillhouse.passes.distill.shrink import Shape
from stillhouse.passes.models.network import Network, count_parameters

__all__ = ["Student", "StudentFacts", "VocabularyFacts", "facts_of"]


@dataclass(frozen=True, slots=True)
class Student:
    """A student before training and how it was made; see `StudentFacts` for the fields of the same names.

    `kept` and `cosine` are the facts' `init_kept` and `init_cosine`, not rounded. The shape of a network that is not
    ours to know is all zeros.
    """

    network: Network
    init: str
    shape: Shape
    layers: tuple[int, ...] = ()
    kept: float = 1.0
    cosine: float = 0.0
    architecture: str = "encoder"
    rarity: float = 0.0


@dataclass(frozen=True, slots=True)
class VocabularyFacts:
    """A vocabulary in figures; zeros where a network has one of its own. See `StudentFacts`."""

    before: int = 0
    after: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    unknown_before: float = 0.0
    unknown_after: float = 0.0


@dataclass(frozen=True, slots=True)
class StudentFacts:
    """What the student is.

    `init_kept`: share of variance (static) or energy (svd) that the narrower width keeps. `init_cosine`: mean cosine of its
    embeddings to the teacher's before training, on texts that its projection was not fitted to.
    `rarity`: a of the weights a / (a + p) that a residual student's tokens have, p being their share of `tokens_after`
    (0 for other students).

    `unknown_before`, `unknown_after`: share of the data's tokens that the vocabulary does not know; `tokens_before`,
    `tokens_after`: how many tokens the data has (a trimmed vocabulary cuts rare words into more pieces).
    """

    init: str
    layers: tuple[int, ...]
    init_kept: float
    init_cosine: float
    hidden_layers: int
    hidden_size: int
    intermediate_size: int
    attention_heads: int
    parameters: int
    parameters_without_embeddings: int
    vocabulary_before: int
    vocabulary_after: int
    tokens_before: int
    tokens_after: int
    unknown_before: float
    unknown_after: float
    seed: int
    architecture: str = "encoder"
    rarity: float = 0.0


def facts_of(student: Student, vocabulary: VocabularyFacts, seed: int) -> StudentFacts:
    """Return the facts of a student; `seed` is what its random numbers began from."""
    total, without = count_parameters(student.network)
    return StudentFacts(
        init=student.init,
        layers=student.layers,
        init_kept=round(student.kept, 6),
        init_cosine=round(student.cosine, 6),
        hidden_layers=student.shape.layers,
        hidden_size=student.shape.hidden,
        intermediate_size=student.shape.intermediate,
        attention_heads=student.shape.heads,
        parameters=total,
        parameters_without_embeddings=without,
        vocabulary_before=vocabulary.before,
        vocabulary_after=vocabulary.after,
        tokens_before=vocabulary.tokens_before,
        tokens_after=vocabulary.tokens_after,
        unknown_before=vocabulary.unknown_before,
        unknown_after=vocabulary.unknown_after,
        seed=seed,
        architecture=student.architecture,
        rarity=student.rarity,
    )
