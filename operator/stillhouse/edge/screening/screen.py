"""Requests are held to the model's words and to the settings', and texts to the patterns, before anybody answers them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stillhouse.edge.door import refused
from stillhouse.edge.guard.patterns import Patterns
from stillhouse.edge.guard.refusals import Refusal, invalid
from stillhouse.edge.guard.shapes import Model, check
from stillhouse.edge.oip.marked import is_encoded, plain
from stillhouse.edge.screening.known import Known
from stillhouse.edge.screening.reading import itself, rewritten, seen
from stillhouse.edge.screening.settings import ScreenSettings
from stillhouse.edge.status import RpcError
from stillhouse.errors import Problem

__all__ = ["Screen", "Screened"]

_LARGE = 256 << 10
"""Bytes of a request; the texts of larger ones are searched in a thread: RE2 lets the loop run meanwhile."""
_UNKNOWN = Refusal("UNAVAILABLE", Problem("no backend tells what the model takes; requests are not passed on unchecked"), 1.0)


@dataclass(slots=True)
class Screened:
    """A request that may go on. `body`: its bytes; `request`: the message, masked as they are; `masked`: places by pattern."""

    body: bytes
    request: Any
    masked: dict[str, int] = field(default_factory=dict)


class Screen:
    """The guard of one model. In a request's path it stands behind the door: who is not let in learns nothing from it.

    `refused`: requests by reason, `masked`: places by pattern; both are names of the settings or of ours.
    """

    def __init__(self, known: Known, settings: ScreenSettings) -> None:
        """Compile the patterns.

        Raises:
            SpecError: one of them is wrong. MissingPackages: RE2 is not installed.
        """
        self.known, self._settings = known, settings
        self._patterns = Patterns(settings.patterns, "guard.patterns") if settings.patterns else None
        self.refused: defaultdict[str, int] = defaultdict(int)
        self.masked: defaultdict[str, int] = defaultdict(int)

    async def screen(self, body: bytes, request: Any) -> Screened:
        """Return the request as it may go on. `request`: the message of `body`; it is changed where something is masked.

        Raises:
            RpcError: INVALID_ARGUMENT; what is wrong with it. UNAVAILABLE: nobody tells what the model takes.
        """
        model = await self.known.model()
        if model is None and self._settings.unknown == "refuse":
            raise self._no(_UNKNOWN, "unknown")
        if is_encoded(request):
            body = await self._plain(request)
        taken = model or itself(request, self._settings)
        found = self._check(body, request, taken)
        if model is not None and isinstance(found, Refusal) and _newer_may_take(found):
            newer = await self.known.anew(model)
            if newer is not model:
                taken, found = newer, self._check(body, request, newer)
        if isinstance(found, Refusal):
            raise self._no(found, _reason(found.problem.field))
        if self._patterns is None:
            return Screened(body, request)
        if any(each.text for each in taken.inputs.values()) and not any(taken.inputs[name].text for name in found):
            raise self._no(
                invalid("inputs", "texts are looked at here, and there is none", allowed="a text, no token ids"), "pattern"
            )
        texts = {name: given for name, given in found.items() if taken.inputs[name].text}
        if len(body) > _LARGE:
            looked = await asyncio.to_thread(_looked, texts, self._patterns)
        else:
            looked = _looked(texts, self._patterns)
        if isinstance(looked, Refusal):
            raise self._no(looked, "pattern")
        changed, masked = looked
        if not changed:
            return Screened(body, request)
        for rule, count in masked.items():
            self.masked[rule] += count
        return Screened(rewritten(request, changed), request, masked)

    async def _plain(self, request: Any) -> bytes:
        """Decode what travels smaller: it is held to the model's words, and to the bound of a message, as what it is."""
        try:
            return await plain(request, self._settings.bounds.message)
        except RpcError:
            self.refused["encoding"] += 1
            raise

    def _check(self, body: bytes, request: Any, model: Model) -> Refusal | dict[str, Sequence[bytes]]:
        told = seen(request, len(body), len(model.inputs))
        return told if isinstance(told, Refusal) else check(told, model, self._settings.bounds)

    def _no(self, refusal: Refusal, reason: str) -> RpcError:
        self.refused[reason] += 1
        return refused(refusal)


def _looked(texts: Mapping[str, Sequence[bytes]], patterns: Patterns) -> Refusal | tuple[dict[str, list[bytes]], dict[str, int]]:
    """Return the inputs that something is masked in, and how many places of each pattern; or why a text is refused."""
    changed: dict[str, list[bytes]] = {}
    masked: dict[str, int] = {}
    for name, given in texts.items():
        elements = list(given)
        for number, element in enumerate(elements):
            screened = patterns.screen(element.decode(), f"{name}[{number}]")
            if isinstance(screened, Refusal):
                return screened
            if screened.masked:
                elements[number] = screened.text.encode()
                changed[name] = elements
                for rule, count in screened.masked.items():
                    masked[rule] = masked.get(rule, 0) + count
    return changed, masked


def _newer_may_take(refusal: Refusal) -> bool:
    """Say whether another revision of the model might take what this one does not: other inputs, types or shapes."""
    return _reason(refusal.problem.field) in ("inputs", "datatype", "shape")


def _reason(field: str) -> str:
    """Return a refusal's reason: one of eight, whatever a client sends."""
    if field == "request":
        return "size"
    if field == "raw_input_contents" or field.endswith(".contents"):
        return "contents"
    if field == "inputs" or field.endswith(".name"):
        return "inputs"
    if field.endswith(".datatype"):
        return "datatype"
    if ".shape" in field:
        return "shape"
    return "parameters" if field.endswith(".parameters") else "text"
