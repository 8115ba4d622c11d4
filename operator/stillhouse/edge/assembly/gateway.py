"""A gateway from its configuration: who answers, and what it tells of itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from stillhouse.edge.agreement.exposed import Exposed
from stillhouse.edge.assembly.cascade import Built, cascade_of
from stillhouse.edge.assembly.models import alone
from stillhouse.edge.assembly.parts import Parts
from stillhouse.edge.cascade.away import Way
from stillhouse.edge.cascade.figures import Figures, families
from stillhouse.edge.config import Config
from stillhouse.edge.economics import Economics, Prices, Usage, economics, process_cpu_s
from stillhouse.edge.report import Served, report
from stillhouse.edge.wire.call import Call

__all__ = ["assemble"]


async def assemble(config: Config, who: Callable[[Call], str], largest: int) -> Parts:
    """Build what the configuration asks for. `who` names a call's client; `largest`: bytes of a message.

    Raises:
        SourceError: the model or its cascade is damaged, or they do not belong together. StoreError: the queue cannot be opened.
        StillhouseError: as the parts say.
    """
    parts, usage, begun = Parts(), Usage(), time.monotonic()
    built: Built | None = None
    ways: tuple[Way, ...] = ()
    if config.cascade is None or config.pipeline is not None:
        figures = await alone(config, usage, largest, parts)
    else:
        built = await cascade_of(config, config.cascade, usage, who, largest, parts)
        parts.answering[config.name] = built.cascade
        figures, ways = built.cascade.figures, built.cascade.ways
    start_cpu_s = process_cpu_s()  # loading and warming up are no answers
    prices = config.prices
    costs = Prices(prices.currency, prices.cpuHour, prices.cloudCall) if prices else None

    def spent() -> Economics:
        return economics(usage, process_cpu_s() - start_cpu_s, costs)

    parts.metrics.append(Exposed(spent, built.watch if built is not None else None))
    if figures is not None:
        parts.metrics.append(_Families(config.name, figures, ways))
    threshold = built.threshold if built is not None and math.isfinite(built.threshold) else None  # JSON has no infinity
    served = Served(config.name, config.edge.variant, config.edge.digest, threshold, config.away.policy)

    def status() -> dict[str, Any]:
        return report(
            served,
            uptime_s=time.monotonic() - begun,
            economics=spent(),
            breakers={way.name: way.breaker.snapshot() for way in ways},
            queue=built.later.queue.stand() if built is not None and built.later is not None else None,
            agreement=built.watch.observed() if built is not None and built.watch is not None else None,
            brokers=parts.brokers.seen(),
            larger=parts.probes[0].to_json() if parts.probes else None,
            labels=built.cascade.larger if built is not None else None,
            served_digest=built.cascade.served if built is not None else None,
        )

    parts.status = status
    return parts


class _Families(Collector):
    """The metrics of a cascade."""

    def __init__(self, model: str, figures: Figures, ways: tuple[Way, ...]) -> None:
        self._cascades = {model: (figures, ways)}

    def collect(self) -> Iterable[Metric]:
        return families(self._cascades)
