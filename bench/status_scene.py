"""What `bench.status` looks at: a store, a server's stand-in, a git repository."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.harness.errors import BenchError
from stillhouse.clients.hardware import hardware
from stillhouse.clients.store.files import write_json
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.digests import content_hash
from stillhouse.entrypoints.local.servers import Running
from stillhouse.triton.birth import birth
from stillhouse.triton.handle import ServerHandle

MODEL, STEPS = "docstring-search", 12
GIT_ALONE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
"""Nobody's own settings: git as it comes."""


def receipts(count: int) -> list[Receipt]:
    """Return receipts as a build writes them, about 2 KB each."""
    machine = hardware().to_json()
    facts = {"loss": 0.25, "curve": [round(0.9**epoch, 6) for epoch in range(40)], "rows": 12_000, "truncated": {"texts": 0}}
    return [
        Receipt(
            key=content_hash({"step": number}),
            step=f"train/step-{number}",
            stage="train",
            pass_name="distill",
            version=1,
            config={"epochs": 4, "batchSize": 128, "learningRate": 0.001, "seed": number},
            parents={role: content_hash({"parent": role, "of": number}) for role in ("teacher", "student", "data", "outputs")},
            artifact=f"sha256:{content_hash({'artifact': number})}",
            kind="torch-model",
            size=5_000_000 + number,
            facts=facts,
            started="2026-11-24T08:00:00Z",
            seconds=41.5,
            toolchain={"torch": "2.15.0", "transformers": "5.23.0"},
            machine=machine,
        )
        for number in range(count)
    ]


def state_of(made: Sequence[Receipt]) -> dict[str, Any]:
    """Return what is kept of a model that was built from these."""
    figures = {name: {"estimate": 0.82, "low": 0.78, "high": 0.86} for name in ("mrr@10", "cosine", "latencyP99", "size")}
    checks = [{"outcome": "passed", "text": f"{name} 0.82 (0.78 to 0.86), at least 0.7"} for name in figures]
    candidate = {"precision": "int8", "outcome": "passed", "size": 5_500_000, "figures": figures, "checks": checks}
    revision = {
        "digest": made[-1].artifact,
        "precision": "int8",
        "size": 5_500_000,
        "index": None,
        "figures": figures,
        "truncated": {},
        "candidates": [candidate],
        "serve": {},
        "steps": [{"id": each.step, "key": each.key} for each in made],
        "planHash": content_hash("plan"),
        "time": "2026-11-24T08:10:00Z",
    }
    built = {"type": "Built", "status": "True", "reason": "Built", "message": "", "observedGeneration": 1}
    return {
        "name": MODEL,
        "file": "/models/distilledmodel.yaml",
        "generation": 1,
        "planHash": revision["planHash"],
        "steps": [{"id": each.step, "stage": each.stage, "key": each.key} for each in made],
        "revision": revision,
        "history": [],
        "verdict": {"outcome": "passed", "message": "", "candidates": [candidate], "time": revision["time"]},
        "conditions": [built, {**built, "type": "GatePassed", "reason": "GatePassed"}],
    }


def store(root: Path, made: Sequence[Receipt]) -> LocalStore:
    """Make a store of these receipts, the last of which are a model's."""
    found = LocalStore(root)
    (root / "steps").mkdir(parents=True)
    for receipt in made:  # not by `finish`, which has each on the disk before the next
        found.receipt_path(receipt.key).write_text(json.dumps(receipt.to_json(), indent=1, sort_keys=True), "utf-8")
    found.write_state(MODEL, state_of(made[-STEPS:]))
    return found


def repository(root: Path, files: int) -> Path:
    """Make a clean git repository of so many tracked files, a hundred in each folder."""
    for number in range(files):
        path = root / f"folder-{number // 100:03}" / f"file-{number:05}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {number}\n" * 20, "utf-8")
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "files"], ["status"]):
        try:
            subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, env={**os.environ, **GIT_ALONE})
        except (OSError, subprocess.CalledProcessError) as error:
            raise BenchError(f"the peer needs git: {error}") from error
    return root


@contextmanager
def answering(found: LocalStore) -> Iterator[None]:
    """Have somebody answer, within the block, what `still status` asks of the model's server."""
    import grpc
    from tritonclient.grpc import service_pb2 as pb

    def method(request: Any, reply: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda *_: reply, request.FromString, type(reply).SerializeToString)

    statistics = pb.ModelStatisticsResponse()
    statistics.model_stats.add(name=MODEL, version="1", inference_count=2000, execution_count=500)
    methods = {
        "ServerReady": method(pb.ServerReadyRequest, pb.ServerReadyResponse(ready=True)),
        "ModelReady": method(pb.ModelReadyRequest, pb.ModelReadyResponse(ready=True)),
        "ModelStatistics": method(pb.ModelStatisticsRequest, statistics),
    }
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    revision = found.state(MODEL)["revision"]
    me = os.getpid()
    handle = ServerHandle(me, birth(me), "127.0.0.1", port, None, None, "", MODEL, revision["digest"], "stillhouse-bench")
    running = Running(handle, revision["digest"], revision["precision"], revision["time"])
    write_json(found.run_dir(MODEL) / "server.json", running.to_json(), tmp=found.tmp)
    try:
        yield
    finally:
        server.stop(None)
