"""What stages ask of a student or a teacher that it does not have, as far as the file and the source's config.json tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from stillhouse.api.distill import Distill
from stillhouse.api.model import Spec
from stillhouse.api.scalars import parse_percent
from stillhouse.api.search import Search
from stillhouse.api.stage import Stage
from stillhouse.api.student import SMALL, Student, heads_and_neurons
from stillhouse.errors import SpecError, StillhouseError
from stillhouse.planning.manifest import LOSSES
from stillhouse.planning.students import CHANNELS, HIDDEN_SIZE

__all__ = ["unfit"]


@dataclass(frozen=True, slots=True)
class _Lesson:
    """Who learns: where it stands in the file, its student and stages.

    `teacher`: the assistant that teaches it, None where the source does.
    """

    place: str
    student: Student
    stages: tuple[Stage, ...]
    search: Search | None
    teacher: Student | None


def unfit(spec: Spec, source: Path | None, info: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Yield what does not fit. `source`: the model's folder, None where it is not here; `info`: its shape (`model_info`)."""
    tuned = spec.source.fine_tune.freeze if spec.source.fine_tune is not None else None
    if tuned is not None and info.get("layers") and (tuned.layers or 0) > info["layers"]:
        yield _too_many_frozen("spec.source.fineTune", tuned.layers or 0, info["layers"], "the model has", "its layers")
    if spec.distill is None:
        return
    embeds = spec.source.task == "sentence-embedding"
    # What learns of features and says no architecture is an mlp, as the plan makes it.
    kind = {"architecture": "mlp"} if spec.source.features is not None else {}
    for lesson in _lessons(spec.distill):
        yield from _no_such_layers(lesson, info)
        yield from _other_tokens(lesson, source, info)
        for student, told in _shapes(lesson.student, lesson.search):
            of_kind = student if student.architecture else student.model_copy(update=kind)
            emptied = list(_emptied(lesson, of_kind, told, embeds, info))
            yield from emptied
            if emptied:
                break


def _lessons(distill: Distill) -> Iterator[_Lesson]:
    teacher: Student | None = None
    for place, each in distill.learners():
        yield _Lesson(place, each.student, each.stages, distill.search if each is distill else None, teacher)
        teacher = each.student


def _no_such_layers(lesson: _Lesson, info: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Look at the layers of the teacher and of the student that losses and `freeze` name."""
    theirs = info.get("layers") if lesson.teacher is None else _depth(lesson.teacher, info)
    searched = lesson.search is not None and lesson.search.hidden_layers is not None  # the file tells of each depth
    mine = None if searched else _depth(lesson.student, info)
    for number, stage in enumerate(lesson.stages):
        place = f"{lesson.place}.stages[{number}]"
        if stage.freeze is not None and mine and (stage.freeze.layers or 0) > mine:
            whose = "the teacher's" if lesson.student.convolution is None else "one of convolutions"
            why = "" if lesson.student.hidden_layers else f": {whose}, since student.hiddenLayers is left out"
            yield _too_many_frozen(place, stage.freeze.layers or 0, mine, "the student has", f"its layers{why}")
        for which, loss in enumerate(stage.losses):
            asked = [(f"layers[{at}].teacher", pair.teacher) for at, pair in enumerate(loss.layers or ())]
            if loss.layer is not None:
                asked.append(("layer", loss.layer))
            named = [(field, layer, theirs, "its teacher does", "it is the last one") for field, layer in asked]
            named += [
                (f"layers[{at}].student", pair.student, mine, "the student does", "it is the one at the same relative depth")
                for at, pair in enumerate(loss.layers or ())
                if pair.student is not None
            ]
            for field, layer, depth, who, otherwise in named:
                if depth and layer > depth:
                    yield SpecError(
                        f"loss {loss.kind} names a layer that {who} not have",
                        field=f"{place}.losses[{which}].{field}",
                        found=str(layer),
                        allowed=f"1 to {depth}",
                        fix=f"name a layer up to {depth}; left out, {otherwise}",
                    )


def _too_many_frozen(place: str, found: int, most: int, who: str, whose: str) -> SpecError:
    return SpecError(
        f"{who} not so many layers to freeze",
        field=f"{place}.freeze.layers",
        found=str(found),
        allowed=f"up to {most}, {whose}",
        fix="freeze fewer layers",
    )


def _depth(student: Student, info: Mapping[str, Any]) -> int | None:
    """Return how many layers of a transformer's a student has, None where there is no telling."""
    if student.uri or student.factory or student.architecture in SMALL:
        return None
    if student.hidden_layers is None and student.convolution is not None:
        return 1
    return student.hidden_layers or info.get("layers")


def _other_tokens(lesson: _Lesson, source: Path | None, info: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Look for losses that compare token by token where a vocabulary is trimmed, and the teacher's is not likewise."""
    own = any(each is not None and (each.uri or each.factory) for each in (lesson.student, lesson.teacher))
    reading = [
        (number, which, loss)
        for number, stage in enumerate(lesson.stages)
        for which, loss in enumerate(stage.losses)
        if LOSSES[loss.kind].reads == "tokens"
    ]
    whole = _tokens(source, info) if reading and not own else 0
    mine, theirs = (_kept(each, whole) for each in (lesson.student, lesson.teacher))
    if not whole or mine == theirs:
        return
    number, which, loss = reading[0]
    trimmed = lesson.student.vocabulary is not None and lesson.student.vocabulary.max_size is not None
    student = f"{lesson.place}.student" + (".vocabulary" if trimmed else "")
    yield SpecError(
        "a loss that looks at every token needs one tokenizer for teacher and student",
        field=student,
        found=f"{mine:,} tokens, the teacher has {theirs:,}, and {lesson.place}.stages[{number}].losses[{which}] is {loss.kind}",
        allowed="the teacher's vocabulary, all of it" if theirs == whole else "a vocabulary trimmed as the teacher's is",
        fix="leave vocabulary out; or take loss hidden, which compares what is averaged over a text"
        if theirs == whole
        else f"vocabulary: {{maxSize: {theirs}}}, or take loss hidden, which compares what is averaged over a text",
    )


def _tokens(source: Path | None, info: Mapping[str, Any]) -> int:
    """Return how many tokens the source knows, 0 where there is no telling: some models pad their tables beyond the last one."""
    from stillhouse.passes.sources.tokenizer import vocabulary_rows

    known = int(info.get("vocabularySize") or 0)
    try:
        rows = vocabulary_rows(source) if source is not None and known else 0
    except Exception:  # what the tokenizers library raises of a damaged file is the import's to tell
        rows = 0
    return min(filter(None, (known, rows)), default=0)


def _kept(student: Student | None, whole: int) -> int:
    """Return how many of the source's tokens a student keeps; None: the source itself."""
    most = student.vocabulary.max_size if student is not None and student.vocabulary is not None else None
    return min(most or whole, whole)


def _shapes(student: Student, search: Search | None) -> Iterator[tuple[Student, str]]:
    """Yield every student that a search may try, each with its shape in words; without one the student itself."""
    searched = {
        "hidden_layers": search.hidden_layers if search else None,
        "hidden_size": search.hidden_size if search else None,
        "attention_heads": search.attention_heads if search else None,
    }
    names = [name for name, values in searched.items() if values]
    # Of searched widths svd is taken where init is left out, as the plan does.
    fixed = {"init": "svd"} if searched["hidden_size"] and student.init is None and student.architecture is None else {}
    for values in product(*(searched[name] or () for name in names)):
        shape = dict(zip(names, values, strict=True))
        told = ", ".join(f"{to_camel(name)} {value}" for name, value in shape.items())
        yield student.model_copy(update={**fixed, **shape}), f" ({told})" if told else ""


def _emptied(lesson: _Lesson, student: Student, told: str, embeds: bool, info: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Look at what stage after stage takes out of a student whose shape is known; `told`: which it is."""
    from stillhouse.passes.distill.prune.config import FIELD, emptied, taken

    left = _units(student, embeds, info)
    whole = dict(left)
    for number, stage in enumerate(lesson.stages):
        held = (stage.freeze.layers or 0) if stage.freeze is not None else 0
        for kind in list(left):
            given = getattr(stage.prune, kind, None)
            if given is None:
                continue
            total, layers = left[kind]
            if held and (left[kind] != whole[kind] or held >= layers):  # which layers were made smaller, only the stage knows
                del left[kind]
                continue
            share, counted = parse_percent(given), total - total // layers * held  # what is held still is not counted
            wrong = emptied(kind, share, counted, layers - held, told)
            if wrong is not None:
                place = f"{lesson.place}.stages[{number}].prune"
                yield SpecError.of([replace(wrong.problem, field=wrong.problem.field.replace(FIELD, place))])
                return
            left[kind] = (total - taken(share, counted), layers)


def _units(student: Student, embeds: bool, info: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return what can be pruned of a student: kind → (units, layers that have them); a kind that is not known is left out."""
    if student.uri or student.factory:
        return {}
    if student.architecture in SMALL:
        return _small_units(student)
    width, known = student.hidden_size or info.get("hiddenSize"), info.get("hiddenSize")
    layers = _depth(student, info)
    if student.convolution is not None or not width or not layers:
        return {}
    # Of sentence embeddings static vectors make a residual student, which has nothing of the teacher's shape but its layers.
    static = embeds and (student.init == "static" or (student.init is None and student.hidden_size is not None))
    bag = student.architecture == "residual" or (static and student.architecture is None)
    if not bag and known is None:  # at its width, heads and neurons are the teacher's
        return {}
    same = width == known and not bag
    theirs = (info.get("heads") or 0, info.get("intermediateSize") or 0) if same else None
    heads, neurons = heads_and_neurons(width, student.attention_heads, student.intermediate_size, theirs)
    return {kind: (layers * each, layers) for kind, each in (("heads", heads), ("neurons", neurons)) if each}


def _small_units(student: Student) -> dict[str, tuple[int, int]]:
    layers = student.hidden_layers or 1
    if student.architecture == "mlp":
        return {"neurons": (layers * (student.hidden_size or HIDDEN_SIZE), layers)}
    convolution = student.convolution
    if student.architecture != "cnn" or (convolution is not None and convolution.separable):  # depthwise ones keep theirs
        return {}
    channels = (convolution.channels if convolution is not None else None) or CHANNELS
    return {"channels": (layers * sum(channels), layers * len(channels))}
