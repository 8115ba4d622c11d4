"""What a pipeline says of itself as one model: readiness, metadata, configuration, statistics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from stillhouse.edge.join.legs import Leg
from stillhouse.edge.join.steps import PipelineSettings, StepSettings
from stillhouse.edge.oip.configs import CONFIG, own
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.onward import left_of, onward
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.call import Call

__all__ = ["PLATFORM", "About"]

PLATFORM = "stillhouse_pipeline"


class About:
    """Asks the steps where that is needed. `legs` as of `Pipeline`."""

    def __init__(self, settings: PipelineSettings, legs: Mapping[str, Leg]) -> None:
        self._settings, self._legs = settings, legs
        self._rows = 0
        self._ended = {True: [0, 0], False: [0, 0]}
        """Whether a request went well → how many, and their nanoseconds."""

    def count(self, rows: int, seconds: float, *, well: bool) -> None:
        """Note an inference that ended."""
        ended = self._ended[well]
        ended[0] += 1
        ended[1] += round(seconds * 1e9)
        self._rows += rows if well else 0

    async def answer(self, call: Call) -> Reply:
        """Answer what is no inference.

        Raises:
            RpcError: UNIMPLEMENTED; a pipeline has none. Else as a step's.
        """
        name = call.method.rpartition("/")[2]
        match name:
            case "ModelReady":
                return await self._ready(call)
            case "ModelMetadata":
                return Reply((await self._metadata(call)).SerializeToString())
            case "ModelConfig":
                return await self._config(call)
            case "ModelStatistics":
                return self._statistics()
        steps = ", ".join(step.model for step in self._settings.chain)
        raise RpcError(Code.UNIMPLEMENTED, f"{self._settings.model} is a pipeline of {steps}, which has no {name} as a whole")

    async def _ready(self, call: Call) -> Reply:
        async def one(step: StepSettings) -> bool:
            try:
                return bool((await self._asked("ModelReady", step, call)).ready)
            except RpcError:
                return False

        ready = all(await asyncio.gather(*(one(step) for step in self._settings.chain)))
        return Reply(message("ModelReadyResponse")(ready=ready).SerializeToString())

    async def _config(self, call: Call) -> Reply:
        base, about = await asyncio.gather(self._asked("ModelConfig", self._settings.chain[0], call), self._metadata(call))
        return Reply(own(base.config, about).SerializeToString())

    async def _metadata(self, call: Call) -> Any:
        chain = self._settings.chain
        asked = [self._asked("ModelMetadata", step, call) for step in chain]
        base, *others = await asyncio.gather(*asked)
        found = message("ModelMetadataResponse")(
            name=self._settings.model, versions=base.versions, platform=PLATFORM, inputs=base.inputs
        )
        known = set(self._settings.outputs)
        found.outputs.extend(each for each in base.outputs if each.name in known)  # a leg may have more for itself
        for step, said in zip(chain[1:], others, strict=True):
            there = {each.name: each for each in said.outputs}
            for tensor, public in step.outputs.items():
                if tensor not in there:
                    text = f"step {step.name} ({step.model}) has no output {tensor}; there is {', '.join(sorted(there))}"
                    raise RpcError(Code.INTERNAL, text[:400])
                found.outputs.add(name=public, datatype=there[tensor].datatype, shape=there[tensor].shape)
        return found

    def _statistics(self) -> Reply:
        found = message("ModelStatisticsResponse")()
        stats = found.model_stats.add(name=self._settings.model, version="1")
        stats.inference_count, stats.execution_count = self._rows, self._ended[True][0]
        for well, told in ((True, stats.inference_stats.success), (False, stats.inference_stats.fail)):
            told.count, told.ns = self._ended[well]
        return Reply(found.SerializeToString())

    async def _asked(self, name: str, step: StepSettings, call: Call) -> Any:
        kinds = CONFIG.message if name == "ModelConfig" else message
        body = kinds(f"{name}Request")(name=step.model).SerializeToString()
        leg = self._legs[step.name]
        try:
            reply = await leg.ask(call, f"/{SERVICE}/{name}", body, onward(call), left_of(call))
        except RpcError as error:
            code = Code.UNAVAILABLE if error.code is Code.NOT_FOUND else error.code
            raise RpcError(code, f"step {step.name} ({step.model}): {error.message}") from error
        return parsed(kinds(f"{name}Response"), reply.message)
