"""`python -m bench.crosscheck`: our load generator beside the ones that everybody knows.

One fixed text, 16 clients, alternating runs against one server that goes on running: FastAPI + ONNX Runtime INT8 by HTTP
beside hey, our Triton with the quickstart's student by gRPC beside ghz. Ratios are ours over theirs, run by run. Both are
built from their Go modules at the versions below. They count whole runs, starting and draining included, and do not look
at the answers; ours counts a window and checks every one.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.harness.errors import BenchError
from bench.harness.load import Mode, load
from bench.harness.paths import cache_folder
from bench.harness.process import Server
from bench.harness.quiet import QuietCheck
from bench.harness.results import quoted, table, write_results
from bench.harness.rounds import Spread
from bench.harness.sides import ServerSide
from bench.ours import EXAMPLES, sides
from bench.peers.sides import FASTAPI_ONNX, fastapi_side

HEY, GHZ = "github.com/rakyll/hey@v0.1.5", "github.com/bojand/ghz/cmd/ghz@v0.93.0"
TEXT = "Return the current working directory of the calling process, as an absolute path without symbolic links."
CLIENTS = 16
STUDENT = "student"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run of one program says: requests a second, median latency in ms, server CPU ms a request."""

    throughput: float
    p50: float
    cpu: float


def built(module: str) -> Path:
    """Build a Go program where it is missing and give its path.

    Raises:
        BenchError: there is no Go toolchain, or it fails.
    """
    folder = cache_folder() / module.replace("/", "_")
    try:
        subprocess.run(["go", "install", module], check=True, env={**os.environ, "GOBIN": str(folder)})
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"{module} needs Go 1.25 or newer: {error}") from error
    return next(folder.iterdir())


def counted(server: Server, command: list[str], read: Callable[[str], tuple[int, float, float]]) -> Figures:
    """Run another's program and read what it prints: requests, requests a second, median in ms.

    Raises:
        BenchError: it failed, or prints something else.
    """
    before = server.cpu_seconds()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    spent = server.cpu_seconds() - before
    if done.returncode:
        raise BenchError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    requests, throughput, p50 = read(done.stdout)
    return Figures(throughput, p50, 1000 * spent / requests)


def read_hey(text: str) -> tuple[int, float, float]:
    """Read hey's summary; all answers must be 200."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    half = re.search(r"50%+ in ([\d.]+) secs", text)
    status = re.findall(r"\[(\d+)\]\s+(\d+) responses", text)
    if not rate or not half or [code for code, _ in status] != ["200"]:
        raise BenchError(f"hey printed something else: {text[:500]}")
    return int(status[0][1]), float(rate[1]), 1000 * float(half[1])


def read_ghz(text: str) -> tuple[int, float, float]:
    """Read ghz's JSON; requests that its own end cut off are no answers."""
    report = json.loads(text)
    answered = int(report["statusCodeDistribution"].get("OK", 0))
    median = next(entry["latency"] for entry in report["latencyDistribution"] if entry["percentage"] == 50)
    if report["count"] - answered > CLIENTS:
        raise BenchError(f"ghz: {report['statusCodeDistribution']}")
    return answered, float(report["rps"]) * answered / report["count"], median / 1e6


def descriptors(folder: Path) -> Path:
    """Write the Open Inference Protocol's messages for ghz."""
    from google.protobuf import descriptor_pb2
    from tritonclient.grpc import model_config_pb2, service_pb2

    found = descriptor_pb2.FileDescriptorSet()
    for module in (model_config_pb2, service_pb2):
        module.DESCRIPTOR.CopyToProto(found.file.add())
    path = folder / "oip.protoset"
    path.write_bytes(found.SerializeToString())
    return path


def hey(program: Path, address: str, seconds: float) -> list[str]:
    """Give hey's command line."""
    body = json.dumps({"text": TEXT})
    shape = ["-z", f"{seconds:g}s", "-c", str(CLIENTS), "-m", "POST", "-T", "application/json", "-d", body]
    return [str(program), *shape, f"http://{address}/embed"]


def ghz(program: Path, address: str, seconds: float, protoset: Path) -> list[str]:
    """Give ghz's command line."""
    tensor = {"name": "TEXT", "datatype": "BYTES", "shape": [1, 1]}
    raw = len(TEXT).to_bytes(4, "little") + TEXT.encode()
    request = {"model_name": STUDENT, "inputs": [tensor], "raw_input_contents": [base64.b64encode(raw).decode()]}
    request["outputs"] = [{"name": "EMBEDDING"}]
    # One connection, as ours has by default.
    shape = ["-z", f"{seconds:g}s", "-c", str(CLIENTS), "--connections", "1", "-O", "json"]
    call = ["--insecure", "--protoset", str(protoset), "--call", "inference.GRPCInferenceService/ModelInfer"]
    return [str(program), *shape, *call, "-d", json.dumps(request), address]


def compare(
    side: ServerSide, other: Callable[[Server], Figures], texts: Path, mode: Mode, rounds: int
) -> tuple[list[tuple[Figures, Figures]], list[float]]:
    """Alternate ours and theirs on one server.

    Returns:
        (ours, theirs) of each round, and the share of CPU that other processes had in each.
    """
    server = side.start()
    pairs, foreign = [], []
    try:
        for number in range(rounds):
            sample = load(server, mode, texts, side.request, side.dimension)
            quiet, before = QuietCheck(), server.cpu_seconds()
            theirs = other(server)
            foreign.append(max(sample.foreign_share, quiet.share(server.cpu_seconds() - before)))
            pairs.append((Figures(sample.throughput, sample.latency_ms["p50"], sample.cpu_ms), theirs))
            print(f"{side.name} round {number + 1}: ours {pairs[-1][0]}, theirs {theirs}", flush=True)
    finally:
        server.stop()
    return pairs, foreign


def main() -> int:
    """Parse the command line, measure, print, write `bench/results/crosscheck.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of one run")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    mode = Mode(options.duration, 2.0, CLIENTS)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            texts = folder / "texts.jsonl"
            texts.write_text(json.dumps({"text": TEXT}) + "\n", "utf-8")
            protoset, hey_program, ghz_program = descriptors(folder), built(HEY), built(GHZ)
            student = next(
                side
                for side in sides(STUDENT, EXAMPLES / "docstring-search" / "distilledmodel.yaml")
                if isinstance(side, ServerSide)
            )
            peer = fastapi_side(FASTAPI_ONNX, "fastapi_onnx", threads=1, workers=len(os.sched_getaffinity(0)))
            found = {
                "hey": compare(
                    peer,
                    lambda server: counted(server, hey(hey_program, server.address, options.duration), read_hey),
                    texts,
                    mode,
                    options.rounds,
                ),
                "ghz": compare(
                    student,
                    lambda server: counted(server, ghz(ghz_program, server.address, options.duration, protoset), read_ghz),
                    texts,
                    mode,
                    options.rounds,
                ),
            }
    except BenchError as error:
        print(f"bench.crosscheck: {error}", file=sys.stderr)
        return 1
    ratios, rows = {}, []
    for name, (pairs, _) in found.items():
        row = [name]
        for figure in ("throughput", "p50", "cpu"):
            ratios[f"{figure}_vs_{name}"] = Spread.of([getattr(ours, figure) / getattr(theirs, figure) for ours, theirs in pairs])
            for side in (0, 1):
                row.append(quoted(Spread.of([getattr(pair[side], figure) for pair in pairs]), 2))
        rows.append(row)
    write_results(
        "crosscheck",
        settings={**vars(options), "clients": CLIENTS, "text": TEXT, "programs": [HEY, GHZ]},
        runs=[],
        ratios=ratios,
        notes=[
            f"beside {name}, others used at most {100 * max(foreign):.0f} % of the CPU" for name, (_, foreign) in found.items()
        ],
    )
    print("\n" + table(["", "ours/s", "theirs/s", "our p50 ms", "their p50 ms", "our CPU ms", "their CPU ms"], rows))
    print("\n" + table(["ratio", "median (range)"], [[key, quoted(spread, 3)] for key, spread in ratios.items()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
