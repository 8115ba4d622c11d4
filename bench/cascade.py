"""`python -m bench.cascade`: what a cascade saves and what it loses, on `docstring-packages`.

Quality, on every test text: the small model alone, the large one alone (in the precision that its gate chose), the cascade at the
threshold that was solved when the small one was built, escalation by lot at the same rate, and the simple rival (TF-IDF and a
linear classifier, taught by the same labelled texts). Differences are paired, with bootstrap intervals over the texts.

Cost, over gRPC with the same texts in rounds: the large model's Triton alone, and the gateway with the small model in its process
before that same Triton. What counts is answers a second of server CPU, gateway and Triton together; every answer has the large
model's form.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.harness.errors import BenchError
from bench.harness.goals import judge
from bench.harness.load import Mode, Sample, load
from bench.harness.process import Server, ServerProcess, open_port
from bench.harness.results import quoted, table, write_results
from bench.harness.rounds import REPEATS, ROUNDS, Run, Spread, rounds, series
from bench.ours import EXAMPLES, Embedded, embedded, revision_of
from bench.rivals import linear_svc
from stillhouse.api.load import load_file
from stillhouse.clients.store.local import LocalStore
from stillhouse.inference.confidence import Calibration, answers
from stillhouse.inference.engine import Engine
from stillhouse.planning.gateway import Place, gateway_config
from stillhouse.settings import load_settings

EXAMPLE = EXAMPLES / "docstring-packages"
CLIENTS = 16
DRAWS = 2000
GOALS = {
    "student_below_cloud_points": ">= 2",
    "cloud_call_reduction": ">= 5",
    "accuracy_loss_points": "<= 0.3",
    "throughput_gain": ">= 3",
    "errors": "= 0",
}


@dataclass(frozen=True)
class Built:
    """A model that was built: its name, artifact, digest, precision, and its cascade's folder."""

    name: str
    folder: Path
    digest: str
    precision: str
    cascade: Path | None


def build(file: Path) -> Built:
    """Run `still build`.

    Raises:
        BenchError: it does not build.
    """
    revision = revision_of(file)
    objects = LocalStore(load_settings().home).objects
    cascade = objects.path(revision["cascade"]) if revision.get("cascade") else None
    name = load_file(file).metadata.name
    return Built(name, objects.path(revision["digest"]), revision["digest"], revision["precision"], cascade)


@dataclass(frozen=True)
class Quality:
    """Answers to a split's texts, bool [texts]: where each is right, where both models agree, where the small one answers."""

    small: npt.NDArray[np.bool_]
    large: npt.NDArray[np.bool_]
    rival: npt.NDArray[np.bool_]
    agrees: npt.NDArray[np.bool_]
    local: npt.NDArray[np.bool_]
    texts: list[str]
    classes: int

    @property
    def cascade(self) -> npt.NDArray[np.bool_]:
        """Where the cascade's answer is right."""
        return np.where(self.local, self.small, self.large)


def read(split: str) -> tuple[list[str], list[str]]:
    """Give the texts and the labels of a split of the example.

    Raises:
        BenchError: there is no such split.
    """
    import pyarrow.parquet as pq

    path = EXAMPLE / "data" / f"{split}.parquet"
    if not path.is_file():
        raise BenchError(f"{path} is not there; run: python examples/docstring-packages/build_data.py")
    rows: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return [str(text) for text in rows["text"]], [str(label) for label in rows["label"]]


def quality(small: Built, large: Built, split: str) -> Quality:
    """Ask both models about every text of a split, in this process, with the engine that serves; and the rival.

    Raises:
        BenchError: there is no such split.
    """
    assert small.cascade is not None
    texts, named = read(split)
    said = {}
    labels: tuple[str, ...] = ()
    for name, model in (("small", small), ("large", large)):
        engine = Engine(model.folder, 1, apart=name == "small")  # as each is served
        labels = engine.signature.labels
        said[name] = np.concatenate([engine.predict(texts[start : start + 64]) for start in range(0, len(texts), 64)])
    truth = np.array([labels.index(label) for label in named])
    rival = np.array(linear_svc(*read("train"), texts)) == np.array(named)
    artifact = json.loads((small.cascade / "cascade.json").read_bytes())
    confidence = Calibration.from_json(artifact["calibration"]).of_logits(np.log(np.maximum(said["small"], 1e-12)))
    threshold = float("inf") if artifact["threshold"] is None else artifact["threshold"]
    one, other = said["small"].argmax(axis=1), said["large"].argmax(axis=1)
    return Quality(one == truth, other == truth, rival, one == other, answers(confidence, threshold), texts, len(labels))


def figures(found: Quality, seed: int = 7) -> dict[str, Spread]:
    """Return the quality's figures: estimates with 95 % intervals over the texts, paired."""
    rng = np.random.default_rng(seed)
    n = len(found.texts)
    draws = [rng.integers(0, n, n) for _ in range(DRAWS)]

    def spread(of: Any) -> Spread:
        values = sorted(float(of(rows)) for rows in draws)
        return Spread(float(of(np.arange(n))), values[round(0.025 * DRAWS)], values[round(0.975 * DRAWS) - 1])

    lot = np.random.default_rng(seed + 1).permutation(n) >= round(n * (1 - found.local.mean()))
    by_lot = np.where(lot, found.small, found.large)
    return {
        "student_below_cloud_points": spread(lambda rows: 100 * (found.large[rows].mean() - found.small[rows].mean())),
        "cloud_call_reduction": spread(lambda rows: 1 / max(1e-9, 1 - found.local[rows].mean())),
        "accuracy_loss_points": spread(lambda rows: 100 * (found.large[rows].mean() - found.cascade[rows].mean())),
        "accuracy_loss_by_lot_points": spread(lambda rows: 100 * (found.large[rows].mean() - by_lot[rows].mean())),
        "agreement": spread(lambda rows: np.where(found.local, found.agrees, True)[rows].mean()),
        "student_accuracy": spread(lambda rows: found.small[rows].mean()),
        "cloud_accuracy": spread(lambda rows: found.large[rows].mean()),
        "cascade_accuracy": spread(lambda rows: found.cascade[rows].mean()),
        "rival_accuracy": spread(lambda rows: found.rival[rows].mean()),
        "cloud_above_rival_points": spread(lambda rows: 100 * (found.large[rows].mean() - found.rival[rows].mean())),
        "cascade_above_rival_points": spread(lambda rows: 100 * (found.cascade[rows].mean() - found.rival[rows].mean())),
    }


@dataclass(frozen=True)
class Cloud:
    """The large model's Triton, alone."""

    name: str
    server: Embedded
    request: Sequence[str]
    classes: int

    def measure(self, mode: Mode, texts: Path, answers: int = 0) -> Sample:
        """Load it."""
        return load(self.server, mode, texts, (*self.request, "--model", self.server.model), self.classes, answers)


class _Both:
    """Two servers as one: the address of the first, the CPU of both. `spent`: of each by itself, whenever it was asked for."""

    def __init__(self, first: Server, second: Server) -> None:
        self._first, self._second = first, second
        self.spent: list[tuple[float, float]] = []

    @property
    def address(self) -> str:
        return self._first.address

    def cpu_seconds(self) -> float:
        self.spent.append((self._first.cpu_seconds(), self._second.cpu_seconds()))
        return sum(self.spent[-1])

    def stop(self) -> None:
        self._first.stop()


@dataclass(frozen=True)
class Cascaded:
    """The gateway with the small model before that Triton."""

    name: str
    small: Built
    cloud: Embedded
    request: Sequence[str]
    classes: int

    def measure(self, mode: Mode, texts: Path, answers: int = 0) -> Sample:
        """Start the gateway, load it, stop it."""
        edge = load_file(EXAMPLE / "distilledmodel.yaml").spec.edge
        assert edge is not None
        with tempfile.TemporaryDirectory(prefix="still-bench-") as folder:

            def command(port: int) -> list[str]:
                place = Place(
                    listen={"grpc": f"127.0.0.1:{port}"},
                    edge={
                        "kind": "engine",
                        "folder": str(self.small.folder),
                        "digest": self.small.digest,
                        "variant": self.small.precision,
                        "threads": 1,
                    },
                    larger={"kind": "backends", "model": self.cloud.model, "backends": {self.cloud.address: 1.0}, "tls": False,
                            "authority": None},
                    cascade=str(self.small.cascade),
                    data=folder,
                )  # fmt: skip
                file = Path(folder) / "gateway.json"
                file.write_text(json.dumps(gateway_config(self.small.name, edge, place)))
                return [sys.executable, "-m", "stillhouse.entrypoints.gateway", "--config", str(file), "--log-level=error"]

            with ServerProcess("cascade", command, open_port) as gateway:
                both = _Both(gateway, self.cloud)
                sample = load(both, mode, texts, (*self.request, "--model", self.small.name), self.classes, answers)
                (gateway_before, cloud_before), (gateway_after, cloud_after) = both.spent[0], both.spent[-1]
                sample.report["cpu_ms_of"] = {
                    "gateway": 1000 * (gateway_after - gateway_before) / sample.right_in_window,
                    "cloud": 1000 * (cloud_after - cloud_before) / sample.right_in_window,
                }
                return sample


def say(run: Run) -> None:
    """Tell of one measurement."""
    sample = run.sample
    print(
        f"{run.phase} {run.side} round {run.round + 1}: {sample.throughput:.0f}/s, p50 {sample.latency_ms['p50']:.2f} ms, "
        f"{sample.cpu_ms:.2f} CPU-ms, {sample.errors} errors" + ("" if run.quiet else ", other work on the machine"),
        flush=True,
    )


def main() -> int:
    """Parse the command line, build, measure, print, write `bench/results/cascade.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of one run")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of a round that was not quiet")
    parser.add_argument("--split", default="test", help="whose texts are asked (test)")
    parser.add_argument("--quality", action="store_true", help="only what is saved and lost in answers; writes nothing")
    options = parser.parse_args()
    request = ("--protocol", "grpc", "--input", "TEXT", "--output", "PROBABILITIES")
    try:
        large, small = build(EXAMPLE / "large.yaml"), build(EXAMPLE / "distilledmodel.yaml")
        found = quality(small, large, options.split)
        ratios = figures(found)
        if options.quality:
            return judge({name: goal for name, goal in GOALS.items() if name in ratios}, ratios)
        server = embedded(large.name, large.folder, large.digest, large.precision)
        try:
            with tempfile.TemporaryDirectory() as name:
                texts = Path(name) / "texts.jsonl"
                texts.write_text("".join(json.dumps(text) + "\n" for text in found.texts), "utf-8")
                cloud = Cloud("cloud", server, request, found.classes)
                cascade = Cascaded("cascade", small, server, request, found.classes)
                mode = Mode(options.duration, 2.0, CLIENTS)
                runs = rounds([cloud, cascade], mode, texts, "peak", count=options.rounds, repeats=options.repeats, say=say)
        finally:
            server.stop()
    except (BenchError, subprocess.SubprocessError) as error:
        print(f"bench.cascade: {error}", file=sys.stderr)
        return 1
    per_core = {side: series(runs, side, "peak", lambda sample: sample.per_core) for side in ("cloud", "cascade")}
    wall = {side: series(runs, side, "peak", lambda sample: sample.throughput) for side in ("cloud", "cascade")}
    ratios["throughput_gain"] = Spread.of([a / b for a, b in zip(per_core["cascade"], per_core["cloud"], strict=True)])
    ratios["wall_clock_gain"] = Spread.of([a / b for a, b in zip(wall["cascade"], wall["cloud"], strict=True)])
    for part in ("gateway", "cloud"):
        ratios[f"cpu_ms_of_{part}"] = Spread.of(series(runs, "cascade", "peak", _part(part)))
    ratios["errors"] = Spread.of([float(sum(run.sample.errors for run in runs))])
    assert small.cascade is not None
    area = json.loads((small.cascade / "cascade.json").read_bytes())["curve"]["areas"]
    rows = [
        [
            side,
            *(quoted(Spread.of(series(runs, side, "peak", of)), digits) for of, digits in (
                (lambda sample: sample.throughput, 0),
                (lambda sample: sample.cpu_ms, 2),
                (lambda sample: sample.latency_ms["p50"], 2),
            )),
        ]
        for side in ("cloud", "cascade")
    ]  # fmt: skip
    print(table(["side", "answers/s", "CPU-ms an answer", "p50, ms"], rows))
    settings = {
        "duration": options.duration,
        "rounds": options.rounds,
        "clients": CLIENTS,
        "split": options.split,
        "texts": len(found.texts),
        "areas": area,
    }
    write_results("cascade", settings=settings, runs=runs, ratios=ratios)
    return judge(GOALS, ratios)


def _part(name: str) -> Callable[[Sample], float]:
    return lambda sample: float(sample.report["cpu_ms_of"][name])


if __name__ == "__main__":
    sys.exit(main())
