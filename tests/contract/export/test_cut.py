"""A model in two halves gives what the whole one gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.support.artifacts import artifact, context
from tests.support.tiny_model import write_tiny_model

from stillhouse.errors import SourceError, SpecError
from stillhouse.inference.engine import Engine
from stillhouse.inference.halves import CUT_FILE, Cut, HalfSession, travelled
from stillhouse.inference.preprocess.base import Around
from stillhouse.inference.preprocess.chain import load_chain
from stillhouse.passes.base import Artifact
from stillhouse.passes.compress.cut import CutConfig, CutModel, halves

TEXTS = ("open the file", "a", "return the list of path name value")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder)
    return artifact(folder, "onnx-model")


@pytest.mark.parametrize(
    ("at", "encoding", "most"),
    [
        (("rows",), "", 1e-5),
        (("mean0",), "zstd", 1e-5),
        (("rows",), "fp16", 1e-3),
        (("mean0",), "int8-rows", 0.02),
        (("kept", "wide"), "", 1e-5),
    ],
)  # fmt: skip
def test_texts_through_both_halves(model: Artifact, tmp_path: Path, at: tuple[str, ...], encoding: str, most: float) -> None:
    ctx = context(tmp_path)
    facts = CutModel().run(CutConfig(at=at, encoding=encoding, max_difference=most), {"model": model}, ctx)
    assert facts.tensors == at
    assert facts.difference <= most
    assert (facts.difference > 0) == (encoding in ("fp16", "int8-rows"))
    cut = Cut.read(ctx.out)
    assert [each.name for each in cut.tensors] == list(at)
    assert [each.shape[-1] for each in cut.tensors] == [16, 1][: len(at)]
    assert cut.lower == (("input_ids", "attention_mask") if at != ("rows",) else ("input_ids",))
    assert cut.upper == ((*at, "attention_mask") if at == ("rows",) else at)
    tokens = load_chain({"version": 1, "steps": [{"kind": "tokenise"}]}, Around(ctx.out)).run(
        {"TEXT": np.array([[each.encode()] for each in TEXTS], dtype=object)}
    )
    between = travelled(HalfSession(ctx.out, "lower").run(tokens), encoding)
    for spec in cut.tensors:
        spec.check(between[spec.name])
    found = HalfSession(ctx.out, "upper").run({**tokens, **between})["sentence_embedding"]
    np.testing.assert_allclose(found, Engine(model.path).embed(TEXTS), atol=most)


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (("kept",), "wide"),
        (("nothing",), "no such tensor"),
        (("sentence_embedding",), "no such tensor"),
        (("rows", "kept", "wide"), "rows"),
    ],
)  # fmt: skip
def test_what_is_no_frontier_is_refused_with_names(model: Artifact, at: tuple[str, ...], says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        halves(onnx.load(model.path / "model.onnx"), at, "sentence_embedding")
    assert caught.value.problem.field == "at"


def test_what_an_encoding_changes_too_much_is_refused(model: Artifact, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="do not give") as caught:
        CutModel().run(CutConfig(at=("rows",), encoding="int8", max_difference=1e-6), {"model": model}, context(tmp_path))
    assert caught.value.problem.field == "encoding"


def test_a_damaged_cut_is_refused(tmp_path: Path) -> None:
    for text in ("[", "[]", "{}", '{"version": 2}', '{"version": 1, "tensors": 3}'):
        (tmp_path / CUT_FILE).write_text(text)
        with pytest.raises(SourceError):
            Cut.read(tmp_path)
