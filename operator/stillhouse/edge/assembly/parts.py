"""What a gateway is made of, before it has doors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.registry import Collector

from stillhouse.edge.answering import Answering
from stillhouse.edge.mqtt.joined import Senders
from stillhouse.edge.probing import Probe
from stillhouse.edge.route.pool import Pool

__all__ = ["Parts"]


@dataclass(slots=True)
class Parts:
    """A gateway without its doors.

    `pools` and `answering`: models by name. `tasks` run beside the requests; `closing` end the parts, in their order. `metrics`:
    beside the doors' own. `status`: gives the document of `/status`. `texts`: which inputs are texts, None where the guard may
    think so of all BYTES. `probes`: of larger models.
    """

    pools: dict[str, Pool] = field(default_factory=dict)
    answering: dict[str, Answering] = field(default_factory=dict)
    tasks: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    metrics: list[Collector] = field(default_factory=list)
    status: Callable[[], dict[str, Any]] | None = None
    texts: tuple[str, ...] | None = None
    brokers: Senders = field(default_factory=Senders)
    probes: list[Probe] = field(default_factory=list)
