"""How many replicas a model wants: one pure function, the place of the finer queueing model that is to come."""

from __future__ import annotations

from dataclasses import dataclass

from stillhouse.scaling.signals import Signals

__all__ = ["Aim", "Room", "cpu_use", "wanted"]


@dataclass(frozen=True, slots=True)
class Aim:
    """What is aimed at. `use`: share of instances and CPUs that is to be busy; `drain_s`: within how long what waits is gone."""

    use: float = 0.7
    drain_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Room:
    """What one pod has: `instances`, how many requests or batches it runs at a time; `cpus`, its CPU limit, if it has one."""

    instances: float
    cpus: float | None = None


def wanted(signals: Signals, room: Room, aim: Aim = Aim()) -> float | None:
    """Return the replicas that are wanted, with a fraction; the autoscaler rounds up and keeps within its bounds.

        max((arrival_rate + pending / drain_s) × service_s / (instances × use),  cpu / (cpus × use))

    The utilisation law: what comes in each second, and a share of what waits, times what a request costs, in instances that
    work for no more than `use` of their time. It does not depend on how many pods there are, so it does not swing with them.
    The same for the pods' CPU time, which holds what the law does not see: the gRPC front end, which costs as much as a small
    model does, and in which requests wait uncounted once the CPU is used up.
    None where requests wait and it is not known what one costs.
    """
    asked = signals.arrival_rate + signals.pending / aim.drain_s
    if signals.service_s is None and asked > 0:
        return None
    by_instances = asked * (signals.service_s or 0.0) / (room.instances * aim.use)
    return max(by_instances, (signals.cpu or 0.0) / (room.cpus * aim.use) if room.cpus else 0.0)


def cpu_use(signals: Signals, room: Room) -> float | None:
    """Return the share of its CPU limit that a pod uses, as a mean; None where pods do not tell or have no limit."""
    return signals.cpu / (room.cpus * signals.pods) if room.cpus and signals.cpu is not None and signals.pods else None
