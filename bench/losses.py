"""`make bench-losses`: what the losses of distillation teach the same student, from the same rows, in as many steps.

`examples/docstring-topics-few` with ten labels a class: the teacher is MiniLM with a head, the student has two layers, 128
wide (`init: svd`, 8,000 tokens) and reads 3,000 texts for five epochs, of which the teacher alone says something of nearly
all. Every row is one set of `losses`, at its own best of two learning rates by the first seed's accuracy on the validation
rows; weights bring the terms to about the same size and were not tuned. `hard` has the same steps over the labelled rows
alone. The rows with relations and tokens need the teacher's whole vocabulary and the teacher beside every step; `logits,
whole vocabulary` is theirs to compare with.

For each set, over folds, seeds and all test texts, with the 95 % interval of a paired bootstrap over items and seeds:
  accuracy          share right
  agreement         share that is answered as the teacher answers
  points_lost       accuracy of `logits` less its own, in points
  seconds           of the first seed's training where it was made now, on this machine as busy as it was

Example:
    python -m bench.losses --split validation
    python -m bench.losses --split test --seeds 7 8 9 10 11
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.few import Draw, opened, predict, prepare, run
from bench.few_figures import interval, points_lost
from bench.few_rivals import ask_teacher
from bench.few_students import FewStudent
from bench.harness.command import reported
from bench.harness.parallel import over
from bench.harness.results import cells, table, write_results
from bench.harness.rounds import Spread
from bench.learned import ROWS, SHOTS, STUDENT
from stillhouse.entrypoints.local.display import showing
from stillhouse.passes.runner import Listener

EPOCHS, RATES = 5, ("0.0005", "0.002")
_LOGITS = {"kind": "logits", "temperature": "3", "alpha": "0.9"}
_LABELS = {"kind": "hard", "weight": "0.1"}
FIRST, WHOLE = "logits", "logits, whole vocabulary"
SETS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    FIRST: (_LOGITS,),
    "logits, T 1": ({**_LOGITS, "temperature": "1"},),
    "reverse-kl": ({"kind": "reverse-kl", "weight": "3.6", "temperature": "3"}, _LABELS),
    "jsd": ({"kind": "jsd", "weight": "3.6", "temperature": "3"}, _LABELS),
    "tvd": ({"kind": "tvd", "weight": "0.9", "temperature": "3"}, _LABELS),
    "logits + hidden": (_LOGITS, {"kind": "hidden"}),
    "logits + pooled": (_LOGITS, {"kind": "pooled"}),
    "hard": ({"kind": "hard"},),
    WHOLE: (_LOGITS,),
    "logits + relations": (_LOGITS, {"kind": "attention-relation"}, {"kind": "value-relation"}),
    "logits + hidden-tokens": (_LOGITS, {"kind": "hidden-tokens"}),
}
WHOLE_VOCABULARY = (WHOLE, "logits + relations", "logits + hidden-tokens")
Scores = npt.NDArray[np.float64]


def student(name: str, rate: str) -> FewStudent:
    """Give the student that a set of losses teaches, and its stage."""
    shape = {key: value for key, value in STUDENT.items() if key != "vocabulary" or name not in WHOLE_VOCABULARY}
    return FewStudent(shape, {"losses": [dict(loss) for loss in SETS[name]], "learningRate": rate, "epochs": EPOCHS})


def taught(draw: Draw, seed: int, name: str, rate: str, listener: Listener) -> tuple[Path, float]:
    """Train where the store lacks it; gives the artifact's folder and the seconds it took."""
    work = opened(draw, seed, student(name, rate))
    start = time.monotonic()
    return run(work, work.plan, "train/soft", listener), time.monotonic() - start


@dataclass(frozen=True)
class Found:
    """What the sets of one fold come to, each by its name: scores float64 [seeds, texts], 1 where it is so."""

    right: dict[str, Scores]
    same: dict[str, Scores]
    chosen: dict[str, str]
    seconds: dict[str, float]


def of_fold(options: argparse.Namespace, fold: int) -> Found:
    """Train and ask everything of one fold."""
    found = Found({}, {}, {}, {})
    draw = prepare(fold, SHOTS, ROWS)
    asked, validation = draw.table(options.split), draw.table("validation")
    truth, known = np.array(asked["label"]), np.array(validation["label"])
    with showing() as listener:
        first = opened(draw, options.seeds[0], student(FIRST, RATES[0]))
        said = ask_teacher(run(first, first.plan, "resolve/source", listener), asked["text"], "asking the teacher").labels
        for name in options.sets:
            tried = {}
            for rate in RATES:
                folder, took = taught(draw, options.seeds[0], name, rate, listener)
                tried[rate] = float((predict(folder, validation["text"]) == known).mean())
                found.seconds.setdefault(name, took)
            rate = max(tried, key=lambda each: tried[each])
            listener.note(f"{name}: {', '.join(f'{each} {share:.4f}' for each, share in tried.items())} of validation")
            folders = [taught(draw, seed, name, rate, listener)[0] for seed in options.seeds]
            answers = np.stack([predict(folder, asked["text"]) for folder in folders])
            found.right[name] = (answers == truth).astype(np.float64)
            found.same[name] = (answers == said).astype(np.float64)
            found.chosen[name] = rate
    return found


def measure(options: argparse.Namespace) -> int:
    """Train, ask, print and write everything."""
    folds = over(functools.partial(of_fold, options), options.folds, options.processes)
    right = {name: [fold.right[name] for fold in folds] for name in options.sets}
    same = {name: [fold.same[name] for fold in folds] for name in options.sets}
    chosen = {name: [fold.chosen[name] for fold in folds] for name in options.sets}
    seconds = folds[0].seconds
    ratios: dict[str, Spread] = {}
    for name in options.sets:
        found = {"accuracy": interval(right[name]), "agreement": interval(same[name])}
        if FIRST in options.sets and name != FIRST:
            found["points_lost"] = interval(right[name], right[FIRST], points_lost)
        ratios |= {f"{kind}:{name}": Spread.around(each) for kind, each in found.items()}
    kinds = ("accuracy", "agreement", "points_lost")
    rows = [[name, *cells(ratios, kinds, name), " ".join(chosen[name])] for name in options.sets]
    print("\n" + table(["", *kinds, "rate"], rows))
    settings = {**vars(options), "rates": chosen, "seconds": {name: round(value, 1) for name, value in seconds.items()}}
    write_results(options.name, settings=settings, runs=[], ratios=ratios)
    return 0


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=[0], choices=range(5), help="which fifths are tested (0)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="of start and training (7)")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS), help="of losses")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--processes", type=int, default=1, help="folds that are measured at once (1)")
    parser.add_argument("--name", default="losses", help="of the result file")
    options = parser.parse_args()
    return reported("bench-losses", measure, options)


if __name__ == "__main__":
    sys.exit(main())
