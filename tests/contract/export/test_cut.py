"""A model in two halves gives what the whole one gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import helper, numpy_helper
from tests.support.artifacts import artifact, context
from tests.support.tiny_model import write_tiny_model

from stillhouse.errors import DataError, SourceError, SpecError
from stillhouse.inference.engine import Engine
from stillhouse.inference.halves import CUT_FILE, Cut, HalfSession, packed, sent, travelled, unpacked
from stillhouse.inference.preprocess.base import Around
from stillhouse.inference.preprocess.chain import load_chain
from stillhouse.passes.base import Artifact
from stillhouse.passes.compress.cut import CutConfig, CutModel, described
from stillhouse.passes.compress.frontier import halves, places
from stillhouse.passes.compress.masks import sizes_of_mask

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
        (("nothing",), "no such tensor"),
        (("sentence_embedding",), "no such tensor"),
        (("rows", "kept", "wide"), "rows"),
    ],
)  # fmt: skip
def test_what_is_no_frontier_is_refused_with_names(model: Artifact, at: tuple[str, ...], says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        halves(onnx.load(model.path / "model.onnx"), at, "sentence_embedding")
    assert caught.value.problem.field == "spec.edge.cut.layer"


def test_the_places_that_may_be_used_are_named_and_can_be_used(model: Artifact, tmp_path: Path) -> None:
    graph = onnx.load(model.path / "model.onnx")
    names = places(graph, "sentence_embedding")
    assert names == ("rows", "kept", "total", "mean0")
    with pytest.raises(SpecError) as caught:
        halves(graph, ("layer.7",), "sentence_embedding")
    assert caught.value.problem.allowed == "rows, kept, total, mean0"
    for name in names:
        assert halves(graph, (name,), "sentence_embedding")[2] == (name,)


def test_sizes_that_are_the_masks_are_read_of_it_and_others_are_left(model: Artifact) -> None:
    graph = onnx.load(model.path / "model.onnx")
    graph.graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "one"))
    added = [
        helper.make_node("Shape", ["kept"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "one"], ["tokens"]),
        helper.make_node("Cast", ["tokens"], ["long"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Div", ["mean0", "long"], ["scaled"]),
    ]
    at = [node.output[0] for node in graph.graph.node].index("sentence_embedding")
    for node in reversed(added):
        graph.graph.node.insert(at, node)
    graph.graph.node[at + len(added)].input[0] = "scaled"
    feeds = [{"input_ids": np.full((n, n + 2), 5), "attention_mask": np.ones((n, n + 2), np.int64)} for n in (1, 4)]
    assert "mean0" not in places(graph, "sentence_embedding")
    assert "mean0" in places(sizes_of_mask(graph, feeds, "sentence_embedding"), "sentence_embedding")
    # The width is no size of the mask: read there it would not be found.
    graph.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.array(2, np.int64), "one"))
    assert sizes_of_mask(graph, feeds, "sentence_embedding") is graph


@pytest.mark.parametrize("encoding", ["", "fp16", "int8-rows"])
def test_what_is_sent_is_what_is_declared_and_what_travelled(model: Artifact, tmp_path: Path, encoding: str) -> None:
    ctx = context(tmp_path)
    CutModel().run(CutConfig(at=("rows",), encoding=encoding, max_difference=0.05), {"model": model}, ctx)
    lower = HalfSession(ctx.out, "lower")
    feed = {"input_ids": np.array([[2, 5, 3], [2, 7, 3]]), "attention_mask": np.array([[1, 1, 1], [1, 1, 1]])}
    made = lower.run(feed)
    on_wire = packed(lower.cut, {**feed, **made})
    assert list(on_wire) == [each.name for each in sent(lower.cut)]
    for spec in sent(lower.cut):
        spec.check(on_wire[spec.name])
    found, wanted = unpacked(lower.cut, on_wire), {**feed, **travelled(made, encoding)}
    for name in lower.cut.upper:
        np.testing.assert_array_equal(found[name], wanted[name])
    with pytest.raises(SourceError, match="cannot be batched"):
        sent(replace(lower.cut, encoding="int8+zstd"))
    with pytest.raises(DataError, match="another build"):
        unpacked(lower.cut, {**on_wire, "CUT": on_wire["CUT"] + 2})


def test_it_is_held_against_the_whole_on_the_gates_rows_and_says_what_travels(model: Artifact, tmp_path: Path) -> None:
    texts = [*TEXTS, "read the file", "ready"]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"query": texts, "document": texts}), tmp_path / "data" / "data.parquet")
    rows, ctx = artifact(tmp_path / "data", "dataset"), context(tmp_path)
    facts = CutModel().run(CutConfig(at=("rows",), encoding="fp16", max_difference=0.01), {"model": model, "data": rows}, ctx)
    assert facts.rows == 2 * len(texts)
    assert facts.sent == ("CUT INT64 [n, 1]", "rows FP16 [n, tokens, 16]", "attention_mask INT64 [n, tokens]")
    tokens = [len(text.split()) + 2 for text in texts]
    assert facts.sent_bytes == pytest.approx(sum(8 + each * (16 * 2 + 8) for each in tokens) / len(texts))
    assert facts.text_bytes == pytest.approx(sum(map(len, texts)) / len(texts))
    said = " ".join(described(facts))
    assert "the text alone would be smaller" in said
    assert "rows FP16 [n, tokens, 16]" in said
    with pytest.raises(SourceError) as caught:
        config = CutConfig(at=("rows",), encoding="int8-rows", max_difference=0.0)
        CutModel().run(config, {"model": model, "data": rows}, context(tmp_path / "again"))
    assert "sentence_embedding of row" in caught.value.problem.found


def test_what_an_encoding_changes_too_much_is_refused(model: Artifact, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="do not give") as caught:
        CutModel().run(CutConfig(at=("rows",), encoding="int8", max_difference=1e-6), {"model": model}, context(tmp_path))
    assert caught.value.problem.field == "spec.edge.cut.encoding"
    assert "sentence_embedding of row" in caught.value.problem.found


def test_a_damaged_cut_is_refused(tmp_path: Path) -> None:
    for text in ("[", "[]", "{}", '{"version": 2}', '{"version": 1, "tensors": 3}'):
        (tmp_path / CUT_FILE).write_text(text)
        with pytest.raises(SourceError):
            Cut.read(tmp_path)
