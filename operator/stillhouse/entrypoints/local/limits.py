"""Numbers that a model does not allow, as far as its config.json tells; else the import and the student say so later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillhouse.api.model import Spec
from stillhouse.api.source import ModelSource
from stillhouse.api.student import HEAD_WIDTH, SMALL, Student
from stillhouse.entrypoints.local.classes import misnamed
from stillhouse.entrypoints.local.stages import unfit
from stillhouse.errors import StillhouseError

__all__ = ["beyond"]


def beyond(spec: Spec, source: Path | None, info: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Yield what does not fit. `source`: the model's folder, None where it is not here; `info`: its shape (`model_info`)."""
    config = _configuration(source) if source is not None and info.get("format") == "safetensors" else None
    if source is not None and config is not None:
        yield from _too_long(spec.source.max_length, source, config)
        yield from _labels(spec.source, config)
    if spec.distill is not None:
        yield from _uneven(spec.distill.student, info)
    yield from misnamed(spec, config)
    yield from unfit(spec, source, info)


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
