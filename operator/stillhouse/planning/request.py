"""What was asked for, in plain units: the parts of a spec that decide whether something must be built or measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stillhouse.api.gate import Gate
from stillhouse.api.model import Spec
from stillhouse.api.pipeline import Head
from stillhouse.api.scalars import parse_cpu, parse_duration, parse_quantity, parse_share_or_decimal
from stillhouse.api.serve import Gpu, Serve
from stillhouse.api.source import DataSource, Factory, ModelSource
from stillhouse.api.student import Student
from stillhouse.api.teachers import Teacher
from stillhouse.planning.runtimes import GPU
from stillhouse.planning.steps import reads_source, steps_of

__all__ = [
    "data_sources",
    "factories",
    "from_record",
    "gate_config",
    "is_built",
    "is_model",
    "middle_uri",
    "serve_config",
    "to_record",
    "uris",
]

_NUMBERS: dict[str, Callable[[str], float]] = {
    "maxQueueDelay": float, "queueTimeout": float, "cpus": float, "memory": int, "workspace": int,
}  # fmt: skip
_RECORDED = {"cpus": "cpu"}
_BUILT = "still:"


def _sources(spec: Spec) -> Iterator[tuple[str, ModelSource | Student | Teacher | DataSource | Head]]:
    """Yield every place of the spec where a source that counts may be named, with what stands there."""
    alone = steps_of(spec)
    if alone is not None:
        yield from [("spec.source", spec.source)] if reads_source(alone) else []
        return
    yield "spec.source", spec.source
    if spec.source.fine_tune:
        yield "spec.source.fineTune.data", spec.source.fine_tune.data
        if spec.source.fine_tune.validation:
            yield "spec.source.fineTune.validation", spec.source.fine_tune.validation
    if spec.distill:
        yield "spec.distill.data", spec.distill.data
        if spec.distill.validation:
            yield "spec.distill.validation", spec.distill.validation
        if spec.distill.unlabelled:
            yield "spec.distill.unlabelled", spec.distill.unlabelled
        yield "spec.distill.student", spec.distill.student
        for position, teacher in enumerate(spec.distill.teachers):
            yield f"spec.distill.teachers[{position}]", teacher
        for position, assistant in enumerate(spec.distill.assistants):
            yield f"spec.distill.assistants[{position}].student", assistant.student
    if spec.compress.calibration:
        yield "spec.compress.calibration", spec.compress.calibration
    if spec.gate:
        yield "spec.gate.data", spec.gate.data
    if spec.index:
        yield "spec.index.data", spec.index.data
    for position, step in enumerate(spec.pipeline.steps if spec.pipeline else ()):
        if step.onnx:
            yield f"spec.pipeline.steps[{position}].onnx", step.onnx
    cascade = spec.edge.cascade if spec.edge else None
    if cascade:
        yield "spec.edge.cascade.data", cascade.data
        if cascade.calibration:
            yield "spec.edge.cascade.calibration", cascade.calibration
        if cascade.test:
            yield "spec.edge.cascade.test", cascade.test


def uris(spec: Spec) -> dict[str, str]:
    """Return every URI of the spec with the field that names it: field → URI."""
    return {f"{place}.uri": each.uri for place, each in _sources(spec) if each.uri}


def is_model(field: str) -> bool:
    """Return whether the URI at a field of `uris` names a model, and not data."""
    return field.endswith(("source.uri", "student.uri")) or field.startswith(("spec.pipeline.", "spec.distill.teachers["))


def factories(spec: Spec) -> dict[str, Factory]:
    """Return every factory of the spec: field → what stands there."""
    models = ((place, each) for place, each in _sources(spec) if isinstance(each, ModelSource | Student | Teacher))
    return {f"{place}.factory": each.factory for place, each in models if each.factory}


def middle_uri(model: str) -> str:
    """Return how a plan names what was built of another model of the store; no file can: a source has another scheme."""
    return f"{_BUILT}{model}"


def is_built(uri: str) -> bool:
    """Return whether a URI names what was built of another model (`middle_uri`)."""
    return uri.startswith(_BUILT)


def data_sources(spec: Spec) -> dict[str, DataSource]:
    """Return every place of the spec that names data: field → what stands there."""
    return {place: each for place, each in _sources(spec) if isinstance(each, DataSource)}


def serve_config(serve: Serve) -> dict[str, Any]:
    """Return the measured part of `serve` in plain units (seconds, bytes, CPUs)."""
    limits = serve.resources.limits
    found: dict[str, Any] = {
        "maxBatchSize": serve.batching.max_batch_size,
        "maxQueueDelay": parse_duration(serve.batching.max_queue_delay),
        "queueSize": serve.queue.max_size,
        "queueTimeout": parse_duration(serve.queue.timeout) if serve.queue.timeout else None,
        "instances": serve.instances,
        "threads": serve.threads,
        "responseCache": serve.response_cache,
        "cpus": parse_cpu(limits.cpu) if limits.cpu else None,
        "memory": parse_quantity(limits.memory) if limits.memory else None,
    }
    # Only where there is one: a request that names no GPU has the hash that it had before there were any.
    return {**found, **_gpu(serve.gpu or Gpu())} if serve.runtime == GPU else found


def _gpu(gpu: Gpu) -> dict[str, Any]:
    engine = gpu.tensorrt
    return {
        "gpus": gpu.count,
        "tensorrt": engine.precision if engine else None,
        "workspace": parse_quantity(engine.workspace) if engine else None,
    }


def to_record(serve: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `serve_config` says as a ModelRevision has it: fractions are text, what is none is left out."""
    given = {name: value for name, value in serve.items() if value is not None}
    return {_RECORDED.get(name, name): str(value) if name in _NUMBERS else value for name, value in given.items()}


def from_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ModelRevision's settings as `serve_config` says them; what the record lacks is as if nothing was asked for."""
    plain = {recorded: name for name, recorded in _RECORDED.items()}
    given = {plain.get(name, name): value for name, value in record.items() if value is not None}
    read = {name: _NUMBERS[name](value) if name in _NUMBERS else value for name, value in given.items()}
    return {**serve_config(Serve()), **read}


def gate_config(gate: Gate | None) -> dict[str, Any]:
    """Return the gate's limits in plain units: seconds, bytes, answers per second, shares."""
    if gate is None:
        return {"metrics": [], "load": None, "limits": {}, "repeats": 1}
    limits: dict[str, float] = {}
    if gate.max_latency_p50:
        limits["latencyP50"] = parse_duration(gate.max_latency_p50)
    if gate.max_latency_p99:
        limits["latencyP99"] = parse_duration(gate.max_latency_p99)
    if gate.min_throughput:
        limits["throughput"] = float(gate.min_throughput)
    if gate.max_size:
        limits["size"] = parse_quantity(gate.max_size)
    metrics = [
        {
            "name": metric.name,
            "min": parse_share_or_decimal(metric.min) if metric.min else None,
            "max": parse_share_or_decimal(metric.max) if metric.max else None,
            "of": metric.of,
            # Only where there is one: a gate of a model alone has the key that it had before there were any.
            **({"output": metric.output} if metric.output else {}),
        }
        for metric in gate.metrics
    ]
    load = {"concurrency": gate.load.concurrency, "requests": gate.load.requests}
    return {"metrics": metrics, "load": load, "limits": limits, "repeats": gate.repeats}
