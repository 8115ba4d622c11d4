"""The stages of a cascade: which there are, and whether they belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stillhouse.edge.cascade.answer import NONE
from stillhouse.edge.cascade.away import AwaySettings
from stillhouse.edge.cascade.decide import Unsure
from stillhouse.edge.cascade.legs import Leg
from stillhouse.edge.cascade.policy import Policy
from stillhouse.errors import UsageError
from stillhouse.inference.signature import Signature

__all__ = ["CascadeSettings", "Stage", "checked", "width_of"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A leg, and when its answer stands; the last one has no policy: it has the last word."""

    leg: Leg
    policy: Policy | None


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """`unsure`: what becomes of unusual inputs. `most_rows`: of a request (the wire contract's n)."""

    unsure: Unsure = "escalate"
    most_rows: int = 32
    away: AwaySettings = field(default_factory=AwaySettings)


def checked(stages: Sequence[Stage], signature: Signature, settings: CascadeSettings, *, queue: bool) -> Policy:
    """Return the first stage's policy, once the stages are found to belong together. `queue`: there is one.

    Raises:
        UsageError: they do not.
    """

    def wrong(field_: str, found: object, allowed: str) -> UsageError:
        return UsageError("the stages make no cascade", field=field_, found=str(found), allowed=allowed)

    if len(stages) < 2 or stages[-1].policy is not None or any(each.policy is None for each in stages[:-1]):
        raise wrong("stages", len(stages), "two or more, each with a cascade but the last one")
    names = [each.leg.name for each in stages]
    if len(set(names)) != len(names) or {NONE, "mixed"} & set(names):
        raise wrong("stages: names", ", ".join(names), f"all different, none of them {NONE} or mixed")
    for at, stage in enumerate(stages[:-1]):
        policy, leg = stage.policy, stage.leg
        assert policy is not None
        if policy.task != signature.task:
            raise wrong(f"stages[{at}].task", policy.task, signature.task)
        if leg.digest != policy.digest:
            raise wrong(f"stages[{at}].digest", leg.digest, f"{policy.digest}: a calibration belongs to one model")
        if policy.needs_logits and not leg.gives_logits:
            raise wrong(f"stages[{at}].outliers.kind", "energy", "a leg that gives logits: the model in this process")
    if settings.away.policy == "queue" and not queue:
        raise wrong("away.policy", "queue", "a file for the queue beside it")
    first = stages[0].policy
    assert first is not None
    return first


def width_of(stages: Sequence[Stage], signature: Signature) -> int:
    """Return how many numbers an answer has a row: labels, or an embedding's; -1 where that depends on who answers."""
    widths = {each.policy.edge.dimension for each in stages if each.policy is not None and each.policy.edge is not None}
    widths |= {
        each.policy.larger.dimension for each in stages[-2:-1] if each.policy is not None and each.policy.larger is not None
    }
    return len(signature.labels) or (signature.dimension if len(widths) <= 1 else -1)
