"""Losses of another task: the rule as the API server reads it (CEL) and as Python does, also of a file with other mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from stillhouse.api.base import CelRule, Mistake
from stillhouse.api.loss import CLASS_LOSSES, EMBEDDING_LOSSES, told
from stillhouse.api.source import Task

if TYPE_CHECKING:
    from stillhouse.api.model import Spec

__all__ = ["LOSSES_FIT_TASK", "foreign_loss", "losses_fit"]

LOSSES_FIT_TASK = CelRule(
    "!has(self.distill) || self.distill.stages.all(s, s.losses.all(l, self.source.task == 'sentence-embedding'"
    f" ? !(l.kind in {list(CLASS_LOSSES)}) : !(l.kind in {list(EMBEDDING_LOSSES)})))"
    " && (!has(self.distill.assistants) || self.distill.assistants.all(a, a.stages.all(s, s.losses.all(l,"
    " self.source.task == 'sentence-embedding'"
    f" ? !(l.kind in {list(CLASS_LOSSES)}) : !(l.kind in {list(EMBEDDING_LOSSES)})))))",
    f"losses {told(EMBEDDING_LOSSES)} belong to task sentence-embedding, {told(CLASS_LOSSES)} to classification",
    "distill.stages",
)


def losses_fit(spec: Spec) -> None:
    """Raise where a loss belongs to another task."""
    if spec.distill is None:
        return
    learners = [(f"distill.assistants[{at}]", each.stages) for at, each in enumerate(spec.distill.assistants)]
    for place, stages in [("distill", spec.distill.stages), *learners]:
        for number, stage in enumerate(stages):
            for which, loss in enumerate(stage.losses):
                wrong = _foreign(spec.source.task, loss.kind, f"{place}.stages[{number}].losses[{which}].kind")
                if wrong is not None:
                    raise wrong


def foreign_loss(data: Any) -> Mistake | None:
    """Return what `losses_fit` would raise of a spec that is plain data, with mistakes further in that keep it from being read.

    Whoever mends a loss's temperature first would learn only then that the loss cannot stay.
    """
    source, distill = _mapping(data, "source"), _mapping(data, "distill")
    task = source.get("task")
    learners = [(f"distill.assistants[{at}]", each) for at, each in enumerate(_listed(distill, "assistants"))]
    for place, learner in [("distill", distill), *learners]:
        for number, stage in enumerate(_listed(learner, "stages")):
            for which, loss in enumerate(_listed(stage, "losses")):
                kind = loss.get("kind")
                field = f"{place}.stages[{number}].losses[{which}].kind"
                wrong = _foreign(task, kind, field) if isinstance(task, str) and isinstance(kind, str) else None
                if wrong is not None:
                    return wrong
    return None


def _foreign(task: str, kind: str, field: str) -> Mistake | None:
    embeds = task == "sentence-embedding"
    if kind not in (CLASS_LOSSES if embeds else EMBEDDING_LOSSES) or task not in get_args(Task):
        return None
    return Mistake(LOSSES_FIT_TASK.message, field=field, fix=f"kind: {'embedding' if embeds else 'logits'}")


def _mapping(data: Any, name: str) -> dict[Any, Any]:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def _listed(data: dict[Any, Any], name: str) -> Iterator[dict[Any, Any]]:
    value = data.get(name)
    for each in value if isinstance(value, list | tuple) else ():
        yield each if isinstance(each, dict) else {}
