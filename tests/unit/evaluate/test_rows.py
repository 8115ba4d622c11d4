"""The gate's rows: read from a dataset, sent in order, answered in order; what does not fit is named."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file
from tests.support.tiny_model import write_tiny_model

from stillhouse.clients.inference import Answer, FakeInferenceClient
from stillhouse.entrypoints.local.text import cut
from stillhouse.errors import DataError, ServerError
from stillhouse.inference.signature import ImageSpec, Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.evaluate.columns import check_texts
from stillhouse.passes.evaluate.disjoint import check_disjoint
from stillhouse.passes.evaluate.rows import GateRows, Truncation, answer_rows, read_reference, read_rows, truncation
from stillhouse.passes.sources.dataset import Description

EMBEDDING = Signature("sentence-embedding", ("input_ids", "attention_mask"), "sentence_embedding", 4)
CLASSES = Signature("text-classification", ("input_ids", "attention_mask"), "logits", 3, labels=("no", "yes", "maybe"))
IMAGES = Signature("image-classification", ("pixels",), "logits", 2, labels=("0", "1"), image=ImageSpec(2, 3, 1, (0.0,), (1.0,)))


def data(folder: Path, **columns: list[Any]) -> Artifact:
    """Write a dataset artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    pq.write_table(table, folder / "data.parquet")
    Description(tuple(columns), table.num_rows, "sha256:0", "sha256:1").write(folder)
    return Artifact("sha256:" + "0" * 64, "dataset", folder, 1)


def test_pairs_are_read(tmp_path: Path) -> None:
    rows = read_rows(data(tmp_path, query=["q1", "q2"], document=["d1", "d2"], name=["n", "m"]), EMBEDDING)
    assert rows.columns == {"query": ["q1", "q2"], "document": ["d1", "d2"]}
    assert rows.texts == ["q1", "q2", "d1", "d2"]
    assert rows.count == 2
    assert rows.truth is None


def test_what_a_model_does_not_see_of_the_text_is_counted(tmp_path: Path) -> None:
    signature = write_tiny_model(tmp_path / "model", max_length=8)
    rows = GateRows({"query": ["a file", "a file " * 5], "document": ["a file " * 4, "read the file of"]}, None, None)
    # Words and two special tokens: 4, 12, 10 and 6; at most 8 of each are read.
    found = truncation(rows, tmp_path / "model", signature)
    assert found == Truncation(max_length=8, texts=4, cut=2, tokens=4 + 8 + 8 + 6, left_out=4 + 2)
    assert cut(asdict(found)) == "2 of 4 texts cut at 8 tokens, 6 tokens left out (18.8%)"
    short = truncation(GateRows({"text": ["a file"]}, None, None), tmp_path / "model", signature)
    assert short is not None
    assert cut(asdict(short)) == "none of 1 texts cut at 8 tokens"


def test_images_are_not_cut(tmp_path: Path) -> None:
    assert truncation(GateRows({}, np.zeros((2, 2, 3, 1), np.float32), None), tmp_path, IMAGES) is None


def test_labels_are_positions_in_the_models_order(tmp_path: Path) -> None:
    rows = read_rows(data(tmp_path, text=["a", "b", "c"], label=["yes", "maybe", "yes"]), CLASSES)
    assert rows.truth is not None
    assert rows.truth.tolist() == [1, 2, 1]


def test_labels_of_an_embedding_are_not_read(tmp_path: Path) -> None:
    assert read_rows(data(tmp_path, text=["a"], label=["strange"]), EMBEDDING).truth is None


def test_images_are_shaped(tmp_path: Path) -> None:
    flat = [[float(n + 6 * row) for n in range(6)] for row in range(2)]
    rows = read_rows(data(tmp_path, image=flat, label=["0", "1"]), IMAGES)
    assert rows.arrays is not None
    assert rows.arrays.shape == (2, 1, 2, 3)
    assert rows.arrays.dtype == np.float32
    np.testing.assert_array_equal(rows.arrays[1, 0], [[6, 7, 8], [9, 10, 11]])
    assert rows.count == 2


WRONG: list[tuple[str, Signature, dict[str, list[Any]], str, str]] = [
    ("no texts", EMBEDDING, {"name": ["n"]}, "spec.gate.data.columns", "name"),
    ("half a pair", EMBEDDING, {"query": ["q"]}, "spec.gate.data.columns.document", "query"),
    ("half a pair beside a text", EMBEDDING, {"text": ["t"], "document": ["d"]}, "spec.gate.data.columns.query", "document"),
    ("no images", IMAGES, {"text": ["t"]}, "spec.gate.data.columns", "text"),
    ("images of another size", IMAGES, {"image": [[1.0, 2.0]]}, "spec.gate.data", "(2,)"),
    ("images of different sizes", IMAGES, {"image": [[1.0] * 6, [1.0]]}, "spec.gate.data", "different lengths"),
    ("an unknown label", CLASSES, {"text": ["a", "b"], "label": ["no", "perhaps"]}, "spec.gate.data", "perhaps"),
    ("labels of another type", CLASSES, {"text": ["a", "b"], "label": [3, 4]}, "spec.gate.data", "3, 4"),
    ("a label that is missing", CLASSES, {"text": ["a", "b"], "label": ["no", None]}, "spec.gate.data", "None"),
    ("no rows", EMBEDDING, {"text": []}, "spec.gate.data", ""),
]


@pytest.mark.parametrize(
    ("signature", "columns", "field", "found"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG]
)
def test_rows_that_do_not_fit_are_refused(
    tmp_path: Path, signature: Signature, columns: dict[str, list[Any]], field: str, found: str
) -> None:
    with pytest.raises(DataError) as refused:
        read_rows(data(tmp_path, **columns), signature)
    assert refused.value.problem.field == field
    assert found in refused.value.problem.found


def test_a_misspelt_column_of_pairs_is_answered_with_the_likely_one(tmp_path: Path) -> None:
    plain = data(tmp_path, document=["d"], name=["n"])
    given = dataclasses.replace(plain, facts={"unused": ["id", "Qeury"]})
    for ask in (lambda: read_rows(given, EMBEDDING, ["cosine", "mrr@10"]), lambda: check_texts(given, ("document", "name"))):
        with pytest.raises(DataError) as refused:
            ask()
        problem = refused.value.problem
        assert problem.field == "spec.gate.data.columns.query"
        assert problem.found == "document, name; without a role: id, Qeury"
        assert "query and document" in problem.allowed
        assert problem.fix == "did you mean Qeury? write columns: {query: Qeury}"


def test_a_metric_that_ranks_asks_for_pairs_before_anything_is_measured(tmp_path: Path) -> None:
    texts = data(tmp_path, text=["t"])
    assert read_rows(texts, EMBEDDING, ["cosine"]).texts == ["t"]
    with pytest.raises(DataError, match=r"mrr@5 needs query and document"):
        read_rows(texts, EMBEDDING, ["mrr@5"])


def test_the_reference_is_read_in_the_same_form(tmp_path: Path) -> None:
    query = np.array([[1, 0], [0, 1]], dtype=np.float16)
    save_file({"query": query, "document": query}, str(tmp_path / "outputs.safetensors"))
    outputs = read_reference(Artifact("", "measurement", tmp_path, 1))
    assert outputs.query is not None
    assert outputs.query.dtype == np.float32
    assert outputs.text is None


def test_the_references_logits_become_probabilities(tmp_path: Path) -> None:
    save_file({"logits": np.array([[0, 0], [1000, 0], [-1000, 0]], dtype=np.float32)}, str(tmp_path / "outputs.safetensors"))
    outputs = read_reference(Artifact("", "measurement", tmp_path, 1))
    assert outputs.probabilities is not None
    np.testing.assert_allclose(outputs.probabilities, np.array([[0.5, 0.5], [1, 0], [0, 1]]))


# answers ----------------------------------------------------------------------------------------------------------------


class Server:
    """Fake clients of one server; the embedding of a text is the number in it."""

    def __init__(self, *, classes: bool = False) -> None:
        self.classes = classes
        self.clients: list[FakeInferenceClient] = []
        self.lock = threading.Lock()

    def connect(self) -> FakeInferenceClient:
        client = FakeInferenceClient(self.answer)
        with self.lock:
            self.clients.append(client)
        return client

    def answer(self, model: str, texts: Sequence[str]) -> Answer:
        values = np.array([[float(text[1:] or 0)] for text in texts], dtype=np.float32)
        return Answer(probabilities=values, labels=[""] * len(texts)) if self.classes else Answer(embeddings=values)


@pytest.mark.parametrize("batch", [1, 7, 32, 1000])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_answers_come_back_in_the_order_of_the_rows(batch: int, workers: int) -> None:
    server = Server()
    rows = GateRows({"query": [f"q{n}" for n in range(100)], "document": [f"d{n + 500}" for n in range(100)]}, None, None)
    seen: list[tuple[int, int]] = []
    outputs = answer_rows(
        server.connect, "m", rows, batch=batch, workers=workers, progress=lambda done, total: seen.append((done, total))
    )
    assert outputs.query is not None
    assert outputs.document is not None
    assert outputs.query[:, 0].tolist() == [float(n) for n in range(100)]
    assert outputs.document[:, 0].tolist() == [float(n + 500) for n in range(100)]
    assert max(len(texts) for client in server.clients for _, texts in client.requests) <= batch
    assert all(client.closed for client in server.clients)
    assert max(seen) == (200, 200)
    assert all(0 < done <= total for done, total in seen)


def test_a_classifier_gives_probabilities() -> None:
    rows = GateRows({"text": [f"t{n}" for n in range(10)]}, None, None)
    outputs = answer_rows(Server(classes=True).connect, "m", rows, batch=3, workers=2, progress=lambda *_: None)
    assert outputs.probabilities is not None
    assert outputs.probabilities[:, 0].tolist() == list(range(10))
    assert outputs.text is None


def test_images_are_sent_as_they_are() -> None:
    server = Server(classes=True)
    rows = GateRows({}, np.zeros((5, 1, 2, 3), dtype=np.float32), None, "IMAGE")
    server.answer = lambda model, texts: Answer(probabilities=np.ones((len(texts), 2), dtype=np.float32))  # type: ignore[method-assign]
    outputs = answer_rows(server.connect, "m", rows, batch=2, workers=2, progress=lambda *_: None)
    assert outputs.probabilities is not None
    assert outputs.probabilities.shape == (5, 2)
    assert sum(client.images for client in server.clients) == 5


def test_an_error_of_the_server_is_raised_and_connections_are_closed() -> None:
    server = Server()

    def refuse(model: str, texts: Sequence[str]) -> Answer:
        raise ServerError("died")

    server.answer = refuse  # type: ignore[method-assign]
    rows = GateRows({"text": ["t1"] * 10}, None, None)
    with pytest.raises(ServerError):
        answer_rows(server.connect, "m", rows, batch=2, workers=2, progress=lambda *_: None)
    assert all(client.closed for client in server.clients)


@pytest.mark.parametrize("error", [ServerError("died"), KeyboardInterrupt()], ids=["error", "interruption"])
def test_an_error_of_one_connection_stops_the_others(error: BaseException) -> None:
    """Else Ctrl-C would take effect only after the last row."""
    server = Server()
    seen = iter(range(10**6))

    def answer(model: str, texts: Sequence[str]) -> Answer:
        if next(seen) == 5:
            raise error
        time.sleep(0.001)
        return Answer(embeddings=np.zeros((len(texts), 1), dtype=np.float32))

    server.answer = answer  # type: ignore[method-assign]
    rows = GateRows({"text": ["t1"] * 20_000}, None, None)
    with pytest.raises(type(error)):
        answer_rows(server.connect, "m", rows, batch=1, workers=2, progress=lambda *_: None)
    assert sum(len(client.requests) for client in server.clients) < 1000
    assert all(client.closed for client in server.clients)


def test_answers_without_the_tasks_outputs_are_an_error() -> None:
    server = Server()
    server.answer = lambda model, texts: Answer()  # type: ignore[method-assign]
    with pytest.raises(DataError):
        answer_rows(server.connect, "m", GateRows({"text": ["t1"]}, None, None), batch=2, workers=1, progress=lambda *_: None)


# disjoint data ----------------------------------------------------------------------------------------------------------


def test_data_that_shares_nothing_passes(tmp_path: Path) -> None:
    check_disjoint(
        {
            "data": data(tmp_path / "gate", query=["what is a"], document=["a is"]),
            "training": data(tmp_path / "train", text=["something else", "what is b"]),
            "calibration": data(tmp_path / "calibration", text=["another"]),
        }
    )
    check_disjoint({})
    check_disjoint({"training": data(tmp_path / "train", text=["x"])})


@pytest.mark.parametrize(
    ("role", "field"),
    [
        ("training", "spec.distill.data"),
        ("unlabelled", "spec.distill.unlabelled"),
        ("calibration", "spec.compress.calibration"),
        ("validation", "spec.distill.validation"),
    ],
)
@pytest.mark.parametrize("gate", [{"text": ["new", "Shared  TEXT"]}, {"query": ["new", "n"], "document": ["shared text", "m"]}])
@pytest.mark.parametrize(
    "other", [{"text": ["x", "shared text "]}, {"query": ["a"], "document": ["SHARED\ttext"], "label": ["l"]}]
)
def test_a_shared_text_is_refused_whatever_column_it_stands_in(
    tmp_path: Path, role: str, field: str, gate: dict[str, list[str]], other: dict[str, list[str]]
) -> None:
    with pytest.raises(DataError) as refused:
        check_disjoint({"data": data(tmp_path / "gate", **gate), role: data(tmp_path / role, **other)})
    problem = refused.value.problem
    assert problem.field == "spec.gate.data"
    assert field in problem.message
    assert "hared" in problem.found
    assert field in problem.fix


@pytest.mark.parametrize(("role", "field"), [("training", "spec.distill.data"), ("unlabelled", "spec.distill.unlabelled")])
def test_validation_shares_no_text_with_what_is_learned_from(tmp_path: Path, role: str, field: str) -> None:
    """What shows how training goes may one day stop it."""
    with pytest.raises(DataError) as refused:
        check_disjoint({"validation": data(tmp_path / "v", text=["a", "b"]), role: data(tmp_path / "o", text=["B", "c"])})
    problem = refused.value.problem
    assert (problem.field, problem.found[:11]) == ("spec.distill.validation", "1 of 2 rows")
    assert field in problem.fix


def test_calibration_may_read_what_validates(tmp_path: Path) -> None:
    """It may read the training's rows too, which is the default: neither is chosen by the other."""
    same = data(tmp_path / "same", text=["a"])
    check_disjoint({"validation": same, "calibration": same})


def test_a_shared_image_is_refused(tmp_path: Path) -> None:
    gate = data(tmp_path / "gate", image=[[0.0, 1.0], [0.5, 0.5]], label=["a", "b"])
    check_disjoint({"data": gate, "training": data(tmp_path / "train", image=[[1.0, 0.0]], label=["a"])})
    with pytest.raises(DataError, match="leaks"):
        check_disjoint({"data": gate, "training": data(tmp_path / "train", image=[[9.0, 9.0], [0.5, 0.5]], label=["a", "b"])})


def test_a_shared_label_or_name_is_no_leak(tmp_path: Path) -> None:
    check_disjoint(
        {
            "data": data(tmp_path / "gate", text=["a"], label=["x"], name=["n"]),
            "training": data(tmp_path / "train", text=["b"], label=["x"], name=["n"]),
        }
    )
