"""How many replicas a model wants: one pure function, the place of the finer queueing model that is to come."""

from __future__ import annotations

from dataclasses import dataclass

from stillhouse.scaling.signals import Signals

__all__ = ["Aim", "wanted"]


@dataclass(frozen=True, slots=True)
class Aim:
    """What is aimed at. `use`: share of the instances that is to be busy; `drain_s`: within how long what waits is to be gone."""

    use: float = 0.7
    drain_s: float = 5.0


def wanted(signals: Signals, instances: float, aim: Aim = Aim()) -> float | None:
    """Return the replicas that are wanted, with a fraction; the autoscaler rounds up and keeps within its bounds.

        (arrival_rate + pending / drain_s) × service_s / (instances × use)

    The utilisation law: what comes in each second, and a share of what waits, times what a request costs, in instances that
    work for no more than `use` of their time. It does not depend on how many pods there are, so it does not swing with them.
    None where requests wait and it is not known what one costs.
    """
    asked = signals.arrival_rate + signals.pending / aim.drain_s
    if signals.service_s is None:
        return None if asked > 0 else 0.0
    return asked * signals.service_s / (instances * aim.use)
