"""Rows of tables and windows of time series: what a signature says of them, what is refused, and how they are typed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.tiny_model import SERIES, TABLE, write_tiny_model

from stillhouse.entrypoints.local.numbers import read_features, shown_row
from stillhouse.errors import DataError, SourceError
from stillhouse.inference.engine import Engine
from stillhouse.inference.preprocess.base import Around
from stillhouse.inference.preprocess.chain import load_chain
from stillhouse.inference.signature import Signature

ROW = {"größe": 4.5, "age": 1, "mean radius": 2, "height": -3e10, "label": "yes"}


@pytest.mark.parametrize(
    ("task", "shape"), [("tabular-classification", (4,)), ("time-series-classification", (6, 2))], ids=["table", "series"]
)
def test_a_model_answers_raw_numbers_and_refuses_others(task: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    write_tiny_model(tmp_path, task=task)
    engine = Engine(tmp_path)
    assert engine.signature == Signature.from_json(json.loads((tmp_path / "signature.json").read_text("utf-8")))
    assert (engine.signature.tensor, engine.signature.shape, engine.is_text) == ("FEATURES", shape, False)
    engine.warm_up(4)
    values = np.random.default_rng(0).normal(50, 20, (3, *shape)).astype(np.float32)
    answers = engine.predict_arrays(values)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(engine.predict_arrays(values[1:2]).argmax(1), answers[1:2].argmax(1))
    with pytest.raises(DataError) as caught:
        engine.predict_arrays(np.zeros((2, *shape[:-1], shape[-1] + 1), np.float32))
    assert caught.value.problem.field == "FEATURES"
    assert f"[n, {', '.join(map(str, shape))}]" in caught.value.problem.allowed
    values[2].reshape(-1)[3] = np.nan
    with pytest.raises(DataError, match="not finite") as caught:
        engine.predict_arrays(values)
    assert caught.value.problem.found.startswith("nan in row 3, " + ("column größe" if shape == (4,) else "sample 2, channel 2"))
    with pytest.raises(DataError, match="takes features, not texts"):
        engine.run_texts(["a"])


def test_only_features_are_new_in_a_signature(tmp_path: Path) -> None:
    text = write_tiny_model(tmp_path / "text")
    assert "features" not in json.loads((tmp_path / "text" / "signature.json").read_text("utf-8"))
    assert text.takes_texts and text.tensor == "TEXT" and text.shape == ()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"shape": [4, 1]}, "features.shape"),
        ({"shape": []}, "features.shape"),
        ({"shape": [0]}, "features.shape"),
        ({"columns": ["a"]}, "features.columns"),
        ({"columns": ["a", "b", "c", "a"]}, "features.columns"),
        ({"mean": [1.0]}, "features.mean"),
        ({"mean": [1.0, 2.0, 3.0, float("nan")]}, "features.mean"),
        ({"std": [1.0, 2.0, 3.0, 0.0]}, "features.std"),
        ({"std": "1234"}, "signature.json"),
        ({"more": []}, "signature.json"),
    ],
)
def test_a_signature_that_is_none_is_refused(changed: dict[str, Any], field: str) -> None:
    whole = Signature("tabular-classification", ("x",), "y", 2, ("a", "b"), features=TABLE).to_json()
    with pytest.raises(SourceError) as caught:
        Signature.from_json({**whole, "features": {**dataclasses.asdict(TABLE), **changed}})
    assert field in caught.value.problem.field


def test_features_belong_to_their_tasks() -> None:
    image = Signature("image-classification", ("x",), "y", 2, ("a", "b"), features=TABLE).to_json()
    with pytest.raises(SourceError):
        Signature.from_json(image)
    with pytest.raises(SourceError):
        Signature.from_json({**image, "task": "tabular-classification", "features": None})


@pytest.mark.parametrize("typed", [json.dumps(ROW), "1, 2,-3e10,4.5", "[1, 2, -3e10, 4.5]"])
def test_a_row_is_typed_by_its_columns_or_in_their_order(typed: str) -> None:
    np.testing.assert_array_equal(read_features([typed], TABLE), np.array([[1, 2, -3e10, 4.5]], np.float32))


def test_a_window_is_typed_flat_or_nested() -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    for typed in (values.tolist(), values.ravel().tolist(), {"features": values.tolist(), "label": "x"}):
        np.testing.assert_array_equal(read_features([json.dumps(typed)], SERIES), values[None])


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("1,2,3", "3 numbers"),
        ("1,2,3,x", "no number"),
        ("", "an empty line"),
        ("[1, 2, 3, null]", "not finite, or missing"),
        ("[1, 2, 3, 1e39]", "not finite"),
        ("[1, 2, 3, [4]]", "no number"),
        ("[1, 2", "no JSON"),
        ('{"age": 1}', "it has no mean radius"),
    ],
)
def test_what_is_no_row_is_told_with_its_number(typed: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read_features(["1,2,3,4", typed], TABLE)
    problem = caught.value.problem
    assert problem.field == "INPUTS" and "4 numbers" in problem.allowed
    assert problem.found.startswith("row 2: ") and says in problem.found


def test_a_misspelt_column_is_recognised() -> None:
    with pytest.raises(DataError) as caught:
        read_features([json.dumps({**ROW, "groesse": 1} | {"größe": 1}).replace("mean radius", "mean_radius")], TABLE)
    assert caught.value.problem.fix == "did you mean mean_radius?"


def test_steps_at_the_edge_end_in_what_such_models_take(tmp_path: Path) -> None:
    signal = np.random.default_rng(1).normal(9, 2, (2, 20, 2)).astype(np.float32)
    window: dict[str, Any] = {"kind": "window", "length": 6, "hop": 6, "merge": True}
    statistics = {"kind": "statistics", "names": ["mean", "std"]}
    ends = {
        "tabular-classification": [window, statistics],
        "time-series-classification": [{**window, "output": "FEATURES"}],
    }
    for task, steps in ends.items():
        write_tiny_model(tmp_path / task, task=task)  # type: ignore[arg-type]
        engine = Engine(tmp_path / task)
        chain = load_chain({"version": 1, "steps": steps}, Around(tmp_path, frozenset()))
        assert [each.name for each in chain.outputs] == [engine.signature.tensor]
        features = chain.run({"SIGNAL": signal})["FEATURES"]
        assert features.shape == (6, *engine.signature.shape)
        assert engine.predict_arrays(features).shape == (6, 3)


def test_long_rows_are_shown_by_their_beginning() -> None:
    assert shown_row("a text that is rather long, and stays as long as it is, because it is no row of numbers").endswith(
        "numbers"
    )
    assert shown_row(json.dumps(list(range(100)))).endswith("…")
