"""`python -m bench.status`: how long the commands take that somebody waits for, beside `git status`.

Each is a whole process, from its start to its end, with everything it reads in the page cache. `still status` looks at a
store of 10,000 receipts with one model of twelve steps: without a server; with one (a stand-in that answers the same three
calls at once, so what is timed is the command and not Triton); and, to show what the other receipts cost, in a store that has
only the model's own twelve. `git status` looks at a clean repository of 10,000 tracked files. Rounds are interleaved; a round
in which other processes took more than a twentieth of the CPU is repeated.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness.errors import BenchError
from bench.harness.load import Sample
from bench.harness.quiet import QUIET_SHARE, QuietCheck
from bench.harness.results import quoted, table, write_results
from bench.harness.rounds import REPEATS, Run, Spread, series
from bench.status_scene import GIT_ALONE, MODEL, STEPS, answering, receipts, repository, store
from stillhouse.clients.store.local import LocalStore

STATUS, SERVED, SMALL, GIT = "still status", "still status, served", f"still status, {STEPS} receipts", "git status"
HELP, VERSION, PYTHON = "still --help", "still --version", "python -c pass"
GOALS = {STATUS: 1.0, SERVED: 1.0, HELP: 0.3}
PHASE = "process"


@dataclass(frozen=True)
class Command:
    """A command line, where it runs, and what it must print."""

    name: str
    words: Sequence[str]
    prints: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> tuple[float, float]:
        """Run it once; return wall-clock and CPU seconds.

        Raises:
            BenchError: it failed, or printed something else.
        """
        environment = {**os.environ, **self.environment}
        before, start = _children_seconds(), time.perf_counter()
        done = subprocess.run(
            self.words, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        if done.returncode or self.prints not in done.stdout:
            raise BenchError(f"{self.name} ended with {done.returncode}:\n{done.stdout[-500:]}{done.stderr[-500:]}")
        return seconds, _children_seconds() - before


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def one_round(commands: Sequence[Command], number: int) -> list[Run]:
    """Run every command once; all of it again while it is not quiet. Of a single short process nobody can tell."""
    attempts: list[list[Sample]] = []
    while len(attempts) <= REPEATS:
        quiet, before = QuietCheck(), _children_seconds()
        times = [command.run() for command in commands]
        share = quiet.share(_children_seconds() - before)
        attempts.append([_sample(seconds, cpu, share) for seconds, cpu in times])
        if share <= QUIET_SHARE:
            break
    best = min(range(len(attempts)), key=lambda index: attempts[index][0].foreign_share)
    return [
        Run(command.name, PHASE, number, attempt, attempt == best, sample.foreign_share <= QUIET_SHARE, sample)
        for attempt, samples in enumerate(attempts)
        for command, sample in zip(commands, samples, strict=True)
    ]


def _sample(seconds: float, cpu: float, share: float) -> Sample:
    return Sample(1 / seconds, 1, 0, {"p50": 1000 * seconds}, cpu, 1, share, {"seconds": seconds})


def seconds(runs: Sequence[Run], side: str) -> list[float]:
    """Return a command's times, round by round."""
    return series(runs, side, PHASE, lambda sample: sample.latency_ms["p50"] / 1000)


def commands(folder: Path, count: int) -> tuple[list[Command], LocalStore]:
    """Make everything and return what is timed, and the store whose model is to be served."""
    made = receipts(count)
    whole, small = store(folder / "whole", made), store(folder / "small", made[-STEPS:])
    served = LocalStore(folder / "served")
    served.root.mkdir()
    (served.root / "steps").symlink_to(whole.root / "steps")
    served.write_state(MODEL, whole.state(MODEL))
    tree = repository(folder / "repository", count)
    still = str(Path(sys.executable).with_name("still"))

    def status(name: str, found: LocalStore, prints: str) -> Command:
        places = {variable: str(folder) for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
        return Command(name, [still, "status"], prints, folder, {"STILLHOUSE_HOME": str(found.root), **places})

    return [
        status(STATUS, whole, "not serving"),
        Command(GIT, ["git", "status"], "nothing to commit", tree, GIT_ALONE),
        status(SERVED, served, "ready at 127.0.0.1"),
        status(SMALL, small, "not serving"),
        Command(HELP, [still, "--help"], "Exit codes", folder),
        Command(VERSION, [still, "--version"], "still", folder),
        Command(PYTHON, [sys.executable, "-c", "pass"], "", folder),
    ], served


def ratios_of(runs: Sequence[Run]) -> dict[str, Spread]:
    """Return what is claimed: seconds, and ratios taken round by round."""
    named = {"status": STATUS, "status_served": SERVED, "git_status": GIT, "help": HELP, "version": VERSION, "python": PYTHON}
    found = {f"{name}_seconds": Spread.of(seconds(runs, side)) for name, side in named.items()}
    for name, side, other in (
        ("status_vs_git_status", STATUS, GIT),
        ("status_served_vs_git_status", SERVED, GIT),
        ("status_whole_vs_small_store", STATUS, SMALL),
    ):
        pairs = zip(seconds(runs, side), seconds(runs, other), strict=True)
        found[name] = Spread.of([ours / theirs for ours, theirs in pairs])
    return found


def main() -> int:
    """Run it and write the result file."""
    parser = argparse.ArgumentParser(prog="python -m bench.status", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--count", type=int, default=10_000, help="receipts in the store, files in the repository")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="still-bench-") as name:
            sides, served = commands(Path(name), options.count)
            with answering(served):
                for side in sides:
                    side.run()  # everything is in the page cache then
                runs = [run for number in range(options.rounds) for run in one_round(sides, number)]
            version = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except BenchError as error:
        print(f"bench.status: {error}", file=sys.stderr)
        return 1
    ratios = ratios_of(runs)
    path = write_results(
        "status", settings={**vars(options), "steps": STEPS, "peer": version}, runs=runs, ratios=ratios, notes=[]
    )
    rows = []
    for side in sides:
        spread, goal = Spread.of([1000 * value for value in seconds(runs, side.name)]), GOALS.get(side.name)
        cpu = Spread.of(series(runs, side.name, PHASE, lambda sample: sample.cpu_ms))
        verdict = "" if goal is None else f"< {1000 * goal:.0f}: {'met' if spread.median < 1000 * goal else 'MISSED'}"
        rows.append([side.name, quoted(spread, 0), quoted(cpu, 0), verdict])
    print("\n" + table(["", "ms, median (range)", "CPU ms", "goal, ms"], rows))
    print("\n" + table(["ratio", "median (range)"], [[key, quoted(spread, 3)] for key, spread in ratios.items()]))
    print(
        f"\n{path}: {sum(1 for run in runs if run.kept and not run.quiet)} of {len(sides) * options.rounds} runs were disturbed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
