"""`export`: a torch-model becomes one checked ONNX file, by whichever exporter gives the faster graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.export.exporters import EXPORTERS
from stillhouse.passes.export.fuse import FUSED, fuse
from stillhouse.passes.export.macs import count_macs, count_parameters
from stillhouse.passes.export.parity import MAX_ERROR, MIN_COSINE, Parity, measure_parity
from stillhouse.passes.export.samples import Feed, feed, parity_feeds, timing_shapes
from stillhouse.passes.export.tidy import MAX_BYTES, operator_counts, tidy, write_model
from stillhouse.passes.export.timing import choose, interleaved, open_session
from stillhouse.passes.sources.tokenizer import vocabulary_rows

__all__ = ["MODEL_FILE", "ExportConfig", "ExportFacts", "ExportOnnx"]

MODEL_FILE = "model.onnx"
_PREFERRED = "legacy"
"""Wins a tie: its fused graph is also the one that quantizes better."""
_LENGTHS = (16, 32, 64, 128)


class ExportConfig(PassConfig):
    """Configuration of `export`: the ONNX opset aimed at, rows compared for parity, threads while timing."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    opset: int = Field(default=17, ge=14, le=23)
    samples: int = Field(default=32, ge=1, le=10_000)
    threads: int = Field(default=1, ge=1, le=256)


@dataclass(frozen=True, slots=True)
class ExportFacts:
    """What was exported.

    `latency_ms` is exporter → `batch x tokens` → median milliseconds (FP32, `threads` threads); `refused` exporter → why
    it gave no usable graph. `macs` is tokens → multiply-accumulates of one row (images: one entry, key "image").
    """

    exporter: str
    opset: int
    latency_ms: dict[str, dict[str, float]]
    refused: dict[str, str]
    max_abs_error: float
    min_cosine: float
    parity_rows: int
    operators: dict[str, int]
    fused: dict[str, int]
    macs: dict[str, int]
    parameters: int
    embedding_parameters: int
    size: int
    threads: int


@dataclass(slots=True)
class _Candidate:
    model: onnx.ModelProto
    session: Any
    parity: Parity
    latency_ms: dict[str, float] = field(default_factory=dict)


class ExportOnnx(Pass[ExportConfig, ExportFacts]):
    """torch-model → onnx-model, FP32, one file, dynamic batch and sequence."""

    name = "export"
    version = 1
    kind = "onnx-model"
    config_type = ExportConfig

    def run(self, config: ExportConfig, inputs: Mapping[str, Artifact], ctx: Context) -> ExportFacts:
        """Export `inputs["model"]` by both exporters, keep the faster graph that equals the network.

        Raises:
            SourceError: no exporter gives a graph within the parity limits, or the model is too large for one file.
        """
        source = inputs["model"].path
        signature = Signature.read(source)
        _refuse_too_large(source)
        vocabulary = vocabulary_rows(source)
        candidates: dict[str, _Candidate] = {}
        refused: dict[str, str] = {}
        for step, name in enumerate(EXPORTERS):
            ctx.progress.update(step, len(EXPORTERS) + 1, "steps", f"exporting with {name}")
            try:
                candidates[name] = _candidate(name, source, signature, vocabulary, config)
            except _Refused as error:
                refused[name] = str(error)
                ctx.progress.note(f"exporter {name} gives no usable graph: {error}")
        if not candidates:
            raise _no_graph(refused)
        _time(candidates, signature, vocabulary, ctx)
        latencies = {name: candidate.latency_ms for name, candidate in candidates.items()}
        best = choose(latencies, _PREFERRED)
        chosen = candidates[best]
        ctx.progress.note(f"exporter {best}: " + ", ".join(f"{key} {value:.2f} ms" for key, value in latencies[best].items()))
        size = write_model(chosen.model, ctx.out / MODEL_FILE)
        if (source / "tokenizer.json").is_file():
            shutil.copyfile(source / "tokenizer.json", ctx.out / "tokenizer.json")
        signature.write(ctx.out)
        operators = operator_counts(chosen.model)
        parameters = count_parameters(chosen.model)
        return ExportFacts(
            exporter=best,
            opset=next(entry.version for entry in chosen.model.opset_import if entry.domain == ""),
            latency_ms=latencies,
            refused=refused,
            max_abs_error=chosen.parity.max_abs_error,
            min_cosine=chosen.parity.min_cosine,
            parity_rows=chosen.parity.rows,
            operators=operators,
            fused={name: operators[f"com.microsoft:{name}"] for name in FUSED if f"com.microsoft:{name}" in operators},
            macs=_macs(chosen.model, signature, vocabulary),
            parameters=parameters.total,
            embedding_parameters=parameters.embedding,
            size=size,
            threads=config.threads,
        )


class _Refused(Exception):
    """An exporter gave no usable graph; the text says why."""


def _candidate(name: str, source: Path, signature: Signature, vocabulary: int, config: ExportConfig) -> _Candidate:
    from stillhouse.passes.models.artifact import load

    # Written-out attention is what the fusions recognise; torch.export follows the fused operator as well.
    network = load(source, attention="eager" if name == "legacy" else "sdpa")
    example = feed(signature, 2, min(9, signature.max_length or 9), vocabulary)
    try:
        raw = EXPORTERS[name](network, signature, example, config.opset)
    except Exception as error:  # exporters raise whatever their inside raises; the other one may still do
        raise _Refused(f"{type(error).__name__}: {error}".splitlines()[0][:300]) from error
    expected = _torch_runner(network)
    heads, hidden = (int(getattr(network.config, key, 0) or 0) for key in ("num_attention_heads", "hidden_size"))
    reasons: list[str] = []
    # A fusion that goes wrong costs its gain, not the export: the same graph is tried without it.
    for fused in (True, False) if heads and hidden else (False,):
        try:
            model = tidy(fuse(raw, heads, hidden) if fused else raw, signature.output)
            return _checked(model, signature, vocabulary, expected, config)
        except SourceError:
            raise
        except _Refused as error:
            reasons.append(str(error))
        except Exception as error:  # the checker, the fusions and ONNX Runtime have no common error
            reasons.append(f"{type(error).__name__}: {error}".splitlines()[0][:300])
    raise _Refused("; ".join(dict.fromkeys(reasons)))


def _checked(
    model: onnx.ModelProto,
    signature: Signature,
    vocabulary: int,
    expected: Callable[[Feed], NDArray[np.float32]],
    config: ExportConfig,
) -> _Candidate:
    onnx.checker.check_model(model)
    session = open_session(model.SerializeToString(), config.threads)
    names = [value.name for value in session.get_inputs()]
    if sorted(names) != sorted(signature.inputs):
        raise _Refused(f"the graph's inputs are {', '.join(names)}, the signature's {', '.join(signature.inputs)}")
    parity = measure_parity(session, expected, parity_feeds(signature, config.samples, vocabulary))
    if not parity.holds:
        raise _Refused(
            f"differs from the network by {parity.max_abs_error:.2g} (allowed {MAX_ERROR}), "
            f"cosine {parity.min_cosine:.6f} (allowed {MIN_COSINE})"
        )
    return _Candidate(model, session, parity)


def _torch_runner(network: Any) -> Callable[[Feed], NDArray[np.float32]]:
    import torch

    def run(feeds: Feed) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: NDArray[np.float32] = network(*(torch.from_numpy(value) for value in feeds.values())).numpy()
        return output

    return run


def _time(candidates: Mapping[str, _Candidate], signature: Signature, vocabulary: int, ctx: Context) -> None:
    for batch, length in timing_shapes(signature):
        ctx.progress.update(len(EXPORTERS), len(EXPORTERS) + 1, "steps", f"timing batch {batch}")
        tensors = feed(signature, batch, length, vocabulary, padded=False)
        calls = {name: _call(candidate.session, tensors) for name, candidate in candidates.items()}
        key = f"{batch}x{length}" if signature.image is None else f"{batch}"
        for name, value in interleaved(calls).items():
            candidates[name].latency_ms[key] = value


def _call(session: Any, tensors: Feed) -> Callable[[], object]:
    return lambda: session.run(None, tensors)


def _macs(model: onnx.ModelProto, signature: Signature, vocabulary: int) -> dict[str, int]:
    if signature.image is not None:
        return {"image": count_macs(model, feed(signature, 1, 0, 0))}
    lengths = [length for length in _LENGTHS if length <= (signature.max_length or length)] or [signature.max_length]
    return {str(length): count_macs(model, feed(signature, 1, length, vocabulary)) for length in lengths}


def _refuse_too_large(source: Path) -> None:
    size = (source / "model.safetensors").stat().st_size
    if size > MAX_BYTES:
        raise SourceError(
            "the model is too large for one ONNX file",
            field="source.uri",
            found=f"{size / (1 << 30):.2f} GiB of weights",
            allowed="2 GiB in float32",
            fix="distil it into a smaller student: add spec.distill",
        )


def _no_graph(refused: Mapping[str, str]) -> SourceError:
    return SourceError(
        "the model cannot be exported to ONNX",
        field="source",
        found="; ".join(f"{name}: {reason}" for name, reason in refused.items()),
        allowed="a network that torch.onnx can follow and whose graph gives the same outputs",
        fix="choose another student architecture, or export the model yourself and name the .onnx file as the source",
    )
