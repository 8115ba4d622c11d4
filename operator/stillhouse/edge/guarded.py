"""A model behind the guard: its requests are checked, masked or refused before it sees them, and what became of them is recorded.

The checks are of `guard`, which knows neither tensors nor messages; here is what joins them to the protocol. Bodies are read once
more by the model: a guard costs a parse, and nothing is checked that is not what is then read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stillhouse.edge.guard.audit.inputs import Inputs
from stillhouse.edge.guard.audit.log import AuditLog
from stillhouse.edge.guard.patterns import Patterns
from stillhouse.edge.guard.refusals import Refusal, invalid
from stillhouse.edge.guard.shapes import Bounds, Input, Model, Request, Tensor, check
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import packed_bytes
from stillhouse.edge.service import Answering
from stillhouse.edge.status import Code, Refused, Reply, RpcError
from stillhouse.edge.wire.call import Call
from stillhouse.inference.signature import Signature

__all__ = ["Audited", "Forwarded", "GuardMetrics", "Guarded", "Screen", "model_of_signature"]

_REQUEST, _RESPONSE = message("ModelInferRequest"), message("ModelInferResponse")
_TYPED = (
    "bool_contents", "int_contents", "int64_contents", "uint_contents", "uint64_contents", "fp32_contents", "fp64_contents",
)  # fmt: skip
_TOLD = ("leg", "variant", "digest", "confidence", "threshold", "escalated", "away", "outlier")
"""Parameters of an answer that its record repeats."""
_log = logging.getLogger(__name__)


def model_of_signature(signature: Signature, most_rows: int) -> Model:
    """Return what requests to one of our models may have: docs/wire-contract.md."""
    image = signature.image
    if image is None:
        return Model([Input("TEXT", "BYTES", (-1, 1), text=True)], most_rows)
    return Model([Input("IMAGE", "FP32", (-1, image.channels, image.height, image.width))], most_rows)


class Screen:
    """What requests to a model may hold. `masked` counts places by pattern, `refused` requests by the field that was wrong."""

    def __init__(self, model: Model, bounds: Bounds, patterns: Patterns | None = None) -> None:
        self._model, self._bounds, self._patterns = model, bounds, patterns
        self.masked: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def checked(self, body: bytes) -> tuple[bytes, Mapping[str, Sequence[bytes]]]:
        """Return the request as it may go on, and the elements of its BYTES inputs as they came.

        Raises:
            RpcError: INVALID_ARGUMENT; it is no request. Refused: what is wrong with it.
        """
        request = parsed(_REQUEST, body)
        found = check(_plain(request, len(body)), self._model, self._bounds)
        if isinstance(found, Refusal):
            raise self._refuse(found)
        if self._patterns is None or not found:
            return body, found
        changed: dict[str, list[bytes]] = {}
        for name, elements in found.items():
            texts = [self._screened(element, name) for element in elements]
            if any(one is not other for one, other in zip(texts, elements, strict=True)):
                changed[name] = texts
        return (_rewritten(request, changed) if changed else body), found

    def _screened(self, element: bytes, name: str) -> bytes:
        assert self._patterns is not None
        try:
            text = element.decode()
        except UnicodeDecodeError:
            raise self._refuse(invalid(name, "the text is no UTF-8")) from None
        screened = self._patterns.screen(text, name)
        if isinstance(screened, Refusal):
            raise self._refuse(screened)
        if not screened.masked:
            return element
        self.masked.update(screened.masked)
        return screened.text.encode()

    def _refuse(self, refusal: Refusal) -> Refused:
        # Positions are the client's; without them there are as many names as there are fields of a request.
        self.refused[refusal.problem.field.partition("[")[0]] += 1
        return Refused(Code[refusal.status], str(refusal))


class Audited:
    """Records inferences. `required`: no answer without a record. `log` None: it could not be opened, and need not be.

    A record has the client, the model, how it ended, what the answer says of itself, and of each input how long it is and its
    digest.
    """

    def __init__(self, log: AuditLog | None, inputs: Inputs, *, required: bool) -> None:
        self.log, self._inputs, self._required = log, inputs, required
        self.records = self.lost = 0

    def record(
        self, client: str, model: str, code: Code, elements: Mapping[str, Sequence[bytes]], size: int, answer: Any = None
    ) -> None:
        """Record how an inference ended.

        Raises:
            Refused: UNAVAILABLE; it must be recorded and cannot.
        """
        told = (
            {name: _value(answer.parameters[name]) for name in _TOLD if name in answer.parameters} if answer is not None else {}
        )
        data = {
            "client": client,
            "model": model,
            "code": code.name,
            "bytes": size,
            "inputs": {name: [self._inputs.describe({"": each})[""] for each in values] for name, values in elements.items()},
            **{name: value for name, value in told.items() if not isinstance(value, float) or math.isfinite(value)},
        }
        refusal = self.log.record("inference", data) if self.log is not None else None
        if self.log is None or refusal is not None:
            self.lost += 1
            if self._required:
                raise Refused(Code.UNAVAILABLE, str(refusal) if refusal is not None else "the audit log is not there")
            return
        self.records += 1

    async def close(self) -> None:
        """Write what waits."""
        if self.log is not None:
            left = await asyncio.to_thread(self.log.close)
            if left:
                _log.error("%d records of the audit log could not be written", left)


class Guarded:
    """A model (`service.Answering`) behind a screen and an audit log; either may be None. `who` names a call's client."""

    def __init__(
        self, name: str, model: Answering, screen: Screen | None, audit: Audited | None, who: Callable[[Call], str]
    ) -> None:
        self._name, self._model, self._screen, self._audit, self._who = name, model, screen, audit, who

    @property
    def ready(self) -> bool:
        """Return whether the model can answer."""
        return self._model.ready

    async def about(self, call: Call, body: bytes) -> Reply:
        """Answer what is asked of the model itself."""
        return await self._model.about(call, body)

    async def infer(self, call: Call, body: bytes) -> Reply:
        """Answer an inference.

        Raises:
            Refused: INVALID_ARGUMENT, the screen; UNAVAILABLE, the audit log. RpcError: as of the model.
        """
        elements: Mapping[str, Sequence[bytes]] = {}
        audit, size = self._audit, len(body)
        try:
            if self._screen is not None:
                body, elements = self._screen.checked(body)
            elif audit is not None:
                elements = _elements(body)
            reply = await self._model.infer(call, body)
        except RpcError as error:
            if audit is not None:
                with contextlib.suppress(Refused):  # what is told is why the request was refused
                    audit.record(self._who(call), self._name, error.code, elements, size)
            raise
        if audit is not None:
            audit.record(self._who(call), self._name, Code.OK, elements, size, _RESPONSE.FromString(reply.message))
        return reply


class GuardMetrics(Collector):
    """The guard's figures, for Prometheus."""

    def __init__(self, model: str, screen: Screen | None, audit: Audited | None) -> None:
        self._model, self._screen, self._audit = model, screen, audit

    def collect(self) -> Iterable[Metric]:
        """Yield what `prometheus_client` asks for."""
        if self._screen is not None:
            refused = CounterMetricFamily("stillhouse_guard_refused", "Requests refused.", labels=["model", "field"])
            for field, count in sorted(self._screen.refused.items()):
                refused.add_metric([self._model, field], count)
            masked = CounterMetricFamily("stillhouse_guard_masked", "Places masked in texts.", labels=["model", "pattern"])
            for pattern, count in sorted(self._screen.masked.items()):
                masked.add_metric([self._model, pattern], count)
            yield from (refused, masked)
        if self._audit is not None:
            records = CounterMetricFamily("stillhouse_audit_records", "Records of the audit log.")
            records.add_metric([], self._audit.records)
            lost = CounterMetricFamily("stillhouse_audit_lost", "Inferences without a record.")
            lost.add_metric([], self._audit.lost + (self._audit.log.dropped if self._audit.log is not None else 0))
            waiting = GaugeMetricFamily("stillhouse_audit_waiting", "Records that are not on the disk yet.")
            waiting.add_metric([], self._audit.log.waiting if self._audit.log is not None else 0)
            yield from (records, lost, waiting)


class Forwarded:
    """A model of a pool as something that answers: for a guard before it. `send` sends a method's body on."""

    def __init__(self, ready: Callable[[], bool], send: Callable[[Call, bytes], Awaitable[Reply]]) -> None:
        self._ready, self._send = ready, send

    @property
    def ready(self) -> bool:
        """Return whether there is a backend."""
        return self._ready()

    async def infer(self, call: Call, body: bytes) -> Reply:
        """Send an inference on."""
        return await self._send(call, body)

    async def about(self, call: Call, body: bytes) -> Reply:
        """Send a question about the model on."""
        return await self._send(call, body)


def _plain(request: Any, size: int) -> Request:
    raws = request.raw_input_contents
    tensors = []
    for position, each in enumerate(request.inputs):
        raw = raws[position] if raws and position < len(raws) else None
        contents = each.contents
        count = sum(len(getattr(contents, name)) for name in _TYPED) if each.HasField("contents") else None
        strings = list(contents.bytes_contents) if each.HasField("contents") else None
        tensors.append(
            Tensor(
                each.name,
                each.datatype,
                tuple(each.shape),
                None if raw is None else len(raw),
                raw,
                count or None,
                strings if strings or raw is None else None,
            )
        )
    return Request(size, tensors, len(raws))


def _rewritten(request: Any, changed: Mapping[str, list[bytes]]) -> bytes:
    """Return the request with other elements in some inputs; in the form that it had."""
    for position, each in enumerate(request.inputs):
        if each.name not in changed:
            continue
        if request.raw_input_contents:
            request.raw_input_contents[position] = packed_bytes(changed[each.name])
        else:
            del each.contents.bytes_contents[:]
            each.contents.bytes_contents.extend(changed[each.name])
    return bytes(request.SerializeToString())


def _elements(body: bytes) -> Mapping[str, Sequence[bytes]]:
    """Return the inputs for a record where nothing is checked: each as one piece."""
    request = parsed(_REQUEST, body)
    if request.raw_input_contents:
        return {each.name: [raw] for each, raw in zip(request.inputs, request.raw_input_contents, strict=False)}
    return {each.name: [each.contents.SerializeToString()] for each in request.inputs}


def _value(parameter: Any) -> Any:
    return getattr(parameter, str(parameter.WhichOneof("parameter_choice")))
