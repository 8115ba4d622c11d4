"""What a gateway tells of its agreement, and what the operator makes of it, over a real connection."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from stillhouse.clients.agreement import QUESTIONS, AgreementReader, Told
from stillhouse.edge.agreement.settings import Bounds, Expected, Settings
from stillhouse.edge.agreement.verdict import Judge
from stillhouse.edge.agreement.watch import Watch
from stillhouse.edge.agreement.window import Totals
from stillhouse.edge.economics import Usage, economics
from stillhouse.edge.report import Served, report
from stillhouse.entrypoints.answering import Answering
from stillhouse.inference.drift import Reference

HOST = "127.77.0.31"
REFERENCE = Reference.of([each / 1000 for each in range(1000)])


def asked(content: bytes, status: int = 200) -> Told | None:
    endpoint = Answering(HOST, 0, {"/status": lambda: (status, content)}, "test")

    async def ask() -> Told | None:
        async with AgreementReader(endpoint.port) as reader:
            return await reader.read(HOST)

    try:
        return asyncio.run(ask())
    finally:
        endpoint.close()


def document(totals: Totals) -> bytes:
    """Return what `/status` says once a watch has looked three times at such a window."""
    bounds, expected = Bounds(agreement=0.95), Expected(0.1, 0.12)
    judge = Judge(bounds, REFERENCE, expected)
    watch = Watch(Settings(bounds=bounds), now=lambda: 0.0, reference=REFERENCE, expected=expected)
    for number in range(1, 4):
        watch.verdict = judge.look(totals, (number, number))
    served = Served("m", "int8", "sha256:" + "a" * 64, 0.5, "answer")
    told = report(served, uptime_s=1.0, economics=economics(Usage(), 1.0), breakers={}, queue=None, agreement=watch.observed())
    return json.dumps(told).encode()


def test_the_operator_reads_what_a_watch_says() -> None:
    few = (0,) * len(REFERENCE.cells)
    assert asked(document(Totals(few))) == Told(dict.fromkeys(QUESTIONS, "tooLittle"))
    even = tuple(10 * each for each in REFERENCE.cells)
    rows = sum(even)
    low = Totals(
        even,
        requests=rows,
        rows=rows,
        squares=rows,
        answered=rows,
        compared=1000,
        weight=1000,
        agreeing=900,
        squares_of_weight=1000,
    )
    found = asked(document(low))
    assert found is not None
    assert found.states == {"AgreementLow": "outside", "ConfidenceDrift": "ok", "EscalationHigh": "ok"}
    assert found.messages.keys() == {"AgreementLow"}
    assert found.messages["AgreementLow"].startswith("90.0 % of all answers")


ANSWERS: list[tuple[bytes, int]] = [
    (b"", 200),
    (b"[]", 200),
    (b"[" * 100_000, 200),
    (b"x" * (1 << 20), 200),
    (b'{"version": 2, "agreement": {"questions": {"AgreementLow": "outside"}, "reasons": []}}', 200),
    (b'{"version": 1, "agreement": null}', 200),
    (b'{"version": 1, "agreement": {"questions": {"AgreementLow": ["outside"], "Other": "outside"}, "reasons": []}}', 200),
    (b'{"version": 1, "agreement": {"questions": {"AgreementLow": "outside"}, "reasons": []}}', 302),
]


@pytest.mark.parametrize(("content", "status"), ANSWERS)
def test_what_nobody_understands_is_no_answer(content: bytes, status: int) -> None:
    assert asked(content, status) is None


def test_a_message_is_a_short_line() -> None:
    reasons: Any = [{"type": "AgreementLow", "message": "low\x1b[2J\n" + "x" * 5000}, {"type": "Other", "message": "x"}, 7]
    told = {"version": 1, "agreement": {"questions": {"AgreementLow": "outside"}, "reasons": reasons}}
    found = asked(json.dumps(told).encode())
    assert found is not None
    assert found.messages == {"AgreementLow": ("low [2J " + "x" * 5000)[:300]}
