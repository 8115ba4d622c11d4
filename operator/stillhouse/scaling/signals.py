"""From samples of counters to what a model is asked and how busy it is. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stillhouse.scaling.counters import Sample

__all__ = ["PENDING_S", "STALE_S", "WINDOW_S", "History", "Signals", "signals"]

WINDOW_S = 10.0
"""Rates are means over so long: ten scrapes, less than an autoscaler's 15 s."""
PENDING_S = 3.0
"""Pending requests are a mean over so long: the gauge of one moment jumps."""
STALE_S = 5.0
"""A pod whose last sample is older says nothing any more."""
_ENOUGH = 0.5
"""Share of the pods that must have been heard; with fewer there is no value."""


class History:
    """The last samples of one server, `WINDOW_S` long."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        """Take a sample in; counters that went back are those of a server that began anew, and what was before is forgotten."""
        if self._samples and _began_anew(self._samples[-1], sample):
            self._samples.clear()
        self._samples.append(sample)
        while len(self._samples) > 2 and self._samples[1].at <= sample.at - WINDOW_S:
            self._samples.popleft()

    @property
    def samples(self) -> Sequence[Sample]:
        """Return the samples, the oldest first."""
        return tuple(self._samples)


def _began_anew(before: Sample, now: Sample) -> bool:
    cpu = before.cpu_s is not None and now.cpu_s is not None and now.cpu_s < before.cpu_s
    return now.ended < before.ended or now.executions < before.executions or now.compute_s < before.compute_s or cpu


@dataclass(frozen=True, slots=True)
class Signals:
    """What a model is asked and how busy its servers are, over all of its pods that are ready.

    `pods`: how many are ready; `pending`: requests that wait; `queue_s`: mean wait of a request; `arrival_rate`: requests a
    second; `busy`: instances at work, as a mean; `use`: their share of all instances (0 to 1); `service_s`: seconds of an
    instance that a request costs (a batch is shared by its requests), None where nothing has ever run; `cpu`: CPUs that the pods
    use, with all that runs in them, as a mean; None where no pod tells.
    """

    pods: int
    pending: float
    queue_s: float
    arrival_rate: float
    busy: float
    use: float
    service_s: float | None
    cpu: float | None = None


@dataclass(slots=True)
class _Sum:
    pending: float = 0.0
    arrivals: float = 0.0
    busy: float = 0.0
    ended: float = 0.0
    queued: float = 0.0
    computed: float = 0.0
    worked: float = 0.0
    cpu: float = 0.0
    cpu_pods: int = 0


def signals(histories: Sequence[Sequence[Sample]], instances: float, now: float) -> Signals | None:
    """Return the signals of a model.

    `histories` has one entry for each pod that is ready, empty where it was never heard; `instances` is how many requests or
    batches one pod runs at a time.

    Pods that were not heard lately are taken to be as busy as those that were. None where too few were heard, or too few twice: a
    rate needs two samples, and who does not know must not say zero.
    """
    heard = [samples for samples in histories if samples and now - samples[-1].at <= STALE_S]
    twice = [samples for samples in heard if samples[-1].at > samples[0].at]
    if not heard or len(twice) < _ENOUGH * len(histories):
        return None
    total = _Sum()
    for samples in heard:
        _add(total, samples)
    scale = len(histories) / len(heard)
    if total.computed:
        service: float | None = total.worked / total.computed
    else:
        service = _ever(samples[-1] for samples in heard)
    return Signals(
        pods=len(histories),
        pending=total.pending * scale,
        queue_s=total.queued / total.ended if total.ended else 0.0,
        arrival_rate=total.arrivals * scale,
        busy=total.busy * scale,
        use=min(1.0, total.busy / (instances * len(heard))),
        service_s=service,
        cpu=total.cpu * len(histories) / total.cpu_pods if total.cpu_pods else None,
    )


def _add(total: _Sum, samples: Sequence[Sample]) -> None:
    first, last = samples[0], samples[-1]
    lately = [each.pending for each in samples if each.at > last.at - PENDING_S]
    total.pending += sum(lately) / len(lately)
    seconds = last.at - first.at
    if seconds <= 0:
        return  # heard once: it has been ready for a second, and what it waits with is known
    ended = last.ended - first.ended
    total.ended += ended
    total.queued += last.queue_s - first.queue_s
    # What came in is what went out and what waits more than before.
    total.arrivals += max(0.0, ended + last.pending - first.pending) / seconds
    worked = _worked(first, last)
    total.worked += worked
    total.computed += last.computed - first.computed
    total.busy += worked / seconds
    if first.cpu_s is not None and last.cpu_s is not None:
        total.cpu += (last.cpu_s - first.cpu_s) / seconds
        total.cpu_pods += 1


def _worked(first: Sample, last: Sample) -> float:
    """Return seconds of instances between two samples: Triton counts a batch's time once for each of its requests."""
    computed = last.computed - first.computed
    if computed <= 0:
        return 0.0
    return (last.compute_s - first.compute_s) * min(1.0, (last.executions - first.executions) / computed)


def _ever(samples: Iterable[Sample]) -> float | None:
    """Return the cost of a request over the servers' whole lives: nothing ran lately."""
    zero = Sample(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    lives = [(_worked(zero, each), each.computed) for each in samples]
    computed = sum(each for _, each in lives)
    return sum(worked for worked, _ in lives) / computed if computed else None
