"""Asks a gateway what its agreement watch says. What it answers is a pod's word: bounded, and believed in its types alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillhouse.clients.pods import PodReader

__all__ = ["QUESTIONS", "AgreementReader", "Told"]

QUESTIONS = ("AgreementLow", "ConfidenceDrift", "EscalationHigh")
"""What a watch asks, the worst first; names are those of `edge/agreement/verdict.py`."""
_STATES = ("ok", "outside", "tooLittle")
_LARGEST = 256 << 10


@dataclass(frozen=True, slots=True)
class Told:
    """`states`: question → ok, outside or tooLittle, of those that are asked. `messages`: of what is outside, in figures."""

    states: Mapping[str, str]
    messages: Mapping[str, str] = field(default_factory=dict)


class AgreementReader(PodReader[Told]):
    """GET /status of gateways, many at once. Use it as an async context manager."""

    def __init__(self, port: int) -> None:
        super().__init__(port, "/status", _LARGEST, _read)


def _read(data: Any) -> Told | None:
    agreement = data.get("agreement") if isinstance(data, dict) and data.get("version") == 1 else None
    if not isinstance(agreement, dict):
        return None
    questions, reasons = agreement.get("questions"), agreement.get("reasons")
    if not isinstance(questions, dict) or not isinstance(reasons, list):
        return None
    states = {name: state for name in QUESTIONS if (state := questions.get(name)) in _STATES}
    if not states:
        return None
    messages = {}
    for each in reasons:
        if isinstance(each, dict) and each.get("type") in QUESTIONS and isinstance(each.get("message"), str):
            messages[str(each["type"])] = "".join(one if one.isprintable() else " " for one in each["message"][:300])
    return Told(states, messages)
