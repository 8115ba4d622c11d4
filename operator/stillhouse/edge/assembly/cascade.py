"""A cascade: the stages, their breakers, the queue and who looks on."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stillhouse.edge.agreement.watch import Watch
from stillhouse.edge.assembly.models import engine
from stillhouse.edge.assembly.parts import Parts
from stillhouse.edge.assembly.servers import elsewhere, own, probe
from stillhouse.edge.assembly.watch import watch_of
from stillhouse.edge.away.breaker import BreakerState
from stillhouse.edge.away.records import Limits, QueueError
from stillhouse.edge.away.retries import HedgePolicy
from stillhouse.edge.cascade.away import AwaySettings, Way
from stillhouse.edge.cascade.cascade import Cascade
from stillhouse.edge.cascade.later import Later, LaterSettings
from stillhouse.edge.cascade.legs import Leg
from stillhouse.edge.cascade.observing import Observer
from stillhouse.edge.cascade.policy import Policy, load
from stillhouse.edge.cascade.remote import Remote, RemoteLeg
from stillhouse.edge.cascade.stages import CascadeSettings, Stage
from stillhouse.edge.config import Config
from stillhouse.edge.economics import Usage
from stillhouse.edge.sections import places
from stillhouse.edge.sections.beyond import Cascade as Given
from stillhouse.edge.sections.beyond import Queue
from stillhouse.edge.wire.call import Call
from stillhouse.errors import StoreError, UsageError
from stillhouse.inference.signature import Signature

__all__ = ["MIDDLE", "Built", "cascade_of"]

MIDDLE = "middle"
"""The leg between `edge` and `cloud`."""
_QUEUE_FILE = "queue.db"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Built:
    """A cascade and what stands beside it. `threshold`: the small model's; infinite: everything escalates."""

    cascade: Cascade
    threshold: float
    watch: Watch | None
    later: Later | None


async def cascade_of(config: Config, given: Given, usage: Usage, who: Callable[[Call], str], largest: int, parts: Parts) -> Built:
    """Build a cascade. `who` names a call's client; `largest`: bytes of a message.

    Raises:
        SourceError: the model or its cascade is damaged, or they do not belong together. StoreError: the queue cannot be opened.
        UsageError: as `_between` says.
    """
    policy, away, larger = load(given.folder, config.edge.digest), config.away, given.larger
    settings = AwaySettings(policy=away.policy, hedge=HedgePolicy() if away.hedge else None)
    first, signature = await _first(config, given, policy, usage, largest, parts)
    servers = await elsewhere(larger, largest, parts)
    cloud = RemoteLeg(
        Remote(larger.model, variant=larger.model, provenance=False),  # it may be any server
        servers,
        signature,
        index=policy.larger,
        ready=lambda: servers.ready,
        changes=lambda: servers.changes,
    )
    probe(larger, servers, parts, cloud.offers)
    way = Way(cloud, settings, on_change=_told(larger.model))
    between = await _between(given.middle, policy.middle, signature, settings, largest, parts)
    later = await _later(away.queue) if away.queue is not None and away.policy == "queue" else None
    watch = watch_of(config.agreement, given.folder, way, parts) if config.agreement is not None else None
    names = policy.edge.names if policy.edge is not None else ()
    cascade = Cascade(
        config.name,
        signature,
        [Stage(first, policy), *between, Stage(way, None)],
        CascadeSettings(unsure=given.outliers, away=settings),
        later=later,
        observer=Observer(usage, watch, cloud, labels=signature.labels, names=names, signature=signature, last=1 + len(between)),
        who=who,
    )
    if later is not None:
        later.start()
    parts.closing[:0] = [*([later.close] if later is not None else []), cascade.close]  # the courier uses the cascade's legs
    return Built(cascade, policy.threshold, watch, later)


async def _first(config: Config, given: Given, policy: Policy, usage: Usage, largest: int, parts: Parts) -> tuple[Leg, Signature]:
    """Return the small model, in this process or on servers, and what it looks like."""
    if isinstance(config.edge, places.Engine):
        here = engine(config.edge, policy.edge)
        here.usage = usage
        return here, here.signature
    signature = Signature.read(given.folder)  # it lies beside, for who has not the model itself
    pool = await own(config, largest, parts)
    there = RemoteLeg(
        Remote(config.name, variant=policy.variant, digest=policy.digest, checked=True),
        pool,
        signature,
        name="edge",
        index=policy.edge,
        ready=lambda: pool.ready,
        finite=False,
    )
    return there, signature


async def _between(
    given: places.Larger | None, policy: Policy | None, signature: Signature, settings: AwaySettings, largest: int, parts: Parts
) -> list[Stage]:
    """Return the stage between the small model and the larger one, if there is one that ever answers.

    Raises:
        UsageError: the artifact has such a model and nobody says where it is, or the other way round.
    """
    if (given is None) != (policy is None):
        raise UsageError(
            "the cascade's artifact and the configuration differ on the model between",
            field="cascade.middle",
            found="left out" if given is None else given.model,
            allowed="what the artifact was solved with",
            fix="still build FILE again, then start the gateway anew",
        )
    if given is None or policy is None or math.isinf(policy.threshold):  # what never answers is not asked
        return []
    pool = await elsewhere(given, largest, parts)
    remote = Remote(given.model, variant=policy.variant, digest=policy.digest, provenance=False)
    leg = RemoteLeg(remote, pool, signature, name=MIDDLE, ready=lambda: pool.ready, finite=False)
    probe(given, pool, parts, leg.offers)
    return [Stage(Way(leg, settings, on_change=_told(given.model)), policy)]


async def _later(given: Queue) -> Later:
    try:
        given.folder.mkdir(parents=True, exist_ok=True)
        limits = Limits(bytes=given.maxSize, age=given.maxAge, keep=given.maxAge)
        return await Later.open(LaterSettings(given.folder / _QUEUE_FILE, limits))
    except (OSError, QueueError) as error:
        raise StoreError(
            "the queue cannot be opened",
            field="away.queue.folder",
            found=f"{given.folder}: {error}",
            fix="a queue has one gateway; give another one a folder of its own",
        ) from error


def _told(model: str) -> Callable[[Any, Any], None]:
    def change(old: Any, new: Any) -> None:
        level = logging.WARNING if new is BreakerState.OPEN else logging.INFO
        _log.log(level, "the model %s: breaker %s, was %s", model, new.value, old.value)

    return change
