"""Numbers that a model does not allow, as far as its config.json tells; else the import and the student say so later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillhouse.api.model import Spec
from stillhouse.api.student import HEAD_WIDTH, SMALL, Student
from stillhouse.errors import StillhouseError

__all__ = ["beyond"]


def beyond(spec: Spec, source: Path | None, info: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Yield what does not fit. `source`: the model's folder, None where it is not here; `info`: its shape (`model_info`)."""
    if spec.source.max_length is not None and source is not None and info.get("format") == "safetensors":
        yield from _too_long(spec.source.max_length, source)
    if spec.distill is not None:
        yield from _uneven(spec.distill.student, info)


def _too_long(wanted: int, source: Path) -> Iterator[StillhouseError]:
    from stillhouse.passes.sources.folder import SourceFolder
    from stillhouse.passes.sources.limits import chosen_max_length

    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # not told, or the import's to tell
        return
    if not isinstance(config, dict) or not isinstance(config.get("max_position_embeddings"), int):
        return
    try:
        chosen_max_length(wanted, SourceFolder.open(source), config)
    except StillhouseError as error:
        if error.problem.field == "source.maxLength":
            yield error


def _uneven(student: Student, info: Mapping[str, Any]) -> Iterator[StillhouseError]:
    """Look at the width where the heads follow from it: at the teacher's own width they are the teacher's."""
    from stillhouse.passes.distill.students.config import check_heads

    width = student.hidden_size
    if width is None or student.attention_heads is not None or student.factory is not None or student.architecture in SMALL:
        return
    known, bag = info.get("hiddenSize"), student.architecture == "residual" or student.init == "static"
    if not bag and known in (None, width):
        return
    try:
        check_heads(width, max(1, width // HEAD_WIDTH), given=False)
    except StillhouseError as error:
        yield error
