"""Which shapes no student of this teacher can have, searched or given: said before anything is trained. Pure.

The planner asks with what the source's config.json tells, the search itself with what was imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stillhouse.api.fitting_search import split_widths, splits
from stillhouse.api.student import SMALL
from stillhouse.errors import SpecError

__all__ = ["FIELD", "TOO_SMALL", "Known", "at_least", "impossible", "impossible_shape"]

FIELD: Final = "spec.distill.search"
TOO_SMALL: Final = "the vocabulary cannot be made that small"


def at_least(fewest: int) -> str:
    """Return how small a vocabulary can be, in the words of an error's `allowed`."""
    return f"at least {fewest}: special tokens and single characters always stay"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the model that the student is made of; 0: not known.

    `tokens`: of its vocabulary; `fewest`: those that no trimming may take.
    """

    layers: int = 0
    hidden: int = 0
    heads: int = 0
    intermediate: int = 0
    tokens: int = 0
    fewest: int = 0


@dataclass(frozen=True, slots=True)
class _Wrong:
    """Values of one dimension that no student can have, in words that fit a search's list and a shape's one value.

    `left`: its values that a student can have. `instead`: values for those that it cannot, empty where there are none to name.
    `otherwise`: another field of the student's that makes them possible. `advice`: what a search says in place of these two.
    """

    name: str
    message: str
    found: Sequence[int]
    left: Sequence[int]
    allowed: str
    otherwise: str = ""
    instead: Sequence[int] = ()
    advice: str = ""

    def of_search(self) -> SpecError:
        """Return the error of a search that tries them."""
        rest = self.advice or (f"student.{self.otherwise}" if self.otherwise else f"{self.name}: {list(self.instead)}")
        fix = f"{self.name}: {list(self.left)}, or {rest}" if self.left else rest
        return self._told(FIELD, fix)

    def of_shape(self, field: str) -> SpecError:
        """Return the error of the student, `field`, whose shape it is."""
        instead = f"{self.name}: {self.instead[0]}" if self.instead else ""
        return self._told(field, ", or ".join(filter(None, (instead, self.otherwise))))

    def _told(self, owner: str, fix: str) -> SpecError:
        found = ", ".join(map(str, self.found))
        return SpecError(self.message, field=f"{owner}.{self.name}", found=found, allowed=self.allowed, fix=fix)


def impossible(
    student: Mapping[str, Any], space: Mapping[str, Sequence[int]], teacher: Known, *, reads_tokens: bool
) -> SpecError | None:
    """Return what is wrong with the first dimension that has values which no student can have, None where all can be.

    `student`: its step's configuration; `space`: values by dimension. `reads_tokens`: a loss compares token by token with this
    teacher, and needs its vocabulary whole.
    """
    return next((wrong.of_search() for wrong in _wrong(student, space, teacher, reads_tokens)), None)


def impossible_shape(student: Mapping[str, Any], teacher: Known, field: str) -> SpecError | None:
    """Return what is wrong with a shape that is given, `field`'s, None where such a student can be made.

    `student`: its step's configuration. Vocabularies are left to `InitStudent.foresee`: a tokenizer tells how small they can be.
    """
    names = ("hiddenLayers", "hiddenSize", "attentionHeads", "intermediateSize")
    given = {name: [student[name]] for name in names if student.get(name)}
    return next((wrong.of_shape(field) for wrong in _wrong(student, given, teacher, reads_tokens=False)), None)


def _wrong(
    student: Mapping[str, Any], space: Mapping[str, Sequence[int]], teacher: Known, reads_tokens: bool
) -> Iterator[_Wrong]:
    if student.get("architecture") not in SMALL:
        yield from _depths(student, space.get("hiddenLayers", ()), teacher)
        yield from _widths(student, space, teacher)
        yield from _heads(student, space, teacher)
        yield from _inner(student, space.get("intermediateSize", ()), teacher)
    yield from _vocabularies(space.get("vocabularySize", ()), teacher, reads_tokens)


def _depths(student: Mapping[str, Any], layers: Sequence[int], teacher: Known) -> Iterator[_Wrong]:
    if _copies(student):
        yield from _beyond(
            "hiddenLayers", layers, teacher.layers,
            f"init '{student['init']}' cannot make a student of more layers than its teacher has",
            f"1 to {teacher.layers}, the teacher's layers",
        )  # fmt: skip


def _widths(student: Mapping[str, Any], space: Mapping[str, Sequence[int]], teacher: Known) -> Iterator[_Wrong]:
    widths = space.get("hiddenSize", ())
    init, copies = student.get("init"), _copies(student)
    if copies and init == "svd":
        yield from _beyond(
            "hiddenSize", widths, teacher.hidden,
            "init 'svd' cannot make a student wider than its teacher",
            f"at most {teacher.hidden}, the teacher's width",
        )  # fmt: skip
    if not (student.get("attentionHeads") or space.get("attentionHeads") or student.get("kernelSizes")):
        # An encoder as wide as its teacher has the teacher's heads.
        own = teacher.hidden if student.get("architecture") != "residual" else 0
        bag = student.get("architecture") == "residual"
        if teacher.hidden or bag:
            yield from _refused(
                "hiddenSize", widths, lambda width: splits(width) or width == own,
                "the width is not a multiple of the attention heads, one for each 32 of it where attentionHeads is left out",
                "multiples of 32, or any with attentionHeads that divide it",
                instead=split_widths([each for each in widths if each != own]),
            )  # fmt: skip
    if teacher.intermediate and copies and init == "svd" and not student.get("intermediateSize"):
        yield from _refused(
            "hiddenSize", widths, lambda width: width == teacher.hidden or 4 * width <= teacher.intermediate,
            "init 'svd' cannot make feed-forward layers wider than the teacher's, four times hiddenSize where intermediateSize is"
            " left out",
            f"at most {teacher.intermediate // 4}, or the teacher's {teacher.hidden}",
            otherwise=f"intermediateSize: {teacher.intermediate}",
        )  # fmt: skip


def _heads(student: Mapping[str, Any], space: Mapping[str, Sequence[int]], teacher: Known) -> Iterator[_Wrong]:
    """Look at heads at the teacher's width: any other width stands in the file, where they were held against it."""
    heads = space.get("attentionHeads", ())
    if teacher.hidden and heads and not student.get("hiddenSize") and not space.get("hiddenSize"):
        divisors = [each for each in range(1, teacher.hidden + 1) if teacher.hidden % each == 0]
        yield from _refused(
            "attentionHeads", heads, lambda number: teacher.hidden % number == 0,
            "the width is not a multiple of the attention heads",
            f"divisors of {teacher.hidden}, the teacher's width",
            instead=sorted({min(divisors, key=lambda each: abs(each - number)) for number in heads}),
            advice="say student.hiddenSize",
        )  # fmt: skip


def _inner(student: Mapping[str, Any], widths: Sequence[int], teacher: Known) -> Iterator[_Wrong]:
    if _copies(student):
        yield from _beyond(
            "intermediateSize", widths, teacher.intermediate,
            f"init '{student['init']}' cannot make feed-forward layers wider than the teacher's",
            f"at most {teacher.intermediate}, the teacher's",
        )  # fmt: skip


def _vocabularies(sizes: Sequence[int], teacher: Known, reads_tokens: bool) -> Iterator[_Wrong]:
    if reads_tokens and teacher.tokens:
        yield from _refused(
            "vocabulary", sizes, lambda size: size >= teacher.tokens,
            "a loss that looks at every token needs one tokenizer for teacher and student",
            f"{teacher.tokens} or more: the teacher's tokens, all of them",
            advice="leave vocabulary out; or take loss hidden, which compares what is averaged over a text",
        )  # fmt: skip
    if teacher.fewest:
        yield from _refused(
            "vocabulary", sizes, lambda size: size >= teacher.fewest,
            TOO_SMALL, at_least(teacher.fewest), instead=sorted({max(size, teacher.fewest) for size in sizes}),
        )  # fmt: skip


def _copies(student: Mapping[str, Any]) -> bool:
    """Return whether its layers are made of the teacher's."""
    return student.get("architecture") in (None, "encoder") and student.get("init") in ("layers", "svd")


def _beyond(name: str, values: Sequence[int], most: int, message: str, allowed: str) -> Iterator[_Wrong]:
    """Yield what is wrong where there are values above `most`, the teacher's (0: not known), of whose layers they are made."""
    if most:
        yield from _refused(name, values, lambda value: value <= most, message, allowed, otherwise="init: random", instead=[most])


def _refused(
    name: str, values: Iterable[int], possible: Callable[[int], bool], message: str, allowed: str, **ways: Any
) -> Iterator[_Wrong]:
    """Yield what is wrong where there are values that are not possible; `ways` out of it: `_Wrong`'s."""
    left = [value for value in values if possible(value)]
    found = [value for value in values if not possible(value)]
    if found:
        yield _Wrong(name, message, found, left, allowed, **ways)
