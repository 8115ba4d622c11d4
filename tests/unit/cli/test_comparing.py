"""Two revisions beside each other: figures with their intervals, and whether the two are told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.stores import digest

from stillhouse.clients.store.local import LocalStore
from stillhouse.passes.evaluate.intervals import Interval

from .conftest import Still


def figure(estimate: float | None, low: float | None, high: float | None, n: int = 500) -> dict[str, Any]:
    return {"estimate": estimate, "low": low, "high": high, "n": n}


def revision(name: str, figures: dict[str, Any], size: int = 1000) -> dict[str, Any]:
    return {"digest": digest(name), "precision": "int8", "size": size, "figures": figures}


@pytest.fixture
def compared(still: Still, tmp_path: Path) -> Any:
    def run(before: dict[str, Any], after: dict[str, Any], sizes: tuple[int, int] = (1000, 1000)) -> tuple[dict[str, Any], str]:
        store = LocalStore(tmp_path / "store")
        first, second = revision("before", before, sizes[0]), revision("after", after, sizes[1])
        store.write_state("tiny", {"name": "tiny", "revision": second, "history": [first]})
        line = ["compare", first["digest"][:19], "tiny"]
        asked = still(*line, "-o", "json")
        assert asked.code == 0, asked.err
        data = json.loads(asked.out)
        assert yaml.safe_load(still(*line, "-o", "yaml").out) == data
        return {row["name"]: row for row in data["rows"]}, still(*line).out

    return run


def test_figures_are_shown_and_told_with_their_intervals(compared: Any) -> None:
    before, after = figure(0.8, 0.75, 0.85), figure(0.9, 0.87, 0.93)
    rows, text = compared({"accuracy": before}, {"accuracy": after})
    assert (rows["accuracy"]["a"], rows["accuracy"]["b"]) == (before, after)
    assert rows["accuracy"]["ratio"] == pytest.approx(1.125)
    assert "0.8000 [0.7500, 0.8500]" in text
    assert "0.9000 [0.8700, 0.9300]" in text


def test_what_noise_may_explain_is_not_told_apart(compared: Any) -> None:
    rows, text = compared(
        {"accuracy": figure(0.80, 0.75, 0.85), "cosine": figure(0.80, 0.75, 0.85)},
        {"accuracy": figure(0.84, 0.80, 0.88), "cosine": figure(0.90, 0.86, 0.94)},
    )
    assert {name: row["apart"] for name, row in rows.items()} == {
        "precision": None, "size": False, "accuracy": False, "cosine": True,
    }  # fmt: skip
    lines = {line.split()[0]: line.rstrip() for line in text.splitlines()}
    assert lines["accuracy"].endswith("1.050 ~")
    assert lines["cosine"].endswith("1.125")
    assert "~ the 95 % intervals have values in common: not told apart from no difference" in text


def test_where_all_is_told_apart_nothing_is_explained(compared: Any) -> None:
    rows, text = compared({"accuracy": figure(0.8, 0.75, 0.85)}, {"accuracy": figure(0.9, 0.87, 0.93)}, sizes=(1000, 1001))
    assert rows["accuracy"]["apart"] is True
    assert rows["size"]["apart"] is True, "a size is counted"
    assert "~" not in text


def test_an_end_that_could_not_be_bounded_tells_nothing_apart(compared: Any) -> None:
    rows, text = compared({"latencyP99": figure(0.010, 0.009, None)}, {"latencyP99": figure(0.030, 0.02, 0.04)})
    assert rows["latencyP99"]["apart"] is False
    assert "~" in text
    rows, _ = compared({"latencyP99": figure(0.010, 0.009, 0.011)}, {"latencyP99": figure(0.030, 0.02, None)})
    assert rows["latencyP99"]["apart"] is True, "from below it is bounded"


def test_a_figure_of_one_of_them_is_compared_with_nothing(compared: Any) -> None:
    rows, text = compared(
        {"accuracy": figure(0.8, 0.75, 0.85), "mrr@10": figure(None, None, None)}, {"mrr@10": figure(0.5, 0.4, 0.6)}
    )
    assert (rows["accuracy"]["b"], rows["accuracy"]["ratio"], rows["accuracy"]["apart"]) == (None, None, None)
    assert (rows["mrr@10"]["ratio"], rows["mrr@10"]["apart"]) == (None, None)
    assert "~" not in text


def test_a_revision_is_not_told_apart_from_itself(still: Still, tmp_path: Path) -> None:
    figures = {"accuracy": figure(0.8, 0.75, 0.85), "agreement": figure(0.0, 0.0, 0.1)}
    LocalStore(tmp_path / "store").write_state("tiny", {"name": "tiny", "revision": revision("one", figures)})
    rows = json.loads(still("compare", "tiny", "tiny", "-o", "json").out)["rows"]
    assert {row["name"]: row["apart"] for row in rows[1:]} == {"size": False, "accuracy": False, "agreement": False}
    assert rows[-1]["ratio"] is None, "of 0 there is no ratio"


@pytest.mark.parametrize("interval", [Interval(0.5, 0.4, 0.6, 10), Interval(0.5, float("-inf"), float("inf"), 3)])
def test_a_stored_interval_is_read_as_it_was(interval: Interval) -> None:
    assert Interval.from_json(json.loads(json.dumps(interval.to_json(), allow_nan=False))) == interval


def test_intervals_reach_each_other_where_they_share_a_value() -> None:
    middle = Interval(0.5, 0.4, 0.6, 10)
    assert middle.reaches(Interval(0.7, 0.6, 0.8, 10))
    assert Interval(0.7, 0.6, 0.8, 10).reaches(middle)
    assert not middle.reaches(Interval(0.7, 0.61, 0.8, 10))
    assert middle.reaches(Interval(0.5, 0.49, 0.51, 10))
    assert not middle.reaches(Interval(*[float("nan")] * 3, 10))


def test_below_a_share_of_the_teacher_stand_the_figures_it_is_of(compared: Any) -> None:
    share = {**figure(0.74, 0.65, 0.84), "student": figure(0.58, 0.5, 0.66), "teacher": figure(0.78, 0.71, 0.84)}
    rows, text = compared({"accuracy / teacher": figure(0.7, 0.6, 0.8)}, {"accuracy / teacher": share})  # the first is older
    assert rows["accuracy / teacher"]["apart"] is False
    assert (rows["accuracy of the teacher"]["a"], rows["accuracy of the teacher"]["b"]) == (None, share["teacher"])
    assert rows["accuracy of the student"]["ratio"] is None
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "accuracy / teacher 0.7000 [0.6000, 0.8000] 0.7400 [0.6500, 0.8400] 1.057 ~" in lines
    assert "accuracy of the student - 0.5800 [0.5000, 0.6600]" in lines
