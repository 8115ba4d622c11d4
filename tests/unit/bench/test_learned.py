"""What bench-learned makes of what it measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench.few import Draw, opened
from bench.few_figures import interval, points_lost
from bench.harness.rounds import Spread
from bench.learned import CANDIDATES, FP32, GOALS, INT8, PRUNED, Model, figures, workspace
from bench.losses import SETS, student
from bench.losses_search import SETS as SEARCH_SETS
from bench.losses_search import resource

from stillhouse.api.load import load_file

RNG = np.random.default_rng(7)


def model(folder: Path, size: int, left: float = 1.0) -> Model:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(RNG.bytes(size))
    return Model(folder, left)


def scores(share: float, seeds: int = 2, items: int = 400) -> np.ndarray:
    return np.tile((np.arange(items) < share * items).astype(np.float64), (seeds, 1))


def test_points_and_shares_are_of_the_plain_students(tmp_path: Path) -> None:
    models = {
        FP32: [[model(tmp_path / "a", 1000), model(tmp_path / "b", 1000)]],
        INT8: [[model(tmp_path / "c", 250), model(tmp_path / "d", 250)]],
        "pruned-parts": [[model(tmp_path / "e", 100, 0.1), model(tmp_path / "f", 120, 0.12)]],
    }
    right = {FP32: [scores(0.6)], INT8: [scores(0.5)], "pruned-parts": [scores(0.45)]}
    found = figures(models, right, [])
    assert found["points_lost:int8"].median == pytest.approx(10.0)
    assert found["points_lost:int8"].low > 5.0
    assert found["score_kept:pruned-parts"].median == pytest.approx(0.9)  # of plain INT8, not of FP32
    assert found["points_lost:pruned-parts"].median == pytest.approx(15.0)
    assert found["size_vs_fp32:pruned-parts"] == Spread(0.11, 0.1, 0.12)
    assert found["weights_left:pruned-parts"] == Spread(0.11, 0.1, 0.12)
    assert 0.25 <= found["at_rest:int8"].median < 0.3  # random bytes do not compress
    assert not [name for name in found if name.startswith("speedup")]


def test_a_difference_is_paired_over_items_and_seeds() -> None:
    rng = np.random.default_rng(3)
    theirs = (rng.random((3, 500)) < 0.5).astype(np.float64)
    worse = theirs.copy()
    worse[:, :25] = 0.0
    lost = interval([worse], [theirs], points_lost)
    assert lost.estimate == pytest.approx(100 * (theirs.mean() - worse.mean()))
    assert 0.0 < lost.low < lost.estimate < lost.high < 6.0  # unpaired, it would reach below zero
    assert interval([theirs], [theirs], points_lost).high == 0.0


def test_every_goal_is_of_a_candidate_that_exists() -> None:
    assert {goal.partition(":")[2] for goal in GOALS} <= set(CANDIDATES)
    assert set(PRUNED) <= set(CANDIDATES)


@pytest.mark.parametrize("name", list(CANDIDATES))
def test_every_candidate_is_a_resource_that_is_accepted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.learned.open_file", load_file)
    model = workspace(Draw(0, 10, 3000, tmp_path), 11, CANDIDATES[name][0])
    assert model.spec.distill.seed == 11
    assert (model.spec.distill.stages[1].prune is not None) == (name in PRUNED)


@pytest.mark.parametrize("name", list(SETS))
def test_every_set_of_losses_is_a_resource_that_is_accepted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.few.open_file", load_file)
    model = opened(Draw(0, 10, 3000, tmp_path), 11, student(name, "0.001"))
    assert [loss.kind for loss in model.spec.distill.stages[0].losses] == [loss["kind"] for loss in SETS[name]]


@pytest.mark.parametrize("name", list(SEARCH_SETS))
def test_every_set_of_losses_of_embeddings_is_accepted_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.losses_search.cache_folder", lambda: tmp_path)
    model = load_file(resource(name, 11))
    assert [loss.kind for loss in model.spec.distill.stages[0].losses] == [loss["kind"] for loss in SEARCH_SETS[name]]
