"""`make bench-serving`: Stillhouse's Triton against the servers people use today, and against no server at all.

Peers: (a) `fastapi`, FastAPI + transformers FP32 with default threads; (b) `fastapi-tuned`, the same with the best threads
and workers; (c) `fastapi-onnx`, FastAPI + ONNX Runtime INT8, tuned too; (d) `infinity`, the maintained server infinity-emb.
Ours are the compressed MiniLM and the quickstart's student, built where they are missing; or what the command line names,
as running servers and as model folders.

Phases, each in interleaved rounds, every side started afresh:
  peak    closed loop, 16 clients: throughput, CPU time a request
  open    Poisson arrivals at half the slowest server's peak, the same for all: latency
  single  closed loop, 1 client: latency without queueing
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness.errors import BenchError
from bench.harness.load import Mode
from bench.harness.process import AttachedServer
from bench.harness.results import quoted, table, write_results
from bench.harness.rounds import REPEATS, ROUNDS, Run, Spread, rounds, series
from bench.harness.sides import InProcessSide, ServerSide, Side
from bench.harness.texts import Texts, prepare
from bench.ours import everything
from bench.peers.model import DIMENSION, MAX_LENGTH, minilm_folder
from bench.peers.sides import FASTAPI, FASTAPI_ONNX, FASTAPI_TUNED, fastapi_side, infinity_side, tuned
from bench.serving_figures import EVEN, OPEN, PEAK, SINGLE, STUDENT, p50, ratios_of, summary, throughput

CLIENTS = 16
COMPARED_ANSWERS = 8
# MiniLM in INT8 keeps a cosine of 0.979 at least to FP32 on docstrings; a side below this serves another model.
LOWEST_COSINE = 0.95


@dataclass(frozen=True, slots=True)
class Settings:
    """Lengths in seconds; `phases` of PEAK, OPEN, SINGLE."""

    duration: float = 20.0
    warmup: float = 3.0
    rounds: int = ROUNDS
    repeats: int = REPEATS
    phases: tuple[str, ...] = (PEAK, OPEN, SINGLE)

    def mode(self, clients: int = 0, rate: float = 0.0) -> Mode:
        """Give a mode of this length."""
        return Mode(self.duration, self.warmup, clients, rate)


def say(run: Run) -> None:
    """One line a measurement."""
    sample = run.sample
    noise = "" if run.quiet else f"  others used {100 * sample.foreign_share:.0f} % of the CPU"
    error = f"  {sample.errors} errors: {sample.report.get('first_error', '')}" if sample.errors else ""
    print(
        f"{run.phase:7} round {run.round + 1}  {run.side:22} {sample.throughput:8.1f}/s  "
        f"p50 {p50(sample):8.2f} ms  {sample.cpu_ms:7.2f} CPU-ms{noise}{error}",
        flush=True,
    )


def same_model(sides: Sequence[Side], texts: Path) -> dict[str, float]:
    """Find each side's lowest cosine to peer (a) over the first answers; one that serves the compressed teacher must be near.

    Raises:
        BenchError: a side of the same model answers something else.
    """
    import numpy as np

    def answers(side: Side) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        # The count ends it; the time bounds a side that hangs. In a process, without a count, a second is enough.
        few = Mode(60.0, 0.0, 1, max_requests=COMPARED_ANSWERS) if isinstance(side, ServerSide) else Mode(1.0, 0.0, 1)
        kept = side.measure(few, texts, COMPARED_ANSWERS).report["answers"]
        if len(kept) < COMPARED_ANSWERS:
            raise BenchError(f"{side.name} answered {len(kept)} of the first {COMPARED_ANSWERS} texts")
        rows = np.array([kept[str(index)] for index in range(COMPARED_ANSWERS)])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float64)

    reference = answers(next(side for side in sides if side.name == FASTAPI))
    cosines: dict[str, float] = {}
    for side in sides:
        cosine = float((answers(side) * reference).sum(axis=1).min())
        cosines[side.name] = round(cosine, 4)
        if cosine < LOWEST_COSINE and not side.name.startswith(STUDENT):
            raise BenchError(f"{side.name} answers differ from {FASTAPI}'s: lowest cosine {cosine:.3f}, expected {LOWEST_COSINE}")
    return cosines


def peers(settings: Settings, texts: Path) -> tuple[list[Side], dict[str, object]]:
    """Give (a) to (d); (b) and (c) with the threads and workers that a short run found fastest."""
    short = Mode(duration=min(8.0, settings.duration), warmup=settings.warmup, clients=CLIENTS)

    def quick(side: ServerSide) -> float:
        return side.measure(short, texts).throughput

    cores = len(os.sched_getaffinity(0))
    transformers, tuning_b = tuned(FASTAPI_TUNED, "fastapi_transformers", cores, quick)
    onnx, tuning_c = tuned(FASTAPI_ONNX, "fastapi_onnx", cores, quick)
    sides: list[Side] = [fastapi_side(FASTAPI, "fastapi_transformers"), transformers, onnx, infinity_side()]
    return sides, {FASTAPI_TUNED: tuning_b, FASTAPI_ONNX: tuning_c}


def run(sides: Sequence[Side], texts: Texts, settings: Settings) -> list[Run]:
    """Measure all phases; sides without a server take no part in the open loop, where requests arrive.

    Raises:
        BenchError: a side gave no right answer.
    """
    everything: list[Run] = []
    servers = [side for side in sides if not isinstance(side, InProcessSide)]

    def phase(name: str, members: Sequence[Side], mode: Mode) -> list[Run]:
        found = rounds(members, mode, texts.path, name, count=settings.rounds, repeats=settings.repeats, say=say)
        everything.extend(found)
        return found

    if PEAK in settings.phases or OPEN in settings.phases:
        found = phase(PEAK, sides, settings.mode(clients=CLIENTS))
        slowest = min(Spread.of(series(found, side.name, PEAK, throughput)).median for side in servers)
        if OPEN in settings.phases:
            phase(OPEN, servers, settings.mode(rate=slowest / 2))
    if SINGLE in settings.phases:
        phase(SINGLE, [side for side in sides if not side.name.endswith(EVEN)], settings.mode(clients=1))
    return everything


def attached(text: str) -> ServerSide:
    """`NAME=HOST:PORT,MODEL,PID`: a Triton that is running (loopback), by gRPC.

    Raises:
        BenchError: the text has another form.
    """
    name, _, rest = text.partition("=")
    fields = rest.split(",")
    if not name or len(fields) != 3 or not fields[2].isdigit():
        raise BenchError(f"--attach: found {text!r}, expected NAME=HOST:PORT,MODEL,PID")
    address, model, pid = fields[0], fields[1], int(fields[2])
    return ServerSide(name, lambda: AttachedServer(address, pid), triton_request(model), DIMENSION)


def triton_request(model: str) -> tuple[str, ...]:
    """Give the load generator's flags for our wire contract."""
    return ("--protocol", "grpc", "--model", model, "--input", "TEXT", "--output", "EMBEDDING")


def in_process(text: str) -> InProcessSide:
    """`NAME=FOLDER`: an `onnx-model` artifact, answered in two processes without a server.

    Raises:
        BenchError: the text has another form, or there is no model in the folder.
    """
    name, _, folder = text.partition("=")
    if not name or not (Path(folder) / "model.onnx").is_file():
        raise BenchError(f"--in-process: found {text!r}, expected NAME=FOLDER with a model.onnx")
    return InProcessSide(name, Path(folder).resolve(), DIMENSION)


def main() -> int:
    """Parse the command line, measure, print, write `bench/results/serving.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attach", action="append", default=[], metavar="NAME=HOST:PORT,MODEL,PID")
    parser.add_argument("--in-process", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--peers-only", action="store_true", help="leave our own models out")
    parser.add_argument("--own-only", action="store_true", help="leave the peers out: Triton against no server at all")
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of one measurement")
    parser.add_argument("--warmup", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of a round in which others used the CPU")
    parser.add_argument("--phases", default=f"{PEAK},{OPEN},{SINGLE}")
    parser.add_argument("--texts", type=int, default=60_000, help="most distinct texts")
    parser.add_argument("--name", default="serving", help="of the result file")
    options = parser.parse_args()
    settings = Settings(options.duration, options.warmup, options.rounds, options.repeats, tuple(options.phases.split(",")))
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the servers are stopped then too
    try:
        own: list[Side] = [*map(attached, options.attach), *map(in_process, options.in_process)]
        if not own and not options.peers_only:
            own = everything()
        return measure(own, settings, options.texts, options.name, with_peers=not options.own_only)
    except BenchError as error:
        print(f"bench-serving: {error}", file=sys.stderr)
        return 1


def measure(own: Sequence[Side], settings: Settings, most_texts: int, name: str = "serving", *, with_peers: bool = True) -> int:
    """Do the whole benchmark with our sides beside the peers, without which no answers are compared."""
    texts = prepare(minilm_folder() / "tokenizer.json", MAX_LENGTH, most_texts)
    print(f"{texts.count} texts from {texts.source}, {texts.digest}")
    print("tokens a text: " + "  ".join(f"{bound}: {count}" for bound, count in texts.histogram.items()), flush=True)
    theirs, tuning = peers(settings, texts.path) if with_peers else ([], {})
    sides = [*theirs, *own]
    cosines: dict[str, float] = {}
    if with_peers:
        print(f"tuning: {tuning}")
        cosines = same_model(sides, texts.path)
        print(f"lowest cosine to {FASTAPI}: {cosines}", flush=True)
    runs = run(sides, texts, settings)
    ratios = ratios_of(runs)
    path = write_results(
        name,
        settings={
            "duration_s": settings.duration,
            "warmup_s": settings.warmup,
            "rounds": settings.rounds,
            "repeats": settings.repeats,
            "clients": CLIENTS,
            "max_tokens": MAX_LENGTH,
            "texts": texts.to_json(),
            "tuning": tuning,
            "lowest_cosine_to_fastapi": cosines,
        },
        runs=runs,
        ratios=ratios,
        notes=[
            f"{run.side} {run.phase} round {run.round + 1}: others used {100 * run.sample.foreign_share:.0f} % of the CPU"
            for run in runs
            if not run.quiet
        ],
    )
    print("\n" + summary(sides, runs) + "\n")
    print(table(["ratio", "median (range)"], [[key, quoted(spread, 3)] for key, spread in ratios.items()]))
    noisy = sum(1 for run in runs if run.kept and not run.quiet)
    if noisy:
        print(f"\n{noisy} of the measurements kept were made while others used more than 5 % of the CPU.")
    print(f"\n{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
