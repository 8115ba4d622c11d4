"""What a search must not propose, looked for once before the first shape: later, others would have been trained in vain."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from stillhouse.api.student import heads_and_neurons
from stillhouse.errors import SourceError
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.distill.prune.config import emptied
from stillhouse.passes.distill.shrink import shape_of
from stillhouse.passes.distill.train import DistillConfig
from stillhouse.passes.distill.vocabulary import fewest
from stillhouse.passes.models.artifact import CONFIG_FILE
from stillhouse.passes.sources.tokenizer import vocabulary_rows
from stillhouse.planning.manifest import LOSSES
from stillhouse.planning.shapes import FIELD, Known, impossible

__all__ = ["refuse_impossible"]


def refuse_impossible(
    student: Mapping[str, Any], space: Mapping[str, Sequence[int]], stage: DistillConfig, origin: Path, *, own: bool
) -> None:
    """Look at every value against the model that the student is made of, and at every shape against what the stage prunes.

    `origin`: that model's artifact. `own`: it is also who teaches, so that it may read along.

    Raises:
        SpecError: some of what may be tried cannot be made, or not be trained.
        SourceError: the vocabulary is searched for, and this tokenizer cannot be trimmed.
    """
    family = student.get("architecture") in (None, "encoder", "residual")
    known = _known(origin, space.get("vocabularySize", ()), family=family)
    reads = own and any(LOSSES[loss.kind].reads == "tokens" for loss in stage.losses)
    wrong = impossible(student, space, known, reads_tokens=reads)
    if wrong is not None:
        raise wrong
    if stage.prune is None or stage.freeze is not None:  # what is held still is not counted; how much that is, the stage knows
        return
    for shape, totals, layers in _totals(student, space, known):
        for kind, share in stage.prune.shares.items():
            empty = emptied(kind, share, totals[kind], layers, f" ({shape})") if kind in totals else None
            if empty is not None:
                raise empty


def _known(origin: Path, vocabularies: Sequence[int], *, family: bool) -> Known:
    """Read what the model is made of; its layers only where the student is of its `family`: others need none of them."""
    found = Known(tokens=vocabulary_rows(origin) if vocabularies else 0)
    if (origin / CONFIG_FILE).is_file():
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(str(origin), local_files_only=True, trust_remote_code=False)
        tokens = int(getattr(config, "vocab_size", 0) or 0) or found.tokens
        found = dataclasses.replace(found, tokens=tokens)
        if family:
            shape = shape_of(config)
            found = Known(shape.layers, shape.hidden, shape.heads, shape.intermediate, tokens)
    if all(size >= found.tokens for size in vocabularies):  # nothing is trimmed
        return found
    try:
        least = fewest(json.loads((origin / TOKENIZER_FILE).read_text(encoding="utf-8")))
    except SourceError as error:
        raise SourceError.of([dataclasses.replace(error.problem, field=f"{FIELD}.vocabulary")]) from error
    return dataclasses.replace(found, fewest=least)


def _totals(
    student: Mapping[str, Any], space: Mapping[str, Sequence[int]], known: Known
) -> Iterator[tuple[str, dict[str, int], int]]:
    """Yield every transformer of the teacher's family that may be tried: in words, its heads and neurons, its layers."""
    if student.get("architecture") not in (None, "encoder") or not known.hidden:
        return
    names = [name for name in ("hiddenLayers", "hiddenSize", "attentionHeads") if name in space]
    for values in product(*(space[name] for name in names)):
        shape = {**student, **dict(zip(names, values, strict=True))}
        layers, width = shape.get("hiddenLayers") or known.layers, shape.get("hiddenSize") or known.hidden
        same = width == known.hidden
        theirs = (known.heads, known.intermediate) if same else None
        heads, neurons = heads_and_neurons(width, shape.get("attentionHeads"), shape.get("intermediateSize"), theirs)
        told = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
        units = {"heads": layers * heads, "neurons": layers * neurons}
        yield told, {kind: count for kind, count in units.items() if count}, layers  # 0: the configuration does not tell
