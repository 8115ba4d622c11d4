"""Where the stage that a step carries out stands in the file, for messages: passes say `spec.distill.stages[]`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from stillhouse.api.loss import LAYER_LOSSES, Loss
from stillhouse.api.stage import Stage

__all__ = ["STAGE", "places_of"]

STAGE: Final = "spec.distill.stages[]"
"""What passes call the stage that they carry out."""

_SPEAK_OF: Final[Mapping[str, Callable[[Loss], bool]]] = {
    "kind": lambda loss: loss.kind == "pooled",
    "layer": lambda loss: loss.kind in LAYER_LOSSES,
    "layers": lambda loss: loss.kind in LAYER_LOSSES,
    "classWeights": lambda loss: loss.class_weights is not None,
}
"""Fields of a loss that passes find fault with, and which losses it can be about."""


def places_of(stages: Mapping[int, Stage], owner: str) -> dict[str, str]:
    """Return where the fields stand that a step may find fault with: number → each stage that it works for.

    `owner`: whose stages they are, `spec.distill` or an assistant. Where it may be several, all are named: `stages[0 or 2]`.
    """
    places = {STAGE: f"{owner}.stages[{_any(stages)}]"} if stages else {}
    for name, speaks in _SPEAK_OF.items():
        found = {number: [at for at, loss in enumerate(stage.losses) if speaks(loss)] for number, stage in stages.items()}
        there = {number: losses for number, losses in found.items() if losses}
        losses = _any(next(iter(there.values()))) if len(there) == 1 else ""  # of several stages each has its own
        if there:
            places[f"{STAGE}.losses[].{name}"] = f"{owner}.stages[{_any(there)}].losses[{losses}].{name}"
    return places


def _any(numbers: Iterable[int]) -> str:
    return " or ".join(map(str, numbers))
