"""Cascades for tests: artifact folders, requests, legs that are told how to answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.cascade.legs import Rows
from stillhouse.edge.cascade.policy import Policy
from stillhouse.edge.cascade.question import Question
from stillhouse.edge.cascade.search import Index
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tensors import outputs_of, packed_bytes
from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.wire.call import Call, Peer
from stillhouse.inference.confidence import Calibration
from stillhouse.inference.outliers import OutlierRule
from stillhouse.inference.signature import Signature

__all__ = [
    "DIGEST",
    "INFER",
    "LABELS",
    "SIGNATURE",
    "TableLeg",
    "ask_body",
    "call",
    "parameters",
    "policy",
    "read",
    "write_cascade",
]

DIGEST = "sha256:" + "1" * 64
LABELS = ("no", "yes", "perhaps")
SIGNATURE = Signature("text-classification", ("input_ids", "attention_mask"), "logits", 3, LABELS, max_length=32)
INFER = f"/{SERVICE}/ModelInfer"


def policy(threshold: float = 0.8, outliers: OutlierRule | None = None) -> Policy:
    """Give the policy of a classifier whose softmax is its confidence."""
    return Policy("text-classification", "int8", DIGEST, Calibration("identity"), threshold, outliers)


def write_cascade(folder: Path, *, task: str = "text-classification", names: Sequence[str] = (), **changed: Any) -> Path:
    """Write an artifact; `edge` and `larger`: vectors of a search."""
    folder.mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = {
        "version": 1, "task": task, "variant": "int8", "digest": DIGEST, "calibration": Calibration("identity").to_json(),
        "threshold": 0.8, "outliers": None, "retrieval": None, "stages": 1, "solved": {"escalation": 0.2}, "verified": None,
        "curve": {}, "reliability": {},
    }  # fmt: skip
    if names:
        data["retrieval"] = {"k": 2}
        data["calibration"] = Calibration("platt", "peak", neighbours=3, slope=2.0).to_json()
        (folder / "names.json").write_text(json.dumps(list(names)))
    for name in ("edge", "larger"):
        if name in changed:
            np.save(folder / f"{name}.npy", changed.pop(name))
    (folder / "cascade.json").write_text(json.dumps({**data, **changed}))
    return folder


class _Request:
    """What is behind a call: its path and its headers."""

    def __init__(self, headers: dict[str, bytes]) -> None:
        self.path, self.headers = INFER, headers


def call(timeout: float | None = None, **headers: bytes) -> Call:
    """Give an inference's call of a client with so many seconds; underscores in names of headers are dashes."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
    return Call(_Request(told), Peer("10.0.0.9"), deadline)


def ask_body(
    texts: Sequence[str], *outputs: str, model: str = "m", parameters: dict[str, bool] | None = None, identifier: str = "7"
) -> bytes:
    """Give a request of so many texts."""
    request = message("ModelInferRequest")(model_name=model, id=identifier)
    request.inputs.add(name="TEXT", datatype="BYTES", shape=[len(texts), 1])
    request.raw_input_contents.append(packed_bytes([each.encode() for each in texts]))
    for name in outputs:
        request.outputs.add(name=name)
    for name, value in (parameters or {}).items():
        request.parameters[name].bool_param = value
    return bytes(request.SerializeToString())


def read(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give tensors and parameters of a response."""
    response = message("ModelInferResponse").FromString(body)
    assert (response.model_name, response.model_version) == ("m", "1")
    return outputs_of(response), parameters(response)


def parameters(response: Any) -> dict[str, Any]:
    """Give a message's parameters as plain values."""
    return {name: getattr(each, each.WhichOneof("parameter_choice")) for name, each in response.parameters.items()}


Step = float | Exception


class TableLeg:
    """A leg whose answer to a text is what a table says. `script` tells what becomes of its calls in turn: seconds, or an error.

    `usual`: where the script is at its end.
    """

    gives_logits = False

    def __init__(
        self,
        name: str,
        clock: Callable[[], float],
        answer: Callable[[str], Sequence[float]],
        *,
        script: Sequence[Step] = (),
        usual: Step = 0.01,
        index: Index | None = None,
        digest: str = DIGEST,
    ) -> None:
        self.name, self.variant, self.digest, self.ready = name, f"v-{name}", digest, True
        self.latencies = Quantiles(clock=clock)
        self.script, self.usual = list(script), usual
        self.asked: list[list[str]] = []
        self.untils: list[float] = []
        self.cancelled = 0
        self._clock, self._answer, self._index = clock, answer, index

    async def ask(self, question: Question, until: float) -> Rows:
        texts = question.work
        assert isinstance(texts, list)
        self.asked.append(texts)
        self.untils.append(until)
        step = self.script.pop(0) if self.script else self.usual
        if isinstance(step, Exception):
            raise step
        begun = self._clock()
        left = until - begun
        try:
            await asyncio.sleep(min(step, left))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.latencies.add(self._clock() - begun)
        if step > left:
            raise RpcError(Code.DEADLINE_EXCEEDED, "late")
        values = np.array([self._answer(text) for text in texts], dtype=np.float32)
        return Rows(values, found=None if self._index is None else self._index.search(values), cut=[0] * len(texts), ran_s=step)

    async def close(self) -> None:
        return None
