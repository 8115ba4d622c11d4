"""A pipeline whose steps are apart: to clients one model, behind it several, each with backends and scaling of its own.

It is one of `Service`'s `answering`, under the public name; no pool of a step is among the models that clients see. Tensors go
from one step's answer into the next one's request without being decoded. Steps that need nothing of each other run at the same
time; those that no asked output needs do not run. A cancelled call cancels what is under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.join.about import About
from stillhouse.edge.join.legs import Leg
from stillhouse.edge.join.steps import BASE, Order, PipelineSettings, StepSettings, order, reference
from stillhouse.edge.oip.carried import Carried, of_inputs, of_outputs, put_input, put_output
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.onward import left_of, onward
from stillhouse.edge.status import Code, Metadata, Refused, Reply, RpcError
from stillhouse.edge.wire.call import Call

__all__ = ["Pipeline"]

_INFER = f"/{SERVICE}/ModelInfer"
_REQUEST, _RESPONSE = message("ModelInferRequest"), message("ModelInferResponse")
_ORDERS = 256
_USUAL, _HOPELESS = 0.5, 0.1
_OURS = {Code.NOT_FOUND: Code.UNAVAILABLE, Code.UNIMPLEMENTED: Code.INTERNAL}
"""What a step says → what that is to a client, who asked for a model that there is."""


class Pipeline:
    """`legs`: name of each step → what answers for its model; the first model's is `base`. `clock`: seconds."""

    def __init__(self, settings: PipelineSettings, legs: Mapping[str, Leg], clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._legs, self._clock = dict(legs), clock
        self._took = {step.name: Quantiles(clock=clock) for step in settings.chain}
        self._names = frozenset(settings.outputs)
        self._orders: dict[frozenset[str], Order] = {}
        self._about = About(settings, self._legs)

    @property
    def ready(self) -> bool:
        """Return whether every step has somebody to answer for it."""
        return all(leg.ready for leg in self._legs.values())

    async def infer(self, call: Call, body: bytes) -> Reply:
        """Answer an inference.

        Raises:
            RpcError: as the first step that failed; the message names the step.
        """
        begun, rows, well = self._clock(), 0, False
        try:
            request = parsed(_REQUEST, body)
            given = self._given(request)
            rows = next((tensor.shape[0] for tensor in given.values() if tensor.shape), 1)
            left = left_of(call)
            reply = await self._infer(call, request, given, None if left is None else begun + left)
            well = True
        finally:
            self._about.count(rows, self._clock() - begun, well=well)
        return reply

    async def about(self, call: Call, body: bytes) -> Reply:
        """Answer `ModelReady`, `ModelMetadata`, `ModelConfig` and `ModelStatistics` as one model.

        Raises:
            RpcError: UNIMPLEMENTED; it is none of these. Else as a step's.
        """
        return await self._about.answer(call)

    def _given(self, request: Any) -> dict[str, Carried]:
        takes = self.settings.takes
        given = of_inputs(request)
        if set(given) != {takes}:
            found = ", ".join(sorted(given))[:200] or "none"
            raise RpcError(Code.INVALID_ARGUMENT, f"{self.settings.model} takes the tensor {takes}; the request has {found}")
        return {f"request.{takes}": given[takes]}

    def _order(self, request: Any) -> Order:
        wanted = frozenset(each.name for each in request.outputs)
        known = self._orders.get(wanted)
        if known is None:
            strange = sorted(wanted - self._names)
            if strange:
                raise RpcError(
                    Code.INVALID_ARGUMENT,
                    f"{self.settings.model} has no output {strange[0][:100]!r}; there is {', '.join(self.settings.outputs)}",
                )
            known = order(self.settings, wanted)
            if len(self._orders) < _ORDERS:
                self._orders[wanted] = known
        return known

    async def _infer(self, call: Call, request: Any, values: dict[str, Carried], deadline: float | None) -> Reply:
        plan, metadata = self._order(request), onward(call)
        response = _RESPONSE(model_name=self.settings.model, id=request.id)

        async def run(step: StepSettings, limit: float | None) -> None:
            began = self._clock()
            asked = plan.asked[step.name]
            answer = await self._ask(call, step, self._request(step, asked, request, values), metadata, limit)
            took = self._clock() - began
            self._took[step.name].add(took)
            self._take(step, asked, answer, request, values)
            prefix = "" if step.name == BASE else f"step.{step.name}."
            for key, value in answer.parameters.items():
                response.parameters[prefix + key].CopyFrom(value)
            response.parameters[f"step.{step.name}.ms"].double_param = took * 1000
            if step.name == BASE:
                response.model_version = answer.model_version

        for position, wave in enumerate(plan.waves):
            limit = self._limit(deadline, plan.waves[position:])
            if len(wave) == 1:
                await run(wave[0], limit)
            else:
                await _together([run(step, limit) for step in wave])
        wanted = frozenset(each.name for each in request.outputs)
        for step in self.settings.chain:
            for tensor, public in step.outputs.items():
                value = values.get(reference(step.name, tensor))
                if value is not None and (not wanted or public in wanted):
                    put_output(response, public, value)
        return Reply(response.SerializeToString())

    def _request(self, step: StepSettings, asked: tuple[str, ...], request: Any, values: Mapping[str, Carried]) -> bytes:
        made = _REQUEST(model_name=step.model, id=request.id, parameters=request.parameters)
        for name, source in step.inputs.items():
            put_input(made, name, values[source])
        if step.name != BASE or request.outputs:  # whoever names nothing gets of the model all that it has to say
            options = {each.name: each.parameters for each in request.outputs}
            for name in asked:
                made.outputs.add(name=name, parameters=options.get(step.outputs.get(name, ""), {}))
        body: bytes = made.SerializeToString()
        return body

    async def _ask(self, call: Call, step: StepSettings, body: bytes, metadata: Metadata, limit: float | None) -> Any:
        began = self._clock()
        try:
            async with asyncio.timeout(limit):
                reply = await self._legs[step.name].ask(call, _INFER, body, metadata, limit)
            return parsed(_RESPONSE, reply.message)
        except TimeoutError:
            self._took[step.name].add(self._clock() - began)
            text = f"step {step.name} ({step.model}) has not answered in its {(limit or 0.0) * 1000:.0f} ms"
            raise RpcError(Code.DEADLINE_EXCEEDED, text) from None
        except RpcError as error:
            raise self._named(step, error) from error

    def _named(self, step: StepSettings, error: RpcError) -> RpcError:
        """Return a step's error as the pipeline's. What one model makes for another cannot be the client's mistake."""
        code = _OURS.get(error.code, error.code)
        if code is Code.INVALID_ARGUMENT and not all(each.startswith("request.") for each in step.inputs.values()):
            code = Code.INTERNAL
        text = f"step {step.name} ({step.model}): {error.message}"
        return RpcError(code, text, error.trailing, ours=error.ours, pushback=error.pushback)

    def _take(self, step: StepSettings, asked: tuple[str, ...], answer: Any, request: Any, values: dict[str, Carried]) -> None:
        try:
            given = of_outputs(answer)
        except RpcError as error:
            raise RpcError(Code.INTERNAL, f"step {step.name} ({step.model}): {error.message}") from error
        used = {source for each in self.settings.steps for source in each.inputs.values()}
        named = {each.name for each in request.outputs}
        for name in asked:
            if name in given:
                values[reference(step.name, name)] = given[name]
            elif step.name != BASE or reference(BASE, name) in used or (name in named and name != _PROVENANCE):
                there = ", ".join(sorted(given))[:200] or "none"
                raise RpcError(Code.INTERNAL, f"step {step.name} ({step.model}) answers no tensor {name}; it has {there}")

    def _limit(self, deadline: float | None, waves: tuple[tuple[StepSettings, ...], ...]) -> float | None:
        """Return the seconds that the first of these waves may take, so that the others fit after it as they usually do.

        Raises:
            Refused: DEADLINE_EXCEEDED; what is left is less than they have ever taken of late, so that nobody is asked in vain.
        """
        if deadline is None:
            return None
        left = deadline - self._clock()
        left -= min(self.settings.margin_s, max(left, 0.0) / 2)
        least, usual = ([self._longest(wave, share) for wave in waves] for share in (_HOPELESS, _USUAL))
        if left <= sum(least):
            steps = ", ".join(step.name for wave in waves for step in wave)
            text = f"{max(left, 0.0) * 1000:.0f} ms are left for {steps}, which take at least {sum(least) * 1000:.0f} ms"
            raise Refused(Code.DEADLINE_EXCEEDED, text)
        limit = left - sum(usual[1:])
        return limit if limit > least[0] else left - sum(least[1:])

    def _longest(self, wave: tuple[StepSettings, ...], share: float) -> float:
        return max(self._took[step.name].quantile(share) or 0.0 for step in wave)


_PROVENANCE = "PROVENANCE"
"""A model answers it only where a request asks for it by a parameter, whatever outputs are named."""


async def _together(work: list[Any]) -> None:
    """Do all of it at once; the first error, or being cancelled, cancels the others, and is told when they have ended."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
