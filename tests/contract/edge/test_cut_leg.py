"""The leg of a cut model, with the upper half's server played by the upper half itself."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.artifacts import artifact, context
from tests.support.tiny_model import write_tiny_model

from stillhouse.edge.cascade.question import Question, Reader
from stillhouse.edge.cut import CutLeg, CutSettings
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import add_output, inputs_of, packed_bytes
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.errors import DataError
from stillhouse.inference.engine import Engine
from stillhouse.inference.halves import HalfSession, unpacked
from stillhouse.passes.compress.cut import CutConfig, CutModel

TEXTS = ["read the file", "a", "return the list of path name value", "open", "the list of the warm path value"]


class Upper:
    """A server of the upper half. `error`: what it answers instead."""

    def __init__(self, folder: Path) -> None:
        self.half = HalfSession(folder, "upper")
        self.error: RpcError | None = None
        self.rows: list[int] = []

    async def unary(self, method: str, message_: bytes, *, metadata: Any = (), told_s: float | None = None) -> Reply:
        if self.error is not None:
            raise self.error
        request = message("ModelInferRequest").FromString(message_)
        assert request.model_name == "m_upper"
        given = inputs_of(request)
        try:
            values = self.half.run(unpacked(self.half.cut, given))[self.half.cut.output]
        except DataError as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from error
        self.rows.append(len(values))
        response = message("ModelInferResponse")()
        add_output(response, self.half.cut.output, values)
        return Reply(response.SerializeToString())

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The whole model and its cut."""
    root = tmp_path_factory.mktemp("cut")
    write_tiny_model(root / "model", task="text-classification")
    ctx = context(root)
    CutModel().run(CutConfig(at=("rows",)), {"model": artifact(root / "model", "onnx-model")}, ctx)
    return root / "model", ctx.out


def question(leg: CutLeg, texts: list[str]) -> Question:
    request = message("ModelInferRequest")(model_name="m")
    request.inputs.add(name="TEXT", datatype="BYTES", shape=[len(texts), 1])
    request.raw_input_contents.append(packed_bytes([text.encode() for text in texts]))
    return Reader(leg.signature, 64, searched=False).read(request.SerializeToString(), ())


def test_rows_of_any_length_come_back_in_their_order(folders: tuple[Path, Path]) -> None:
    whole, cut = folders
    upper = Upper(cut)
    leg = CutLeg(cut, "sha256:1", CutSettings("m_upper", most_rows=2), upper)
    rows = asyncio.run(leg.ask(question(leg, TEXTS), math.inf))
    np.testing.assert_allclose(rows.values, Engine(whole).predict(TEXTS), atol=1e-6)
    assert sum(upper.rows) == len(TEXTS)
    assert len(upper.rows) >= 3  # at most two rows each
    assert rows.cut == [0] * len(TEXTS)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Code.UNAVAILABLE, Code.UNAVAILABLE),
        (Code.NOT_FOUND, Code.UNAVAILABLE),
        (Code.INVALID_ARGUMENT, Code.INTERNAL),
        (Code.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED),
    ],
)
def test_what_the_upper_half_cannot_is_not_the_clients_mistake(folders: tuple[Path, Path], said: Code, told: Code) -> None:
    upper = Upper(folders[1])
    leg = CutLeg(folders[1], "sha256:1", CutSettings("m_upper"), upper)
    upper.error = RpcError(said, "so it is")
    with pytest.raises(RpcError, match="m_upper: so it is") as caught:
        asyncio.run(leg.ask(question(leg, TEXTS[:1]), math.inf))
    assert caught.value.code == told


def test_an_upper_half_of_another_build_refuses(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "other", task="text-classification", seed=5)
    ctx = context(tmp_path)
    CutModel().run(CutConfig(at=("rows",)), {"model": artifact(tmp_path / "other", "onnx-model")}, ctx)
    leg = CutLeg(folders[1], "sha256:1", CutSettings("m_upper"), Upper(ctx.out))
    with pytest.raises(RpcError, match="another build") as caught:
        asyncio.run(leg.ask(question(leg, TEXTS[:1]), math.inf))
    assert caught.value.code == Code.INTERNAL


def test_a_time_that_is_over_is_not_asked_for(folders: tuple[Path, Path]) -> None:
    upper = Upper(folders[1])
    leg = CutLeg(folders[1], "sha256:1", CutSettings("m_upper"), upper, clock=lambda: 5.0)
    with pytest.raises(RpcError) as caught:
        asyncio.run(leg.ask(question(leg, TEXTS), 4.0))
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert not upper.rows
