"""Which shapes no student of this teacher can have, searched or given: said before anything is trained. Pure.

The planner asks with what the source's config.json tells, the search itself with what was imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stillhouse.api.fitting_search import split_widths, splits
from stillhouse.api.student import SMALL
from stillhouse.errors import SpecError

__all__ = ["FIELD", "Known", "impossible", "impossible_shape"]

FIELD: Final = "spec.distill.search"


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


def impossible(
    student: Mapping[str, Any], space: Mapping[str, Sequence[int]], teacher: Known, *, reads_tokens: bool
) -> SpecError | None:
    """Return what is wrong with the first dimension that has values which no student can have, None where all can be.

    `student`: its step's configuration; `space`: values by dimension. `reads_tokens`: a loss compares token by token with this
    teacher, and needs its vocabulary whole.
    """
    return next(_wrong(student, space, teacher, reads_tokens), None)


def impossible_shape(student: Mapping[str, Any], teacher: Known, field: str) -> SpecError | None:
    """Return what is wrong with a shape that is given, `field`'s, None where such a student can be made.

    `student`: its step's configuration. Vocabularies are left to `InitStudent.foresee`: a tokenizer tells how small they can be.
    """
    names = ("hiddenLayers", "hiddenSize", "attentionHeads")
    given = {name: [student[name]] for name in names if student.get(name)}
    wrong = impossible(student, given, teacher, reads_tokens=False)
    inner = student.get("intermediateSize") or 0
    if wrong is None and _copies(student) and 0 < teacher.intermediate < inner:
        wrong = SpecError(
            f"init '{student['init']}' cannot make feed-forward layers wider than the teacher's",
            field="intermediateSize",
            found=str(inner),
            allowed=f"at most {teacher.intermediate}, the teacher's",
            fix=f"intermediateSize: {teacher.intermediate}, or init: random",
        )
    if wrong is None:
        return None
    problem = wrong.problem
    name = problem.field.removeprefix(f"{FIELD}.")
    fix = problem.fix.replace("student.", "").translate(_NO_LIST)
    if name == "attentionHeads":
        heads = [each for each in range(1, teacher.hidden + 1) if teacher.hidden % each == 0]
        fix = f"attentionHeads: {min(heads, key=lambda each: abs(each - student[name]))}"
    elif fix == "init: random":
        most = {"hiddenLayers": teacher.layers, "hiddenSize": teacher.hidden}[name]
        fix = f"{name}: {most}, or {fix}"
    return SpecError.of([dataclasses.replace(problem, field=f"{field}.{name}", fix=fix)])


_NO_LIST: Final = str.maketrans("", "", "[]")
"""A search's fix names a list of values, here of one."""


def _wrong(
    student: Mapping[str, Any], space: Mapping[str, Sequence[int]], teacher: Known, reads_tokens: bool
) -> Iterator[SpecError]:
    if student.get("architecture") not in SMALL:
        yield from _depths(student, space.get("hiddenLayers", ()), teacher)
        yield from _widths(student, space, teacher)
        yield from _heads(student, space, teacher)
    yield from _vocabularies(space.get("vocabularySize", ()), teacher, reads_tokens)


def _depths(student: Mapping[str, Any], layers: Sequence[int], teacher: Known) -> Iterator[SpecError]:
    if teacher.layers and _copies(student):
        yield from _refused(
            "hiddenLayers", layers, lambda number: number <= teacher.layers,
            f"init '{student['init']}' cannot make a student of more layers than its teacher has",
            f"1 to {teacher.layers}, the teacher's layers",
            "student.init: random",
        )  # fmt: skip


def _widths(student: Mapping[str, Any], space: Mapping[str, Sequence[int]], teacher: Known) -> Iterator[SpecError]:
    widths = space.get("hiddenSize", ())
    init, copies = student.get("init"), _copies(student)
    if teacher.hidden and copies and init == "svd":
        yield from _refused(
            "hiddenSize", widths, lambda width: width <= teacher.hidden,
            "init 'svd' cannot make a student wider than its teacher",
            f"at most {teacher.hidden}, the teacher's width",
            "student.init: random",
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
                f"hiddenSize: {split_widths([each for each in widths if each != own])}",
            )  # fmt: skip
    if teacher.intermediate and copies and init == "svd" and not student.get("intermediateSize"):
        yield from _refused(
            "hiddenSize", widths, lambda width: width == teacher.hidden or 4 * width <= teacher.intermediate,
            "init 'svd' cannot make feed-forward layers wider than the teacher's, four times hiddenSize where intermediateSize is"
            " left out",
            f"at most {teacher.intermediate // 4}, or the teacher's {teacher.hidden}",
            f"student.intermediateSize: {teacher.intermediate}",
        )  # fmt: skip


def _heads(student: Mapping[str, Any], space: Mapping[str, Sequence[int]], teacher: Known) -> Iterator[SpecError]:
    """Look at heads at the teacher's width: any other width stands in the file, where they were held against it."""
    if teacher.hidden and not student.get("hiddenSize") and not space.get("hiddenSize"):
        yield from _refused(
            "attentionHeads", space.get("attentionHeads", ()), lambda heads: teacher.hidden % heads == 0,
            "the width is not a multiple of the attention heads",
            f"divisors of {teacher.hidden}, the teacher's width",
            "say student.hiddenSize",
        )  # fmt: skip


def _vocabularies(sizes: Sequence[int], teacher: Known, reads_tokens: bool) -> Iterator[SpecError]:
    if reads_tokens and teacher.tokens:
        yield from _refused(
            "vocabulary", sizes, lambda size: size >= teacher.tokens,
            "a loss that looks at every token needs one tokenizer for teacher and student",
            f"{teacher.tokens} or more: the teacher's tokens, all of them",
            "leave vocabulary out; or take loss hidden, which compares what is averaged over a text",
        )  # fmt: skip
    if teacher.fewest:
        yield from _refused(
            "vocabulary", sizes, lambda size: size >= teacher.fewest,
            "the vocabulary cannot be made that small",
            f"at least {teacher.fewest}: special tokens and single characters always stay",
            f"vocabulary: {sorted({max(size, teacher.fewest) for size in sizes})}",
        )  # fmt: skip


def _copies(student: Mapping[str, Any]) -> bool:
    """Return whether its layers are made of the teacher's."""
    return student.get("architecture") in (None, "encoder") and student.get("init") in ("layers", "svd")


def _refused(
    name: str, values: Iterable[int], possible: Callable[[int], bool], message: str, allowed: str, otherwise: str
) -> Iterator[SpecError]:
    """Yield the error where there are values that are not possible. `otherwise`: what mends it beside leaving them out."""
    left = [value for value in values if possible(value)]
    found = [value for value in values if not possible(value)]
    if found:
        fix = f"{name}: {left}, or {otherwise}" if left else otherwise
        yield SpecError(message, field=f"{FIELD}.{name}", found=", ".join(map(str, found)), allowed=allowed, fix=fix)
