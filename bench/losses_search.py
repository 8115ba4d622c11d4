"""`make bench-losses`, of sentence embeddings: what losses teach the quickstart's student, from the same rows, in as many steps.

docstring-search: the teacher is MiniLM, the student the quickstart's (a fitted bag of tokens and one layer of convolutions),
which reads 16,000 texts for four epochs at the example's own rates. Every row is one set of `losses`; weights bring the terms
of a set to about the same size at the start and were not tuned, but for the first set, which is the example's and was. The
start is fitted to the teacher's answers whatever the losses are: row `its start`.

For each set, over seeds and all pairs, in INT8, with the 95 % interval of a paired bootstrap over queries and seeds:
  kept      share of the teacher's MRR@10
  vs_first  MRR@10 over that of the first set
  cosine    mean cosine of 1,000 documents' embeddings to the teacher's (range over the seeds)

Example:
    python -m bench.losses_search --split validation
    python -m bench.losses_search --split test --seeds 7 8 9 10 11
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from bench.compress_measure import answers
from bench.end_to_end_quality import Pairs, Scores, bm25, found, kept, mean
from bench.end_to_end_students import DATA, INT8, SEARCH, SOURCES
from bench.harness.command import reported
from bench.harness.errors import BenchError
from bench.harness.parallel import over
from bench.harness.paths import cache_folder
from bench.harness.results import cells, quoted, table, write_results
from bench.harness.rounds import Spread
from bench.ours import MODELS, carry_out
from stillhouse.entrypoints.local.display import showing
from stillhouse.entrypoints.local.workspace import open_file

FIRST, START, TEACHER = "embedding + contrastive", "its start", "teacher"
_NEAR = {"kind": "embedding", "weight": "4"}
SETS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    FIRST: (_NEAR, {"kind": "contrastive", "weight": "1"}),
    START: (_NEAR,),
    "embedding": (_NEAR,),
    "embedding + similarity": (_NEAR, {"kind": "similarity", "weight": "1"}),
    "embedding + relational": (_NEAR, {"kind": "relational-distance"}, {"kind": "relational-angle"}),
    "embedding + contrastive-teacher": (_NEAR, {"kind": "contrastive-teacher", "weight": "1"}),
    "similarity": ({"kind": "similarity"},),
    "contrastive": ({"kind": "embedding", "weight": "0"}, {"kind": "contrastive", "weight": "1"}),
}
COSINES = 1000


def resource(name: str, seed: int) -> Path:
    """Write the example's resource with a set of losses and a seed, for its INT8 student alone."""
    document = yaml.safe_load((SEARCH / "distilledmodel.yaml").read_text("utf-8"))
    spec = document["spec"]
    stage = spec["distill"]["stages"][0]
    stage["losses"] = [dict(loss) for loss in SETS[name]]
    if name == START:  # as near to no training as the file allows: one epoch in which nothing moves
        stage |= {"epochs": 1, "learningRate": "0.000000001", "embeddingLearningRate": "0.000000001"}
    spec["distill"]["seed"] = seed
    spec["compress"] = {"precision": "int8"}
    for key in ("gate", "index", "serve", "scale"):
        spec.pop(key, None)
    folder = cache_folder() / "losses"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' + ', '-').replace(' ', '-')}-{seed}.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return path


@dataclass(frozen=True)
class Asked:
    """What a model answered: reciprocal ranks float64 [1, queries], embeddings of some documents float32 [COSINES, width]."""

    scores: Scores
    embeddings: npt.NDArray[np.float32]

    @classmethod
    def of(cls, name: str, folder: Path, pairs: Pairs) -> Asked:
        """Ask for all pairs; `name` is for the progress."""
        return cls(found(name, [folder], pairs), answers(folder, pairs.documents[:COSINES]))


def of_seed(options: argparse.Namespace, seed: int | None) -> dict[str, Asked]:
    """Make the students of a seed where the store lacks them, and ask them by the names of the sets; None: the teacher."""
    pairs = Pairs.read(DATA / f"{options.split}.parquet")
    with showing() as listener:
        if seed is None:
            folder = carry_out(open_file(MODELS / "minilm-fp32.yaml", sources=SOURCES), "compress/fp32", listener).path
            return {TEACHER: Asked.of(TEACHER, folder, pairs)}
        folders = {
            name: carry_out(open_file(resource(name, seed), sources=SOURCES), INT8, listener).path for name in options.sets
        }
    return {name: Asked.of(f"{name}, seed {seed}", folder, pairs) for name, folder in folders.items()}


def measure(options: argparse.Namespace) -> int:
    """Train, ask, print and write everything.

    Raises:
        BenchError: the data is missing.
    """
    if not (DATA / f"{options.split}.parquet").is_file():
        raise BenchError(f"no {DATA}/{options.split}.parquet: python examples/docstring-search/build_data.py")
    teacher, *seeds = over(functools.partial(of_seed, options), [None, *options.seeds], options.processes)
    pairs = Pairs.read(DATA / f"{options.split}.parquet")
    scores: dict[str, Scores] = {"BM25": bm25(pairs), TEACHER: teacher[TEACHER].scores}
    scores |= {name: np.concatenate([asked[name].scores for asked in seeds]) for name in options.sets}
    theirs = teacher[TEACHER].embeddings
    ratios: dict[str, Spread] = {}
    for name in options.sets:
        ratios[f"kept:{name}"] = kept(scores[name], scores[TEACHER])
        if FIRST in options.sets and name != FIRST:
            ratios[f"vs_first:{name}"] = kept(scores[name], scores[FIRST])
        near = [float((asked[name].embeddings * theirs).sum(axis=1).mean()) for asked in seeds]
        ratios[f"cosine:{name}"] = Spread.of(near)
    kinds = ("kept", "vs_first", "cosine")
    rows = [["BM25", quoted(mean(scores["BM25"]), 4), "", "", ""], [TEACHER, quoted(mean(scores[TEACHER]), 4), "", "", ""]]
    for name in options.sets:
        rows.append([name, quoted(mean(scores[name]), 4), *cells(ratios, kinds, name)])
    print("\n" + table(["", "MRR@10", *kinds], rows))
    settings = {**vars(options), "pairs": len(pairs.queries)}
    write_results(options.name, settings=settings, runs=[], ratios=ratios)
    return 0


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="of start and training (7)")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS), help="of losses")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--processes", type=int, default=1, help="seeds that are made and asked at once, and the teacher (1)")
    parser.add_argument("--name", default="losses_search", help="of the result file")
    options = parser.parse_args()
    return reported("bench-losses", measure, options)


if __name__ == "__main__":
    sys.exit(main())
