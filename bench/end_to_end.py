"""`make bench-end-to-end`: one YAML from MiniLM to a served student; what it still finds, and what an answer costs.

The task is docstring-search. Students, each made by its own resource and by several seeds (`bench/end_to_end_students.py`):
`residual` is the headline and of an unlike architecture (examples/docstring-search/full.yaml: a bag of tokens and one layer of
convolutions), `control` the same student from the same start taught by the pairs alone, `mlp` a bag of tokens and their pairs.
On request: `attention` (two transformer layers beside that bag), `cnn` (Kim's, without a bag).

Quality: MRR@10 on the pairs of a split, each document of it a candidate, in INT8 by the engine that serves; the ratio to the
teacher (MiniLM in FP32) has the 95 % interval of a bootstrap over queries and seeds. Speed: right answers a server CPU-second
(the whole server tree) at the peak of 16 clients, interleaved rounds; peers are (a) FastAPI with transformers FP32, (c) FastAPI
with ONNX Runtime INT8, tuned, and MiniLM's own INT8 in our Triton.

  quality_kept_at_15x, _at_10x, _at_20x  the headline's share of the teacher's MRR; 0 where it is not that much faster than (a)
  throughput_vs_fastapi, _onnx           the headline over (a), over (c)
  unlike_architecture_kept, _speedup     the headline's share of the teacher's MRR; its throughput over MiniLM INT8's
  gap_points, gap_closed                 T - S_hard in points of MRR; (S_kd - S_hard) over it where it is 2 points or more
  order_costs_points                     what the teacher loses where the words of all texts, cut before, are shuffled: points;
  headline_order_costs_points            what the headline does

Figures of the split `test` are for releases; tune on `validation`. A seed takes a student three to four minutes of two idle cores
(`attention` a quarter of an hour); what was made is in the store, so a run that was stopped goes on, and `--seeds` may grow.

Example:
    python -m bench.end_to_end --seeds 7 8 9 10 11 --split test
    python -m bench.end_to_end --seeds 7 --students mlp --split validation --no-speed --name end_to_end-trial
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from bench.end_to_end_quality import Pairs, Scores, bm25, closed, found, kept, mean
from bench.end_to_end_students import CONTROL, DATA, HEADLINE, STUDENTS, Student, make, reference
from bench.harness.command import reported
from bench.harness.goals import judge
from bench.harness.load import Mode
from bench.harness.results import quoted, table, write_results
from bench.harness.rounds import REPEATS, ROUNDS, Run, Spread, rounds, series
from bench.harness.sides import ServerSide
from bench.harness.texts import prepare
from bench.ours import REQUEST, embedded
from bench.peers.model import DIMENSION, MAX_LENGTH, minilm_folder
from bench.peers.sides import FASTAPI, FASTAPI_ONNX, fastapi_side, tuned
from bench.serving import CLIENTS, say
from bench.serving_figures import PEAK, Comparison, cpu_ms, per_core, throughput

TEACHER, COMPRESSED = "teacher", "minilm-int8"
LEAST_GAP = 0.02
SPECIAL = 10
"""Tokens less than the models read: the special ones, and what shuffled words may take more than in their order."""
GOALS = {
    "quality_kept_at_15x": ">= 0.95",
    "quality_kept_at_10x": ">= 0.99",
    "unlike_architecture_kept": ">= 0.97",
    "unlike_architecture_speedup": ">= 10",
}


def reader() -> Tokenizer:
    """Give MiniLM's tokenizer, without cutting or padding."""
    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def triton_side(model: Student) -> ServerSide:
    """Serve a model through Triton as `still up` serves it."""
    return ServerSide(
        model.name,
        lambda: embedded(model.name, model.folder, model.digest, "int8"),
        (*REQUEST, "--model", model.name),
        DIMENSION,
    )


def speeds(models: Sequence[Student], duration: float, count: int) -> tuple[list[Run], dict[str, object]]:
    """Measure the peers and our models at their peaks; gives the runs and how they were set."""
    texts = prepare(minilm_folder() / "tokenizer.json", MAX_LENGTH, 60_000)
    short = Mode(duration=min(6.0, duration), warmup=2.0, clients=CLIENTS)
    tuned_onnx, tuning = tuned(FASTAPI_ONNX, "fastapi_onnx", 2, lambda side: side.measure(short, texts.path).throughput)
    sides = [fastapi_side(FASTAPI, "fastapi_transformers"), tuned_onnx, *map(triton_side, models)]
    mode = Mode(duration, 3.0, CLIENTS)
    done = rounds(sides, mode, texts.path, PEAK, count=count, repeats=REPEATS, say=say)
    return done, {"texts": texts.digest, "count": texts.count, "tuning": tuning, "duration_s": duration, "rounds": count}


def over(runs: Sequence[Run], ours: str, theirs: str) -> Spread:
    """Answers a server CPU-second of one over another's, round by round."""
    found = Comparison("", ours, theirs, PEAK, per_core).spread(runs)
    assert found is not None  # both were measured
    return found


def at_least(times: float, quality: Spread, speed: Spread) -> Spread:
    """Give the quality, or nothing where the speed's unfavourable end is below `times`."""
    return quality if speed.low >= times else Spread(0.0, 0.0, 0.0)


def in_points(share: Spread) -> Spread:
    """Give hundredths."""
    return Spread(100 * share.median, 100 * share.low, 100 * share.high)


def ratios_of(scores: Mapping[str, Scores], order: Mapping[str, Spread], runs: Sequence[Run]) -> dict[str, Spread]:
    """Give the flat map of figures; `order`: what it costs whom where words are shuffled."""
    ratios = {"teacher_vs_bm25": kept(scores[TEACHER], scores["BM25"]), "order_costs_points": order[TEACHER]}
    if HEADLINE in order:
        ratios["headline_order_costs_points"] = order[HEADLINE]
    students = [name for name in STUDENTS if name in scores]
    for name in students:
        ratios[f"{name}_kept"] = kept(scores[name], scores[TEACHER])
        ratios[f"{name}_vs_bm25"] = kept(scores[name], scores["BM25"])
    if HEADLINE in scores:
        ratios["unlike_architecture_kept"] = ratios[f"{HEADLINE}_kept"]
    for name in (name for name in students if HEADLINE in scores and name != HEADLINE):
        ratios[f"headline_vs_{name}"] = kept(scores[HEADLINE][: len(scores[name])], scores[name])
    if CONTROL in scores:
        gap = mean(np.broadcast_to(scores[TEACHER], scores[CONTROL].shape) - scores[CONTROL])
        ratios["gap_points"] = in_points(gap)
        if HEADLINE in scores and gap.median >= LEAST_GAP:
            ratios["gap_closed"] = closed(scores[HEADLINE], scores[CONTROL], scores[TEACHER])
    if not runs:
        return ratios
    for name in [COMPRESSED, *(name for name in students if name != CONTROL)]:
        ratios[f"{name}_vs_fastapi"] = over(runs, name, FASTAPI)
        ratios[f"{name}_vs_fastapi_onnx"] = over(runs, name, FASTAPI_ONNX)
        ratios[f"{name}_vs_compressed"] = over(runs, name, COMPRESSED)
    if HEADLINE in scores:
        ratios["unlike_architecture_speedup"] = ratios[f"{HEADLINE}_vs_compressed"]
        ratios["throughput_vs_fastapi"] = ratios[f"{HEADLINE}_vs_fastapi"]
        ratios["throughput_vs_fastapi_onnx"] = ratios[f"{HEADLINE}_vs_fastapi_onnx"]
        for times in (10, 15, 20):
            ratios[f"quality_kept_at_{times}x"] = at_least(times, ratios[f"{HEADLINE}_kept"], ratios["throughput_vs_fastapi"])
    return ratios


def shown(scores: Mapping[str, Scores], runs: Sequence[Run]) -> str:
    """Draw the table: quality and speed of every row."""
    rows = []
    for name in [FASTAPI, FASTAPI_ONNX, "BM25", TEACHER, COMPRESSED, *STUDENTS]:
        quality = quoted(mean(scores[name]), 4) if name in scores else ""
        seeds = str(len(scores[name])) if name in STUDENTS and name in scores else ""
        timed = [series(runs, name, PEAK, metric) for metric in (throughput, per_core, cpu_ms)]
        cells = [quoted(Spread.of(values), digits) if values else "" for values, digits in zip(timed, (0, 0, 2), strict=True)]
        if quality or any(cells):
            rows.append([name, quality, seeds, *cells])
    return table(["", "MRR@10", "seeds", "answers/s", "per core-second", "CPU ms"], rows)


def main() -> int:
    """Parse the command line, make what is missing, measure, print, write `bench/results/NAME.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", choices=list(STUDENTS), default=[HEADLINE, "mlp", CONTROL])
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="of start and training (7)")
    words = "a student and how many of the seeds are enough for it; may be repeated"
    parser.add_argument("--fewer", nargs=2, action="append", default=[], metavar=("STUDENT", "N"), help=words)
    parser.add_argument(
        "--split", choices=["validation", "test", "gate"], default="test", help="gate: the standard library alone (test)"
    )
    parser.add_argument("--pairs", type=int, default=0, help="the first so many of the split (all)")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of one measurement of speed (10)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-speed", dest="speed", action="store_false", help="quality alone")
    parser.add_argument("--make-only", action="store_true", help="make the students, ask nothing")
    parser.add_argument("--file", type=Path, help="another resource for the one student that is named (trials)")
    parser.add_argument("--name", default="end_to_end", help="of the result file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that servers are stopped then too
    return reported("bench-end-to-end", measure, options)


def measure(options: argparse.Namespace) -> int:
    """Do the whole benchmark; returns the exit code."""
    fewer = {name: int(count) for name, count in options.fewer}
    seeds = {name: options.seeds[: fewer.get(name)] for name in options.students}
    students = {name: make(name, seeds[name], options.file) for name in options.students}
    if options.make_only:
        return 0
    teacher, compressed = reference("minilm-fp32"), reference("minilm-int8")
    pairs = Pairs.read(DATA / f"{options.split}.parquet", options.pairs)
    scores = {"BM25": bm25(pairs), TEACHER: found(TEACHER, [teacher.folder], pairs)}
    scores[COMPRESSED] = found(COMPRESSED, [compressed.folder], pairs)
    scores |= {name: found(name, [each.folder for each in made], pairs) for name, made in students.items()}
    order, whole = {}, pairs.cut(reader(), MAX_LENGTH - SPECIAL)
    for name, folders in ((TEACHER, [teacher.folder]), (HEADLINE, [each.folder for each in students.get(HEADLINE, [])])):
        if folders:
            both = [found(f"{name}, {how}", folders, texts) for how, texts in (("cut", whole), ("shuffled", whole.shuffled()))]
            order[name] = in_points(mean(both[0] - both[1]))
    runs: list[Run] = []
    settings: dict[str, object] = {
        "split": options.split,
        "pairs": len(pairs.queries),
        "seeds": seeds,
        "students": {name: {"digest": made[0].digest, **made[0].facts} for name, made in students.items()},
        "mrr": {name: [round(float(row.mean()), 4) for row in rows] for name, rows in scores.items()},
        "mrr_ranges": {name: [round(value, 4) for value in (mean(rows).low, mean(rows).high)] for name, rows in scores.items()},
    }
    if options.speed:
        served = [
            Student(COMPRESSED, 0, compressed.folder, compressed.digest, {}),
            *(made[0] for name, made in students.items() if name != CONTROL),
        ]
        runs, how = speeds(served, options.duration, options.rounds)
        settings |= how
    print(shown(scores, runs))
    ratios = ratios_of(scores, order, runs)
    path = write_results(options.name, settings=settings, runs=[run for run in runs if run.kept], ratios=ratios)
    print(f"\n{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}\n")
    return judge({name: goal for name, goal in GOALS.items() if name in ratios}, ratios)


if __name__ == "__main__":
    sys.exit(main())
