"""The larger model down, slow, flapping, swallowing everything; the small one late, overloaded, broken. Time is virtual."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from tests.support.cascades import SIGNATURE, Step, TableLeg, ask_body, call, policy, read
from tests.support.virtual_time import now, run

from stillhouse.edge.away.breaker import BreakerPolicy, BreakerState
from stillhouse.edge.away.deadlines import DeadlinePolicy
from stillhouse.edge.away.retries import HedgePolicy, RetryPolicy
from stillhouse.edge.cascade.away import AwaySettings, Way
from stillhouse.edge.cascade.cascade import Cascade
from stillhouse.edge.cascade.figures import families
from stillhouse.edge.cascade.policy import Policy
from stillhouse.edge.cascade.stages import CascadeSettings, Stage
from stillhouse.edge.status import Code, Refused, RpcError
from stillhouse.errors import UsageError

DOWN = RpcError(Code.UNAVAILABLE, "connection refused", unprocessed=True)
RESET = RpcError(Code.UNAVAILABLE, "the stream was reset")
HOLE = 1e6
EASY, HARD = "0.9", "0.5"
ONCE = RetryPolicy(attempts=1)


def sure(text: str) -> list[float]:
    """Give probabilities of which the first is the text's."""
    return [float(text), 1 - float(text), 0.0]


def certain(text: str) -> list[float]:
    return [0.0, 0.0, 1.0]


class Site:
    """A cascade of two legs that do as they are told."""

    def __init__(
        self,
        *,
        edge: Sequence[Step] = (),
        cloud: Sequence[Step] = (),
        usual: Step = 0.05,
        unusual: Step = 0.01,
        threshold: float = 0.8,
        **away: Any,
    ) -> None:
        self.edge = TableLeg("edge", now, sure, script=edge, usual=unusual)
        self.cloud = TableLeg("cloud", now, certain, script=cloud, usual=usual, digest="sha256:cloud")
        self.changes: list[BreakerState] = []
        settings = AwaySettings(**away)
        self.way = Way(
            self.cloud, settings, clock=now, uniform=lambda low, high: high, on_change=lambda _, new: self.changes.append(new)
        )
        stages = [Stage(self.edge, policy(threshold)), Stage(self.way, None)]
        self.cascade = Cascade("m", SIGNATURE, stages, CascadeSettings(away=settings), clock=now)

    async def ask(self, *texts: str, timeout: float | None = None, **how: Any) -> dict[str, Any]:
        """Give an answer's parameters and tensors together."""
        reply = await self.cascade.infer(call(timeout), ask_body(texts or (HARD,), "LEG", "CONFIDENCE", "LABEL", **how))
        tensors, told = read(reply.message)
        return {**told, **{name: tensor.ravel().tolist() for name, tensor in tensors.items()}}

    async def fails(self, *texts: str, timeout: float | None = None) -> RpcError:
        with pytest.raises(RpcError) as caught:
            await self.ask(*texts, timeout=timeout)
        return caught.value


def play(main: Callable[[], Awaitable[None]]) -> None:
    async def work() -> None:
        await main()

    run(work())


def test_down_the_edge_answers_and_says_so() -> None:
    async def main() -> None:
        site = Site(usual=DOWN)
        told = await site.ask(EASY, HARD)
        assert told["away"] == "answer" and told["leg"] == "edge" and told["LEG"] == [b"edge", b"edge"]
        assert told["CONFIDENCE"] == pytest.approx([0.9, 0.5]) and told["confidence"] < told["threshold"]
        assert told["escalated"] == 1
        told = await site.ask(EASY)
        assert "away" not in told, "what is sure needs no cloud"
        assert site.cascade.figures.away == {"answer": 1}

    play(main)


def test_down_costs_no_request_more_than_its_breaker_asks() -> None:
    async def main() -> None:
        site = Site(usual=DOWN, retries=ONCE)
        for _ in range(100):
            assert (await site.ask())["away"] == "answer"
        assert len(site.cloud.asked) == 5 and site.way.breaker.state is BreakerState.OPEN
        site.cloud.usual = 0.05
        await asyncio.sleep(2)
        for _ in range(3):
            assert "away" not in await site.ask()
        assert site.changes == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]

    play(main)


def test_a_half_open_breaker_lets_one_through_and_the_edge_answers_the_others() -> None:
    async def main() -> None:
        site = Site(usual=DOWN, retries=ONCE)
        for _ in range(5):
            await site.ask()
        site.cloud.usual = 0.05
        await asyncio.sleep(2)
        told = await asyncio.gather(*[site.ask() for _ in range(20)])
        assert [each["leg"] for each in told].count("cloud") == 1
        assert sum("away" in each for each in told) == 19

    play(main)


def test_resets_are_tried_again_within_a_budget() -> None:
    async def main() -> None:
        site = Site(cloud=[RESET, RESET])
        told = await site.ask()
        assert told["leg"] == "cloud" and len(site.cloud.asked) == 3 and site.way.retrier.retries == 2
        site = Site(usual=RESET, breaker=BreakerPolicy(consecutive=10**6, minimum=10**6))
        for _ in range(200):
            assert (await site.ask())["away"] == "answer"
        assert len(site.cloud.asked) <= 200 * 1.2 + 10 + 50
        site = Site(cloud=[RpcError(Code.INTERNAL, "poison")])
        assert (await site.ask())["away"] == "answer" and len(site.cloud.asked) == 1, "only UNAVAILABLE is tried again"

    play(main)


def test_a_cloud_that_swallows_everything_costs_the_deadline_and_then_nothing() -> None:
    async def main() -> None:
        site = Site(usual=HOLE)
        for _ in range(5):
            begun = now()
            told = await site.ask(timeout=2.0)
            assert told["away"] == "answer" and 1.8 < now() - begun < 2.0, "in time, with a margin"
        assert site.way.breaker.state is BreakerState.OPEN
        begun = now()
        assert (await site.ask(timeout=2.0))["away"] == "answer" and now() - begun == pytest.approx(0.01)

    play(main)


def test_a_slow_cloud_is_told_what_is_left_and_the_edge_leaves_it_room() -> None:
    async def main() -> None:
        site = Site(usual=0.5)
        for _ in range(30):
            await site.ask(timeout=10)
        begun = now()
        assert (await site.ask(timeout=1.0))["leg"] == "cloud"
        assert site.edge.untils[-1] == pytest.approx(begun + 0.98 - 0.5, abs=0.05), (
            "the edge ends where the cloud's p95 still fits"
        )
        assert site.cloud.untils[-1] == pytest.approx(begun + 0.98, abs=0.01)
        site.edge.script = [HOLE]
        told = await site.ask(timeout=1.0)
        assert (told["leg"], told["edge_error"]) == ("cloud", "DEADLINE_EXCEEDED"), "a late edge costs no answer"
        told = await site.ask(timeout=0.2)
        assert told["away"] == "answer" and len(site.cloud.asked) == 32, "nobody is asked in vain"

    play(main)


def test_a_deadline_that_no_leg_can_meet_is_refused_at_once() -> None:
    async def main() -> None:
        site = Site(usual=0.5, unusual=0.1)
        for _ in range(30):
            await site.ask(timeout=10)
        begun = now()
        error = await site.fails(timeout=0.02)
        assert (error.code, now()) == (Code.DEADLINE_EXCEEDED, begun) and isinstance(error, Refused)

    play(main)


def test_a_flapping_cloud_never_costs_an_answer() -> None:
    async def main() -> None:
        site = Site(retries=ONCE)
        by = {"cloud": 0, "answer": 0}
        for second in range(120):
            site.cloud.usual = 0.05 if second % 20 < 10 else DOWN
            for _ in range(5):
                told = await site.ask(timeout=5)
                by[told.get("away", "cloud")] += 1
                await asyncio.sleep(0.14)
        assert sum(by.values()) == 600 and by["cloud"] > 100, "a breaker that flaps keeps its long times, and no longer ones"
        failed = site.cascade.figures.failed
        assert failed["cloud", "UNAVAILABLE"] == by["answer"]
        assert len(site.cloud.asked) < by["cloud"] + 80, "while it is down it is hardly asked"

    play(main)


def test_policy_fail_says_when_to_come_back() -> None:
    async def main() -> None:
        site = Site(usual=DOWN, policy="fail", retries=ONCE)
        error = await site.fails()
        assert (error.code, error.pushback) == (Code.UNAVAILABLE, "1000")
        assert error.message == "the larger model is away: UNAVAILABLE", "what it says may name addresses"
        for _ in range(4):
            await site.fails()
        error = await site.fails()
        assert error.code == Code.UNAVAILABLE and int(str(error.pushback)) == pytest.approx(1200 - 10 - 40, abs=60)
        assert (await site.ask(EASY))["leg"] == "edge"
        assert (site.cascade.figures.away["fail"], site.cascade.figures.errors) == (6, 6)
        site = Site(usual=HOLE, policy="fail")
        assert (await site.fails(timeout=2.0)).code == Code.DEADLINE_EXCEEDED

    play(main)


@pytest.mark.parametrize("error", [Refused(Code.RESOURCE_EXHAUSTED, "full"), RpcError(Code.INTERNAL, "broken")])
def test_when_the_edge_fails_the_cloud_answers_and_says_so(error: RpcError) -> None:
    async def main() -> None:
        site = Site(edge=[error])
        told = await site.ask(EASY, HARD)
        assert (told["leg"], told["edge_error"], told["escalated"]) == ("cloud", error.code.name, 2)
        assert math.isnan(told["confidence"]) and told["digest"] == "sha256:cloud"
        site = Site(edge=[error], usual=DOWN, retries=ONCE)
        assert (await site.fails(EASY)).code == Code.UNAVAILABLE, "there is no answer to flag"

    play(main)


def test_what_is_wrong_with_the_request_is_told_and_not_hidden() -> None:
    async def main() -> None:
        wrong = RpcError(Code.INVALID_ARGUMENT, "not that")
        site = Site(cloud=[wrong])
        assert (await site.fails()).message == "not that"
        assert site.way.breaker.snapshot().failures == 0
        site = Site(edge=[wrong])
        assert (await site.fails()).message == "not that" and not site.cloud.asked

    play(main)


def test_everything_escalates_at_an_infinite_threshold_and_the_edge_is_there_for_when_it_cannot() -> None:
    async def main() -> None:
        site = Site(threshold=math.inf, cloud=[0.05, DOWN], retries=ONCE)
        assert (await site.ask("1.0"))["leg"] == "cloud"
        assert (await site.ask("1.0"))["away"] == "answer"

    play(main)


def test_hedging_by_choice() -> None:
    async def main() -> None:
        for hedge, took in ((None, 5.01), (HedgePolicy(), 0.12)):
            site = Site(hedge=hedge)
            for _ in range(30):
                await site.ask()
            site.cloud.script = [5.0]
            begun = now()
            assert (await site.ask())["leg"] == "cloud"
            assert now() - begun == pytest.approx(took, abs=0.02)
            await site.cascade.close()
            assert site.cloud.cancelled == (0 if hedge is None else 1)

    play(main)


def test_a_trace_says_where_the_time_went() -> None:
    async def main() -> None:
        site = Site()
        told = await site.ask(parameters={"trace": True})
        assert {name: told[name] for name in told if name.startswith("trace")} == {
            "trace_edge_ms": pytest.approx(10), "trace_cloud_ms": pytest.approx(50), "trace_total_ms": pytest.approx(60),
        }  # fmt: skip
        assert not any(name.startswith("trace") for name in await site.ask())

    play(main)


def test_a_client_that_goes_leaves_nobody_at_work_and_no_blame() -> None:
    async def main() -> None:
        site = Site(usual=HOLE)
        for _ in range(6):
            task = asyncio.create_task(site.ask(timeout=30))
            await asyncio.sleep(5)
            task.cancel()
            await asyncio.wait([task])
        assert site.cloud.cancelled == 6 and site.way.breaker.snapshot().failures == 0

    play(main)


def test_three_stages_and_a_middle_that_is_away() -> None:
    async def main() -> None:
        edge, middle, cloud = (TableLeg(name, now, sure if name != "cloud" else certain) for name in ("edge", "middle", "cloud"))
        stages = [Stage(edge, policy(0.8)), Stage(middle, policy(0.4)), Stage(cloud, None)]
        cascade = Cascade("m", SIGNATURE, stages, clock=now)

        async def legs(*texts: str) -> tuple[list[bytes], dict[str, Any]]:
            tensors, told = read((await cascade.infer(call(), ask_body(texts, "LEG"))).message)
            return tensors["LEG"].ravel().tolist(), told

        found, told = await legs("0.9", "0.6", "0.5")
        assert found == [b"edge", b"middle", b"middle"]
        assert (told["threshold"], told["confidence"], told["escalated"]) == (0.4, pytest.approx(0.5), 2)
        middle.usual = DOWN
        assert (await legs("0.9", "0.6"))[0] == [b"edge", b"cloud"]
        cloud.usual, middle.usual = DOWN, 0.01
        stages[1] = Stage(middle, policy(0.7))
        cascade = Cascade("m", SIGNATURE, stages, clock=now)
        found, told = await legs("0.9", "0.6")
        assert found == [b"edge", b"middle"] and told["away"] == "answer", "the best answer that there is"

    play(main)


def test_stages_that_do_not_belong_together() -> None:
    async def main() -> None:
        edge, cloud = TableLeg("edge", now, sure), TableLeg("cloud", now, certain)
        other = dataclasses.replace(policy(), digest="sha256:other")
        from stillhouse.inference.outliers import OutlierRule

        energy: Policy = policy(outliers=OutlierRule("energy", 0.0))
        for stages, named in (
            ([Stage(edge, None)], "stages"),
            ([Stage(edge, None), Stage(cloud, None)], "stages"),
            ([Stage(edge, policy()), Stage(cloud, policy())], "stages"),
            ([Stage(edge, policy()), Stage(edge, None)], "stages: names"),
            ([Stage(edge, other), Stage(cloud, None)], "stages[0].digest"),
            ([Stage(edge, energy), Stage(cloud, None)], "stages[0].outliers.kind"),
        ):
            with pytest.raises(UsageError) as caught:
                Cascade("m", SIGNATURE, stages, clock=now)
            assert caught.value.problem.field == named
        with pytest.raises(UsageError):
            Cascade(
                "m", SIGNATURE, [Stage(edge, policy()), Stage(cloud, None)], CascadeSettings(away=AwaySettings(policy="queue"))
            )

    play(main)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda request: setattr(request.inputs[0], "name", "IMAGE"), "inputs: found IMAGE, allowed TEXT"),
        (lambda request: setattr(request.inputs[0], "datatype", "FP32"), "TEXT: found FP32"),
        (lambda request: request.inputs[0].shape.append(1), "TEXT: found BYTES [1, 1, 1]"),
        (lambda request: request.inputs[0].shape.__setitem__(0, 33), "n from 1 to 32"),
        (lambda request: request.inputs[0].shape.__setitem__(0, -1), "TEXT: found"),
        (lambda request: request.inputs.add(name="MORE"), "found TEXT, MORE"),
        (lambda request: request.inputs.pop(), "found nothing"),
        (lambda request: request.outputs.add(name="NEIGHBOR"), "output 'NEIGHBOR': not known"),
        (lambda request: [request.outputs.add(name="LABEL") for _ in "12"], "output 'LABEL': twice"),
        (lambda request: setattr(request, "model_version", "2"), "no version '2'"),
        (lambda request: request.raw_input_contents.__setitem__(0, b"\x01\x00\x00\x00\xff"), "TEXT[0]: the text is not UTF-8"),
        (
            lambda request: request.raw_input_contents.__setitem__(0, b"\x09\x00\x00\x00a"),
            "TEXT: element 0 is longer than what is left",
        ),
    ],
)
def test_a_request_that_is_wrong_is_told_what(change: Callable[[Any], None], named: str) -> None:
    from stillhouse.edge.oip.messages import message

    async def main() -> None:
        request = message("ModelInferRequest").FromString(ask_body([EASY]))
        change(request)
        site = Site()
        with pytest.raises(RpcError) as caught:
            await site.cascade.infer(call(), request.SerializeToString())
        assert caught.value.code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND) and named in caught.value.message
        assert not site.cloud.asked

    play(main)


def test_what_prometheus_is_told() -> None:
    async def main() -> None:
        site = Site(cloud=[0.05, DOWN], retries=ONCE)
        await site.ask(EASY, HARD)
        await site.ask(HARD)
        found = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families({"m": (site.cascade.figures, site.cascade.ways)})
            for sample in family.samples
        }
        model = ("model", "m")
        assert found["stillhouse_cascade_rows_total", ("leg", "cloud"), model] == 1
        assert found["stillhouse_cascade_rows_total", ("leg", "edge"), model] == 2
        assert found["stillhouse_cascade_escalated_total", model] == 2
        assert found["stillhouse_cascade_away_total", model, ("policy", "answer")] == 1
        assert found["stillhouse_cascade_leg_failures_total", ("code", "UNAVAILABLE"), ("leg", "cloud"), model] == 1
        assert found["stillhouse_cascade_confidence_bucket", ("le", "0.55"), model] == 2
        assert found["stillhouse_cascade_confidence_count", model] == 3
        assert found["stillhouse_cascade_breaker", ("leg", "cloud"), model] == 0

    play(main)


def test_without_an_end_nothing_ends() -> None:
    async def main() -> None:
        site = Site(usual=5000.0, deadlines=DeadlinePolicy(default=None))
        begun = now()
        assert (await site.ask())["leg"] == "cloud" and now() - begun == pytest.approx(5000.01)

    play(main)
