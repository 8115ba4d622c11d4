"""Steps as the YAML says them become steps that run; what belongs to another kind is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.tiny_model import write_tiny_model

from stillhouse.api.preprocess import PreprocessingStep, chain_file
from stillhouse.inference.preprocess.base import Around
from stillhouse.inference.preprocess.chain import load_chain

HERE = "tests.support.step_functions"
TENSOR = {"name": "IN", "datatype": "FP32", "shape": [-1, 2]}
BAND = {"low": "0", "high": "25"}
GOOD: list[list[dict[str, Any]]] = [
    [{"kind": "tokenise", "maxLength": 8, "padding": "full", "datatype": "INT32"}],
    [{"kind": "image", "height": 4, "width": 5, "channels": 1, "mean": ["-0.5"], "std": ["0.2"], "maxPixels": 100}],
    [
        {"kind": "window", "length": 8, "hop": 4, "merge": True},
        {"kind": "statistics", "names": ["mean", "median"], "quantiles": ["0.9"], "rate": "50", "bands": [BAND]},
        {"kind": "normalise", "mean": ["0"], "std": ["1.5"], "clip": "3", "output": "X"},
    ],
    [{"kind": "python", "function": f"{HERE}:doubled", "inputs": [TENSOR], "outputs": [{**TENSOR, "name": "OUT"}]}],
]  # fmt: skip


@pytest.mark.parametrize("steps", GOOD)
def test_what_the_resource_says_is_what_runs(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    data = chain_file(tuple(PreprocessingStep.model_validate(each) for each in steps))
    chain = load_chain(data, Around(tmp_path, frozenset({HERE})))
    assert [step.kind for step in chain.steps] == [each["kind"] for each in steps]
    assert chain.outputs


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"kind": "window", "length": 8}, "needs length, hop"),
        ({"kind": "window", "length": 8, "hop": 1, "rate": "5"}, "rate belongs to statistics only"),
        ({"kind": "tokenise", "output": "X"}, "output belongs to"),
        ({"kind": "tokenise", "padding": "full"}, "needs maxLength"),
        ({"kind": "normalise", "mean": ["1", "2"], "std": ["1"]}, "as many"),
        ({"kind": "normalise", "mean": ["1"], "std": ["0.0"]}, "more than 0"),
        ({"kind": "statistics", "bands": [{"low": "0", "high": "1"}]}, "rate"),
        ({"kind": "python", "function": "os", "inputs": [TENSOR], "outputs": [TENSOR]}, "function"),
        ({"kind": "magic"}, "kind"),
    ],
)
def test_what_does_not_belong_is_refused(step: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PreprocessingStep.model_validate(step)
