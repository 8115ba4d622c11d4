"""Pruning within a stage of training: what is taken out of the student, by what measure, and how long it recovers."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.scalars import Percent

__all__ = ["Prune"]

_SOMETHING = CelRule(
    "has(self.weights) || has(self.heads) || has(self.neurons) || has(self.channels)",
    "prune names what is taken out: weights, or heads, neurons, channels",
)
_ONE_WAY = CelRule(
    "!has(self.weights) || !(has(self.heads) || has(self.neurons) || has(self.channels))",
    "weights sets single numbers to 0, heads, neurons and channels take whole parts out: one or the other in a stage",
    "weights",
)
_RECOVERS = CelRule("!self.recovery.startsWith('100')", "recovery must leave steps in which something is pruned", "recovery")


def _share(name: str) -> CelRule:
    rule = f"!has(self.{name}) || (self.{name}.matches('[1-9]') && !self.{name}.startsWith('100'))"
    return CelRule(rule, f"{name} must be more than 0% and less than 100%", name)


_SHARES = {name: _share(name) for name in ("weights", "heads", "neurons", "channels")}


class Prune(ApiModel):
    """What a stage takes out of the student: more and more of it over the stage's steps, then it recovers (Zhu & Gupta 2017)."""

    weights: Percent | None = None
    """Share of the single weights that become 0, of all layers but the embeddings. The model keeps its shape and its speed: it
    gets smaller only where it is compressed at rest (`still gc`, `still push`). In the last stage alone."""
    heads: Percent | None = None
    """Share of the attention heads that is taken out. Every layer keeps one. Smaller and faster afterwards."""
    neurons: Percent | None = None
    """Share of the feed-forward neurons that is taken out; of networks without such layers, of linear layers that only another
    one reads. Every layer keeps one."""
    channels: Percent | None = None
    """Share of the convolutions' channels that is taken out, of those that only convolutions and linear layers read (no
    shortcut goes past them). Every layer keeps one."""
    by: Literal["magnitude", "taylor", "movement"] | None = None
    """What says how important something is: `magnitude` (how large its weights are; single weights by Lee et al. 2021), `taylor`
    (how much the objective would change without it: Michel et al. 2019), `movement` (whether training moves it away from 0:
    Sanh et al. 2020; what was out may come back meanwhile). Left out: `magnitude` for weights, else `taylor`."""
    recovery: Percent = "40%"
    """Share of the steps, the last, in which nothing more is taken out."""

    cel_rules = (_SOMETHING, _ONE_WAY, *_SHARES.values(), _RECOVERS)

    @model_validator(mode="after")
    def _whole(self) -> Prune:
        units = any(value is not None for value in (self.heads, self.neurons, self.channels))
        if self.weights is None and not units:
            raise _SOMETHING.broken(fix="neurons: 50%")
        if self.weights is not None and units:
            raise _ONE_WAY.broken(fix="leave weights out, or the others")
        for name, rule in _SHARES.items():
            value = getattr(self, name)
            if value is not None and not 0 < Decimal(value.removesuffix("%")) < 100:
                raise rule.broken(fix=f"{name}: 50%")
        if Decimal(self.recovery.removesuffix("%")) == 100:
            raise _RECOVERS.broken(fix="recovery: 40%")
        return self
