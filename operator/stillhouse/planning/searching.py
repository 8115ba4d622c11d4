"""The step that looks for a student's shape, and which shapes cannot be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stillhouse.api.loss import Loss
from stillhouse.api.scalars import parse_duration, parse_percent, parse_quantity
from stillhouse.api.search import Search
from stillhouse.planning.manifest import LOSSES
from stillhouse.planning.plan import StepDraft
from stillhouse.planning.shapes import Known, impossible, impossible_shape

__all__ = ["SEARCH", "refuse_impossible", "refuse_shape", "search_step"]

SEARCH = "train/search"


def search_step(
    search: Search,
    student: Mapping[str, Any],
    stage: Mapping[str, Any],
    parents: Mapping[str, str],
    quantize: Mapping[str, Any] | None,
) -> StepDraft:
    """Draft the search. `student`, `stage`: the configurations of the student's step and of its first stage; `parents`: theirs.

    `quantize`: how what serves is made INT8; None: it serves in FP32.
    """
    space = {
        "hiddenLayers": search.hidden_layers,
        "hiddenSize": search.hidden_size,
        "attentionHeads": search.attention_heads,
        "vocabularySize": search.vocabulary,
    }
    config = {
        "space": {name: sorted(set(values)) for name, values in space.items() if values},
        "trials": search.trials,
        "patience": search.patience,
        "tolerance": parse_percent(search.tolerance),
        "size": float(parse_quantity(search.max_size)) if search.max_size else None,
        "latency": parse_duration(search.max_latency_p50) if search.max_latency_p50 else None,
        "student": dict(student),
        "stage": {**stage, "epochs": search.epochs},
        "quantize": dict(quantize) if quantize is not None else None,
        "seed": student["seed"],
    }
    return StepDraft(SEARCH, "train", "search-student", config, dict(parents))


def refuse_impossible(step: StepDraft, losses: Iterable[Loss], source: Mapping[str, Any]) -> None:
    """Look at what a search tries, as far as the source's `info` tells; the search itself looks at what was imported.

    `losses`: those by which the source itself teaches, of all stages.

    Raises:
        SpecError: no student can have some of it.
    """
    reads = any(LOSSES[loss.kind].reads == "tokens" for loss in losses)
    wrong = impossible(step.config["student"], step.config["space"], _known(source), reads_tokens=reads)
    if wrong is not None:
        raise wrong


def refuse_shape(student: Mapping[str, Any], source: Mapping[str, Any], field: str) -> None:
    """Look at the shape of a student, its step's configuration, as far as the source's `info` tells.

    Raises:
        SpecError: no student can have it.
    """
    wrong = impossible_shape(student, _known(source), field)
    if wrong is not None:
        raise wrong


def _known(source: Mapping[str, Any]) -> Known:
    return Known(
        layers=int(source.get("layers") or 0),
        hidden=int(source.get("hiddenSize") or 0),
        intermediate=int(source.get("intermediateSize") or 0),
        tokens=int(source.get("vocabularySize") or 0),
    )
