"""The graphs that one network can become: each exporter, fused here or left to the runtime, checked and timed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from stillhouse.clients.store.files import disk_full
from stillhouse.errors import SourceError
from stillhouse.inference.cpu import saturates
from stillhouse.inference.signature import Signature
from stillhouse.passes.compress.quantize import quantizable, quantize
from stillhouse.passes.export.exporters import EXPORTERS
from stillhouse.passes.export.fuse import fuse
from stillhouse.passes.export.parity import MAX_ERROR, MIN_COSINE, Parity, measure_parity
from stillhouse.passes.export.samples import Feed, feed, parity_feeds, timing_shapes
from stillhouse.passes.export.tidy import tidy
from stillhouse.passes.export.timing import interleaved, open_session, quartile_ms

__all__ = ["ORDER", "Candidate", "Latencies", "candidates", "choose", "time_candidates"]

ORDER: Final = ("legacy", "legacy-plain", "dynamo")
"""The first of those that are as fast is taken: that with the fewest operators before those left to the runtime."""
TIE: Final = 0.1
"""Share of the latency below which a difference is taken for noise: of the same file and seed the same graph should come out,
and what a graph gains in less than a tenth, another version of the runtime or another CPU takes away again."""
TIE_MS: Final = 0.01
"""A difference below it too, in milliseconds: of networks this small the call is timed and not the graph."""

Latencies = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Candidate → precision → `batch x tokens` → milliseconds."""


@dataclass(slots=True)
class Candidate:
    """A checked graph. `latency_ms` is precision → `batch x tokens` → milliseconds; `halves` the same of every other round."""

    model: onnx.ModelProto
    session: Any
    parity: Parity
    latency_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    halves: tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]] = field(default_factory=lambda: ({}, {}))


class _Unusable(Exception):
    """A graph cannot be used; the text says why."""


def candidates(
    source: Path,
    signature: Signature,
    vocabulary: int,
    *,
    opset: int,
    samples: int,
    threads: int,
    report: Callable[[str], None],
    quick: bool = False,
    any_numbers: bool = False,
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """Export the torch-model in `source` in every way; return (name → candidate, name → why there is none).

    `quick`: the first way that works will do. `any_numbers`: outputs need the network's shape, and not its numbers.

    Names: `legacy` (fused here), `legacy-plain` (left to the runtime to fuse), `dynamo`. `report` is told what comes
    next of each.
    """
    made: dict[str, Candidate] = {}
    refused: dict[str, str] = {}
    for exporter in EXPORTERS:
        report(exporter)
        try:
            raw, expected, shape = _export(exporter, source, signature, vocabulary, opset)
        except Exception as error:  # exporters raise whatever their inside raises; the other one may still do
            if disk_full(error):
                raise
            refused[exporter] = _first_line(error)
            continue
        for name, build in _variants(exporter, raw, shape):
            report(f"{name}, fusing")
            try:
                graph = tidy(build(), signature.output)
                report(f"{name}, checking")
                session = _checked(graph, signature, threads)
                report(f"{name}, comparing with the network")
                made[name] = _compared(
                    graph, session, expected, parity_feeds(signature, samples, vocabulary), any_numbers=any_numbers
                )
            except SourceError:
                raise
            except Exception as error:  # the checker, the fusions and ONNX Runtime have no common error
                if disk_full(error):
                    raise
                refused[name] = _first_line(error)
            if made and quick:
                return made, refused
    return made, refused


def time_candidates(
    made: Mapping[str, Candidate],
    signature: Signature,
    vocabulary: int,
    threads: int,
    report: Callable[[str], None],
    *,
    recurrent: bool = False,
) -> None:
    """Fill `latency_ms` and `halves` of all, in FP32 and, where its graph can be quantized, in INT8 (`recurrent`: LSTMs too)."""
    sessions: dict[tuple[str, str], Any] = {}
    for name, candidate in made.items():
        sessions[name, "fp32"] = candidate.session
        if quantizable(candidate.model, recurrent=recurrent):
            report(f"{name} in INT8")
            try:
                small = quantize(candidate.model, per_channel=True, reduce_range=saturates(), recurrent=recurrent)
                sessions[name, "int8"] = open_session(small.SerializeToString(), threads)
            except Exception as error:  # a graph that cannot be quantized is timed in FP32 only
                report(f"{name} cannot be quantized: {_first_line(error)}")
    for batch, length in timing_shapes(signature):
        key = f"{batch}x{length}" if signature.takes_texts else str(batch)
        report(f"timing {key}")
        tensors = feed(signature, batch, length, vocabulary, padded=False)
        calls = {"/".join(names): _call(session, tensors) for names, session in sessions.items()}
        times = interleaved(calls, tick=lambda: report(f"timing {key}"))  # noqa: B023 (called within this round only)
        for name, precision in sessions:
            rounds, to = times[f"{name}/{precision}"], made[name]
            for part, into in ((rounds, to.latency_ms), (rounds[::2], to.halves[0]), (rounds[1::2], to.halves[1])):
                into.setdefault(precision, {})[key] = quartile_ms(part)


def choose(latencies: Latencies, *halves: Latencies) -> str:
    """Return the candidate that can become the fastest: geometric mean over shapes, in its better precision.

    The first of `ORDER` is taken that is not clearly slower than the fastest, by `TIE` or `TIE_MS`. `halves` are parts of the
    same measurement: where they do not agree with the whole, the difference is noise, and the first in order is taken.
    """
    return min((_fast_enough(each) for each in (latencies, *halves)), key=ORDER.index)


def _fast_enough(latencies: Latencies) -> str:
    means = {
        name: min(statistics.geometric_mean(shapes.values()) for shapes in precisions.values())
        for name, precisions in latencies.items()
    }
    fastest = min(means.values())
    limit = max(fastest * (1 + TIE), fastest + TIE_MS)
    return next(name for name in ORDER if name in means and means[name] <= limit)


def _export(
    exporter: str, source: Path, signature: Signature, vocabulary: int, opset: int
) -> tuple[onnx.ModelProto, Callable[[Feed], NDArray[np.float32]], tuple[int, int]]:
    import torch

    from stillhouse.passes.models.artifact import load

    # Written-out attention is what the fusions recognise; torch.export follows the fused operator as well.
    network = load(source, attention="eager" if exporter == "legacy" else "sdpa")
    example = feed(signature, 2, min(9, signature.max_length or 9), vocabulary)
    raw = EXPORTERS[exporter](network, signature, example, opset)

    def expected(tensors: Feed) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: NDArray[np.float32] = network(*(torch.from_numpy(value) for value in tensors.values())).numpy()
        return output

    return raw, expected, (network.heads, network.hidden_size)


def _variants(exporter: str, raw: onnx.ModelProto, shape: tuple[int, int]) -> Iterator[tuple[str, Callable[[], onnx.ModelProto]]]:
    heads, hidden = shape
    if not heads or not hidden:
        yield exporter, lambda: raw
        return
    yield exporter, lambda: fuse(raw, heads, hidden)
    if exporter == "legacy":
        # ONNX Runtime fuses at load time as well, other patterns, and more of them in INT8: which set is faster depends
        # on its version and the CPU. Should a fusion go wrong, this graph is still there.
        yield "legacy-plain", lambda: raw


def _checked(model: onnx.ModelProto, signature: Signature, threads: int) -> Any:
    # Serialised once for both: nothing else in this process runs meanwhile, the progress line neither.
    content = model.SerializeToString()
    onnx.checker.check_model(content)
    session = open_session(content, threads)
    names = [value.name for value in session.get_inputs()]
    if sorted(names) != sorted(signature.inputs):
        raise _Unusable(f"the graph's inputs are {', '.join(names)}, the signature's {', '.join(signature.inputs)}")
    return session


def _compared(
    model: onnx.ModelProto,
    session: Any,
    expected: Callable[[Feed], NDArray[np.float32]],
    feeds: Iterator[Feed],
    *,
    any_numbers: bool,
) -> Candidate:
    parity = measure_parity(session, expected, feeds)
    if not (parity.fits if any_numbers else parity.holds):
        raise _Unusable(
            f"differs from the network by {parity.max_abs_error:.2g} (allowed {MAX_ERROR}), "
            f"cosine {parity.min_cosine:.6f} (allowed {MIN_COSINE})"
        )
    return Candidate(model, session, parity)


def _call(session: Any, tensors: Feed) -> Callable[[], object]:
    return lambda: session.run(None, tensors)


def _first_line(error: Exception) -> str:
    # torch's exporter wraps what happened into advice to whoever develops it ("This is step 1/3 … Next steps:").
    cause: BaseException = error
    while type(cause).__module__.startswith("torch.onnx") and cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(cause).strip() or repr(cause)
    return f"{type(cause).__name__}: {text.splitlines()[0]}"[:300]
