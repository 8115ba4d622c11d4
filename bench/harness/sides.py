"""What is compared: a server under load, or the model in one process without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.harness.errors import BenchError
from bench.harness.load import Mode, Sample, load
from bench.harness.paths import ROOT
from bench.harness.process import Server
from bench.harness.quiet import QuietCheck


class Side(Protocol):
    """One row of a comparison."""

    @property
    def name(self) -> str:
        """Name in tables and result files."""
        ...

    def measure(self, mode: Mode, texts: Path, answers: int = 0) -> Sample:
        """Measure once, from a fresh start to the end of its processes."""
        ...


@dataclass(frozen=True)
class ServerSide:
    """A server, started afresh for every measurement, so that no round inherits another's heap, threads or caches.

    `start` gives the running server; `request` are the load generator's flags for its protocol; `dimension` is the
    length of a right answer.
    """

    name: str
    start: Callable[[], Server]
    request: Sequence[str]
    dimension: int

    def measure(self, mode: Mode, texts: Path, answers: int = 0) -> Sample:
        """Start, load, stop."""
        server = self.start()
        try:
            return load(server, mode, texts, self.request, self.dimension, answers)
        finally:
            server.stop()


@dataclass
class Batches:
    """How often a server formed a batch of each size in its last measurement."""

    counts: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class InProcessSide:
    """The same engine as the Triton backend's, called directly in `instances` processes: what a server is measured against.

    In a closed loop of n clients each process answers, one after the other, batches of the sizes that the server measured
    before it had formed (`batches`), or of n / instances texts: what a batcher that always splits evenly would form.
    """

    name: str
    model: Path
    dimension: int
    instances: int = 2
    threads: int = 1
    batches: Batches | None = None

    def measure(self, mode: Mode, texts: Path, answers: int = 0) -> Sample:
        """Run `bench.harness.inprocess` and read its report.

        Raises:
            BenchError: the mode is an open loop (no requests arrive in a process), or the run failed.
        """
        if not mode.clients:
            raise BenchError(f"{self.name}: only a closed loop can be measured in one process")
        instances = min(self.instances, mode.clients)
        command = [
            *(sys.executable, "-m", "bench.harness.inprocess"),
            *("--model", str(self.model)),
            *("--texts", str(texts)),
            *("--batch", str(max(1, mode.clients // instances))),
            *("--instances", str(instances)),
            *("--threads", str(self.threads)),
            *("--duration", str(mode.duration)),
            *("--warmup", str(mode.warmup)),
            *("--expect-dim", str(self.dimension)),
            *("--answers", str(answers)),
        ]
        if self.batches is not None and self.batches.counts and mode.clients > 1:
            command += ["--observed", ",".join(f"{size}:{count}" for size, count in sorted(self.batches.counts.items()))]
        path = os.pathsep.join([str(ROOT / "operator"), *filter(None, [os.environ.get("PYTHONPATH")])])
        quiet = QuietCheck()
        done = subprocess.run(
            command, check=False, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        if done.returncode:
            raise BenchError(f"{self.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        report = json.loads(done.stdout)
        return Sample(
            throughput=report["throughput"],
            right=report["right"],
            errors=report["errors"],
            latency_ms=report["latency_ms"],
            cpu_seconds=report["cpu_seconds"],
            right_in_window=report["right"],
            foreign_share=quiet.share(report["total_cpu_seconds"]),
            report=report,
        )
