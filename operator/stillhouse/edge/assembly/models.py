"""Models that are asked without a larger one behind them: in this process, with their steps, cut, or the steps alone."""

from __future__ import annotations

from pathlib import Path

from stillhouse.edge.answering import Answering
from stillhouse.edge.assembly.parts import Parts
from stillhouse.edge.assembly.servers import elsewhere, own, probe
from stillhouse.edge.cascade.engine import EngineLeg, EngineSettings
from stillhouse.edge.cascade.figures import Figures
from stillhouse.edge.cascade.search import Index
from stillhouse.edge.cascade.solo import Solo
from stillhouse.edge.config import Config
from stillhouse.edge.cut import CutLeg, CutSettings
from stillhouse.edge.economics import Usage
from stillhouse.edge.join.here import StepHere
from stillhouse.edge.join.legs import Here, Leg, There
from stillhouse.edge.join.pipeline import Pipeline
from stillhouse.edge.join.steps import BASE, PipelineSettings, StepSettings
from stillhouse.edge.preprocessed import Preprocessed
from stillhouse.edge.sections import beyond, places
from stillhouse.inference.signature import Signature
from stillhouse.inference.steps import ends_of, read_steps

__all__ = ["alone", "engine"]


async def alone(config: Config, usage: Usage, largest: int, parts: Parts) -> Figures | None:
    """Add who answers to `parts`; return its figures, None where others count. `largest`: bytes of a message.

    Raises:
        SourceError: the model is damaged. StillhouseError: as the parts say.
    """
    name, edge = config.name, config.edge
    if config.pipeline is not None:
        parts.answering[name] = await _pipeline(config, config.pipeline, usage, largest, parts)
        return None
    if isinstance(edge, places.Steps):
        assert config.preprocess is not None
        steps = await _preprocessed(name, edge, config.preprocess, usage, largest, parts)
        parts.answering[name], parts.texts = steps, steps.texts
        return None
    if isinstance(edge, places.Lower):
        assert config.cut is not None
        solo = Solo(name, await _lower(edge, config.cut, usage, largest, parts), usage=usage)
        parts.answering[name] = solo
        parts.closing.insert(0, solo.close)
        return solo.figures
    if isinstance(edge, places.Engine):
        leg = engine(edge)
        leg.usage = usage
        solo = Solo(name, leg, usage=usage)
        parts.answering[name] = _with_steps(name, solo, leg.signature, edge.folder, parts)
        parts.closing.append(solo.close)
        return solo.figures
    parts.pools[name] = await own(config, largest, parts)
    return None


def engine(given: places.Engine, index: Index | None = None) -> EngineLeg:
    """Load a model into this process; `index`: of a cascade that searches."""
    leg = EngineLeg(given.folder, given.digest, EngineSettings(variant=given.variant, threads=given.threads), index=index)
    leg.warm_up()
    return leg


async def _pipeline(config: Config, given: beyond.Pipeline, usage: Usage, largest: int, parts: Parts) -> Pipeline:
    """Build a pipeline. Its steps' models are among no models that clients see."""
    base: Leg
    if isinstance(config.edge, places.Engine):
        solo = Solo(config.name, engine(config.edge), usage=usage)
        parts.closing.append(solo.close)
        base = Here(solo)
    else:
        base = There(await own(config, largest, parts))
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
    legs: dict[str, Leg] = {BASE: Here(model)}
    for step in steps:
        legs[step.name] = here = StepHere(folder, step)
        parts.closing.append(here.close)
    ends = ends_of(signature)
    takes = next(each.name for source, each in ends.items() if source.startswith("request."))
    says = (*(source for source in ends if not source.startswith("request.")), "PROVENANCE")
    chain = tuple(StepSettings(step.name, step.name, step.inputs, step.outputs) for step in steps)
    return Pipeline(PipelineSettings(name, takes, says, chain), legs)


async def _preprocessed(
    name: str, edge: places.Steps, given: beyond.Preprocess, usage: Usage, largest: int, parts: Parts
) -> Preprocessed:
    larger = given.larger
    pool = await elsewhere(larger, largest, parts)
    probe(larger, pool, parts)
    return Preprocessed(name, larger.model, edge.folder, given.encoding, There(pool), usage, frozenset(edge.allowed))


async def _lower(edge: places.Lower, given: beyond.Cut, usage: Usage, largest: int, parts: Parts) -> CutLeg:
    pool = await elsewhere(given.upper, largest, parts)
    probe(given.upper, pool, parts)
    settings = CutSettings(given.upper.model, edge.variant, edge.threads)
    leg = CutLeg(edge.folder, edge.digest, settings, pool, ready=lambda: pool.ready)
    leg.warm_up()
    leg.usage = usage
    return leg
