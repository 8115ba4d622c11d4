"""What the models of `bench-end-to-end` find: reciprocal ranks, and ratios of their means over queries and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from bench.distill import embed
from bench.few_figures import ROUNDS, closed_of, interval
from bench.harness.rounds import Spread
from bench.rivals import bm25_ranks
from stillhouse.passes.ranking import ranks, reciprocal

__all__ = ["Pairs", "Scores", "bm25", "closed", "found", "kept", "mean"]

AT = 10
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Queries and their documents, in the same order; every document is a candidate of every query."""

    queries: list[str]
    documents: list[str]

    @classmethod
    def read(cls, path: Path, most: int = 0) -> Pairs:
        """Read a Parquet file with columns `query` and `document`; of more than `most` rows the first."""
        columns = pq.read_table(path).to_pydict()
        return cls(columns["query"][: most or None], columns["document"][: most or None])

    def cut(self, tokenizer: Tokenizer, tokens: int) -> Pairs:
        """Give the same texts as far as so many tokens go: what is shuffled has to be what is read."""

        def begun(text: str) -> str:
            offsets = tokenizer.encode(text, add_special_tokens=False).offsets
            return text[: offsets[tokens - 1][1]] if len(offsets) > tokens else text

        return Pairs([begun(text) for text in self.queries], [begun(text) for text in self.documents])

    def shuffled(self, seed: int = 7) -> Pairs:
        """Give the same texts with their words (what stands between spaces) in an order by lot."""
        rng = np.random.default_rng(seed)

        def mixed(text: str) -> str:
            words = text.split()
            return " ".join(words[index] for index in rng.permutation(len(words)))

        return Pairs([mixed(text) for text in self.queries], [mixed(text) for text in self.documents])


def found(label: str, folders: Sequence[Path], pairs: Pairs) -> Scores:
    """Ask models with the engine that serves: reciprocal ranks, 0 beyond the tenth, float64 [models, queries]."""
    rows = []
    texts = [*pairs.queries, *pairs.documents]
    for number, folder in enumerate(folders):
        both = embed(folder, texts, f"{label} {number + 1}/{len(folders)}")
        count = len(pairs.queries)
        rows.append(reciprocal(ranks(both[:count], both[count:]), AT))
    return np.stack(rows)


def bm25(pairs: Pairs) -> Scores:
    """Ask the simple rival; float64 [1, queries]."""
    return reciprocal(bm25_ranks(pairs.queries, pairs.documents), AT)[None]


def mean(scores: Scores) -> Spread:
    """MRR@10 with the 95 % interval of a bootstrap over queries and seeds."""
    value = interval([scores])
    return Spread.around(value)


def kept(mine: Scores, theirs: Scores) -> Spread:
    """Give the ratio of two MRR with its interval, paired by query, and by the seeds of both where both have several."""
    mine, theirs = _alike(mine, theirs)
    seeds = max(len(mine), len(theirs))
    one, other = (np.broadcast_to(side, (seeds, side.shape[1])) if len(side) == 1 else side for side in (mine, theirs))
    value = interval([np.ascontiguousarray(one)], [np.ascontiguousarray(other)])
    return Spread.around(value)


def _alike(mine: Scores, theirs: Scores) -> tuple[Scores, Scores]:
    """Give as many seeds of one as of the other, the first ones; a single row is no seed and stays."""
    both = min(len(mine), len(theirs))
    return (mine, theirs) if both == 1 else (mine[:both], theirs[:both])


def closed(mine: Scores, control: Scores, theirs: Scores) -> Spread:
    """Give (mine - control) / (theirs - control) of the means; queries are drawn together, so are seeds."""
    both = min(len(mine), len(control))
    mine, control = mine[:both], control[:both]
    seeds, count = mine.shape
    rng = np.random.default_rng(20261127)

    def scores(rows: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> list[float]:
        return [*(float(side[rows][:, items].mean()) for side in (mine, control)), float(theirs[:, items].mean())]

    draws = np.array([scores(rng.integers(0, seeds, seeds), rng.integers(0, count, count)) for _ in range(ROUNDS)])
    value = closed_of(scores(np.arange(seeds), np.arange(count)), draws, count)
    return Spread.around(value)
