"""The watch beside requests: it asks later, a bounded lot, and never while the cloud is away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.virtual_time import now, run

from stillhouse.edge.agreement.collecting import Collector, Samples, redacted_by
from stillhouse.edge.agreement.settings import Collecting, Sampling, Settings
from stillhouse.edge.agreement.watch import Watch
from stillhouse.edge.away.breaker import BreakerState, Snapshot
from stillhouse.edge.economics import Prices, Usage, economics, table
from stillhouse.edge.guard.patterns import Patterns, Rule
from stillhouse.edge.report import Served, report
from stillhouse.edge.status import Code, RpcError
from stillhouse.errors import StoreError


class Larger:
    def __init__(self, answer: str = "a", takes: float = 0.0, error: Exception | None = None) -> None:
        self.answer, self.takes, self.error = answer, takes, error
        self.asked: list[float] = []
        self.at_once = self.most = 0

    async def ask(self) -> list[str]:
        self.asked.append(now())
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.at_once -= 1
        if self.error is not None:
            raise self.error
        return [self.answer]


def _offer(watch: Watch, larger: Larger, count: int, size: int = 10) -> None:
    for number in range(count):
        ticket = watch.answered([0.9], 0, f"{number}")
        assert ticket is not None
        watch.compare(ticket, ["a"], larger.ask, size=size, inputs=[{"text": "private 123"}], confidences=[0.9])


def test_comparisons_come_after_the_answer_few_at_once_and_the_rest_is_dropped_and_counted() -> None:
    async def main() -> None:
        sampling = Sampling(share=1.0, rate=1.0, burst=20.0, at_once=2, waiting=8, delay=0.5)
        watch, larger = Watch(Settings(sampling), now=now), Larger(takes=1.0)
        task = asyncio.ensure_future(watch.run())
        begun = now()
        _offer(watch, larger, 12)
        assert now() == begun and not larger.asked  # nobody waited
        await asyncio.sleep(30)
        assert larger.asked[0] == begun + 0.5 and larger.most == 2
        assert watch.shadow.outcomes == {"compared": 8, "full": 4}
        assert watch.totals().agreement == 1.0 and watch.totals().weight == 12  # eight stand for twelve
        _offer(watch, larger, 1, size=9 << 20)
        assert watch.shadow.outcomes["full"] == 5
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_nothing_is_asked_while_the_breaker_is_open_or_after_the_cloud_said_it_has_too_much() -> None:
    async def main() -> None:
        held = True
        watch = Watch(Settings(Sampling(share=1.0, rate=2.0, burst=3.0, timeout=5.0)), now=now, held=lambda: held)
        task = asyncio.ensure_future(watch.run())
        _offer(watch, Larger(), 2)
        held = False
        _offer(watch, fine := Larger("b"), 1)
        held = True  # it waits, and the breaker opens
        await asyncio.sleep(1)
        assert not fine.asked and watch.shadow.outcomes == {"held": 3}
        held = False
        _offer(watch, slow := Larger(takes=60), 1)
        await asyncio.sleep(10)
        assert len(slow.asked) == 1 and slow.at_once == 0
        _offer(watch, Larger(error=RpcError(Code.RESOURCE_EXHAUSTED, "private 123")), 1)
        await asyncio.sleep(1)
        _offer(watch, Larger(), 1)
        assert watch.shadow.held and watch.shadow.outcomes == {"held": 4, "failed": 2}
        await asyncio.sleep(30)
        _offer(watch, fine, 5)
        assert watch.shadow.outcomes["rate"] == 2
        await asyncio.sleep(1)
        assert watch.disagreed == 3 and not task.done()
        task.cancel()

    run(main())


def test_samples_are_private_masked_bounded_and_survive_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    collecting = Collecting(folder, most_bytes=1000, file_bytes=300)
    code = (
        "import os, signal\nfrom pathlib import Path\n"
        "from stillhouse.edge.agreement.collecting import Samples\nfrom stillhouse.edge.agreement.settings import Collecting\n"
        f"s = Samples(Collecting(Path({str(folder)!r}), most_bytes=1000, file_bytes=300))\n"
        's.append(b\'{"text":"whole"}\\n\'); os.write(s._descriptor, b\'{"text":"to\'); os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    collector = Collector(collecting, redacted_by(Patterns([Rule("digits", "mask", "[0-9]+"), Rule("no", "refuse", "never")])))
    assert collector.samples.files[0].read_bytes() == b'{"text":"whole"}\n'
    with pytest.raises(StoreError, match="another process"):
        Samples(collecting)

    async def main() -> None:
        watch = Watch(Settings(Sampling(share=1.0), collecting=collecting), now=now, collector=collector)
        task = asyncio.ensure_future(watch.run())
        watch.keep([{"text": "never"}, {"text": "call 555"}], ["b", "b"], [0.1, float("nan")], "k")
        _offer(watch, Larger("b"), 1)
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])

    run(main())
    rows = [json.loads(line) for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]
    assert rows[1:] == [
        {"text": "call [digits]", "label": "b", "confidence": None, "leg": "cloud"},
        {"text": "private [digits]", "label": "b", "confidence": 0.9, "leg": "edge"},
    ]
    samples = Samples(collecting)
    for number in range(200):
        assert samples.append(b'{"text":"%060d"}\n' % number)
        on_disk = [file.stat() for file in folder.iterdir()]
        assert sum(each.st_size for each in on_disk) == samples.size <= 1000
        assert all(each.st_size <= 300 and each.st_mode & 0o777 == 0o600 for each in on_disk)
    assert not samples.append(bytes(301))
    assert b"%060d" % 199 in samples.files[-1].read_bytes()
    samples.clear()
    assert not list(folder.iterdir())


def test_what_was_collected_is_read_as_training_data(tmp_path: Path) -> None:
    from stillhouse.passes.sources.columns import choose
    from stillhouse.passes.sources.reading import open_table

    samples = Samples(Collecting(tmp_path / "samples", file_bytes=200))
    for number in range(9):
        assert samples.append(b'{"text":"row %d","label":"a","confidence":0.5,"leg":"cloud"}\n' % number)
    samples.close()
    table_ = open_table(tmp_path / "samples", tmp_path / "cache")
    assert len(table_) == 9 and table_[8]["text"] == "row 8"
    assert choose({}, list(table_.column_names)) == {"text": "text", "label": "label"}


def test_what_was_asked_in_vain_is_no_call_and_takes_nothing_from_those_avoided() -> None:
    usage = Usage()
    for _ in range(7):
        usage.count(1, 0, called=False)
    usage.count(1, 1, called=True)
    for _ in range(2):
        usage.count(1, 1, called=True, away=True)
    found = economics(usage, 1.0, Prices("EUR", edge_cpu_hour=0.0, cloud_call=1.0))
    assert (found.calls, found.away, found.avoided, found.avoided_share) == (1, 2, 7, 0.7)
    assert found.cost == pytest.approx(1000 * 0.1)


def test_late_answers_are_calls_that_cost_and_avoid_nothing() -> None:
    usage = Usage()
    for _ in range(8):
        usage.count(1, 0, called=False)
    for _ in range(2):
        usage.count(1, 1, called=True, away=True)
    usage.deliver(1)
    usage.deliver(1)
    found = economics(usage, 1.0, Prices("EUR", edge_cpu_hour=0.0, cloud_call=1.0))
    assert (found.calls, found.late, found.away, found.avoided) == (2, 2, 2, 8)
    assert found.cost == pytest.approx(1000 * 0.2)
    told = found.to_json()
    assert (told["cloudCalls"], told["cloudCallsLate"]) == (2, 2)
    assert dict(table(found))["cloud calls"] == "2, 2 of them late"


def test_economics_and_the_document() -> None:
    usage = Usage()
    for number in range(1000):
        usage.count(2, 2 if number < 100 else 0, called=number < 100)
    usage.comparisons, usage.compared_rows = 10, 20
    found = economics(usage, 36.0, Prices("EUR", edge_cpu_hour=0.1, cloud_call=0.001))
    assert (found.avoided, found.escalation, found.cost_without) == (900, 0.1, pytest.approx(0.5))
    assert found.cost == pytest.approx((36 / 3600 * 0.1 + 110 * 0.001) / 2)
    assert dict(table(found))["cloud calls avoided"] == "900 (90.0%)"
    assert economics(Usage(), 1.0).to_json()["costPerThousand"] is None
    told = report(
        Served("m", "int8", "sha256:0", 0.8, "answer"),
        uptime_s=5.0,
        economics=found,
        breakers={"cloud": Snapshot(BreakerState.OPEN, 9, 5, 5, 1.5, 1, 1, 2)},
        queue=None,
        agreement=Watch(Settings(), now=lambda: 0.0).observed(),
    )
    again = json.loads(json.dumps(told, allow_nan=False))
    assert again["version"] == 1 and again["cloud"]["breakers"]["cloud"]["state"] == "open"
    assert list(again) == ["version", "model", "uptimeSeconds", "cloud", "economics", "agreement"]
    assert again["agreement"]["figures"]["edge"]["estimate"] is None


def test_the_watch_brings_neither_numpy_nor_what_reads_data() -> None:
    code = "import sys, stillhouse.edge.report; print(*(set(sys.modules) & {'numpy', 'scipy', 'pyarrow', 're2', 'datasets'}))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ).stdout == "\n"
