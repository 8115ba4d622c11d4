"""A gateway with a model between the small and the larger one: which leg answers, and what happens while one is away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.cascade_site import DOWN, Cloud
from tests.support.cascades import DIGEST, ask_body, call, read, write_cascade
from tests.support.tiny_model import write_tiny_model
from tests.support.wire import run

from stillhouse.edge.assembly.gateway import assemble
from stillhouse.edge.cascade.cascade import Cascade
from stillhouse.edge.config import Config
from stillhouse.errors import SourceError, UsageError
from stillhouse.inference.confidence import Calibration
from stillhouse.inference.engine import Engine

TEXTS = [
    "read a file",
    "the path of a value",
    "",
    "write the name of the list",
    "open",
    "return",
    "the file of a list",
    "a value",
]
MIDDLE = "sha256:" + "5" * 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classifiers: the first keeps half of the texts, the second half of what it gets."""
    folder = tmp_path_factory.mktemp("stages")
    for seed, name in enumerate(("edge", "middle", "cloud")):
        write_tiny_model(folder / name, task="text-classification", seed=seed)
    sure, next_ = (Engine(folder / name).predict(TEXTS).max(axis=1) for name in ("edge", "middle"))
    threshold = float(np.median(sure))
    between = float(np.median(next_[sure < threshold]))
    write_cascade(folder / "cascade", threshold=threshold, stages=2, middle=part(between))
    return folder


def part(threshold: float | None) -> dict[str, Any]:
    calibration = Calibration("identity").to_json()
    return {"model": "large", "digest": MIDDLE, "variant": "fp32", "calibration": calibration, "threshold": threshold}


def config(folder: Path, middle: Cloud | None, cloud: Cloud) -> Config:
    def at(server: Cloud) -> dict[str, Any]:
        return {"kind": "backends", "model": "large", "backends": {f"127.0.0.1:{server.port}": 1.0}}

    between = {} if middle is None else {"middle": at(middle)}
    given = {
        "version": 1,
        "name": "m",
        "listen": {"grpc": "127.0.0.1:0"},
        "edge": {"kind": "engine", "folder": str(folder / "edge"), "digest": DIGEST, "variant": "int8"},
        "cascade": {"folder": str(folder / "cascade"), "larger": at(cloud), **between},
    }
    return Config.model_validate(given)


def test_each_row_is_answered_by_the_first_leg_that_is_sure(folder: Path) -> None:
    engines = {name: Engine(folder / name) for name in ("edge", "middle", "cloud")}

    async def main() -> None:
        middle, cloud = Cloud(folder / "middle"), Cloud(folder / "cloud")
        await middle.listen()
        await cloud.listen()
        parts = await assemble(config(folder, middle, cloud), lambda each: "me", 1 << 20)
        cascade = parts.answering["m"]
        assert isinstance(cascade, Cascade)
        body = ask_body(TEXTS, "PROBABILITIES", "LEG", parameters={"trace": True})
        outputs, told = read((await cascade.infer(call(), body)).message)
        legs = [each.decode() for each in outputs["LEG"].ravel()]
        assert set(legs) == {"edge", "middle", "cloud"}
        for row, leg in enumerate(legs):
            expected = engines[leg].predict([TEXTS[row]])[0]
            np.testing.assert_allclose(outputs["PROBABILITIES"][row], expected, rtol=1e-4)
        assert told["leg"] == "mixed"
        assert {"trace_edge_ms", "trace_middle_ms", "trace_cloud_ms"} <= set(told)
        assert told["escalated"] == legs.count("middle") + legs.count("cloud")
        assert len(middle.requests[-1].raw_input_contents) == 1
        assert middle.requests[-1].inputs[0].shape[0] == told["escalated"]
        assert cloud.requests[-1].inputs[0].shape[0] == legs.count("cloud")
        assert parts.status is not None
        assert set(parts.status()["cloud"]["breakers"]) == {"middle", "cloud"}

        middle.error = DOWN  # then the next is asked
        outputs, told = read((await cascade.infer(call(), body)).message)
        assert "away" not in told
        away = [each.decode() for each in outputs["LEG"].ravel()]
        assert away == ["edge" if each == "edge" else "cloud" for each in legs]

        middle.error, cloud.error = None, DOWN  # then what there is of an answer is given, the best one of each row
        outputs, told = read((await cascade.infer(call(), body)).message)
        assert told["away"] == "answer"
        still = [each.decode() for each in outputs["LEG"].ravel()]
        assert still == ["middle" if each == "cloud" else each for each in legs]
        for close in parts.closing:
            await close()
        await middle.end()
        await cloud.end()

    run(main())


def test_what_the_artifact_and_the_configuration_say_of_it_must_fit(folder: Path, tmp_path: Path) -> None:
    async def main() -> None:
        middle, cloud = Cloud(folder / "middle"), Cloud(folder / "cloud")
        with pytest.raises(UsageError, match="model between"):
            await assemble(config(folder, None, cloud), lambda each: "me", 1 << 20)
        for name in ("edge", "middle", "cloud"):
            (tmp_path / name).symlink_to(folder / name)
        write_cascade(tmp_path / "cascade", stages=1)  # as before there were any
        with pytest.raises(UsageError, match="model between"):
            await assemble(config(tmp_path, middle, cloud), lambda each: "me", 1 << 20)
        parts = await assemble(config(tmp_path, None, cloud), lambda each: "me", 1 << 20)
        assert parts.status is not None
        assert set(parts.status()["cloud"]["breakers"]) == {"cloud"}
        write_cascade(tmp_path / "cascade", stages=2, middle={**part(0.5), "threshold": "high"})
        with pytest.raises(SourceError, match="damaged"):
            await assemble(config(tmp_path, middle, cloud), lambda each: "me", 1 << 20)
        for close in parts.closing:
            await close()

    run(main())
