"""`make bench-compress`: our compressed candidates beside what other tools make of the same model.

Everything starts with one file: all-MiniLM-L6-v2 (from the installed package) in FP32 as our export writes it. Ours are what
`spec.compress` can ask for (`bench/compress_ours.py`). Rivals, each with its own defaults and in a locked environment of its own
that is installed when it is missing: `onnxruntime.quantization`, Optimum's ORTQuantizer (avx512_vnni) and Neural Compressor, each
dynamic and static (`bench/peers/quantizers.py`). All calibrate on the same 128 docstrings. A rival that makes no model that runs
is a row that says so.

For each candidate:
  size_vs_fp32  all bytes of its graph, weights included, to FP32's
  points_lost   MRR@10 of FP32 less its own, in points, on pairs of docstring-search's validation split (1,000, drawn with a fixed
                seed; a query's candidates are their 1,000 documents); the range is the 95 % interval of a paired bootstrap
  speedup       texts a second to FP32's: one process, one thread, the session settings and length buckets that serve, the same
                texts in the same batches of 16; median and range of interleaved rounds. A measurement during which other
                processes used more than 5 % of the CPU is repeated
and its mean cosine with FP32 on the pairs, the share that the store's Zstandard saves at rest, and the seconds to make it (little
where the store had it).

`chosen` is ours by the rule of `compress.goal: balanced` (most answers a second for each byte) among those whose mean cosine with
FP32 is 0.99 or more on 256 texts that are neither calibrated nor judged on. A rival *dominates* it that is as small, as good and
as fast, and better in one of these. `not_dominated` is 1 where none does; its range reaches 0 where the medians say so and the
ranges do not show it.

Data, models and environments are kept (`${XDG_CACHE_HOME:-~/.cache}/stillhouse`, the store), so that a second run only measures.

Example:
    python -m bench.compress
    python -m bench.compress --pairs 300 --rounds 2 --ours int8 mixed --rivals onnxruntime --name compress-short
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.compress_figures import Candidate, chosen_of, dominators, front, points_lost, undominated
from bench.compress_measure import Held, Quality, answers, engine_folder
from bench.compress_ours import FP32, RECIPES, make, make_apart
from bench.compress_rivals import RIVALS, Made, make_rivals, token_rows
from bench.compress_texts import CALIBRATION, Texts, calibration_file
from bench.harness.command import reported
from bench.harness.goals import judge
from bench.harness.load import Mode, Sample
from bench.harness.paths import cache_folder
from bench.harness.results import quoted, table, write_results
from bench.harness.rounds import ROUNDS, Run, Spread, rounds, series
from stillhouse.clients.store import zstd
from stillhouse.inference.signature import Signature

LEAST_COSINE = 0.99
PHASE = "speed"
FIRST = (FP32, "int8-static")  # their steps are the others' parents
BESIDE = {"int8-mixed"}  # its sensitivities take long, on one thread
GOALS = {
    "points_lost:int8-static": "<= 1",
    "points_lost:mixed": "<= 1",
    "size_vs_fp32:mixed": "<= 0.25",
    "not_dominated": "= 1",
}


def at_rest(files: Sequence[Path]) -> float:
    """Return the share of bytes that the store's compression saves."""
    plain = stored = 0
    for path in files:
        with path.open("rb") as source:
            found = zstd.compress(source, io.BytesIO())
        plain, stored = plain + found[0], stored + found[1]
    return 1 - stored / plain


def throughput(sample: Sample) -> float:
    """Give texts a second."""
    return sample.throughput


def speedups(runs: Sequence[Run], name: str, reference: str) -> Spread:
    """Give how many times as fast one side is as another, round by round."""
    pairs = zip(series(runs, name, PHASE, throughput), series(runs, reference, PHASE, throughput), strict=True)
    return Spread.of([mine / theirs for mine, theirs in pairs])


def say(run: Run) -> None:
    """One line a measurement."""
    noise = "" if run.quiet else f"  others used {100 * run.sample.foreign_share:.0f} % of the CPU"
    print(f"round {run.round + 1}  {run.side:28} {run.sample.throughput:8.1f} texts/s{noise}", file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> int:
    """Make, measure, print and write everything; 1 where a goal is missed.

    Raises:
        BenchError: our own side of it cannot be made.
    """
    folder = cache_folder() / "compress"
    folder.mkdir(parents=True, exist_ok=True)
    texts = Texts.of(folder, options.pairs)
    where = (calibration_file(folder, texts.calibration), folder / "data" / "gate.parquet", folder)
    folders: dict[str, Path] = {}
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}

    def own(names: Sequence[str]) -> None:
        for name in names:
            start = time.monotonic()
            folders.update(make(*where, [name]))
            seconds[name] = time.monotonic() - start

    def beside(fp32: Path) -> list[Made]:
        rows = token_rows(fp32, Signature.read(fp32), texts.calibration, folder / "rows.npz")
        start = time.monotonic()
        for name in BESIDE & set(options.ours):
            make_apart(*where, [name])
            seconds[name] = time.monotonic() - start
        return [made for rival in options.rivals for made in make_rivals(rival, fp32 / "model.onnx", rows, folder / "rivals")]

    own([name for name in FIRST if name == FP32 or name in options.ours])
    with ThreadPoolExecutor(1) as worker:  # nothing is timed yet, and most of the passes compute with one thread
        rivals = worker.submit(beside, folders[FP32])
        own([name for name in options.ours if name not in folders and name not in BESIDE])
        for made in rivals.result():
            seconds[made.name] = made.seconds
            if made.error:
                failed[made.name] = made.error
            else:
                folders[made.name] = engine_folder(made.folder, folders[FP32])
    for name in BESIDE & set(options.ours):  # it is in the store by now
        folders |= make(*where, [name])
    return figures(options, folders, failed, seconds, texts)


def figures(
    options: argparse.Namespace,
    folders: dict[str, Path],
    failed: dict[str, str],
    seconds: Mapping[str, float],
    texts: Texts,
) -> int:
    """Measure the candidates in `folders`, print, write `bench/results/NAME.json`; 1 where a goal is missed."""
    quality: dict[str, Quality] = {}
    cosines: dict[str, float] = {}
    sides: list[Held] = []
    reference = answers(folders[FP32], texts.others)
    for name, folder in list(folders.items()):
        print(f"asking {name}", file=sys.stderr, flush=True)
        try:
            quality[name] = Quality.of(folder, texts.queries, texts.documents)
            cosines[name] = float((answers(folder, texts.others) * reference).sum(axis=1).mean())
            sides.append(Held.load(name, folder, texts.timed))
        except Exception as error:  # a rival's graph that ONNX Runtime does not run is a result, whatever it says
            if name in RECIPES:
                raise
            failed[name] = str(error)[:300]
            del folders[name]
    runs = rounds(sides, Mode(0.0, 0.0), Path(), PHASE, count=options.rounds, repeats=options.repeats, say=say)
    sizes = {name: sum(path.stat().st_size for path in graph(folder)) for name, folder in folders.items()}
    base = quality[FP32].scores
    rows = [
        Candidate(
            name,
            name in RECIPES,
            sizes[name] / sizes[FP32],
            points_lost(base, quality[name].scores) if name != FP32 else Spread(0.0, 0.0, 0.0),
            speedups(runs, name, FP32),
        )
        for name in folders
    ]
    mine = [row for row in rows if row.ours]
    theirs = [row for row in rows if not row.ours]
    chosen = chosen_of(mine, cosines, LEAST_COSINE)
    versus = {
        row.name: (points_lost(quality[row.name].scores, quality[chosen.name].scores), speedups(runs, chosen.name, row.name))
        for row in theirs
    }
    ratios: dict[str, Spread] = {}
    for row in rows:
        if row.name != FP32:
            ratios[f"size_vs_fp32:{row.name}"] = Spread(row.size, row.size, row.size)
            ratios[f"points_lost:{row.name}"] = row.lost
            ratios[f"speedup:{row.name}"] = row.speed
    if theirs:
        ratios["not_dominated"] = undominated(chosen, theirs, versus)
        fastest = max(theirs, key=lambda row: row.speed.median)
        ratios["chosen_vs_fastest_rival_speed"] = versus[fastest.name][1]
        smallest = chosen.size / min(row.size for row in theirs)
        ratios["chosen_vs_smallest_rival_size"] = Spread(smallest, smallest, smallest)
    details = {
        row.name: {
            "bytes": sizes[row.name],
            "mrr": round(float(quality[row.name].scores.mean()), 4),
            "cosine": round(quality[row.name].cosine(quality[FP32]), 5),
            "cosine_others": round(cosines[row.name], 5),
            "zstd_saves": round(at_rest(graph(folders[row.name])), 4),
            "seconds_to_make": round(seconds[row.name], 1),
        }
        for row in rows
    }
    show(rows, failed, details)
    for line in words(rows, chosen, theirs):
        print(line)
    path = write_results(
        options.name,
        settings={
            "pairs": len(texts.queries),
            "calibration": CALIBRATION,
            "texts_timed": len(texts.timed),
            "threads": 1,
            "rounds": options.rounds,
            "chosen": chosen.name,
            "failed": failed,
            "candidates": details,
        },
        runs=runs,
        ratios=ratios,
        notes=words(rows, chosen, theirs),
    )
    noisy = sum(1 for run in runs if run.kept and not run.quiet)
    if noisy:
        print(f"\n{noisy} of the measurements kept were made while others used more than 5 % of the CPU.")
    print(f"\n{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}\n")
    asked = {name: goal for name, goal in GOALS.items() if name in ratios or not options.partial}
    return judge(asked, ratios)


def graph(folder: Path) -> list[Path]:
    """List the files of a graph: the model, and its weights where they lie beside it."""
    return sorted(folder.glob("model.onnx*"))


def show(rows: Sequence[Candidate], failed: Mapping[str, str], details: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table: ours first, then the rivals, then those that made nothing."""
    header = ["candidate", "size", "points lost", "speedup", "cosine", "MRR@10", "zstd saves", "made in"]
    lines = [
        [
            row.name if row.ours else f"  {row.name}",
            f"{row.size:.1%}",
            quoted(row.lost, 2),
            quoted(row.speed, 2),
            f"{details[row.name]['cosine']:.4f}",
            f"{details[row.name]['mrr']:.4f}",
            f"{details[row.name]['zstd_saves']:.1%}",
            f"{details[row.name]['seconds_to_make']:.0f} s",
        ]
        for row in sorted(rows, key=lambda row: not row.ours)
    ]
    print(table(header, lines))
    for name, error in failed.items():
        print(f"  {name}: made no model that runs: {error}")


def words(rows: Sequence[Candidate], chosen: Candidate, theirs: Sequence[Candidate]) -> list[str]:
    """Say who is on the Pareto front, what was chosen, and who dominates it."""
    kept = ", ".join(
        f"{row.name} ({row.size:.0%}, {row.lost.median:+.2f} points, {row.speed.median:.2f} times)" for row in front(rows)
    )
    above = dominators(chosen, theirs)
    said = f"dominated by {', '.join(above)}" if above else "dominated by no rival"
    return [f"Pareto front (size, points lost, speed): {kept}", f"chosen: {chosen.name}, {said}"]


def main() -> int:
    """Parse the command line, measure, print, write `bench/results/compress.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000, help="most pairs of the validation split (1000)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--repeats", type=int, default=2, help="of a measurement during which others used the CPU (2)")
    parser.add_argument("--ours", nargs="+", default=list(RECIPES), choices=list(RECIPES), help="which of our candidates")
    parser.add_argument("--rivals", nargs="*", default=list(RIVALS), choices=list(RIVALS), help="which tools beside ours")
    parser.add_argument("--name", default="compress", help="of the result file")
    options = parser.parse_args()
    options.partial = set(options.ours) != set(RECIPES) or set(options.rivals) != set(RIVALS)
    return reported("bench-compress", measure, options)


if __name__ == "__main__":
    sys.exit(main())
