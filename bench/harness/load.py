"""Drive the load generator and read the server's CPU time at the moments it names."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness.errors import BenchError
from bench.harness.paths import ROOT, cache_folder
from bench.harness.process import Server
from bench.harness.quiet import QuietCheck

SOURCES = ROOT / "bench" / "loadgen"
SLACK_SECONDS = 90  # beyond warm-up and duration, before a load generator that hangs is killed


@dataclass(frozen=True, slots=True)
class Mode:
    """How to load: closed loop with `clients`, or open loop with `rate` arrivals a second. Times in seconds."""

    duration: float
    warmup: float
    clients: int = 0
    rate: float = 0.0
    max_requests: int = 0  # ends a closed loop early; 0: the load generator's own bound

    def arguments(self) -> list[str]:
        """Return the load generator's flags."""
        shape = ["--clients", str(self.clients)] if self.clients else ["--rate", f"{self.rate:.6g}"]
        bound = ["--max-requests", str(self.max_requests)] if self.max_requests else []
        return [*shape, *bound, "--duration", f"{self.duration}s", "--warmup", f"{self.warmup}s"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one side. Latencies in ms; `cpu_seconds` is the server tree's, the client excluded."""

    throughput: float
    right: int
    errors: int
    latency_ms: dict[str, float]
    cpu_seconds: float
    right_in_window: int
    foreign_share: float
    report: dict[str, Any] = field(repr=False)
    refused: int = 0  # answers that there is too much to do, neither right nor an error

    @property
    def cpu_ms(self) -> float:
        """Server CPU milliseconds a right answer."""
        return 1000.0 * self.cpu_seconds / self.right_in_window if self.right_in_window else float("nan")

    @property
    def per_core(self) -> float:
        """Right answers a server CPU-second."""
        return self.right_in_window / self.cpu_seconds if self.cpu_seconds else float("nan")

    def to_json(self) -> dict[str, object]:
        """For the result file: everything but the answers themselves."""
        report = {name: value for name, value in self.report.items() if name != "answers"}
        return {
            "throughput": self.throughput,
            "per_core": self.per_core,
            "cpu_ms": self.cpu_ms,
            "cpu_seconds": self.cpu_seconds,
            "foreign_share": self.foreign_share,
            "report": report,
        }


def loadgen() -> Path:
    """Return the compiled load generator, built from the sources beside this package when they have changed.

    Raises:
        BenchError: there is no Go toolchain, or it fails.
    """
    files = sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"])
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    program = cache_folder() / f"loadgen-{digest}"
    if not program.exists():
        aside = program.with_suffix(f".{os.getpid()}")
        try:
            subprocess.run(["go", "build", "-trimpath", "-o", str(aside), "."], cwd=SOURCES, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BenchError(f"the load generator needs Go 1.25 or newer: {error}") from error
        aside.rename(program)
    return program


def load(
    server: Server,
    mode: Mode,
    texts: Path,
    request: Sequence[str],
    expect_dim: int,
    answers: int = 0,
    beside: Sequence[Server] = (),
) -> Sample:
    """Send one bounded load to a running server.

    Args:
        server: running, on loopback.
        mode: how much and how long.
        texts: JSONL, in the order to send.
        request: flags that say what a request looks like (`--protocol`, `--path`, `--model` …).
        expect_dim: length of a right answer.
        answers: of so many first texts the answers are kept in the report.
        beside: what belongs to the measurement and is not under test, such as a backend: it is no foreign work.

    Raises:
        BenchError: the load generator failed, or nothing came back right.
    """
    command = [
        str(loadgen()),
        *("--target", server.address),
        *("--payloads", str(texts)),
        *("--expect-dim", str(expect_dim)),
        *("--answers", str(answers)),
        *mode.arguments(),
        *request,
    ]
    moments: dict[str, float] = {}
    messages: list[str] = []
    quiet = QuietCheck()
    foreign = others = 0.0
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,  # a pipe that nobody reads meanwhile could fill up
        subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        try:
            for line in process.stderr:
                event = line.strip()
                if event == "measure-start":
                    moments[event] = server.cpu_seconds()
                    others = sum(each.cpu_seconds() for each in beside)
                    quiet = QuietCheck()
                elif event == "measure-end":
                    moments[event] = server.cpu_seconds()
                    others = sum(each.cpu_seconds() for each in beside) - others
                    foreign = quiet.share(moments[event] - moments["measure-start"] + others)
                else:
                    messages.append(event)
            process.wait(mode.duration + mode.warmup + SLACK_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
        output.seek(0)
        return _sample(output.read(), messages, moments, foreign)


def _sample(output: str, messages: Sequence[str], moments: dict[str, float], foreign: float) -> Sample:
    try:
        report: dict[str, Any] = json.loads(output)
    except json.JSONDecodeError:
        raise BenchError("the load generator gave no report: " + "; ".join(messages[-3:])) from None
    if not report["right"]:
        raise BenchError(f"no right answer; first error: {report.get('first_error', 'none')}")
    # The client ran in the same window; its CPU time is known only from its report.
    window = report["seconds"] * (os.cpu_count() or 1)
    return Sample(
        throughput=report["throughput"],
        right=report["right"],
        errors=report["errors"],
        latency_ms=report["latency_ms"],
        cpu_seconds=moments["measure-end"] - moments["measure-start"],
        right_in_window=report["right_in_window"],
        foreign_share=max(0.0, foreign - report["client_cpu_seconds"] / window),
        report=report,
        refused=report["refused"],
    )
