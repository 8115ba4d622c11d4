"""A cascade's folder: what is read, and that whatever is damaged is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.cascades import DIGEST, write_cascade

from stillhouse.edge.cascade.policy import load
from stillhouse.errors import SourceError
from stillhouse.inference.outliers import OutlierRule

NAMES = ("a", "b", "ü")
EDGE = np.eye(3, 4, dtype=np.float32)
LARGER = np.eye(3, 6, dtype=np.float32)
BAD = np.array([[1, 0], [0.5, 0.5], [0, 1]], dtype=np.float32)
NAN = np.array([[1, 0], [np.nan, 0], [0, 1]], dtype=np.float32)


def search(folder: Path, **changed: Any) -> Path:
    return write_cascade(folder, task="sentence-embedding", names=NAMES, **{"edge": EDGE, "larger": LARGER, **changed})


def test_a_classifiers(tmp_path: Path) -> None:
    rule = OutlierRule("energy", -1.5)
    found = load(write_cascade(tmp_path, threshold=0.75, outliers=rule.to_json()), DIGEST)
    assert (found.task, found.variant, found.digest, found.threshold) == ("text-classification", "int8", DIGEST, 0.75)
    assert (found.outliers, found.needs_logits, found.edge, found.k) == (rule, True, None, 0)
    assert found.solved == {"escalation": 0.2}


def test_a_searchs(tmp_path: Path) -> None:
    found = load(search(tmp_path, threshold=None), DIGEST)
    assert found.threshold == math.inf and found.k == 2
    assert found.edge is not None and found.larger is not None
    assert (found.edge.dimension, found.larger.dimension, found.edge.names[2]) == (4, 6, "ü".encode())
    near = found.edge.search(np.array([[0, 0, 1, 0]], dtype=np.float32))
    assert near.rows.shape == (1, 3), "as many as the confidence needs, though a client gets two"
    assert found.edge.names[near.rows[0, 0]] == "ü".encode()
    assert isinstance(found.edge.vectors, np.memmap)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"version": 2}, "version"),
        ({"task": "poetry"}, "task"),
        ({"variant": 3}, "variant"),
        ({"digest": ""}, "digest"),
        ({"digest": "sha256:" + "2" * 64}, "digest"),
        ({"stages": 0}, "stages"),
        ({"stages": True}, "stages"),
        ({"threshold": "high"}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"calibration": None}, "calibration"),
        ({"calibration": {"version": 1, "kind": "platt", "signal": "logits", "parameters": {"slope": -1}}}, "calibration"),
        (
            {"calibration": {"version": 1, "kind": "identity", "signal": "top", "parameters": {"neighbours": 3}}},
            "calibration.signal",
        ),
        ({"outliers": {"version": 1, "kind": "energy"}}, "outliers"),
        ({"outliers": 3}, "outliers"),
        ({"outliers": OutlierRule("nearest", 0.5).to_json()}, "outliers.kind"),
        ({"retrieval": {"k": 3}}, "retrieval"),
    ],
)
def test_what_is_wrong_with_a_classifiers_is_named(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    with pytest.raises(SourceError) as caught:
        load(write_cascade(tmp_path, **changed), DIGEST)
    assert caught.value.problem.field == f"{tmp_path / 'cascade.json'}: {named}"
    assert caught.value.problem.fix


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"retrieval": None}, "cascade.json: retrieval.k"),
        ({"retrieval": {"k": 0}}, "cascade.json: retrieval.k"),
        ({"retrieval": {"k": True}}, "cascade.json: retrieval.k"),
        ({"outliers": OutlierRule("energy", 0.5).to_json()}, "cascade.json: outliers.kind"),
        ({"outliers": OutlierRule("centroid", 0.5, (1.0, 0.0)).to_json()}, "cascade.json: outliers.centroid"),
        ({"edge": EDGE[:2]}, "edge.npy"),
        ({"edge": EDGE.astype(np.float64)}, "edge.npy"),
        ({"larger": LARGER[0]}, "larger.npy"),
        ({"larger": BAD}, "larger.npy"),
        ({"larger": NAN}, "larger.npy"),
        ({"larger": np.array([{}], dtype=object)}, "larger.npy"),
    ],
)
def test_what_is_wrong_with_a_searchs_is_named(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    with pytest.raises(SourceError) as caught:
        load(search(tmp_path, **changed), DIGEST)
    assert caught.value.problem.field == str(tmp_path / named)


@pytest.mark.parametrize("name", ["cascade.json", "names.json", "edge.npy", "larger.npy"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "noise"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    path = search(tmp_path) / name
    whole = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "noise": b"\xff\x00" * 50}[damage])
    with pytest.raises(SourceError) as caught:
        load(tmp_path, DIGEST)
    assert caught.value.problem.field.startswith(str(path))


@pytest.mark.parametrize("names", [[], {"a": 1}, ["a", "b", 3], ["a", "b", "\ud800"]])
def test_names_that_are_none(tmp_path: Path, names: Any) -> None:
    path = search(tmp_path) / "names.json"
    path.write_text(json.dumps(names))
    with pytest.raises(SourceError) as caught:
        load(tmp_path, DIGEST)
    assert caught.value.problem.field == str(path)


def test_a_threshold_that_is_no_json(tmp_path: Path) -> None:
    path = write_cascade(tmp_path, threshold=math.nan) / "cascade.json"
    assert "NaN" in path.read_text()
    with pytest.raises(SourceError, match="not readable"):
        load(tmp_path, DIGEST)
