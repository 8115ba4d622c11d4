"""How a request's time is shared between the steps of a pipeline, and which steps run when: plain arithmetic on a fake clock."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from stillhouse.edge.join.pipeline import Pipeline
from stillhouse.edge.join.steps import PipelineSettings, StepSettings, order
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.status import Code, Metadata, Refused, Reply, RpcError
from stillhouse.edge.wire.call import Call, Peer

SETTINGS = PipelineSettings(
    "m", "TEXT", ("EMBEDDING",),
    (
        StepSettings("a", "ma", {"x": "EMBEDDING"}, {"y": "A", "hidden:0": "H"}),
        StepSettings("b", "mb", {"x": "EMBEDDING", "t": "request.TEXT"}, {"y": "B"}),
        StepSettings("c", "mc", {"x": "a.y.z", "z": "b.y"}, {"y": "C"}),
    ),
    margin_s=0.01,
)  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "waves", "asked"),
    [
        (set(), [["base"], ["a", "b"], ["c"]], {"base": ("EMBEDDING",), "a": ("hidden:0", "y", "y.z"), "b": ("y",), "c": ("y",)}),
        ({"EMBEDDING"}, [["base"]], {"base": ("EMBEDDING",)}),
        ({"B"}, [["base"], ["b"]], {"base": ("EMBEDDING",), "b": ("y",)}),
        ({"H"}, [["base"], ["a"]], {"base": ("EMBEDDING",), "a": ("hidden:0",)}),
        ({"C"}, [["base"], ["a", "b"], ["c"]], {"base": ("EMBEDDING",), "a": ("y.z",), "b": ("y",), "c": ("y",)}),
    ],
)
def test_only_what_is_needed_runs_and_as_early_as_it_can(wanted: set[str], waves: list[list[str]], asked: Any) -> None:
    found = order(SETTINGS, frozenset(wanted))
    assert [[step.name for step in wave] for wave in found.waves] == waves
    assert found.asked == asked


class Leg:
    """A model that takes `seconds` of the fake clock and answers every tensor."""

    ready = True

    def __init__(self, stage: Stage, seconds: float) -> None:
        self.stage, self.seconds, self.told = stage, seconds, list[float | None]()

    async def ask(self, call: Call, method: str, body: bytes, metadata: Metadata, told_s: float | None) -> Reply:
        self.told.append(told_s)
        self.stage.now += self.seconds
        response = message("ModelInferResponse")()
        for each in message("ModelInferRequest").FromString(body).outputs:
            response.outputs.add(name=each.name, datatype="BOOL", shape=[1])
            response.raw_output_contents.append(b"\1")
        return Reply(response.SerializeToString())


class Stage:
    def __init__(self) -> None:
        self.now = 100.0
        self.legs = {"base": Leg(self, 0.02), "a": Leg(self, 0.05), "b": Leg(self, 0.03), "c": Leg(self, 0.1)}
        self.pipeline = Pipeline(SETTINGS, self.legs, clock=lambda: self.now)

    def ask(self, seconds: float | None) -> None:
        asked = message("ModelInferRequest")(model_name="m", raw_input_contents=[b"\1"])
        asked.inputs.add(name="TEXT", datatype="BOOL", shape=[1])
        asked.outputs.add(name="C")
        body = asked.SerializeToString()

        call = Call(SimpleNamespace(path=f"/{SERVICE}/ModelInfer", headers={}), Peer("127.0.0.1"), None)
        with patch("stillhouse.edge.join.pipeline.left_of", lambda _: seconds):
            asyncio.run(self.pipeline.infer(call, body))


def test_without_a_deadline_nobody_is_told_one() -> None:
    stage = Stage()
    stage.ask(None)
    assert [leg.told for leg in stage.legs.values()] == [[None]] * 4


def test_each_step_leaves_what_the_later_ones_usually_take() -> None:
    stage = Stage()
    stage.ask(1.0)  # nothing is known yet: the first has all but the margin
    assert stage.legs["base"].told == [pytest.approx(0.99)]
    assert stage.legs["c"].told == [pytest.approx(0.89)]
    for _ in range(20):
        stage.ask(None)
    stage.ask(0.5)
    # In this stage two steps of one wave take their times one after the other; 5 % is what a quantile is wrong by.
    assert stage.legs["base"].told[-1] == pytest.approx(0.49 - 0.1 - 0.05, abs=0.02)
    assert stage.legs["a"].told[-1] == stage.legs["b"].told[-1] == pytest.approx(0.47 - 0.1, abs=0.02)
    assert stage.legs["c"].told[-1] == pytest.approx(0.39, abs=0.02)


def test_nobody_is_asked_in_vain() -> None:
    stage = Stage()
    for _ in range(20):
        stage.ask(None)
    counts = [len(leg.told) for leg in stage.legs.values()]
    with pytest.raises(Refused, match=r"90 ms are left for base, a, b, c, which take at least 1\d\d ms") as told:
        stage.ask(0.1)
    assert told.value.code is Code.DEADLINE_EXCEEDED
    assert [len(leg.told) for leg in stage.legs.values()] == counts


def test_a_step_that_does_not_answer_in_its_time_is_named() -> None:
    class Silent(Leg):
        async def ask(self, call: Call, method: str, body: bytes, metadata: Metadata, told_s: float | None) -> Reply:
            await asyncio.Event().wait()
            raise AssertionError

    stage = Stage()
    stage.legs["c"] = Silent(stage, 0.0)
    stage.pipeline = Pipeline(SETTINGS, stage.legs, clock=lambda: stage.now)
    with pytest.raises(RpcError, match=r"step c \(mc\) has not answered in its 40 ms") as told:
        stage.ask(0.15)
    assert told.value.code is Code.DEADLINE_EXCEEDED
