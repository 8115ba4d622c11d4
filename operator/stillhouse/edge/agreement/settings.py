"""What the watch is set to. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillhouse.errors import SourceError

__all__ = ["Bounds", "Collecting", "Expected", "Sampling", "Settings"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the larger model is asked beside its own requests.

    `share`: of the requests that the edge answers, 0 to 1 (0: none). `rate`: asked at most so many a second, up to `burst` at
    once after a pause. `at_once`: under way at most. `waiting`, `waiting_bytes`: what may wait. `delay`: how long after the
    client's answer. `timeout`: of one. `rest`: nothing is asked so long after the larger model was away or overloaded. `salt`:
    another one chooses other requests.
    """

    share: float = 0.02
    rate: float = 5.0
    burst: float = 10.0
    at_once: int = 2
    waiting: int = 64
    waiting_bytes: int = 8 << 20
    delay: float = 0.05
    timeout: float = 30.0
    rest: float = 30.0
    salt: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When the watch says that something is outside.

    `agreement`: of all traffic, which `targetAgreement` promised; None: it is told and has no bound. `psi`: of the confidences;
    it is over when below `psi_calm`. `escalation`: how far the rate may be above what was expected. `window`: what counts as now,
    in `buckets` parts. `every`: seconds between two looks. `least_compared`, `least_seen`: requests (as many as would tell as
    much) below which there is no verdict. `tail`: chance of one look to be wrong at the bound. `raise_after`, `clear_after`:
    looks in a row that it takes; a look without a new request counts for nothing.
    """

    agreement: float | None = None
    psi: float = 0.2
    psi_calm: float = 0.1
    escalation: float = 0.02
    window: float = 6 * 3600.0
    buckets: int = 36
    every: float = 60.0
    least_compared: int = 200
    least_seen: int = 500
    tail: float = 0.001
    raise_after: int = 3
    clear_after: int = 10


@dataclass(frozen=True, slots=True)
class Expected:
    """The escalation rate that was measured when the threshold was solved, with the upper end of its interval."""

    rate: float
    high: float

    @classmethod
    def of_point(cls, point: Any) -> Expected | None:
        """Read a point as `cascade.json` has it (`solved`, or better `verified`); None where it has no rate.

        Raises:
            SourceError: what stands there is no share.
        """
        told = point.get("escalation") if isinstance(point, dict) else None
        if not isinstance(told, dict) or told.get("estimate") is None:
            return None
        high = 1 if told.get("high") is None else told["high"]
        for name, value in (("estimate", told["estimate"]), ("high", high)):
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise SourceError(
                    "the cascade is damaged",
                    field=f"cascade.json: point.escalation.{name}",
                    found=str(value)[:100] if type(value) is not int else "a giant number",
                    allowed="from 0 to 1",
                    fix="build the model again: still rebuild NAME",
                )
        return cls(float(told["estimate"]), float(high))


@dataclass(frozen=True, slots=True)
class Collecting:
    """Keeping samples for training. `folder` belongs to one process; all its files together never have more than `most_bytes`.

    `file_bytes`: of one file. `escalated`: the share of escalated requests that is kept; disagreeing ones all are.
    `waiting_bytes`: what may wait to be written. `every`: seconds between two writes.
    """

    folder: Path
    most_bytes: int = 64 << 20
    file_bytes: int = 8 << 20
    escalated: float = 1.0
    waiting_bytes: int = 4 << 20
    every: float = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it; `collecting` None: nothing is kept."""

    sampling: Sampling = field(default_factory=Sampling)
    bounds: Bounds = field(default_factory=Bounds)
    collecting: Collecting | None = None
