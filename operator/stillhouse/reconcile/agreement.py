"""Whether the agreement watches of a model's gateways are within their bounds: gateways are asked, and a change is told.

Each gateway judges its own traffic and does not flap: some looks raise an alarm and more end it (docs/agreement.md). So an
alarm of one is an alarm at once; all else has to be seen some times in a row, and figures are those of the change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillhouse.clients.agreement import QUESTIONS, Told
from stillhouse.reconcile.cache import Cache, Key
from stillhouse.reconcile.front import gateway_pods
from stillhouse.reconcile.observed import Agreement, Observed, is_ready

__all__ = ["ASK_S", "CONDITION", "LOOKS", "Watching", "merge", "said", "watched"]

ASK_S = 60.0
"""Seconds between two rounds; a watch itself looks once a minute."""
LOOKS = 3
"""Rounds in a row that have to say the same before it is told, unless it is an alarm, or nothing was known."""
CONDITION = "AgreementHolds"
_UNKNOWN = "AgreementUnknown"


def merge(told: Sequence[Told | None]) -> Agreement:
    """Put together what the pods say; None: one did not answer.

    A question is outside where it is for one pod, and within where it is for one and outside for none. What none has enough
    traffic for keeps all of it unknown.
    """
    heard = [each for each in told if each is not None]
    if not heard:
        count = len(told)
        return Agreement("Unknown", _UNKNOWN, "", "no gateway is ready" if not count else "no gateway that is ready tells")
    outside = [name for name in QUESTIONS if any(each.states.get(name) == "outside" for each in heard)]
    if outside:
        worst = outside[0]
        of = [each for each in heard if each.states.get(worst) == "outside"]
        messages = sorted(each.messages[worst] for each in of if each.messages.get(worst))
        more = f"; {len(of)} gateways say so" if len(of) > 1 else ""
        return Agreement("False", worst, ", ".join(outside), (messages[0] if messages else worst) + more)
    asked = [name for name in QUESTIONS if any(name in each.states for each in heard)]
    lacks = [name for name in asked if not any(each.states.get(name) == "ok" for each in heard)]
    if lacks:
        return Agreement("Unknown", "TooFewSamples", "", "too little traffic in six hours to say")
    return Agreement("True", "WithinBounds", "", "")


def said(observed: Observed) -> Agreement | None:
    """Return what is known: from before in this process, else from the status, which a process before this one wrote."""
    if observed.agreement is not None:
        return observed.agreement
    for each in (observed.model.get("status") or {}).get("conditions") or []:
        if each.get("type") == CONDITION:
            head, colon, rest = str(each.get("message", "")).partition(": ")
            outside = (head, rest) if colon and each.get("status") == "False" else ("", each.get("message", ""))
            return Agreement(each["status"], each["reason"], *outside)
    return None


def watched(observed: Observed) -> bool:
    """Return whether the spec asks for a watch."""
    edge = (observed.model.get("spec") or {}).get("edge")
    return isinstance(edge, Mapping) and isinstance(edge.get("agreement"), Mapping)


@dataclass(slots=True)
class _Row:
    """What was seen last that is not told yet, and how many times in a row."""

    of: tuple[str, str, str]
    looks: int


class Watching:
    """Asks the gateways of every model that has a watch. `ask` returns what one at an address says, None where it does not."""

    def __init__(self, cache: Cache, changed: Callable[[Key], None], ask: Callable[[str], Awaitable[Told | None]]) -> None:
        self._cache, self._changed, self._ask = cache, changed, ask
        self._rows: dict[Key, _Row] = {}

    async def run(self, leads: Callable[[], bool], every_s: float = ASK_S) -> None:
        """Ask for ever, while this process leads."""
        while True:
            await asyncio.sleep(every_s)
            if leads():
                await self.round()

    async def round(self) -> None:
        """Ask every gateway once."""
        there: dict[Key, list[str]] = {}
        for key in list(self._cache.gateways()):
            observed = self._cache.observe(key)
            if observed is not None and watched(observed):
                there[key] = list(_addresses(observed))
            await asyncio.sleep(0)  # thousands of models are read here
        self._cache.keep_agreed(there.keys())
        self._rows = {key: row for key, row in self._rows.items() if key in there}
        answers = iter(await asyncio.gather(*(self._ask(address) for each in there.values() for address in each)))
        for key, addresses in there.items():
            told = [next(answers) for _ in addresses]
            self._take(key, merge(told))

    def _take(self, key: Key, found: Agreement) -> None:
        observed = self._cache.observe(key)
        if observed is None:
            return
        known = said(observed)
        if known is not None and known.same == found.same:
            self._rows.pop(key, None)
            return
        row = self._rows.get(key)
        row = _Row(found.same, row.looks + 1 if row is not None and row.of == found.same else 1)
        at_once = found.status == "False" or known is None or known.reason == _UNKNOWN
        if not at_once and row.looks < LOOKS:
            self._rows[key] = row
            return
        self._rows.pop(key, None)
        self._cache.agree(key, found)
        self._changed(key)


def _addresses(observed: Observed) -> Iterable[str]:
    """Yield where gateways that are ready can be asked."""
    for pod in gateway_pods(observed):
        address: Any = (pod.get("status") or {}).get("podIP")
        if address and is_ready(pod):
            yield str(address)
