"""Asks a gateway, one request a text, and says which leg answered, how sure the small model was, and where the time went."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.away.keys import KEY as PATTERN
from stillhouse.edge.oip.configs import columns_in, labels_in
from stillhouse.edge.oip.messages import SERVICE, message, value_of
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import outputs_of, packed_bytes
from stillhouse.edge.status import KEY, Code, Metadata, RpcError
from stillhouse.edge.wire.client import Channel
from stillhouse.entrypoints.edge.record import require
from stillhouse.errors import DataError, ServerError, UsageError
from stillhouse.settings import load_settings

__all__ = ["Asked", "ask"]

_METADATA, _INFER, _CONFIG = (f"/{SERVICE}/{method}" for method in ("ModelMetadata", "ModelInfer", "ModelConfig"))
_OURS = frozenset({"LABEL", "PROBABILITIES", "EMBEDDING", "NEIGHBOR", "SCORE", "CONFIDENCE", "LEG", "PROVENANCE"})
"""Outputs of a model or a cascade; further ones are of a pipeline's steps."""
_LEGS = {"edge": "answered here", "cloud": "answered by the larger model", "mixed": "answered by both", "none": "not answered"}


@dataclass(frozen=True, slots=True)
class Asked:
    """How a gateway is asked: its address (None: the one of this machine), whose certificate it has, the client's token.

    `key`: names a request, so that the same one asked again gets the answer that came meanwhile.
    """

    at: str | None = None
    authority: Path | None = None
    token: str | None = None
    key: str | None = None
    top: int = 5
    timeout_s: float = 30.0


def ask(name: str, texts: Sequence[str], asked: Asked) -> list[dict[str, Any]]:
    """Return an answer for each text, as plain data.

    Raises:
        UsageError: no gateway runs here, it wants a token, it does not know the model, or the key is another request's.
        DataError: it refuses a text.
        ServerError: it does not answer.
    """
    if asked.key is not None:
        _of_one(asked.key, texts)
    address, tls = asked.at, asked.authority is not None
    if address is None:
        gateway = require(LocalStore(load_settings().home), name)
        address, tls = gateway.listen["grpc"], gateway.tls
    elif "://" in address or ":" not in address:
        raise UsageError("this is no address", field="--at", found=address, allowed="HOST:PORT, such as 127.0.0.1:8101")
    context = _context(asked.authority) if tls else None
    return asyncio.run(_ask(name, texts, address, context, asked))


def _of_one(key: str, texts: Sequence[str]) -> None:
    if len(texts) != 1:
        raise UsageError("a key names one request, which is one text", field="--key", found=f"{len(texts)} texts")
    if not PATTERN.fullmatch(key):
        raise UsageError("this is no key", field="--key", found=repr(key)[:140], allowed="1 to 128 visible ASCII characters")


def _context(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(authority) if authority else None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            "the authority's certificate cannot be read",
            field="--tls-authority",
            found=f"{authority}: {getattr(error, 'strerror', None) or error}",
            allowed="a certificate, PEM",
        ) from error


async def _ask(name: str, texts: Sequence[str], address: str, tls: ssl.SSLContext | None, asked: Asked) -> list[dict[str, Any]]:
    channel = Channel(address, tls=tls)
    metadata: Metadata = (("authorization", f"Bearer {asked.token}"),) if asked.token else ()
    try:
        request = message("ModelMetadataRequest")(name=name).SerializeToString()
        told = await channel.unary(_METADATA, request, metadata=metadata, timeout_s=asked.timeout_s)
        about = parsed(message("ModelMetadataResponse"), told.message)
        arrays = [(each.name, tuple(each.shape[1:])) for each in about.inputs if each.name in ("IMAGE", "FEATURES")]
        known = {each.name for each in about.outputs}
        labels, columns = await _told(channel, name, metadata, asked.timeout_s) if "LABEL" in known or arrays else ([], [])
        answers = []
        for text in texts:
            body = _request(name, text, arrays[0] if arrays else None, known, columns)
            began = time.perf_counter()
            named: Metadata = () if asked.key is None else ((KEY, asked.key),)
            reply = await channel.unary(_INFER, body, metadata=metadata + named, timeout_s=asked.timeout_s)
            seconds = time.perf_counter() - began
            answers.append(_answer(text, parsed(message("ModelInferResponse"), reply.message), labels, seconds, asked.top))
        return answers
    except RpcError as error:
        raise _refused(error, name, address) from error
    finally:
        await channel.close()


def _request(
    name: str, text: str, array: tuple[str, tuple[int, ...]] | None, known: set[str], columns: Sequence[str] = ()
) -> bytes:
    request = message("ModelInferRequest")(model_name=name)
    request.parameters["trace"].bool_param = True
    if array is None:
        request.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1])
        request.raw_input_contents.append(packed_bytes([text.encode()]))
    else:
        import numpy as np

        from stillhouse.entrypoints.local.asking import read_images
        from stillhouse.entrypoints.local.numbers import read_features
        from stillhouse.inference.signature import FeatureSpec, ImageSpec

        tensor, shape = array
        if tensor == "IMAGE":
            channels, height, width = shape
            values = read_images([text], ImageSpec(height=height, width=width, channels=channels, mean=(), std=()))
        else:
            values = read_features([text], FeatureSpec(shape, tuple(columns)))
        request.inputs.add(name=tensor, datatype="FP32", shape=[1, *shape])
        request.raw_input_contents.append(np.ascontiguousarray(values, dtype="<f4").tobytes())
    wanted = (
        ("NEIGHBOR", "SCORE") if "NEIGHBOR" in known else ("EMBEDDING",) if "EMBEDDING" in known else ("LABEL", "PROBABILITIES")
    )
    of_steps = sorted(known - _OURS)
    for each in (*wanted, *(extra for extra in ("CONFIDENCE", "LEG") if extra in known), *of_steps):
        request.outputs.add(name=each)
    return bytes(request.SerializeToString())


def _answer(text: str, response: Any, labels: Sequence[str], seconds: float, top: int) -> dict[str, Any]:
    found = outputs_of(response)
    answer: dict[str, Any] = {"text": text}
    if "NEIGHBOR" in found:
        names, scores = found["NEIGHBOR"][0].tolist()[:top], found["SCORE"][0].tolist()[:top]
        answer["results"] = [(name.decode(), round(score, 4)) for name, score in zip(names, scores, strict=True)]
    elif "LABEL" in found:
        answer["label"] = found["LABEL"].ravel()[0].decode()
        shares = found["PROBABILITIES"][0]
        order = (-shares).argsort(kind="stable")[:top].tolist()
        answer["probabilities"] = {labels[at] if at < len(labels) else str(at): round(float(shares[at]), 5) for at in order}
    elif "EMBEDDING" in found:
        answer["embedding"] = [round(float(value), 6) for value in found["EMBEDDING"][0]]
    steps = {name: _plain(values[0]) for name, values in sorted(found.items()) if name not in _OURS and len(values)}
    if steps:
        answer["steps"] = steps
    trace = {key: _finite(value_of(value)) for key, value in response.parameters.items()}
    trace["milliseconds"] = round(seconds * 1000, 2)
    return answer | {"trace": trace, "said": _said(trace)}


async def _told(channel: Channel, name: str, metadata: Metadata, timeout_s: float) -> tuple[list[str], list[str]]:
    """Return the classes' and a table's columns' names, which our own models tell in their configuration; of others none."""
    request = message("ModelMetadataRequest")(name=name).SerializeToString()  # as a ModelConfigRequest has it
    try:
        told = await channel.unary(_CONFIG, request, metadata=metadata, timeout_s=timeout_s)
        return [str(label) for label in labels_in(told.message) or []], columns_in(told.message)
    except (RpcError, ValueError):
        return [], []


def _finite(value: Any) -> Any:
    """Return None for what JSON has no number for: nobody's confidence (a late answer), a threshold that nothing reaches."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(values: Any) -> Any:
    if values.dtype == object:
        return [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in values.ravel()]
    return (values.astype(float).round(6) if values.dtype.kind == "f" else values).tolist()


def _said(trace: dict[str, Any]) -> str:
    """Return a line on where an answer is from."""
    leg = str(trace.get("leg", ""))
    who = f"{trace.get('variant', '?')} {str(trace.get('digest', ''))[7:19]}".strip(" ,")
    parts = [f"{_LEGS.get(leg, 'answered')} ({who})"]
    if trace.get("confidence") is not None and trace.get("threshold") is not None:
        sign = "≥" if trace["confidence"] >= trace["threshold"] else "<"
        parts.append(f"confidence {trace['confidence']:.4f} {sign} threshold {trace['threshold']:.4f}")
    if trace.get("away"):
        parts.append(f"the larger model did not answer, so the small one's answer stands (away.policy: {trace['away']})")
    if trace.get("queued"):
        parts.append(f"queued as {trace['queued']}")
    if trace.get("edge_error"):
        parts.append(f"the small model failed: {trace['edge_error']}")
    times = [f"{key.removeprefix('trace_')} {value:.2f}" for key, value in sorted(trace.items()) if _is_time(key, value)]
    parts.append(f"{trace['milliseconds']:.2f} ms" + (f" ({', '.join(times)})" if times else ""))
    return "; ".join(parts)


def _is_time(key: str, value: Any) -> bool:
    return key.startswith("trace_") and isinstance(value, float)


def _refused(error: RpcError, name: str, address: str) -> Exception:
    text = str(error)
    if error.code is Code.UNAVAILABLE and "CERTIFICATE_VERIFY_FAILED" in text:
        return UsageError(
            "the gateway's certificate is not of an authority that is known here",
            field="--tls-authority",
            found=text,
            fix="give --tls-authority FILE: the authority's certificate, or the gateway's own where it is self-signed",
        )
    if error.code is Code.UNAUTHENTICATED:
        return UsageError(
            "the gateway wants to know who asks", field="--token", found=text, fix="set STILLHOUSE_TOKEN, or give --token"
        )
    if error.code is Code.NOT_FOUND:
        return UsageError("the gateway does not know this model", field="NAME", found=text, fix="still edge status")
    if error.code is Code.INVALID_ARGUMENT:
        return DataError("the gateway refuses this input", field="TEXTS", found=text)
    if error.code is Code.ALREADY_EXISTS:
        return UsageError(
            "this key is another request's",
            field="--key",
            found=text,
            fix="ask with the text that it was given for; a late answer is found by both",
        )
    if error.code is Code.DATA_LOSS:
        return ServerError("the late answer is lost; ask anew, without the key", field=name, found=text)
    if error.code is Code.RESOURCE_EXHAUSTED:
        return ServerError("the gateway has too much to do, or this client asks too often", field=name, found=text)
    if "the larger model is away" in error.message:
        return ServerError(
            "the larger model does not answer, and the file asks for no answer without it (spec.edge.away.policy: fail)",
            field=name,
            found=text,
            fix="still edge status, and the log of its gateway, say why; with away: {policy: answer} the small model answers",
        )
    return ServerError(
        "the gateway does not answer",
        field=name,
        found=text if address in text else f"{address}: {text}",
        fix="see whether it runs, on its machine: still edge status",
    )
