"""`python -m bench.soak_gateway`: a million requests through gateways of which all that can roll does, and none may fail.

Two gateways with a cascade (policy `answer`) stand before three backends of the small model; the larger one is beyond. While the
documented client (round robin over the gateways, at most three retries of UNAVAILABLE) sends, in turns: a backend is replaced
with drain, the cloud is killed with all that is under way and comes back, the pool is scaled to one and up again, and the
gateways are restarted one after the other. The models are servers that answer at once: what is proven is what stands before them.

A request has failed that the client did not get a right answer to, refusals too. Retries are reported apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness.errors import BenchError
from bench.harness.goals import judge
from bench.harness.load import SLACK_SECONDS, loadgen
from bench.harness.results import write_results
from bench.harness.rounds import Spread
from bench.soak_scene import LABELS, MODEL, OUTPUT, Part, Scene

__all__ = ["Outcome", "Pace", "soak"]

REQUESTS = 1_000_000
GOALS = {"requests": f">= {REQUESTS}", "failed_requests": "= 0"}
CLIENTS, CHUNK = 16, 25_000
LONGEST_S = 14 * 60.0  # of one run of the load generator


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard and how fast. `clients`: a closed loop, 0: an open one of `rate` a second. `chunk`: requests between two reports.

    `away_s`: how long a part is away. `settle_s`: after a gateway came back, until the next one goes: a client connects anew a
    second after it lost it, as a rollout waits with the next pod.
    """

    clients: int = CLIENTS
    rate: float = 0.0
    chunk: int = CHUNK
    away_s: float = 2.0
    settle_s: float = 3.0


@dataclass(slots=True)
class Outcome:
    """What came of it. `rolled`: actions by name; `figures`: the gateways' own counts; `seconds` of load."""

    requests: int = 0
    failed: int = 0
    retries: int = 0
    seconds: float = 0.0
    first_error: str = ""
    slowest_ms: float = 0.0
    rolled: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    quiet: bool = True  # as a run of the result file; nothing here depends on other work
    kept: bool = True

    def to_json(self) -> dict[str, object]:
        """For the result file."""
        return {
            "requests": self.requests,
            "failed_requests": self.failed,
            "retries": self.retries,
            "seconds": round(self.seconds, 1),
            "first_error": self.first_error,
            "slowest_ms": self.slowest_ms,
            "rolled": dict(self.rolled),
            "figures": dict(self.figures),
        }


class Roller(threading.Thread):
    """Rolls what there is, in turns, until it is told to end; then all runs again. `error`: what went wrong."""

    def __init__(self, scene: Scene, pace: Pace) -> None:
        super().__init__(daemon=True)
        self.scene, self.pace, self.rolled, self.cycles = scene, pace, Counter[str](), 0
        self.error: BaseException | None = None
        self._enough = threading.Event()

    def run(self) -> None:
        """Roll."""
        try:
            while not self._enough.is_set():
                self._cycle()
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        """Finish the action that is under way.

        Raises:
            BenchError: a part did not come back.
        """
        self._enough.set()
        self.join()
        self.check()

    def check(self) -> None:
        """Raise what went wrong."""
        if self.error is not None:
            raise self.error

    def _cycle(self) -> None:
        scene, away = self.scene, self.pace.away_s
        actions: list[tuple[str, Callable[[], None]]] = [
            *(("backend_replaced", lambda each=each: self._absent([each], away)) for each in scene.backends),
            ("cloud_killed", self._cloud),
            ("pool_scaled", lambda: self._absent(scene.backends[1:], away)),
            ("cloud_killed_while_scaled", self._both),
            *(("gateway_restarted", lambda each=each: self._gateway(each)) for each in scene.gateways),
        ]
        for name, action in actions:
            if self._enough.is_set():
                return
            action()
            self.rolled[name] += 1
        self.cycles += 1

    def _absent(self, parts: list[Part], seconds: float) -> None:
        for each in parts:
            each.stop()
        self._enough.wait(seconds)
        for each in parts:
            each.start()

    def _cloud(self) -> None:
        self.scene.cloud.kill()
        self._enough.wait(self.pace.away_s)
        self.scene.cloud.start()

    def _both(self) -> None:
        """Leave the least that still has to answer: one backend, and nobody beyond."""
        self.scene.cloud.kill()
        self._absent(self.scene.backends[1:], self.pace.away_s)
        self.scene.cloud.start()

    def _gateway(self, gateway: Part) -> None:
        self.scene.read(gateway)
        gateway.stop()
        gateway.start()
        self._enough.wait(self.pace.settle_s)


def soak(requests: int, pace: Pace, folder: Path, say: Callable[[str], None] = print) -> Outcome:
    """Send at least so many requests, and for as long as everything has rolled once.

    Raises:
        BenchError: a part did not start, or the load generator failed. What a request fails by is an outcome.
    """
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps(f"return the square root of number {n}") + "\n" for n in range(2000)), "utf-8")
    scene, outcome = Scene(folder), Outcome()
    roller = Roller(scene, pace)
    try:
        scene.start()
        began = time.monotonic()
        roller.start()
        while outcome.requests < requests or not roller.cycles:
            _add(outcome, _chunk(scene, texts, pace))
            roller.check()
            rate = outcome.requests / (time.monotonic() - began)
            rolled = ", ".join(f"{count} {name}" for name, count in roller.rolled.items())
            say(f"{outcome.requests} requests, {outcome.failed} failed, {outcome.retries} retries, {rate:.0f}/s; {rolled}")
        outcome.seconds = time.monotonic() - began
        roller.end()
        for each in scene.gateways:
            scene.read(each)
            each.stop()
    finally:
        if roller.is_alive():
            roller.end()
        scene.end()
    outcome.rolled, outcome.figures = roller.rolled, scene.figures
    return outcome


def _chunk(scene: Scene, texts: Path, pace: Pace) -> dict[str, Any]:
    duration = pace.chunk / pace.rate if pace.rate else LONGEST_S
    shape = (f"--rate={pace.rate}",) if pace.rate else (f"--clients={pace.clients}",)
    command = [
        *(
            str(loadgen()),
            "--protocol=grpc",
            "--documented",
            f"--model={MODEL}",
            f"--output={OUTPUT}",
            "--warmup=0s",
            "--procs=1",
        ),
        *("--target", ",".join(each.address for each in scene.gateways), "--payloads", str(texts)),
        *(f"--expect-dim={len(LABELS)}", f"--duration={duration:.3f}s", *shape),
        f"--max-requests={2 * pace.chunk if pace.rate else pace.chunk}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=duration + SLACK_SECONDS, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise BenchError(f"the load generator gave no report: {done.stderr[-500:]}") from None
    return report


def _add(outcome: Outcome, report: dict[str, Any]) -> None:
    failed = report["errors"] + report["refused"]
    outcome.requests += report["right"] + failed
    outcome.failed += failed
    outcome.retries += report["retries"]
    outcome.first_error = outcome.first_error or report.get("first_error", "") or ("refused" if report["refused"] else "")
    outcome.slowest_ms = max(outcome.slowest_ms, (report["latency_ms"] or {"max": 0.0})["max"])


def main() -> int:
    """Parse the command line, soak, print, write `bench/results/soak_gateway.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="at least so many")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="of the closed loop")
    options = parser.parse_args()
    pace = Pace(clients=options.clients, chunk=min(CHUNK, max(1, options.requests)))
    try:
        with tempfile.TemporaryDirectory() as name:
            outcome = soak(options.requests, pace, Path(name), lambda line: print(line, flush=True))
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        print(f"bench.soak_gateway: {error}", file=sys.stderr)
        return 1
    print(json.dumps(outcome.to_json(), indent=1))
    counts = {"requests": outcome.requests, "failed_requests": outcome.failed, "retries": outcome.retries}
    ratios = {name: Spread.of([float(count)]) for name, count in counts.items()}
    settings = {"clients": pace.clients, "away_s": pace.away_s, "settle_s": pace.settle_s, "backends": 3, "gateways": 2}
    write_results("soak_gateway", settings=settings, runs=[outcome], ratios=ratios)
    return judge(GOALS, ratios)


if __name__ == "__main__":
    sys.exit(main())
