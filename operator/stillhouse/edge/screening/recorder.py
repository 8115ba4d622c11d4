"""What the audit log says of a call: who, which model, what came of it, digests of what it held; its texts where asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from stillhouse.edge.guard.audit.inputs import Inputs
from stillhouse.edge.guard.limits import Limiter, Limits
from stillhouse.edge.guard.refusals import Refusal
from stillhouse.edge.oip.elements import joined
from stillhouse.edge.oip.messages import message, value_of
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.screening.journal import Journal
from stillhouse.edge.screening.settings import AuditSettings
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.call import Call

__all__ = ["Recorder"]

_TOLD = ("variant", "digest", "leg", "confidence", "threshold", "escalated", "away")
"""Parameters of an answer that a record has."""
_LONGEST = 128
"""Characters of a name that a client sends."""
_MOST_INPUTS = 16
_CHEAP = frozenset({Code.UNAUTHENTICATED, Code.RESOURCE_EXHAUSTED})
"""What costs a client nothing, and could push everything else out of the log."""
_OF_CHEAP = Limits(rate=10.0, burst=100, clients=1000)


class Recorder:
    """Makes one record of each call. In a request's path: the last that it meets, once its answer is there.

    Refusals for want of a token, and of who asks too much, are recorded up to a rate for each client; `unrecorded` counts those
    beyond, and the next record that is made of them says how many there were.
    """

    def __init__(self, journal: Journal, settings: AuditSettings, clock: Callable[[], float]) -> None:
        self.journal = journal
        self._inputs = Inputs(journal.key, raw=settings.raw, most=settings.most)
        self._known = settings.known
        self._response = message("ModelInferResponse")
        self._cheap = Limiter(_OF_CHEAP, clock)
        self.unrecorded = 0
        self._since = 0

    def inference(
        self,
        call: Call,
        model: str,
        size: int,
        request: Any,
        code: Code,
        reply: Reply | None,
        took: float,
        *,
        masked: Mapping[str, int] | None = None,
        raw: bool = False,
    ) -> Refusal | None:
        """Record an inference. Returns why its answer may not go out: it could not be recorded, and must be.

        `size`: bytes of the request as it came; `request`: the message as it went on, None where none was read. `took`: seconds.
        `masked`: places by pattern. `raw`: its inputs may be kept where the settings say so.
        """
        data = self._who(call, code)
        if data is None:
            return None
        data |= {"model": model[:_LONGEST], "bytes": size, "ms": round(took * 1000, 3)}
        if request is not None:
            if request.id:
                data["id"] = request.id[:_LONGEST]
            data["inputs"] = self._inputs.describe(_contents(request), raw=raw)
        if masked:
            data["masked"] = dict(masked)
        if reply is not None:
            data["answer"] = {**self._known.get(model, {}), **self._told(reply.message)}
        return self.journal.record("request", data)

    def other(self, call: Call, model: str, code: Code) -> Refusal | None:
        """Record a call that asks for a model's description, or for all of them; `model` "": all."""
        data = self._who(call, code)
        if data is None:
            return None
        if model:
            data["model"] = model[:_LONGEST]
        return self.journal.record("call", data)

    def _who(self, call: Call, code: Code) -> dict[str, Any] | None:
        address = call.peer.address
        data: dict[str, Any] = {"method": call.method.rpartition("/")[2][:_LONGEST], "code": code.name, "address": address}
        if call.client is not None:
            data["client"] = call.client[:_LONGEST]
        if code in _CHEAP:
            client = call.client or address
            if self._cheap.enter(client) is not None:
                self.unrecorded += 1
                self._since += 1
                return None
            self._cheap.leave(client)
            if self._since:
                data["unrecorded"], self._since = self._since, 0
        return data

    def _told(self, body: bytes) -> dict[str, Any]:
        told: dict[str, Any] = {"bytes": len(body)}
        try:
            parameters = parsed(self._response, body).parameters
        except RpcError:
            return told
        for name in _TOLD:
            if name in parameters:
                value = value_of(parameters[name])
                told[name] = value[:_LONGEST] if isinstance(value, str) else _finite(value)
        return told


def _contents(request: Any) -> Mapping[str, bytes]:
    """Return what is in a request's inputs. BYTES are the same packed, whichever way they came."""
    raws = request.raw_input_contents
    found: dict[str, bytes] = {}
    for position, each in enumerate(request.inputs[:_MOST_INPUTS]):
        if position < len(raws):
            content = raws[position]
        elif each.datatype == "BYTES":
            content = joined(each.contents.bytes_contents)
        else:
            content = each.contents.SerializeToString()
        found[each.name[:_LONGEST]] = content
    return found


def _finite(value: Any) -> Any:
    """Return a number as JSON has it; infinity and none have no number there."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
