"""`python -m bench.gateway`: what the gateway costs before a model, beside a proxy in grpc.aio and nginx's `grpc_pass`.

One small request (a text in, 64 floats out) to a Go server that answers at once, so that what is measured is what stands before
it. Peak: a closed loop of 32 clients over 4 connections; requests a second of the proxy's CPU, whose ratio is what counts on a
machine where load generator, proxy and backend share two cores. Added latency: an open loop at half of the gateway's peak, minus
the same without a proxy; and at a quarter, because a peak is reached with several requests in a read, and half of it one by one
is nearer to the end than it sounds.

Overload: the same before a backend that answers so many requests at once and no more. Its peak is a closed loop of as many
clients as the gateway lets in; then an open loop sends five times that. `goodput_at_5x_overload`: right answers a second, of the
peak's. `refused_within_ms`: the 99th percentile of the time after which the others were refused.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness.errors import BenchError
from bench.harness.goals import judge
from bench.harness.load import Mode, Sample, load, loadgen
from bench.harness.process import Server, ServerProcess, open_port
from bench.harness.results import quoted, table, write_results
from bench.harness.rounds import REPEATS, ROUNDS, Run, Spread, rounds, series
from bench.peers import nginx

MODEL, FLOATS = "m", 64
OURS = ("ours", "bounded")
CLIENTS, CONNECTIONS = 32, 4
GOALS = {
    "vs_grpc_aio_proxy": ">= 2.5",
    "vs_nginx": ">= 0.5",
    "added_p50_ms": "<= 0.5",
    "added_p99_ms": "<= 2",
    "errors": "= 0",
    "goodput_at_5x_overload": ">= 0.9",
    "refused_within_ms": "<= 10",
}
SLOW_MS, AT_ONCE, IN_FLIGHT = 20, 8, 16
"""Of the backend that is the bottleneck: 400 answers a second, far from what the gateway and the load generator can do."""
REQUEST = ("--protocol", "grpc", "--model", MODEL, "--connections", str(CONNECTIONS), "--procs", "1")


def ours(port: int, backend: str) -> list[str]:
    """Return the gateway's command line."""
    return [
        *(sys.executable, "-m", "stillhouse.entrypoints.gateway"),
        *(f"--model={MODEL}={backend}", f"--listen=127.0.0.1:{port}", "--log-level=error"),
    ]


def ours_bounded(port: int, backend: str) -> list[str]:
    """Return the gateway's command line with a limit that fits the slow backend."""
    return [*ours(port, backend), f"--in-flight={IN_FLIGHT}"]


def grpc_aio(port: int, backend: str) -> list[str]:
    """Return the peer's."""
    return [sys.executable, "-m", "bench.peers.grpc_aio_proxy", str(port), backend]


@dataclass(frozen=True)
class Proxy:
    """A proxy before the backend; `command` None: none, the backend itself takes the load."""

    name: str
    backend: ServerProcess
    command: Callable[[int, str], Sequence[str]] | None = None

    def measure(self, mode: Mode, texts: Path, answers: int = 0) -> Sample:
        """Start it, load it, stop it."""
        if self.command is None:
            return load(self.backend, mode, texts, REQUEST, FLOATS, answers)
        command = self.command
        server: Server
        with ServerProcess(f"gateway-{self.name}", lambda port: command(port, self.backend.address), open_port) as server:
            return load(server, mode, texts, REQUEST, FLOATS, answers, beside=(self.backend,))


def say(run: Run) -> None:
    """Tell of one measurement."""
    sample = run.sample
    print(
        f"{run.phase} {run.side} round {run.round + 1}: {sample.throughput:.0f}/s, p50 {sample.latency_ms['p50']:.2f} ms, "
        f"p99 {sample.latency_ms['p99']:.2f} ms, {1000 * sample.cpu_ms:.0f} µs CPU, {sample.errors} errors"
        + (f", {sample.refused} refused (p99 {sample.report['refused_latency_ms']['p99']:.2f} ms)" if sample.refused else "")
        + ("" if run.quiet else ", other work on the machine"),
        flush=True,
    )


def main() -> int:
    """Parse the command line, measure, print, write `bench/results/gateway.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=8.0, help="seconds of one run")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of a round that was not quiet")
    options = parser.parse_args()
    try:
        nginx.program()
        program = str(loadgen())

        def answering(port: int) -> list[str]:
            return [program, "serve", "--listen", f"127.0.0.1:{port}"]

        def slow(port: int) -> list[str]:
            return [*answering(port), f"--delay={SLOW_MS}ms", f"--at-once={AT_ONCE}"]

        with (
            tempfile.TemporaryDirectory() as name,
            ServerProcess("gateway-backend", answering, open_port) as backend,
            ServerProcess("gateway-slow-backend", slow, open_port) as bottleneck,
        ):
            texts = Path(name) / "texts.jsonl"
            texts.write_text("".join(json.dumps(f"return the square root of number {n}") + "\n" for n in range(2000)), "utf-8")
            direct, gateway = Proxy("direct", backend), Proxy("ours", backend, ours)
            proxies = [gateway, Proxy("grpc_aio", backend, grpc_aio), Proxy("nginx", backend, nginx.command)]
            bounds = {"count": options.rounds, "repeats": options.repeats}
            peak = Mode(options.duration, 2.0, CLIENTS, max_requests=1_000_000)
            runs = rounds([direct, *proxies], peak, texts, "peak", say=say, **bounds)
            rate = Spread.of(series(runs, "ours", "peak", lambda sample: sample.throughput)).median / 2
            # A proxy in grpc.aio does not come up to half of the rate.
            for phase, share in (("half", 1.0), ("quarter", 0.5)):
                mode = Mode(options.duration, 2.0, rate=share * rate)
                runs += rounds([direct, gateway, proxies[-1]], mode, texts, phase, say=say, **bounds)
            runs += overload(Proxy("bounded", bottleneck, ours_bounded), texts, options.duration, bounds)
    except (BenchError, subprocess.SubprocessError) as error:
        print(f"bench.gateway: {error}", file=sys.stderr)
        return 1
    return report(runs, options, rate)


def overload(gateway: Proxy, texts: Path, duration: float, bounds: Mapping[str, int]) -> list[Run]:
    """Measure the peak of a gateway before a backend that is the bottleneck, and what five times of it does."""
    runs = rounds([gateway], Mode(duration, 2.0, IN_FLIGHT), texts, "bounded peak", say=say, **bounds)
    peak = Spread.of(series(runs, gateway.name, "bounded peak", lambda sample: sample.throughput)).median
    return [*runs, *rounds([gateway], Mode(duration, 2.0, rate=5 * peak), texts, "overload", say=say, **bounds)]


def report(runs: Sequence[Run], options: argparse.Namespace, rate: float) -> int:
    """Print the tables, write the result file, judge."""

    def of(side: str, phase: str, metric: Callable[[Sample], float]) -> list[float]:
        return series(runs, side, phase, metric)

    per_core = {side: of(side, "peak", lambda sample: sample.per_core) for side in ("ours", "grpc_aio", "nginx")}
    ratios = {
        "vs_grpc_aio_proxy": Spread.of([a / b for a, b in zip(per_core["ours"], per_core["grpc_aio"], strict=True)]),
        "vs_nginx": Spread.of([a / b for a, b in zip(per_core["ours"], per_core["nginx"], strict=True)]),
    }
    for phase, side, name in (
        ("half", "ours", "added"),
        ("half", "nginx", "nginx_added"),
        ("quarter", "ours", "added_at_a_quarter"),
        ("quarter", "nginx", "nginx_added_at_a_quarter"),
    ):
        for figure in ("p50", "p99"):
            with_it, without = (of(each, phase, _latency(figure)) for each in (side, "direct"))
            ratios[f"{name}_{figure}_ms"] = Spread.of([a - b for a, b in zip(with_it, without, strict=True)])
    # Who is refused in an attempt that other processes disturbed was refused rightly: the gateway had no CPU.
    ours = [run for run in runs if run.side in OURS]
    refused = sum(run.sample.refused for run in ours if run.kept and run.phase != "overload")
    failed = sum(run.sample.errors for run in ours) + refused
    ratios["errors"] = Spread.of([float(failed)])
    peaks = of("bounded", "bounded peak", lambda sample: sample.throughput)
    goodput = of("bounded", "overload", lambda sample: sample.throughput)
    ratios["goodput_at_5x_overload"] = Spread.of([a / b for a, b in zip(goodput, peaks, strict=True)])
    # NaN where nobody was refused: that was no overload, and meets nothing.
    ratios["refused_within_ms"] = Spread.of(
        of("bounded", "overload", lambda sample: sample.report.get("refused_latency_ms", {}).get("p99", math.nan))
    )
    rows = []
    for side in ("direct", "ours", "grpc_aio", "nginx"):
        shown = [
            quoted(Spread.of(of(side, "peak", lambda sample: sample.throughput)), 0),
            quoted(Spread.of(of(side, "peak", lambda sample: 1000 * sample.cpu_ms)), 0),
            *(quoted(Spread.of(found), 2) if (found := of(side, "half", _latency(each))) else "" for each in ("p50", "p99")),
        ]
        rows.append([side, *shown])
    print(table(["before the backend", "peak, requests/s", "CPU µs a request", "p50 at half, ms", "p99 at half, ms"], rows))
    settings = {
        "duration": options.duration,
        "rounds": options.rounds,
        "clients": CLIENTS,
        "connections": CONNECTIONS,
        "rate": rate,
        "overload": {"backend_ms": SLOW_MS, "backend_at_once": AT_ONCE, "in_flight": IN_FLIGHT},
    }
    write_results("gateway", settings=settings, runs=runs, ratios=ratios)
    return judge(GOALS, ratios)


def _latency(figure: str) -> Callable[[Sample], float]:
    return lambda sample: sample.latency_ms[figure]


if __name__ == "__main__":
    sys.exit(main())
