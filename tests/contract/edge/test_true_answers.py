"""That an answer of the cascade is true: labels, probabilities and calibration are of the models that really answer."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.cascade_site import DOWN, Cloud, Site, half_go_on
from tests.support.cascades import DIGEST, ask_body, call, read
from tests.support.wire import run

from stillhouse.edge.assembly.gateway import assemble
from stillhouse.edge.cascade.away import AwaySettings
from stillhouse.edge.cascade.cascade import Cascade
from stillhouse.edge.cascade.engine import EngineLeg, EngineSettings
from stillhouse.edge.cascade.policy import load
from stillhouse.edge.cascade.question import Reader
from stillhouse.edge.cascade.remote import Remote, RemoteLeg
from stillhouse.edge.cascade.stages import Stage
from stillhouse.edge.config import read as read_config
from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.wire.client import Channel
from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import Signature

TEXTS = ["read a file", "the path of a value", "", "write the name of the list", "open", "return"]
LABELS = ["no", "yes", "perhaps"]
BODY = ask_body(TEXTS, "PROBABILITIES", "LEG")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classifiers; half of the texts go on."""
    return half_go_on(tmp_path_factory.mktemp("texts"), TEXTS)


def on(folder: Path, work: Callable[[Site], Coroutine[Any, Any, None]], **how: Any) -> None:
    async def main() -> None:
        async with Site.run(folder, **how) as site:
            await work(site)

    run(main())


async def ask(cascade: Cascade) -> tuple[np.ndarray[Any, Any], list[bytes], dict[str, Any]]:
    tensors, told = read((await cascade.infer(call(), BODY)).message)
    return tensors["PROBABILITIES"], tensors["LEG"].ravel().tolist(), told


def test_the_larger_models_labels_are_asked_for_and_put_into_our_order(texts: Path, caplog: pytest.LogCaptureFixture) -> None:
    small, large = Engine(texts / "edge").predict(TEXTS), Engine(texts / "cloud").predict(TEXTS)
    turned = [LABELS.index(each) for each in ("perhaps", "no", "yes")]

    async def work(site: Site) -> None:
        site.cloud.labels = ["perhaps", "no", "yes"]
        going = None
        for _ in range(3):
            if going is not None:
                site.cloud.instead = large[going][:, turned]  # as a server of that order answers
            _, legs, _ = await ask(site.cascade)
            going = np.array([leg == b"cloud" for leg in legs])
        values, legs, told = await ask(site.cascade)
        assert "away" not in told and legs.count(b"cloud") == 3
        np.testing.assert_allclose(values, np.where(going[:, np.newaxis], large, small), atol=1e-6)
        assert site.cloud.configs == 1, "a request does not pay for it"
        assert site.cascade.larger == ("reordered", "")
        # Another server comes, of another label set: it is not asked, and it is said why.
        site.cloud.labels, site.cloud.restarts = ["no", "yes", "never"], 1
        asked = len(site.cloud.requests)
        for _ in range(3):
            values, legs, told = await ask(site.cascade)
            assert (told["away"], set(legs)) == ("answer", {b"edge"})
            np.testing.assert_allclose(values, small, atol=1e-6)
        assert (len(site.cloud.requests), site.cloud.configs) == (asked, 2)
        assert site.cascade.larger is not None and "never" in site.cascade.larger[1]
        assert site.cascade.larger[0] == "differ" and "has other labels than the small one" in caplog.text
        # One that tells none is believed, as ever.
        site.cloud.labels, site.cloud.instead, site.cloud.restarts = None, None, 2
        values, legs, told = await ask(site.cascade)
        assert "away" not in told and site.cascade.larger == ("not told", "")
        np.testing.assert_allclose(values, np.where(going[:, np.newaxis], large, small), atol=1e-6)

    with caplog.at_level(logging.WARNING):
        on(texts, work)
    assert caplog.text.count("does not tell its labels") == 1


@pytest.mark.parametrize("bad", [[0.5, 0.7, 0.9], [1.5, -0.5, 0.0], [np.nan, 0.5, 0.5], [0.1, 0.1, 0.1]])
def test_a_row_that_is_no_probabilities_takes_no_other_one_along(texts: Path, bad: list[float]) -> None:
    small = Engine(texts / "edge").predict(TEXTS)

    async def work(site: Site) -> None:
        site.cloud.instead = np.array([[0.1, 0.2, 0.7], bad, [0.7, 0.2, 0.1004]])
        values, legs, told = await ask(site.cascade)
        assert (told["away"], told["leg"], told["escalated"]) == ("answer", "mixed", 3)
        assert legs.count(b"cloud") == 2 and np.isfinite(values).all()
        right = [row for row, leg in enumerate(legs) if leg == b"cloud"]
        np.testing.assert_allclose(values[right], site.cloud.instead[[0, 2]], atol=1e-6)
        rest = [row for row, leg in enumerate(legs) if leg == b"edge"]
        np.testing.assert_allclose(values[rest], small[rest], atol=1e-6)
        site.cloud.instead = np.array([bad] * 3)
        _, legs, told = await ask(site.cascade)
        assert (told["away"], told["leg"]) == ("answer", "edge")

    on(texts, work)


def test_where_the_policy_is_to_fail_a_bad_row_fails_its_request(texts: Path) -> None:
    async def work(site: Site) -> None:
        site.cloud.instead = np.array([[0.1, 0.2, 0.7], [3.0, 0.0, 0.0], [0.7, 0.2, 0.1]])
        with pytest.raises(RpcError, match="the larger model is away: INTERNAL") as caught:
            await site.cascade.infer(call(), BODY)
        assert caught.value.code == Code.UNAVAILABLE

    on(texts, work, away=AwaySettings("fail"))


def test_a_calibration_is_not_trusted_for_another_model_than_its_own(texts: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first leg is a server: its model is replaced under the gateway."""

    async def work(site: Site) -> None:
        near = Cloud(texts / "edge")
        near.digest = DIGEST
        await near.listen()
        signature = Signature.read(texts / "edge")
        remote = Remote("large", variant="int8", digest=DIGEST, checked=True)
        edge = RemoteLeg(remote, Channel(f"127.0.0.1:{near.port}"), signature, name="edge", finite=False)
        cascade = Cascade("m", signature, [Stage(edge, load(texts / "cascade", DIGEST)), Stage(site.cascade.ways[0], None)])
        _, legs, told = await ask(cascade)
        assert (legs.count(b"edge"), cascade.served) == (3, None) and "calibration" not in told
        near.digest = "sha256:" + "9" * 64
        for _ in range(2):
            _, legs, told = await ask(cascade)
            assert (set(legs), told["calibration"], told["escalated"]) == ({b"cloud"}, "stale", 6)
        assert cascade.served == near.digest
        site.cloud.error = DOWN
        values, legs, told = await ask(cascade)
        assert (set(legs), told["away"], told["calibration"]) == ({b"edge"}, "answer", "stale")
        assert np.isfinite(values).all() and np.isnan(told["confidence"])
        assert told["digest"] == near.digest, "of who answered"
        site.cloud.error, near.digest = None, DIGEST
        _, legs, told = await ask(cascade)
        assert (cascade.served, "calibration" in told) == (None, False)
        await edge.close()
        await near.end()

    with caplog.at_level(logging.ERROR):
        on(texts, work)
    assert caplog.text.count("not trusted") == 1


def test_a_row_of_a_dynamically_quantized_model_does_not_depend_on_who_asks_beside_it(texts: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = tmp_path / "int8"
    shutil.copytree(texts / "edge", folder)
    (folder / "model.onnx").unlink()
    quantize_dynamic(texts / "edge" / "model.onnx", folder / "model.onnx", weight_type=QuantType.QInt8)
    engine = Engine(folder)
    alone = np.concatenate([engine.predict([each]) for each in TEXTS])
    assert np.abs(engine.predict(TEXTS) - alone).max() > 1e-5, "else this shows nothing"

    async def main() -> None:
        leg = EngineLeg(folder, DIGEST, EngineSettings("int8"))
        question = Reader(leg.signature, 32, searched=False).read(BODY, ())
        rows = await leg.ask(question, math.inf)
        np.testing.assert_allclose(rows.values, alone, atol=1e-7)
        assert rows.batch == len(TEXTS), "and they are one turn of the thread"
        await leg.close()

    run(main())


def test_status_says_why_a_larger_model_of_other_labels_is_not_asked(texts: Path, tmp_path: Path) -> None:
    async def main() -> None:
        cloud = Cloud(texts / "cloud")
        cloud.labels = ["no", "yes", "never"]
        await cloud.listen()
        about = {
            "version": 1, "name": "m", "listen": {"grpc": "127.0.0.1:0"},
            "edge": {"kind": "engine", "folder": str(texts / "edge"), "digest": DIGEST, "variant": "int8"},
            "cascade": {
                "folder": str(texts / "cascade"),
                "larger": {"kind": "backends", "model": "large", "backends": {f"127.0.0.1:{cloud.port}": 1.0}},
            },
            "away": {"policy": "answer"},
        }  # fmt: skip
        (tmp_path / "gateway.json").write_text(json.dumps(about))
        parts = await assemble(read_config(tmp_path / "gateway.json"), lambda call: "client", 1 << 20)
        assert parts.status is not None
        assert parts.status()["cloud"]["labels"] == {"state": "unknown", "words": ""}
        _, told = read((await parts.answering["m"].infer(call(), BODY)).message)
        assert told["away"] == "answer" and not cloud.requests
        status = parts.status()
        assert status["cloud"]["labels"]["state"] == "differ" and "never" in status["cloud"]["labels"]["words"]
        assert status["model"]["calibration"] is None
        for close in parts.closing:
            await close()
        await cloud.end()

    run(main())
