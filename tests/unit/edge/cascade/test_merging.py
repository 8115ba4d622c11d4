"""What a request of several rows gets is what each row would get alone, whoever answered it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cascades import DIGEST, LABELS, SIGNATURE, TableLeg, ask_body, call, policy, read
from tests.support.virtual_time import run

from stillhouse.edge.cascade.cascade import Cascade
from stillhouse.edge.cascade.policy import Policy
from stillhouse.edge.cascade.search import Index
from stillhouse.edge.cascade.stages import CascadeSettings, Stage
from stillhouse.edge.status import Code, RpcError
from stillhouse.inference.confidence import Calibration
from stillhouse.inference.outliers import OutlierRule
from stillhouse.inference.signature import Signature

NAMES = (b"a", b"b", b"c", b"d")
SMALL, LARGE = np.eye(4, 4, dtype=np.float32), np.eye(4, 6, dtype=np.float32)
EMBEDS = Signature("sentence-embedding", ("input_ids", "attention_mask"), "e", 4)
OUTPUTS = ("LABEL", "PROBABILITIES", "CONFIDENCE", "LEG", "PROVENANCE")
ROWS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.4, 0.55, 0.7, 0.9, math.nan])), min_size=1, max_size=7)


def still() -> float:
    """Be a clock that stands: nothing here is about time."""
    return 1000.0


def spread(text: str, shift: int) -> list[float]:
    """Give the probabilities that a text names: its label and how sure it is, here a label further."""
    at, sure = text.split(":")
    found = [(1 - float(sure)) / 2] * 3
    found[(int(at) + shift) % 3] = float(sure)
    return found


def classifier(unsure: Any = "escalate", three: bool = False) -> tuple[Cascade, list[TableLeg]]:
    legs = [TableLeg(name, still, lambda text, at=at: spread(text, at)) for at, name in enumerate(("edge", "middle", "cloud"))]
    if not three:
        del legs[1]
    thresholds = (0.8, 0.6) if three else (0.6,)
    stages = [Stage(leg, policy(limit)) for leg, limit in zip(legs, thresholds, strict=False)] + [Stage(legs[-1], None)]
    return Cascade("m", SIGNATURE, stages, CascadeSettings(unsure=unsure), clock=still), legs


def ask(cascade: Cascade, texts: list[str], *outputs: str, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return run(_ask(cascade, texts, *outputs, **how))


async def _ask(cascade: Cascade, texts: list[str], *outputs: str, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return read((await cascade.infer(call(), ask_body(texts, *outputs, **how))).message)


@given(ROWS, st.sampled_from(["escalate", "abstain"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_rows_together_are_rows_alone(rows: list[tuple[int, float]], unsure: str, three: bool) -> None:
    texts = [f"{at}:{sure}" for at, sure in rows]

    async def main() -> None:
        cascade, _ = classifier(unsure, three)
        how: Any = {"parameters": {"provenance": True}}
        together, told = await _ask(cascade, texts, *OUTPUTS, **how)
        alone = [await _ask(cascade, [each], *OUTPUTS, **how) for each in texts]
        for name in OUTPUTS:
            rows_alone = np.concatenate([tensors[name] for tensors, _ in alone])
            np.testing.assert_array_equal(together[name], rows_alone, err_msg=name)
        legs = {parameters["leg"] for _, parameters in alone}
        assert told["leg"] == (legs.pop() if len(legs) == 1 else "mixed")
        assert told["escalated"] == sum(parameters["escalated"] for _, parameters in alone)
        sure = [parameters["confidence"] for _, parameters in alone]
        np.testing.assert_equal(told["confidence"], math.nan if any(map(math.isnan, sure)) else min(sure))

    run(main())


def test_only_what_is_below_the_threshold_goes_on_and_in_order() -> None:
    cascade, (edge, cloud) = classifier()
    tensors, told = ask(cascade, ["0:0.9", "1:0.5", "2:0.7", "0:0.4"], *OUTPUTS)
    assert edge.asked == [["0:0.9", "1:0.5", "2:0.7", "0:0.4"]] and cloud.asked == [["1:0.5", "0:0.4"]]
    assert tensors["LEG"].ravel().tolist() == [b"edge", b"cloud", b"edge", b"cloud"]
    assert tensors["LABEL"].ravel().tolist() == [b"no", b"no", b"perhaps", b"perhaps"]
    np.testing.assert_allclose(tensors["CONFIDENCE"].ravel(), [0.9, 0.5, 0.7, 0.4], atol=1e-6)
    assert (told["leg"], told["escalated"], told["threshold"]) == ("mixed", 2, 0.6)
    assert (told["variant"], told["confidence"]) == ("v-edge,v-cloud", pytest.approx(0.4))
    assert "away" not in told


def test_what_a_client_gets_that_asks_for_nothing_special() -> None:
    cascade, (_, cloud) = classifier()
    tensors, told = ask(cascade, ["2:0.9"])
    assert list(tensors) == ["LABEL", "PROBABILITIES"] and not cloud.asked
    assert told == {
        "variant": "v-edge", "digest": DIGEST, "leg": "edge", "confidence": pytest.approx(0.9), "threshold": 0.6, "escalated": 0,
    }  # fmt: skip


def test_an_unusual_input_escalates_or_nobody_answers_it() -> None:
    texts = ["0:0.9", "0:nan"]
    tensors, told = ask(classifier("escalate")[0], texts, *OUTPUTS)
    assert tensors["LEG"].ravel().tolist() == [b"edge", b"cloud"] and math.isnan(told["confidence"])
    cascade, (_, cloud) = classifier("abstain")
    tensors, told = ask(cascade, texts, *OUTPUTS)
    assert tensors["LEG"].ravel().tolist() == [b"edge", b"none"] and not cloud.asked
    assert tensors["LABEL"].ravel().tolist() == [b"no", b""]
    assert np.isnan(tensors["PROBABILITIES"][1]).all() and (told["abstained"], told["leg"]) == (1, "mixed")
    assert cascade.figures.abstained == 1 and cascade.figures.answered == {"edge": 1, "none": 1}
    assert cascade.figures.unsure == 1 and sum(cascade.figures.bins) == 1


def test_classes_as_the_protocols_extension_has_them() -> None:
    from stillhouse.edge.oip.messages import message

    cascade, _ = classifier()
    request = message("ModelInferRequest").FromString(ask_body(["1:0.9"]))
    request.outputs.add(name="PROBABILITIES").parameters["classification"].int64_param = 2

    async def main() -> Any:
        return read((await cascade.infer(call(), request.SerializeToString())).message)

    found = run(main())[0]["PROBABILITIES"]
    assert found.tolist() == [[f"0.900000:1:{LABELS[1]}".encode(), b"0.050000:0:no"]]


def search(large: Any = LARGE, rule: OutlierRule | None = None, unsure: Any = "escalate") -> tuple[Cascade, list[TableLeg]]:
    """A text is the row that it means, and how far towards the next one: the larger model finds the row after it."""

    def embed(text: str, table: Any, shift: int) -> list[float]:
        at, off = text.split(":")
        mixed = table[(int(at) + shift) % 4] * (1 - float(off)) + table[(int(at) + 1 + shift) % 4] * float(off)
        return list(mixed / np.linalg.norm(mixed))

    small, larger = Index(SMALL, NAMES, 3), Index(large, NAMES, 3)
    held = Policy(
        "sentence-embedding", "int8", DIGEST, Calibration("identity", "peak", neighbours=3), 0.9, rule, 2, small, larger
    )
    edge = TableLeg("edge", still, lambda text: embed(text, SMALL, 0), index=small)
    cloud = TableLeg("cloud", still, lambda text: embed(text, large, 1), index=larger)
    return Cascade("m", EMBEDS, [Stage(edge, held), Stage(cloud, None)], CascadeSettings(unsure=unsure), clock=still), [
        edge,
        cloud,
    ]


def test_a_search_is_answered_in_each_legs_own_index() -> None:
    cascade, (_, cloud) = search()
    tensors, told = ask(cascade, ["0:0.1", "1:0.49", "2:0"], "NEIGHBOR", "SCORE", "LEG")
    assert tensors["LEG"].ravel().tolist() == [b"edge", b"cloud", b"edge"] and told["leg"] == "mixed"
    assert tensors["NEIGHBOR"].tolist() == [[b"a", b"b"], [b"c", b"d"], [b"c", b"a"]]
    assert tensors["SCORE"].dtype == np.float32 and tensors["SCORE"].shape == (3, 2)
    assert cloud.asked == [["1:0.49"]]


@pytest.mark.parametrize("large", [LARGE, SMALL])
def test_embeddings_of_one_answer_are_of_one_space(large: Any) -> None:
    cascade, (_, cloud) = search(large)
    tensors, told = ask(cascade, ["0:0.1", "1:0.49"])
    assert tensors["EMBEDDING"].shape == (2, large.shape[1]) and (told["leg"], told["escalated"]) == ("cloud", 2)
    assert cloud.asked == [["0:0.1", "1:0.49"]]
    tensors, told = ask(cascade, ["0:0.1"], "EMBEDDING", "NEIGHBOR")
    assert tensors["EMBEDDING"].shape == (1, 4) and told["leg"] == "edge"


def test_an_unusual_input_is_flagged_or_refused_where_that_is_asked_for() -> None:
    rule = OutlierRule("centroid", 0.5, (1.0, 0.0, 0.0, 0.0))
    cascade, (_, cloud) = search(rule=rule, unsure="flag")
    tensors, told = ask(cascade, ["0:0.1", "2:0.1"], "NEIGHBOR", "CONFIDENCE")
    assert (told["leg"], told["outlier"], cloud.asked) == ("edge", 1, []) and (tensors["CONFIDENCE"] > 0.9).all()
    cascade, (_, cloud) = search(rule=rule, unsure="refuse")
    with pytest.raises(RpcError) as caught:
        ask(cascade, ["0:0.1", "2:0.1", "3:0.1"], "NEIGHBOR")
    assert caught.value.code == Code.INVALID_ARGUMENT and "rows 1, 2:" in caught.value.message and not cloud.asked
    assert "outlier" not in ask(cascade, ["0:0.1"], "NEIGHBOR")[1]


def test_an_embedding_far_from_all_goes_on() -> None:
    cascade, _ = search(rule=OutlierRule("nearest", 0.001))
    _, told = ask(cascade, ["0:0.1"], "NEIGHBOR")
    assert told["leg"] == "cloud" and math.isnan(told["confidence"])
    cascade, _ = search(rule=OutlierRule("centroid", 0.5, (1.0, 0.0, 0.0, 0.0)))
    assert ask(cascade, ["0:0.1"], "NEIGHBOR")[1]["leg"] == "edge"
    assert ask(cascade, ["2:0.1"], "NEIGHBOR")[1]["leg"] == "cloud"
