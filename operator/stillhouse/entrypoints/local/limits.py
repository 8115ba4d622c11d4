"""Numbers that a model does not allow, as far as its config.json tells; else the import and the student say so later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from stillhouse.api.distill import Distill
from stillhouse.api.model import Spec
from stillhouse.api.scalars import parse_percent
from stillhouse.api.search import Search
from stillhouse.api.source import ModelSource
from stillhouse.api.stage import Stage
from stillhouse.api.student import HEAD_WIDTH, SMALL, Student
from stillhouse.api.teachers import Assistant
from stillhouse.errors import SpecError, StillhouseError

__all__ = ["beyond"]

_ASSISTANTS = "spec.distill.assistants"


def beyond(spec: Spec, source: Path | None, info: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Yield what does not fit. `source`: the model's folder, None where it is not here; `info`: its shape (`model_info`)."""
    config = _configuration(source) if source is not None and info.get("format") == "safetensors" else None
    if source is not None and config is not None:
        yield from _too_long(spec.source.max_length, source, config)
        yield from _labels(spec.source, config)
    if spec.distill is not None:
        yield from _uneven(spec.distill.student, info)
        yield from _no_such_layers(spec.distill, info)
        learners: list[tuple[str, Distill | Assistant]] = [("spec.distill", spec.distill)]
        learners += [(f"{_ASSISTANTS}[{position}]", each) for position, each in enumerate(spec.distill.assistants)]
        for place, learner in learners:
            search = spec.distill.search if learner is spec.distill else None
            for student, told in _shapes(learner.student, search):
                emptied = list(_emptied(place, learner.stages, student, told, spec.source.task == "sentence-embedding", info))
                yield from emptied
                if emptied:
                    break


def _no_such_layers(distill: Distill, info: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Look at the layers of the teacher that losses name: of the source, or of the assistant before."""
    learners = [(f"{_ASSISTANTS}[{position}]", each.stages) for position, each in enumerate(distill.assistants)]
    depths = [info.get("layers"), *(each.student.hidden_layers for each in distill.assistants)]
    for (place, stages), depth in zip([*learners, ("spec.distill", distill.stages)], depths, strict=True):
        for number, stage in enumerate(stages):
            for which, loss in enumerate(stage.losses):
                named = [(f"layers[{at}].teacher", pair.teacher) for at, pair in enumerate(loss.layers or ())]
                if loss.layer is not None:
                    named.append(("layer", loss.layer))
                for field, layer in named:
                    if depth and layer > depth:
                        yield SpecError(
                            f"loss {loss.kind} names a layer that its teacher does not have",
                            field=f"{place}.stages[{number}].losses[{which}].{field}",
                            found=str(layer),
                            allowed=f"1 to {depth}",
                            fix=f"name a layer up to {depth}; left out, it is the last one",
                        )


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


def _emptied(
    place: str, stages: Sequence[Stage], student: Student, told: str, embeds: bool, info: Mapping[str, Any]
) -> Iterator[StillhouseError]:
    """Look at shares of heads and neurons, stage after stage, of a transformer whose shape is known; `told`: which it is."""
    from stillhouse.passes.distill.prune.config import FIELD, emptied, taken

    width, layers = student.hidden_size, student.hidden_layers or info.get("layers")
    static = embeds and student.architecture is None and student.init in (None, "static")
    apart = student.uri or student.factory or student.architecture not in (None, "encoder") or static
    if apart or not width or not layers or width == info.get("hiddenSize"):  # at its width, heads and neurons are the teacher's
        return
    left = {
        "heads": layers * (student.attention_heads or max(1, width // HEAD_WIDTH)),
        "neurons": layers * (student.intermediate_size or 4 * width),
    }
    for number, stage in enumerate(stages):
        if stage.freeze is not None:  # what is held still is not counted; how much that is, the stage knows
            return
        for kind, total in left.items():
            given = getattr(stage.prune, kind, None)
            if given is None:
                continue
            share = parse_percent(given)
            wrong = emptied(kind, share, total, layers, told)
            if wrong is not None:
                yield SpecError.of(
                    [replace(wrong.problem, field=wrong.problem.field.replace(FIELD, f"{place}.stages[{number}].prune"))]
                )
                return
            left[kind] = total - taken(share, total)


def _configuration(source: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # not told, or the import's to tell
        return None
    return config if isinstance(config, dict) else None


def _too_long(wanted: int | None, source: Path, config: Mapping[str, Any]) -> Iterator[StillhouseError]:
    from stillhouse.passes.sources.folder import SourceFolder
    from stillhouse.passes.sources.limits import chosen_max_length

    if wanted is None or not isinstance(config.get("max_position_embeddings"), int):
        return
    try:
        chosen_max_length(wanted, SourceFolder.open(source), config)
    except StillhouseError as error:
        if error.problem.field == "source.maxLength":
            yield error


def _labels(source: ModelSource, config: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Look for what a classifier answers: an encoder has no labels, unless one is made of it first."""
    from stillhouse.passes.sources.labels import label_order

    if source.task != "text-classification" or source.fine_tune is not None or source.factory is not None:
        return
    try:
        label_order(config, source.labels)
    except StillhouseError as error:
        yield error


def _uneven(student: Student, info: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Look at the width where the heads follow from it: at the teacher's own width they are the teacher's."""
    from stillhouse.passes.distill.students.config import check_heads

    width = student.hidden_size
    without = student.factory is not None or student.architecture in SMALL or student.convolution is not None
    if width is None or student.attention_heads is not None or without:
        return
    known, bag = info.get("hiddenSize"), student.architecture == "residual" or student.init == "static"
    if not bag and known in (None, width):
        return
    try:
        check_heads(width, max(1, width // HEAD_WIDTH), given=False)
    except StillhouseError as error:
        yield error
