"""`export`: a torch-model becomes one checked ONNX file, by whichever exporter gives the faster graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.export.candidates import Candidate, Latencies, candidates, choose, time_candidates
from stillhouse.passes.export.fuse import FUSED
from stillhouse.passes.export.macs import count_macs, count_parameters
from stillhouse.passes.export.samples import feed
from stillhouse.passes.export.tidy import MAX_BYTES, operator_counts, write_model
from stillhouse.passes.models.architecture import Architecture
from stillhouse.passes.sources.tokenizer import vocabulary_rows
from stillhouse.sizes import size as shown_size

__all__ = ["MODEL_FILE", "ExportConfig", "ExportFacts", "ExportOnnx", "require_exportable"]

MODEL_FILE = "model.onnx"
_MEND = "mend the network that the factory makes"
_LENGTHS = (16, 32, 64, 128)


class ExportConfig(PassConfig):
    """Configuration of `export`: the ONNX opset aimed at, rows compared for parity, threads while timing.

    `quick`: the first graph that equals the network is taken and nothing is timed, for what is measured and thrown away.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    opset: int = Field(default=17, ge=14, le=23)
    samples: int = Field(default=32, ge=1, le=10_000)
    threads: int = Field(default=1, ge=1, le=256)
    quick: bool = False


@dataclass(frozen=True, slots=True)
class ExportFacts:
    """What was exported.

    `latency_ms` is graph → precision → `batch x tokens` → milliseconds with `threads` threads; INT8 is timed because most
    models are served in it. `refused` is graph → why it is not usable. `macs` is tokens → multiply-accumulates of one
    row (images: one entry, key "image"; features: key "row"). `exporter` names the graph that was chosen.
    """

    exporter: str
    opset: int
    latency_ms: dict[str, dict[str, dict[str, float]]]
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


class ExportOnnx(Pass[ExportConfig, ExportFacts]):
    """torch-model → onnx-model, FP32, one file, dynamic batch and sequence."""

    name = "export"
    version = 1
    kind = "onnx-model"
    config_type = ExportConfig

    def run(self, config: ExportConfig, inputs: Mapping[str, Artifact], ctx: Context) -> ExportFacts:
        """Export `inputs["model"]` by both exporters, keep a graph that equals the network, the faster where it clearly is.

        Raises:
            SourceError: no exporter gives a graph within the parity limits, or the model is too large for one file.
        """
        source = inputs["model"].path
        signature = Signature.read(source)
        _refuse_too_large(source, "source.uri", "distil it into a smaller student: add spec.distill")
        vocabulary = vocabulary_rows(source)

        def report(what: str) -> None:  # how many of them there will be nobody knows, so they are not counted
            ctx.progress.update(0, None, "", f"exporting: {what}")

        made, refused = _tried(source, signature, vocabulary, config, report)
        if not made:
            factory = Architecture.read(source).kind == "factory"
            mend = _MEND if factory else "choose another student architecture"
            fix = f"{mend}, or export the model yourself and name the .onnx file as the source"
            raise _no_graph(refused, "model.factory" if factory else "source.uri", fix)
        if not config.quick:
            small = Architecture.read(source).small
            recurrent = small is not None and small.form == "bilstm"
            time_candidates(made, signature, vocabulary, config.threads, report, recurrent=recurrent)
        latencies = {name: candidate.latency_ms for name, candidate in made.items()}
        best = next(iter(made)) if config.quick else choose(latencies, *_halves(made))
        chosen = made[best]
        if not config.quick:
            ctx.progress.note(_said(best, latencies))
        report("writing the graph")
        size = write_model(chosen.model, ctx.out / MODEL_FILE)
        if (source / "tokenizer.json").is_file():
            shutil.copyfile(source / "tokenizer.json", ctx.out / "tokenizer.json")
        signature.write(ctx.out)
        report("counting its operations")
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


def _halves(made: Mapping[str, Candidate]) -> tuple[Latencies, Latencies]:
    first, second = ({name: candidate.halves[half] for name, candidate in made.items()} for half in (0, 1))
    return first, second


def _said(best: str, latencies: Latencies) -> str:
    """Say how quick the graph is that was taken; which exporter made it is in the facts.

    A shape is `rows x tokens`, of what is no text the rows alone.
    """
    times = []
    for precision, shapes in latencies[best].items():
        for shape, milliseconds in shapes.items():
            rows, _, tokens = shape.partition("x")
            what = f"{rows} row" if rows == "1" else f"{rows} rows"
            times.append(f"{what}{f' of {tokens} tokens' if tokens else ''} in {milliseconds:.3g} ms ({precision})")
    taken = (
        f"of {len(latencies)} ONNX exports one is taken that none clearly beats"
        if len(latencies) > 1
        else "one ONNX export could be made"
    )
    return f"{taken}: {', '.join(times)}"


def _macs(model: onnx.ModelProto, signature: Signature, vocabulary: int) -> dict[str, int]:
    if not signature.takes_texts:
        return {"image" if signature.image is not None else "row": count_macs(model, feed(signature, 1, 0, 0))}
    lengths = [length for length in _LENGTHS if length <= (signature.max_length or length)] or [signature.max_length]
    return {str(length): count_macs(model, feed(signature, 1, length, vocabulary)) for length in lengths}


def _refuse_too_large(source: Path, field: str, fix: str) -> None:
    weights = (source / "model.safetensors").stat().st_size
    if weights > MAX_BYTES:
        raise SourceError(
            "the model is too large for one ONNX file",
            field=field,
            found=f"{shown_size(weights)} of weights",
            allowed="2 GiB in float32",
            fix=fix,
        )


def require_exportable(source: Path, report: Callable[[str], None]) -> None:
    """Try whether a factory's network can be exported before it is trained; nothing is kept.

    How near the graph's numbers are is not judged: those of chance weights may be of any size, or of none.

    Args:
        source: a torch-model artifact.
        report: told what is tried.

    Raises:
        SourceError: no exporter gives a graph that runs and has the network's shapes, or it is too large for one file.
    """
    _refuse_too_large(source, "model.factory", "make the network smaller")
    config = ExportConfig(samples=4, quick=True)
    made, refused = _tried(source, Signature.read(source), vocabulary_rows(source), config, report, any_numbers=True)
    if not made:
        raise _no_graph(refused, "model.factory", _MEND)


def _tried(
    source: Path,
    signature: Signature,
    vocabulary: int,
    config: ExportConfig,
    report: Callable[[str], None],
    *,
    any_numbers: bool = False,
) -> tuple[dict[str, Candidate], dict[str, str]]:
    return candidates(
        source, signature, vocabulary,
        opset=config.opset, samples=config.samples, threads=config.threads, report=report, quick=config.quick,
        any_numbers=any_numbers,
    )  # fmt: skip


def _no_graph(refused: Mapping[str, str], field: str, fix: str) -> SourceError:
    return SourceError(
        "the model cannot be exported to ONNX",
        field=field,
        found="; ".join(f"{name}: {reason}" for name, reason in refused.items()),
        allowed="a network that torch.onnx can follow and whose graph gives the same outputs",
        fix=fix,
    )
