"""`make bench-auto`: how long `precision: auto` takes to decide for all-MiniLM-L6-v2, with a stop on the way, and again.

A store of its own, empty at first. The resource searches with `goal: balanced`: every candidate is made, served by the embedded
Triton, asked all of docstring-search's gate and put under load. `still build` is run
  once from nothing, ended by SIGTERM when the first candidate has been judged, and run again: `resumed` is both together;
  then once more, unchanged: `again`, which must decide the same without measuring.

  auto_minutes     both parts of the first run together; the goal is 15 on two cores
  again_vs_first   the last run over the first

Example:
    python -m bench.auto
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.compress_ours import write_resource
from bench.compress_texts import Texts, calibration_file
from bench.harness.errors import BenchError
from bench.harness.goals import judge
from bench.harness.paths import cache_folder
from bench.harness.results import table, write_results
from bench.harness.rounds import Spread
from bench.ours import build_command

GOALS = {"auto_minutes": "<= 15", "again_vs_first": "<= 1", "same_choice": "= 1"}
KEPT = "measured"  # the folder in a gate's scratch


def resource(folder: Path, goal: str) -> Path:
    """Write the resource: MiniLM as it is, all precisions that the goal looks at, docstring-search's gate."""
    texts = Texts.of(folder, 1)
    calibration = calibration_file(folder, texts.calibration)
    gate = {
        "data": {"uri": f"file://{folder}/data/gate.parquet"},
        "metrics": [{"name": "mrr@10", "min": "95%", "of": "teacher"}],
        "load": {"concurrency": 4, "requests": 500},
    }
    return write_resource(folder / "auto.yaml", "bench-auto", {"precision": "auto", "goal": goal}, calibration, gate)


def judged(home: Path) -> int:
    """Count the candidates that an unfinished gate has judged: what it keeps for the attempt after it."""
    return len(list(home.glob(f"work/*/{KEPT}/*.json")))


def build(file: Path, home: Path, until: int = 0) -> tuple[float, dict[str, Any] | None]:
    """Run `still build`; with `until` end it when so many candidates have been judged. Gives seconds and the revision.

    Raises:
        BenchError: it failed.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        build_command(file), stdout=subprocess.PIPE, text=True, env={**os.environ, "STILLHOUSE_HOME": str(home)}
    )
    stopped = False
    while process.poll() is None:
        time.sleep(0.5)
        if until and not stopped and judged(home) >= until:
            process.send_signal(signal.SIGTERM)
            stopped = True
    seconds = time.monotonic() - start
    said = process.communicate()[0]
    if stopped:
        return seconds, None
    if process.returncode:
        raise BenchError(f"still build {file} ended with {process.returncode}")
    return seconds, json.loads(said)


def main() -> int:
    """Parse the command line, measure, print, write `bench/results/auto.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goal", choices=["fast", "balanced", "small"], default="balanced")
    parser.add_argument("--name", default="auto", help="of the result file")
    options = parser.parse_args()
    folder = cache_folder() / "compress"
    folder.mkdir(parents=True, exist_ok=True)
    home = cache_folder() / "auto-store"
    try:
        file = resource(folder, options.goal)
        shutil.rmtree(home, ignore_errors=True)
        first, nothing = build(file, home, until=1)
        if nothing is not None:
            raise BenchError("it was done before it could be stopped")
        rest, chosen = build(file, home)
        again, same = build(file, home)
    except BenchError as error:
        print(f"bench-auto: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
    assert chosen is not None
    assert same is not None
    runs = [["first, until one candidate was judged", f"{first:.1f}"], ["the same, gone on with", f"{rest:.1f}"]]
    print(table(["still build", "seconds"], [*runs, ["again", f"{again:.1f}"]]))
    print(f"chosen: {chosen['precision']}\n")
    minutes, share = (first + rest) / 60, again / (first + rest)
    equal = float(chosen["digest"] == same["digest"])
    ratios = {
        "auto_minutes": Spread.of([minutes]),
        "again_vs_first": Spread.of([share]),
        "same_choice": Spread.of([equal]),
    }
    settings = {"goal": options.goal, "first_s": first, "rest_s": rest, "again_s": again, "chosen": chosen["precision"]}
    write_results(options.name, settings=settings, runs=[], ratios=ratios)
    return judge(GOALS, ratios)


if __name__ == "__main__":
    sys.exit(main())
