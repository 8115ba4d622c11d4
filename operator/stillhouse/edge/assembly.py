"""From a configuration to the parts of a gateway: legs, cascade, queue, watch. What each is for stands with it."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from stillhouse.edge.agreement.collecting import Collector as Samples
from stillhouse.edge.agreement.exposed import Exposed
from stillhouse.edge.agreement.settings import Bounds, Collecting, Expected, Sampling
from stillhouse.edge.agreement.settings import Settings as WatchSettings
from stillhouse.edge.agreement.watch import Watch
from stillhouse.edge.away.breaker import BreakerState
from stillhouse.edge.away.records import Limits as QueueLimits
from stillhouse.edge.away.records import QueueError
from stillhouse.edge.away.retries import HedgePolicy
from stillhouse.edge.cascade.away import AwaySettings, Way
from stillhouse.edge.cascade.cascade import Cascade, CascadeSettings, Stage
from stillhouse.edge.cascade.engine import EngineLeg, EngineSettings
from stillhouse.edge.cascade.figures import Figures, families
from stillhouse.edge.cascade.later import Later, LaterSettings
from stillhouse.edge.cascade.legs import Leg
from stillhouse.edge.cascade.observing import Observer
from stillhouse.edge.cascade.policy import CASCADE_FILE, Policy, load
from stillhouse.edge.cascade.remote import Remote, RemoteLeg
from stillhouse.edge.cascade.solo import Solo
from stillhouse.edge.certificates import Shown, towards
from stillhouse.edge.config import Config
from stillhouse.edge.cut import CutLeg, CutSettings
from stillhouse.edge.economics import Prices, Usage, economics, process_cpu_s
from stillhouse.edge.join.here import StepHere
from stillhouse.edge.join.legs import Here, There
from stillhouse.edge.join.legs import Leg as JoinLeg
from stillhouse.edge.join.pipeline import Pipeline
from stillhouse.edge.join.steps import BASE, PipelineSettings, StepSettings
from stillhouse.edge.mqtt.joined import Senders
from stillhouse.edge.preprocessed import Preprocessed
from stillhouse.edge.probing import Probe
from stillhouse.edge.report import Served, report
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.sections import beyond as sections
from stillhouse.edge.sections import places
from stillhouse.edge.sections.watching import Agreement
from stillhouse.edge.service import Answering
from stillhouse.edge.watching import Api, Watcher
from stillhouse.edge.wire.call import Call
from stillhouse.edge.wire.client import Channel
from stillhouse.errors import StoreError, UsageError
from stillhouse.inference.drift import Reference
from stillhouse.inference.signature import Signature
from stillhouse.inference.steps import ends_of, read_steps

__all__ = ["Parts", "assemble", "elsewhere"]

_QUEUE_FILE = "queue.db"
MIDDLE = "middle"
"""The leg between `edge` and `cloud`."""
_log = logging.getLogger(__name__)


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


async def assemble(config: Config, who: Callable[[Call], str], largest: int) -> Parts:
    """Build what the configuration asks for. `who` names a call's client; `largest`: bytes of a message.

    Raises:
        SourceError: the model or its cascade is damaged, or they do not belong together. StoreError: the queue cannot be opened.
        StillhouseError: as the parts say.
    """
    parts, usage, begun = Parts(), Usage(), time.monotonic()
    figures: Figures | None = None
    ways: tuple[Way, ...] = ()
    watch: Watch | None = None
    later: Later | None = None
    cascade: Cascade | None = None
    variant, digest, threshold = config.edge.variant, config.edge.digest, None
    if config.pipeline is not None:
        parts.answering[config.name] = await _pipeline(config, config.pipeline, usage, largest, parts)
    elif config.preprocess is not None:
        assert isinstance(config.edge, places.Steps)
        steps = await _preprocessed(config.name, config.edge, config.preprocess, usage, largest, parts)
        parts.answering[config.name], parts.texts = steps, steps.texts
    elif config.cut is not None:
        assert isinstance(config.edge, places.Lower)
        solo = Solo(config.name, await _lower(config.edge, config.cut, usage, largest, parts), usage=usage)
        parts.answering[config.name], figures = solo, solo.figures
        parts.closing.insert(0, solo.close)
    elif config.cascade is None:
        if isinstance(config.edge, places.Engine):
            leg = _engine(config.edge, None)
            leg.usage = usage
            solo = Solo(config.name, leg, usage=usage)
            parts.answering[config.name] = _with_steps(config.name, solo, leg.signature, config.edge.folder, parts)
            parts.closing.append(solo.close)
            figures = solo.figures
        else:
            parts.pools[config.name] = await _pool(_servers(config), None, largest, parts)
    else:
        policy = load(config.cascade.folder, config.edge.digest)
        threshold = policy.threshold if math.isfinite(policy.threshold) else None  # JSON has no infinity
        cascade, watch, later = await _cascade(config, config.cascade, policy, usage, who, largest, parts)
        parts.answering[config.name] = cascade
        figures, ways = cascade.figures, cascade.ways
    prices = config.prices
    costs = Prices(prices.currency, prices.cpuHour, prices.cloudCall) if prices else None
    start_cpu_s = process_cpu_s()  # loading and warming up are no answers
    parts.metrics.append(Exposed(lambda: economics(usage, process_cpu_s() - start_cpu_s, costs), watch))
    if figures is not None:
        parts.metrics.append(_Families(config.name, figures, ways))

    def status() -> dict[str, Any]:
        stand = later.queue.stand() if later is not None else None
        return report(
            Served(config.name, variant, digest, threshold, config.away.policy),
            uptime_s=time.monotonic() - begun,
            economics=economics(usage, process_cpu_s() - start_cpu_s, costs),
            breakers={way.name: way.breaker.snapshot() for way in ways},
            queue=stand,
            agreement=watch.observed() if watch is not None else None,
            brokers=parts.brokers.seen(),
            larger=parts.probes[0].to_json() if parts.probes else None,
            labels=cascade.larger if cascade is not None else None,
            served_digest=cascade.served if cascade is not None else None,
        )

    parts.status = status
    return parts


class _Families(Collector):
    """The metrics of a cascade."""

    def __init__(self, model: str, figures: Figures, ways: tuple[Way, ...]) -> None:
        self._cascades = {model: (figures, ways)}

    def collect(self) -> Iterable[Metric]:
        return families(self._cascades)


async def _cascade(
    config: Config,
    given: sections.Cascade,
    policy: Policy,
    usage: Usage,
    who: Callable[[Call], str],
    largest: int,
    parts: Parts,
) -> tuple[Cascade, Watch | None, Later | None]:
    away = config.away
    settings = AwaySettings(policy=away.policy, hedge=HedgePolicy() if away.hedge else None)
    first: Leg
    if isinstance(config.edge, places.Engine):
        engine = _engine(config.edge, policy)
        engine.usage = usage
        signature = engine.signature
        first = engine
    else:
        signature = Signature.read(given.folder)  # it lies beside, for who has not the model itself
        pool = await _pool(_servers(config), None, largest, parts)
        first = RemoteLeg(
            Remote(config.name, variant=policy.variant, digest=policy.digest, checked=True),
            pool,
            signature,
            name="edge",
            index=policy.edge,
            ready=lambda: pool.ready,
            finite=False,
        )
    larger = given.larger
    beyond = await elsewhere(larger, largest, parts)
    cloud = RemoteLeg(
        Remote(larger.model, variant=larger.model, provenance=False),  # it may be any server
        beyond,
        signature,
        index=policy.larger,
        ready=lambda: beyond.ready,
        changes=lambda: beyond.changes,
    )
    _probe(larger, beyond, parts, cloud.offers)
    way = Way(cloud, settings, on_change=_told(larger.model))
    between = await _between(given.middle, policy.middle, signature, settings, largest, parts)
    later = await _later(away.queue) if away.queue is not None and away.policy == "queue" else None
    watch = _watch(config.agreement, given.folder, way, parts) if config.agreement is not None else None
    names = policy.edge.names if policy.edge is not None else ()
    cascade = Cascade(
        config.name,
        signature,
        [Stage(first, policy), *between, Stage(way, None)],
        CascadeSettings(unsure=given.outliers, away=settings),
        later=later,
        observer=Observer(usage, watch, cloud, labels=signature.labels, names=names, last=1 + len(between)),
        who=who,
    )
    if later is not None:
        later.start()
    parts.closing[:0] = [*([later.close] if later is not None else []), cascade.close]  # the courier uses the cascade's legs
    return cascade, watch, later


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
    _probe(given, pool, parts, leg.offers)
    return [Stage(Way(leg, settings, on_change=_told(given.model)), policy)]


async def _pipeline(config: Config, given: sections.Pipeline, usage: Usage, largest: int, parts: Parts) -> Pipeline:
    """Build a pipeline. Its steps' models are among no models that clients see."""
    base: JoinLeg
    if isinstance(config.edge, places.Engine):
        solo = Solo(config.name, _engine(config.edge, None), usage=usage)
        parts.closing.append(solo.close)
        base = Here(solo)
    else:
        base = There(await _pool(_servers(config), None, largest, parts))
    legs = {BASE: base}
    for step in given.steps:
        legs[step.name] = There(await elsewhere(step.at, largest, parts))
    steps = tuple(StepSettings(step.name, step.at.model, step.inputs, step.outputs) for step in given.steps)
    return Pipeline(PipelineSettings(config.name, given.takes, given.says, steps), legs)


def _with_steps(name: str, model: Solo, signature: Signature, folder: Path, parts: Parts) -> Answering:
    """Put the steps that its artifact has after a model: here they are in this process, as in Triton in its ensemble."""
    steps = read_steps(folder)
    if not steps:
        return model
    legs: dict[str, JoinLeg] = {BASE: Here(model)}
    for step in steps:
        legs[step.name] = here = StepHere(folder, step)
        parts.closing.append(here.close)
    ends = ends_of(signature)
    takes = next(each.name for source, each in ends.items() if source.startswith("request."))
    says = (*(source for source in ends if not source.startswith("request.")), "PROVENANCE")
    chain = tuple(StepSettings(step.name, step.name, step.inputs, step.outputs) for step in steps)
    return Pipeline(PipelineSettings(name, takes, says, chain), legs)


async def _preprocessed(
    name: str, edge: places.Steps, given: sections.Preprocess, usage: Usage, largest: int, parts: Parts
) -> Preprocessed:
    larger = given.larger
    pool = await elsewhere(larger, largest, parts)
    _probe(larger, pool, parts)
    return Preprocessed(name, larger.model, edge.folder, given.encoding, There(pool), usage, frozenset(edge.allowed))


async def _lower(edge: places.Lower, given: sections.Cut, usage: Usage, largest: int, parts: Parts) -> CutLeg:
    pool = await elsewhere(given.upper, largest, parts)
    _probe(given.upper, pool, parts)
    settings = CutSettings(given.upper.model, edge.variant, edge.threads)
    leg = CutLeg(edge.folder, edge.digest, settings, pool, ready=lambda: pool.ready)
    leg.warm_up()
    leg.usage = usage
    return leg


def _servers(config: Config) -> places.Backends | places.Slices:
    assert isinstance(config.edge, places.Backends | places.Slices)
    return config.edge


def _engine(given: places.Engine, policy: Policy | None) -> EngineLeg:
    settings = EngineSettings(variant=given.variant, threads=given.threads)
    leg = EngineLeg(given.folder, given.digest, settings, index=policy.edge if policy is not None else None)
    leg.warm_up()
    return leg


async def _pool(
    given: places.Backends | places.Slices | places.LargerBackends | places.LargerSlices,
    tls: ssl.SSLContext | None,
    largest: int,
    parts: Parts,
) -> Pool:
    far = given if isinstance(given, places.LargerBackends | places.LargerSlices) else None
    token = Shown(far.token) if far is not None and far.token is not None else None
    name = far.serverName if far is not None else ""
    pool = Pool(lambda address: Channel(address, tls=tls, server_name=name, largest=largest, token=token))
    if isinstance(given, places.Backends | places.LargerBackends):
        pool.update(given.backends)
    else:
        watcher = Watcher(Api.of_pod(), given.namespace, given.service, given.port, pool.update)
        await watcher.begin()
        parts.tasks.append(watcher.run)
    parts.closing.append(pool.close)
    return pool


async def elsewhere(given: places.LargerBackends | places.LargerSlices | places.LargerMqtt, largest: int, parts: Parts) -> Pool:
    """Return the servers of a model that is elsewhere."""
    if isinstance(given, places.LargerMqtt):
        pool = parts.brokers.pool_over(given, largest)
        parts.closing.append(pool.close)
        return pool
    return await _pool(given, towards(given.authority, None) if given.tls else None, largest, parts)


def _probe(
    given: places.LargerBackends | places.LargerSlices | places.LargerMqtt,
    pool: Pool,
    parts: Parts,
    found: Callable[[set[str]], None] = lambda outputs: None,
) -> None:
    if isinstance(given, places.LargerMqtt):
        return  # inferences alone travel there
    probe = Probe(given.model, pool, found)
    parts.probes.append(probe)
    parts.tasks.append(probe.run)


async def _later(given: sections.Queue) -> Later:
    try:
        given.folder.mkdir(parents=True, exist_ok=True)
        limits = QueueLimits(bytes=given.maxSize, age=given.maxAge, keep=given.maxAge)
        return await Later.open(LaterSettings(given.folder / _QUEUE_FILE, limits))
    except (OSError, QueueError) as error:
        raise StoreError(
            "the queue cannot be opened",
            field="away.queue.folder",
            found=f"{given.folder}: {error}",
            fix="a queue has one gateway; give another one a folder of its own",
        ) from error


def _watch(given: Agreement, folder: Path, way: Way, parts: Parts) -> Watch:
    artifact = json.loads((folder / CASCADE_FILE).read_bytes())
    collecting = Collecting(given.collect.folder, given.collect.maxSize) if given.collect is not None else None
    collector = None
    if collecting is not None:
        collector = Samples(collecting, lambda text: text)  # the guard has masked before
    point = (artifact.get("verified") or artifact["solved"])["point"]
    watch = Watch(
        WatchSettings(Sampling(share=given.sample), Bounds(agreement=given.minAgreement, psi=given.maxDrift), collecting),
        now=asyncio.get_running_loop().time,
        reference=Reference.from_json(artifact["confidences"]) if artifact.get("confidences") else None,
        expected=Expected.of_point(point),
        held=lambda: way.breaker.state is not BreakerState.CLOSED,
        collector=collector,
        on_change=lambda verdict: _log.warning("agreement: %s", json.dumps(verdict.to_json())),
    )
    parts.tasks.append(watch.run)
    return watch


def _told(model: str) -> Callable[[Any, Any], None]:
    def change(old: Any, new: Any) -> None:
        level = logging.WARNING if new is BreakerState.OPEN else logging.INFO
        _log.log(level, "the model %s: breaker %s, was %s", model, new.value, old.value)

    return change
