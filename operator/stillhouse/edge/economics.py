"""What the edge saves and what it costs: counts, CPU seconds, and money where prices are given.

The unit is an answer, which is a row: a request of eight texts has eight. Calls are requests to the larger model.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Economics", "Prices", "Usage", "economics", "process_cpu_s", "table"]


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in one `currency`, which is text. None: not given.

    `edge_cpu_hour`: of an hour of one core here. `cloud_call`: of a call of the larger model. Or `cloud_cpu_hour` with
    `cloud_cpu_s`, the core seconds that the larger model takes for a row, as the gate or its server measured it. With both, they
    add up.
    """

    currency: str = ""
    edge_cpu_hour: float | None = None
    cloud_call: float | None = None
    cloud_cpu_hour: float | None = None
    cloud_cpu_s: float | None = None


@dataclass(slots=True)
class Usage:
    """Counters since the process began.

    `requests`, `rows`: answered. `escalated`: rows that the larger model answered. `calls`: requests that it was asked for
    and answered.
    `late`: requests that it answered when it was back (policy `queue`), `late_rows` their rows.
    `away`: requests that the edge answered because the larger model was not there (policy `answer`), `away_rows` their rows.
    `comparisons`, `compared_rows`: asked besides, by the agreement watch. `edge_cpu_s`: of the small model's inferences.
    """

    requests: int = 0
    rows: int = 0
    escalated: int = 0
    calls: int = 0
    away: int = 0
    away_rows: int = 0
    comparisons: int = 0
    compared_rows: int = 0
    late: int = 0
    late_rows: int = 0
    edge_cpu_s: float = 0.0

    def count(self, rows: int, escalated: int, *, called: bool, away: bool = False) -> None:
        """Count an answered request. `called`: the larger model was asked; `away`: in vain, or it was known to be away."""
        self.requests += 1
        self.rows += rows
        self.escalated += escalated
        self.calls += called and not away  # what is away is counted as that alone
        if away:
            self.away += 1
            self.away_rows += rows

    def deliver(self, rows: int) -> None:
        """Count a request that was kept, and that the larger model has answered now."""
        self.late += 1
        self.late_rows += rows

    @contextmanager
    def leg(self) -> Iterator[None]:
        """Measure an inference of the small model, in the thread that runs it. CPU of a runtime's own threads is not in it."""
        begun = time.thread_time()
        try:
            yield
        finally:
            self.edge_cpu_s += time.thread_time() - begun

    def __add__(self, other: Usage) -> Usage:
        """Add another process's."""
        return Usage(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def process_cpu_s() -> float:
    """Return the CPU seconds of this process, all its threads, in user and system mode."""
    spent = os.times()
    return spent.user + spent.system


@dataclass(frozen=True, slots=True)
class Economics:
    """What `economics` worked out. What cannot be known is None: shares without rows, costs without prices.

    `calls`: late ones (`late`) included. `avoided`: requests that needed no call. Costs are for a thousand answers: `cost` as it
    is, comparisons included, `cost_comparisons` of these alone, `cost_without` if every request had been a call.
    """

    requests: int
    rows: int
    escalated: int
    escalation: float | None
    calls: int
    late: int
    comparisons: int
    avoided: int
    avoided_share: float | None
    away: int
    cpu_s: float
    edge_cpu_s: float
    cpu_s_per_answer: float | None
    edge_cpu_s_per_answer: float | None
    currency: str
    cost: float | None
    cost_comparisons: float | None
    cost_without: float | None
    saved_share: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "requests": self.requests,
            "answers": self.rows,
            "escalated": self.escalated,
            "escalationRate": _rounded(self.escalation),
            "cloudCalls": self.calls,
            "cloudCallsLate": self.late,
            "comparisons": self.comparisons,
            "cloudCallsAvoided": self.avoided,
            "cloudCallsAvoidedShare": _rounded(self.avoided_share),
            "answeredAway": self.away,
            "cpuSeconds": _rounded(self.cpu_s),
            "edgeCpuSeconds": _rounded(self.edge_cpu_s),
            "cpuSecondsPerAnswer": _rounded(self.cpu_s_per_answer, 9),
            "edgeCpuSecondsPerAnswer": _rounded(self.edge_cpu_s_per_answer, 9),
            "currency": self.currency,
            "costPerThousand": _rounded(self.cost, 9),
            "costOfComparisonsPerThousand": _rounded(self.cost_comparisons, 9),
            "costPerThousandWithoutEdge": _rounded(self.cost_without, 9),
            "savedShare": _rounded(self.saved_share),
        }


def economics(usage: Usage, cpu_s: float, prices: Prices | None = None) -> Economics:
    """Work it out. `cpu_s`: of the gateway's process (`process_cpu_s`), or of several together.

    Without the edge the gateway's own CPU is not needed either: clients would ask the larger model themselves. Requests that were
    answered while it was away would have failed without the edge; they count as calls there, and not as avoided.
    """
    prices = prices or Prices()
    rows, requests = usage.rows, usage.requests
    avoided = max(0, requests - usage.calls - usage.away)
    here = None if prices.edge_cpu_hour is None else cpu_s / 3600 * prices.edge_cpu_hour
    asked = _cloud(usage.calls + usage.late, usage.escalated + usage.late_rows, prices)
    compared = _cloud(usage.comparisons, usage.compared_rows, prices)
    without = _cloud(requests, rows, prices)
    cost = None if here is None or asked is None or compared is None else here + asked + compared
    saved = None if cost is None or not without else 1 - cost / without
    return Economics(
        requests=requests,
        rows=rows,
        escalated=usage.escalated,
        escalation=_per(usage.escalated, rows),
        calls=usage.calls + usage.late,
        late=usage.late,
        comparisons=usage.comparisons,
        avoided=avoided,
        avoided_share=_per(avoided, requests),
        away=usage.away,
        cpu_s=cpu_s,
        edge_cpu_s=usage.edge_cpu_s,
        cpu_s_per_answer=_per(cpu_s, rows),
        edge_cpu_s_per_answer=_per(usage.edge_cpu_s, rows),
        currency=prices.currency,
        cost=_per(cost, rows, 1000),
        cost_comparisons=_per(compared, rows, 1000),
        cost_without=_per(without, rows, 1000),
        saved_share=saved if rows else None,
    )


def table(found: Economics) -> list[tuple[str, str]]:
    """Return what `still edge status` prints of it: names and values, in their order. What is not known is left out."""
    money = f" {found.currency}" if found.currency else ""
    late = f", {found.late} of them late" if found.late else ""
    told = [
        ("answers", f"{found.rows}"),
        ("escalation rate", _text(found.escalation, "{:.1%}")),
        ("cloud calls", f"{found.calls}{late}" + (f" and {found.comparisons} to compare" if found.comparisons else "")),
        ("cloud calls avoided", f"{found.avoided}" + _text(found.avoided_share, " ({:.1%})")),
        ("answered while the cloud was away", f"{found.away}" if found.away else ""),
        ("CPU per thousand answers", _text(_times(found.cpu_s_per_answer, 1000), "{:.3g} s")),
        ("of it the edge's model", _text(_times(found.edge_cpu_s_per_answer, 1000), "{:.3g} s")),
        ("cost per thousand answers", _text(found.cost, "{:.4g}" + money)),
        ("of it comparisons", _text(found.cost_comparisons or None, "{:.4g}" + money)),
        ("without the edge", _text(found.cost_without, "{:.4g}" + money)),
        ("saved", _text(found.saved_share, "{:.1%}")),
    ]
    return [(name, value) for name, value in told if value]


def _cloud(calls: int, rows: int, prices: Prices) -> float | None:
    """Return what the larger model's work costs; None without a price of it."""
    by_cpu = prices.cloud_cpu_hour is not None and prices.cloud_cpu_s is not None
    if prices.cloud_call is None and not by_cpu:
        return None
    cost = calls * (prices.cloud_call or 0.0)
    return cost + rows * (prices.cloud_cpu_s or 0.0) / 3600 * (prices.cloud_cpu_hour or 0.0) if by_cpu else cost


def _per(value: float | None, n: int, times: int = 1) -> float | None:
    return None if value is None or not n else value * times / n


def _times(value: float | None, times: int) -> float | None:
    return None if value is None else value * times


def _text(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else round(value, digits)
