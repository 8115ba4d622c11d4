"""The retrieval index: the corpus as the chosen model sees it. The client searches it, the server only embeds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stillhouse.inference.engine import Engine
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.sources.dataset import read_columns

__all__ = ["BuildIndex", "IndexConfig", "IndexFacts"]

BLOCK = 64


class IndexConfig(PassConfig):
    """Nothing to choose."""


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """Rows of the index, the dimension of its vectors, and the model that made it."""

    rows: int
    dimension: int
    model: str


class BuildIndex(Pass[IndexConfig, IndexFacts]):
    """Embeds every text of the corpus with the same engine that the server uses."""

    name = "index"
    version = 1
    kind = "index"
    config_type = IndexConfig

    def run(self, config: IndexConfig, inputs: Mapping[str, Artifact], ctx: Context) -> IndexFacts:
        """Write `index.parquet`, `embeddings.npy` float32 [rows, dimension] and `index.json` into `ctx.out`."""
        data, model = inputs["data"], inputs["model"]
        texts = read_columns(data.path, ["text"])["text"]
        engine = Engine(model.path, ctx.threads)
        embeddings = np.empty((len(texts), engine.signature.dimension), dtype=np.float32)
        for start in range(0, len(texts), BLOCK):
            embeddings[start : start + BLOCK] = engine.embed(texts[start : start + BLOCK])
            ctx.progress.update(min(start + BLOCK, len(texts)), len(texts), "rows")
        np.save(ctx.out / "embeddings.npy", embeddings)
        shutil.copyfile(data.path / "data.parquet", ctx.out / "index.parquet")
        facts = IndexFacts(rows=len(texts), dimension=int(embeddings.shape[1]), model=model.digest)
        record = {"version": 1, "rows": facts.rows, "dimension": facts.dimension, "model": model.digest, "data": data.digest}
        (ctx.out / "index.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return facts
