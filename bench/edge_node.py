"""`python -m bench.edge_node [MODEL]`: a gateway with a model in its process, on one core of this machine.

MODEL is the name of a model that was built here, a file of `still pack`, or a folder with `model.onnx` and `signature.json`. Left
out, the first built model of the store is taken, and where there is none the tests' tiny one; the result says which.

Start: from the process to its first right answer, all that Python loads included. Memory: resident, after the load, less the
model's file. Latency: one client, one request at a time, docstrings of the standard library; the gateway has one core (affinity),
the load generator the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.harness.errors import BenchError
from bench.harness.goals import judge
from bench.harness.load import Mode, Sample, load
from bench.harness.process import free_port, tree_cpu_seconds
from bench.harness.results import write_results
from bench.harness.rounds import REPEATS, ROUNDS, Run, Spread, one_round, series
from bench.harness.texts import prepare
from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tensors import outputs_of, packed_bytes
from stillhouse.edge.wire.client import Channel
from stillhouse.entrypoints.edge.packing import SUFFIX, unpack
from stillhouse.errors import StillhouseError
from stillhouse.inference.signature import Signature
from stillhouse.settings import load_settings

MODEL = "node"
TEXTS = 5000
# 150 MB of memory are counted in 10^6, as sizes of models are.
GOALS = {"start_to_first_answer_s": "<= 2", "rss_beside_model_mb": "<= 150", "p50_one_core_ms": "<= 50", "errors": "= 0"}


@dataclass(frozen=True, slots=True)
class Student:
    """What is served. `what`: how the result names it."""

    what: str
    folder: Path
    digest: str
    variant: str
    signature: Signature

    @property
    def output(self) -> tuple[str, int]:
        """Return the output that is read, and its length."""
        found = self.signature
        return ("PROBABILITIES", len(found.labels)) if found.labels else ("EMBEDDING", found.dimension)

    @property
    def megabytes(self) -> float:
        """Return the size of the model's own file, in 10^6 bytes."""
        return (self.folder / "model.onnx").stat().st_size / 1e6


def student(given: str, scratch: Path) -> Student:
    """Find what MODEL names.

    Raises:
        BenchError: there is no such model, or it reads images. StillhouseError: what was built is damaged.
    """
    folder = Path(given)
    if given.endswith(SUFFIX):
        store = LocalStore(scratch / "store")
        found = _built(store, unpack(store, folder).parent.name)
    elif given and (folder / "signature.json").is_file():
        found = Student(f"folder {folder.name}", folder, "sha256:" + "0" * 64, "as it lies there", Signature.read(folder))
    elif given:
        found = _built(LocalStore(load_settings().home), given)
    else:
        found = _any(LocalStore(load_settings().home), scratch)
    if not found.signature.takes_texts:
        raise BenchError("the load generator sends texts, and this model reads none")
    return found


def _any(store: LocalStore, scratch: Path) -> Student:
    for name in store.model_names():
        if store.state(name).get("revision"):
            return _built(store, name)
    from tests.support.tiny_model import write_tiny_model  # it is no part of what is measured

    signature = write_tiny_model(scratch / "tiny")
    return Student("the tests' tiny model: no model was built here", scratch / "tiny", "sha256:" + "0" * 64, "fp32", signature)


def _built(store: LocalStore, name: str) -> Student:
    revision = store.state(name).get("revision")
    if not revision:
        raise BenchError(f"no model {name} was built here, and there is no such file")
    digest = revision["digest"]
    folder = store.objects.path(digest)
    return Student(f"{name} {digest[7:19]}", folder, digest, revision["precision"], Signature.read(folder))


class Node:
    """A gateway that runs, as the harness sees a server. `first_s`, `first_cpu_s`: from its start to its first right answer."""

    def __init__(self, process: subprocess.Popen[str], address: str, first_s: float) -> None:
        self.process, self._address, self.first_s, self.first_cpu_s = process, address, first_s, first_s

    @property
    def address(self) -> str:
        """Loopback `host:port`."""
        return self._address

    def cpu_seconds(self) -> float:
        """User and system time so far, in seconds."""
        return tree_cpu_seconds(self.process.pid)

    def megabytes(self) -> float:
        """Return its resident memory, in 10^6 bytes."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def node(model: Student, folder: Path, core: int) -> Iterator[Node]:
    """Start a gateway on one core, ask it once, end it.

    Raises:
        BenchError: it did not start, or its first answer was wrong.
    """
    config = folder / "gateway.json"
    edge = {"kind": "engine", "folder": str(model.folder), "digest": model.digest, "variant": model.variant, "threads": 1}
    about = {"version": 1, "name": MODEL, "listen": {"grpc": f"127.0.0.1:{free_port()}"}, "edge": edge}
    config.write_text(json.dumps(about), encoding="utf-8")
    others = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # a child has its parent's
    began = time.monotonic()
    with (folder / "gateway.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stillhouse.entrypoints.gateway", "--config", str(config), "--log-level=warning"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **os.environ},
        )
        os.sched_setaffinity(0, others)
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said.startswith("listening on "):
            process.kill()
            process.wait()
            log.seek(0)
            raise BenchError("the gateway did not start:\n" + log.read()[-2000:])
        address = said.split()[-1]
        running = Node(process, address, 0.0)
        try:
            asyncio.run(_first(address, model))
            running.first_s = time.monotonic() - began
            running.first_cpu_s = running.cpu_seconds()
            yield running
        finally:
            running.stop()
            process.stdout.close()


async def _first(address: str, model: Student) -> None:
    request = message("ModelInferRequest")(model_name=MODEL)
    request.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(packed_bytes([b"return the current working directory"]))
    name, width = model.output
    request.outputs.add(name=name)
    channel = Channel(address)
    try:
        reply = await channel.unary(f"/{SERVICE}/ModelInfer", request.SerializeToString(), timeout_s=30.0)
    finally:
        await channel.close()
    values = outputs_of(message("ModelInferResponse").FromString(reply.message))[name]
    if values.shape != (1, width) or not (abs(values).sum() > 0):
        raise BenchError(f"the first answer is {values.dtype} {list(values.shape)}, not [1, {width}]")


@dataclass(frozen=True)
class Side:
    """The gateway as a side of a round; `firsts`, `cpu` and `memory` gather what each of its starts gave."""

    model: Student
    folder: Path
    core: int
    firsts: list[float]
    cpu: list[float]
    memory: list[float]
    name: str = "node"

    def measure(self, mode: Mode, texts: Path, answers: int = 0) -> Sample:
        """Start it, load it, look at its memory, stop it."""
        output, width = self.model.output
        request = ("--protocol", "grpc", "--model", MODEL, "--output", output, "--procs", "1")
        with node(self.model, self.folder, self.core) as running:
            sample = load(running, mode, texts, request, width, answers)
            self.firsts.append(running.first_s)
            self.cpu.append(running.first_cpu_s)
            self.memory.append(running.megabytes())
        return sample


def main() -> int:
    """Parse the command line, measure, print, write `bench/results/edge_node.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="", metavar="MODEL")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of one run")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of a round that was not quiet")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    runs: list[Run] = []
    try:
        with tempfile.TemporaryDirectory() as name:
            model = student(options.model, Path(name))
            texts = prepare(model.folder / "tokenizer.json", model.signature.max_length, TEXTS)
            side = Side(model, Path(name), cores[-1], [], [], [])
            print(f"{model.what}: {model.megabytes:.1f} MB, {model.variant}, core {cores[-1]} of {len(cores)}", flush=True)
            os.sched_setaffinity(0, set(cores[:-1] or cores))  # the load generator's, which this process starts
            mode = Mode(options.duration, 2.0, 1)
            for number in range(options.rounds):
                runs += one_round(side, lambda: side.measure(mode, texts.path), "one client", number, options.repeats)
                sample = runs[-1].sample
                print(
                    f"round {number + 1}: first answer after {side.firsts[-1]:.2f} s ({side.cpu[-1]:.2f} s of CPU),"
                    f" {side.memory[-1]:.0f} MB, p50 {sample.latency_ms['p50']:.2f} ms, p99 {sample.latency_ms['p99']:.2f} ms,"
                    f" {sample.throughput:.0f}/s" + ("" if runs[-1].quiet else ", other work on the machine"),
                    flush=True,
                )
            megabytes = model.megabytes
    except (BenchError, StillhouseError, subprocess.SubprocessError) as error:
        print(f"bench.edge_node: {error}", file=sys.stderr)
        return 1
    finally:
        os.sched_setaffinity(0, set(cores))
    ratios = {
        "start_to_first_answer_s": Spread.of(side.firsts),
        "start_to_first_answer_cpu_s": Spread.of(side.cpu),
        "rss_mb": Spread.of(side.memory),
        "rss_beside_model_mb": Spread.of([each - megabytes for each in side.memory]),
        "p50_one_core_ms": Spread.of(series(runs, side.name, "one client", lambda sample: sample.latency_ms["p50"])),
        "p99_one_core_ms": Spread.of(series(runs, side.name, "one client", lambda sample: sample.latency_ms["p99"])),
        "errors": Spread.of([float(sum(run.sample.errors + run.sample.refused for run in runs))]),
    }
    settings = {
        "model": model.what,
        "variant": model.variant,
        "model_mb": round(megabytes, 2),
        "duration": options.duration,
        "rounds": options.rounds,
        "texts": texts.to_json(),
    }
    write_results("edge_node", settings=settings, runs=runs, ratios=ratios)
    return judge(GOALS, ratios)


if __name__ == "__main__":
    sys.exit(main())
