"""`make bench-learned`: what of a student is left that learned to be pruned, or to be rounded (quantization-aware training).

`examples/docstring-topics-few` with ten labels a class. The student has two layers of width 128 with eight heads (`init: svd`,
8,000 tokens); it learns the teacher's logits of 3,000 texts for four epochs, and then for four more in which

  (nothing goes)   plain: exported as FP32, `int8`, `int8-static`, and taught on for `int8-qat` (`compress.qat`, its defaults)
  pruned-parts     heads 87.5 %, feed-forward neurons 92 %: shapes are really smaller; `int8`
  pruned-weights   single weights 90 %; `int8`

For each candidate, over folds, seeds and all test texts (every text of a fold once), with the 95 % interval of a paired bootstrap
over items and seeds:
  points_lost      accuracy of plain FP32 less its own, in points
  score_kept       its accuracy over that of plain INT8: what pruning alone costs
  size_vs_fp32     bytes of its graph to those of plain FP32's; at_rest: the same as the store keeps them
  weights_left     of the weights outside of embeddings (pruned candidates): the share that is there and not zero
  speedup          texts a second to plain FP32's, first fold and seed: one process, one thread, interleaved rounds

Everything goes through the passes and the store of `still build`, so a run that was stopped goes on; `--seeds` and `--folds` may
grow. Figures of the split `test` are for releases; tune on `validation`.

Example:
    python -m bench.learned --split validation
    python -m bench.learned --split test --folds 0 1 2 3 4 --seeds 7 8 9 10 11
"""

from __future__ import annotations

import argparse
import copy
import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from bench.compress import at_rest, graph, say, speedups
from bench.compress_measure import Held, answers
from bench.few import Draw, prepare, resource
from bench.few_figures import interval, points_lost
from bench.harness.command import reported
from bench.harness.goals import judge
from bench.harness.load import Mode
from bench.harness.parallel import over
from bench.harness.results import cells, quoted, table, write_results
from bench.harness.rounds import ROUNDS, Run, Spread, rounds
from bench.ours import carry_out
from stillhouse.entrypoints.local.display import showing
from stillhouse.entrypoints.local.workspace import Workspace, open_file
from stillhouse.inference.signature import Signature
from stillhouse.passes.runner import Listener

SHOTS, ROWS, EPOCHS = 10, 3000, 4
STUDENT: Mapping[str, Any] = {
    "hiddenLayers": 2,
    "hiddenSize": 128,
    "attentionHeads": 8,
    "init": "svd",
    "vocabulary": {"maxSize": 8000},
}
PARTS, WEIGHTS = {"heads": "87.5%", "neurons": "92%"}, {"weights": "90%"}
FP32, INT8 = "fp32", "int8"
# Candidate → (what goes in the second stage, the step that makes it).
CANDIDATES: Mapping[str, tuple[Mapping[str, str], str]] = {
    FP32: ({}, "compress/fp32"),
    INT8: ({}, "compress/int8"),
    "int8-static": ({}, "compress/int8-static"),
    "int8-qat": ({}, "compress/int8-qat"),
    "pruned-parts": (PARTS, "compress/int8"),
    "pruned-weights": (WEIGHTS, "compress/int8"),
}
PRUNED = ("pruned-parts", "pruned-weights")
GOALS = {
    "points_lost:int8-static": "<= 1",
    "points_lost:int8-qat": "<= 0.3",
    "score_kept:pruned-parts": ">= 0.85",
    "score_kept:pruned-weights": ">= 0.85",
}
PHASE = "speed"


@dataclass(frozen=True)
class Model:
    """A candidate of one fold and seed: where it lies, and the share of weights that pruning left (1: not pruned)."""

    folder: Path
    left: float


def workspace(draw: Draw, seed: int, prune: Mapping[str, str]) -> Workspace:
    """Open the example's resource with this student, two stages of soft targets, and no gate."""
    document = resource(draw, seed, STUDENT)
    spec, distill = document["spec"], document["spec"]["distill"]
    soft = {**distill["stages"][0], "epochs": EPOCHS}
    further = {**copy.deepcopy(soft), "name": "further", **({"prune": dict(prune)} if prune else {})}  # YAML without aliases
    distill["stages"] = [soft, further]
    spec["compress"] = {"precision": "int8"} if prune else {"precision": "auto", "goal": "fast", "qat": {}}
    if prune:
        del spec["gate"]  # the others' goal needs one; its step is not wanted and does not run
    else:
        spec["gate"]["data"] = {"uri": f"file://{draw.folder}/data/gate.parquet"}
    path = draw.folder / f"learned-{'-'.join(prune) or 'plain'}.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return open_file(path)


def make(draw: Draw, seed: int, names: Sequence[str], listener: Listener) -> dict[str, Model]:
    """Make candidates where the store lacks them."""
    made = {}
    for name in names:
        prune, step = CANDIDATES[name]
        work = workspace(draw, seed, prune)
        folder = carry_out(work, step, listener).path
        pruned = carry_out(work, "train/further", listener).facts.get("pruned") if prune else None
        made[name] = Model(folder, pruned["after"] / pruned["before"] if pruned else 1.0)
    return made


def of_fold(options: argparse.Namespace, names: Sequence[str], fold: int) -> list[dict[str, Model]]:
    """Make a fold's candidates, for every seed."""
    draw = prepare(fold, SHOTS, ROWS)
    with showing() as listener:
        return [make(draw, seed, names, listener) for seed in options.seeds]


def right(folder: Path, texts: Sequence[str], labels: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return float64 [texts], 1 where the model says the label."""
    names = np.array(Signature.read(folder).labels)
    said = names[answers(folder, texts).argmax(1)]
    return np.equal(said, np.array(labels)).astype(np.float64)


def figures(
    models: Mapping[str, Sequence[Sequence[Model]]],
    scores: Mapping[str, Sequence[npt.NDArray[np.float64]]],
    runs: Sequence[Run],
) -> dict[str, Spread]:
    """Return every ratio; `models` by candidate, fold and seed, `scores` by candidate and fold float64 [seeds, items]."""
    sizes = {
        name: [sum(path.stat().st_size for path in graph(model.folder)) for fold in found for model in fold]
        for name, found in models.items()
    }
    found: dict[str, Spread] = {}
    for name in models:
        if name == FP32:
            continue
        found[f"points_lost:{name}"] = Spread.around(interval(scores[name], scores[FP32], points_lost))
        if name in PRUNED and INT8 in models:
            found[f"score_kept:{name}"] = Spread.around(interval(scores[name], scores[INT8]))
            found[f"weights_left:{name}"] = Spread.of([model.left for fold in models[name] for model in fold])
        shares = [mine / whole for mine, whole in zip(sizes[name], sizes[FP32], strict=True)]
        found[f"size_vs_fp32:{name}"] = Spread.of(shares)
        kept = [1 - at_rest(graph(model.folder)) for fold in models[name] for model in fold]
        found[f"at_rest:{name}"] = Spread.of([share * rest for share, rest in zip(shares, kept, strict=True)])
        if runs:
            found[f"speedup:{name}"] = speedups(runs, name, FP32)
    return found


def measure(options: argparse.Namespace) -> int:
    """Make, ask, time, print and write everything; 1 where a goal is missed."""
    names = [FP32, *(name for name in options.candidates if name != FP32)]
    models: dict[str, list[list[Model]]] = {name: [] for name in names}
    scores: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in names}
    timed: list[str] = []
    folds = over(functools.partial(of_fold, options, names), options.folds, options.processes)
    for fold, made in zip(options.folds, folds, strict=True):
        asked = prepare(fold, SHOTS, ROWS).table(options.split)
        timed = timed or asked["text"][:96]
        for name in names:
            models[name].append([each[name] for each in made])
            scores[name].append(np.stack([right(each[name].folder, asked["text"], asked["label"]) for each in made]))
    runs: list[Run] = []
    if options.rounds:
        sides = [Held.load(name, models[name][0][0].folder, timed) for name in names]
        runs = rounds(sides, Mode(0.0, 0.0), Path(), PHASE, count=options.rounds, say=say)
    ratios = figures(models, scores, runs)
    accuracy = {name: Spread.around(interval(draws)) for name, draws in scores.items()}
    header = ["", "accuracy", "points lost", "weights", "size", "at rest", "times as fast"]
    kinds = ("points_lost", "weights_left", "size_vs_fp32", "at_rest", "speedup")
    rows = [[name, quoted(accuracy[name], 4), *cells(ratios, kinds, name)] for name in names]
    print("\n" + table(header, rows) + "\n")
    settings = {**vars(options), "accuracy": {name: [each.median, each.low, each.high] for name, each in accuracy.items()}}
    write_results(options.name, settings=settings, runs=runs, ratios=ratios)
    return judge({goal: GOALS[goal] for goal in GOALS if goal.partition(":")[2] in names}, ratios)


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=[0], choices=range(5), help="which fifths are tested (0)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="of start and training (7)")
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the speed; 0: not timed ({ROUNDS})")
    parser.add_argument("--processes", type=int, default=1, help="folds that are made at once (1)")
    parser.add_argument("--name", default="learned", help="of the result file")
    options = parser.parse_args()
    return reported("bench-learned", measure, options)


if __name__ == "__main__":
    sys.exit(main())
