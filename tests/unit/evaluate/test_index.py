"""The index: the corpus as the chosen model sees it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.artifacts import Recorder, context
from tests.support.tiny_model import WORDS, write_tiny_model

from stillhouse.errors import DataError
from stillhouse.inference.engine import Engine
from stillhouse.passes.base import Artifact
from stillhouse.passes.evaluate.index import BuildIndex, IndexConfig
from stillhouse.passes.sources.dataset import Description


def corpus(folder: Path, **columns: list[str]) -> Artifact:
    folder.mkdir()
    table = pa.table(columns)
    pq.write_table(table, folder / "data.parquet")
    Description(tuple(columns), table.num_rows, "sha256:0", "sha256:1").write(folder)
    return Artifact("sha256:" + "d" * 64, "dataset", folder, 1)


def model(folder: Path) -> Artifact:
    write_tiny_model(folder)
    return Artifact("sha256:" + "a" * 64, "revision", folder, 1)


@pytest.mark.parametrize("rows", [1, 64, 150])
def test_every_text_has_its_vector_in_its_place(tmp_path: Path, rows: int) -> None:
    rng = np.random.default_rng(rows)
    texts = [" ".join(rng.choice(WORDS[4:], int(rng.integers(1, 12)))) for _ in range(rows)]
    names = [f"name-{n}" for n in range(rows)]
    given = {"model": model(tmp_path / "model"), "data": corpus(tmp_path / "data", text=texts, name=names)}
    progress = Recorder()
    ctx = context(tmp_path, progress)
    facts = BuildIndex().run(IndexConfig(), given, ctx)

    embeddings = np.load(ctx.out / "embeddings.npy")
    assert (facts.rows, facts.dimension, facts.model) == (rows, 16, given["model"].digest)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, np.stack([Engine(tmp_path / "model").embed([text])[0] for text in texts]), atol=1e-6)
    table = pq.read_table(ctx.out / "index.parquet")
    assert table["name"].to_pylist() == names
    assert table["text"].to_pylist() == texts
    record = json.loads((ctx.out / "index.json").read_text())
    assert record == {"version": 1, "rows": rows, "dimension": 16, "model": given["model"].digest, "data": given["data"].digest}
    assert progress.updates[-1][:3] == (rows, rows, "rows")


def test_a_corpus_without_texts_is_refused(tmp_path: Path) -> None:
    given = {"model": model(tmp_path / "model"), "data": corpus(tmp_path / "data", name=["n"])}
    with pytest.raises(DataError, match="text"):
        BuildIndex().run(IndexConfig(), given, context(tmp_path))
