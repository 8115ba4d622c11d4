"""The peers as sides of a comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench.harness.errors import BenchError
from bench.harness.process import Ready, Server, ServerProcess, http_ready
from bench.harness.sides import ServerSide
from bench.peers.model import DIMENSION, MAX_LENGTH, minilm_folder

FASTAPI = "fastapi"  # (a)
FASTAPI_TUNED = "fastapi-tuned"  # (b)
FASTAPI_ONNX = "fastapi-onnx"  # (c)
INFINITY = "infinity"  # (d)
PLAIN_REQUEST = ("--protocol", "http", "--path", "/embed", "--api", "plain")
OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "ORT_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}


def workers_ready(count: int) -> Ready:
    """Ready when `count` workers have answered: they load one by one, and a load that starts early meets only the first."""
    seen: set[int] = set()

    def ready(port: int) -> bool:
        for _ in range(4 * count):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                    seen.add(int(json.load(answer)["worker"]))
            except (urllib.error.URLError, OSError):
                return False
        return len(seen) >= count

    return ready


def fastapi_side(name: str, application: str, threads: int = 0, workers: int = 1, max_length: int = MAX_LENGTH) -> ServerSide:
    """Peers (a) to (c). threads 0: the library's default."""

    def start() -> Server:
        return ServerProcess(
            name,
            lambda port: [
                *(sys.executable, "-m", "bench.peers.serve", application),
                *("--port", str(port)),
                *("--threads", str(threads)),
                *("--workers", str(workers)),
                *("--max-length", str(max_length)),
            ],
            workers_ready(workers),
            environment=OFFLINE,
        )

    return ServerSide(name, start, PLAIN_REQUEST, DIMENSION)


def infinity_side() -> ServerSide:
    """Peer (d): infinity-emb, which batches dynamically, with its torch engine and default settings; installed when missing.

    Raises:
        BenchError: it cannot be installed.
    """
    script = Path(__file__).with_name("install-infinity.sh")
    environment = {"UV": str(Path(sys.executable).with_name("uv")), "PYTHON": sys.executable}
    if not Path(environment["UV"]).exists():
        del environment["UV"]
    done = subprocess.run([str(script)], check=False, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{script.name} failed:\n{done.stderr[-2000:]}")
    program = done.stdout.split()[-1]

    def start() -> Server:
        return ServerProcess(
            INFINITY,
            lambda port: [
                *(program, "v2", "--model-id", str(minilm_folder()), "--engine", "torch", "--device", "cpu"),
                *("--host", "127.0.0.1", "--port", str(port), "--served-model-name", "minilm", "--log-level", "error"),
                "--no-bettertransformer",  # gone from the transformers it resolves to
            ],
            http_ready("/health"),
            environment=OFFLINE,
        )

    return ServerSide(
        INFINITY,
        start,
        ("--protocol", "http", "--path", "/embeddings", "--api", "openai", "--model", "minilm"),
        DIMENSION,
    )


def candidates(cores: int) -> list[tuple[int, int]]:
    """(threads, workers) that tuning tries: all cores in one worker, one thread in one worker, one worker a core."""
    return list(dict.fromkeys([(cores, 1), (1, 1), (1, cores)]))


def tuned(
    name: str, application: str, cores: int, throughput: Callable[[ServerSide], float]
) -> tuple[ServerSide, dict[str, float]]:
    """Find the fastest of `candidates`, and every candidate's figure under `threads x workers`."""
    figures: dict[str, float] = {}
    best: tuple[float, ServerSide] | None = None
    for threads, workers in candidates(cores):
        side = fastapi_side(name, application, threads, workers)
        figure = throughput(side)
        figures[f"{threads} threads x {workers} workers"] = round(figure, 1)
        if best is None or figure > best[0]:
            best = (figure, side)
    assert best is not None
    return best[1], figures
