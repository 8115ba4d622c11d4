"""What the stages of one who learns demand of each other and of its shape: the student's, and each assistant's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stillhouse.api.base import CelRule, Mistake
from stillhouse.api.loss import RELATION_LOSSES, told
from stillhouse.api.student import SMALL

if TYPE_CHECKING:
    from stillhouse.api.stage import Stage
    from stillhouse.api.student import Student

__all__ = ["PUPIL_RULES", "pupil_fits"]

_STAGE_NAMES = CelRule(
    "self.stages.all(s, !has(s.name) || self.stages.exists_one(t, has(t.name) && t.name == s.name))",
    "every stage needs a name of its own",
    "stages",
)
_LAYERS_ARE_THERE = CelRule(
    "!has(self.student.hiddenLayers) || self.stages.all(s, s.losses.all(l, !has(l.layers)"
    " || l.layers.all(p, !has(p.student) || p.student <= self.student.hiddenLayers)))",
    "layers names a layer of the student's beyond student.hiddenLayers",
    "stages",
)
_FROZEN_ARE_THERE = CelRule(
    "!has(self.student.hiddenLayers) || self.stages.all(s, !has(s.freeze) || !has(s.freeze.layers)"
    " || s.freeze.layers <= self.student.hiddenLayers)",
    "freeze.layers names more layers than student.hiddenLayers",
    "stages",
)
_SMALL_SHOW_NONE = CelRule(
    f"!has(self.student.architecture) || !(self.student.architecture in {list(SMALL)})"
    " || self.stages.all(s, !has(s.freeze) || !has(s.freeze.layers))",
    f"freeze.layers are a transformer's: students of architectures {told(SMALL)} have embeddings at most to freeze",
    "stages",
)
_ZEROS_LAST = CelRule(
    "self.stages.filter(s, has(s.prune) && has(s.prune.weights)).size() == 0"
    " || (self.stages.filter(s, has(s.prune) && has(s.prune.weights)).size() == 1"
    " && has(self.stages[self.stages.size() - 1].prune) && has(self.stages[self.stages.size() - 1].prune.weights))",
    "prune.weights belongs to the last stage: what is trained after it would fill the zeros again",
    "stages",
)
_CONVOLVED = "has(self.student.convolution) && has(self.student.architecture) && self.student.architecture == 'residual'"
_NOTHING_TO_PRUNE = CelRule(
    f"!({_CONVOLVED}) || self.stages.all(s, !has(s.prune)"
    " || !has(s.prune.heads) && !has(s.prune.neurons) && !has(s.prune.channels))",
    "a residual student with convolution has no heads, neurons or channels to prune",
    "stages",
)
_NO_RELATIONS = CelRule(
    f"!({_CONVOLVED}) || !self.stages.exists(s, s.losses.exists(l, l.kind in {list(RELATION_LOSSES)}))",
    f"losses {told(RELATION_LOSSES)} look at attention, and a residual student with convolution has none",
    "stages",
)
PUPIL_RULES = (
    _STAGE_NAMES, _LAYERS_ARE_THERE, _FROZEN_ARE_THERE, _SMALL_SHOW_NONE, _ZEROS_LAST, _NOTHING_TO_PRUNE, _NO_RELATIONS,
)  # fmt: skip
"""Of whatever has `student` and `stages`."""


def pupil_fits(student: Student, stages: Sequence[Stage]) -> None:
    """Raise where stages have one name, speak of what is not there, or fill again what was pruned."""
    names = [stage.name for stage in stages if stage.name is not None]
    if len(set(names)) < len(names):
        raise _STAGE_NAMES.broken()
    most = student.hidden_layers
    for number, stage in enumerate(stages):
        for which, loss in enumerate(stage.losses):
            deep = (at for at, pair in enumerate(loss.layers or ()) if most is not None and (pair.student or 0) > most)
            if (at := next(deep, None)) is not None:
                field = f"stages[{number}].losses[{which}].layers[{at}].student"
                fix = f"name a layer up to {most}, or leave student out"
                raise Mistake(_LAYERS_ARE_THERE.message, field=field, allowed=f"1 to {most}", fix=fix)
        frozen = stage.freeze.layers if stage.freeze is not None else None
        field = f"stages[{number}].freeze.layers"
        if frozen is not None and student.architecture in SMALL:
            raise Mistake(_SMALL_SHOW_NONE.message, field=field, fix="leave layers out")
        if frozen is not None and most is not None and frozen > most:
            raise Mistake(_FROZEN_ARE_THERE.message, field=field, allowed=f"1 to {most}", fix=f"freeze {most} layers or fewer")
    if any(stage.prune is not None and stage.prune.weights is not None for stage in stages[:-1]):
        raise _ZEROS_LAST.broken(fix="move prune to the last stage; its recovery is where the student learns again")
    if student.convolution is None or student.architecture != "residual":
        return
    pruned = [stage.prune for stage in stages if stage.prune is not None]
    if any(prune.heads or prune.neurons or prune.channels for prune in pruned):
        raise _NOTHING_TO_PRUNE.broken(fix="prune weights")
    if any(loss.kind in RELATION_LOSSES for stage in stages for loss in stage.losses):
        raise _NO_RELATIONS.broken(fix="take hidden, hidden-tokens or attention-transfer")
