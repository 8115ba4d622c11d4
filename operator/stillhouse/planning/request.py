"""What was asked for, in plain units: the parts of a spec that decide whether something must be built or measured."""

from __future__ import annotations

from typing import Any

from stillhouse.api.gate import Gate
from stillhouse.api.model import Spec
from stillhouse.api.scalars import parse_cpu, parse_duration, parse_quantity, parse_share_or_decimal

__all__ = ["RUNTIME", "gate_config", "serve_config", "uris"]

RUNTIME = "triton-ort-cpu"


def uris(spec: Spec) -> dict[str, str]:
    """Return every URI of the spec with the field that names it: field → URI."""
    found = {"spec.source.uri": spec.source.uri}
    if spec.distill:
        found["spec.distill.data.uri"] = spec.distill.data.uri
        if spec.distill.validation:
            found["spec.distill.validation.uri"] = spec.distill.validation.uri
        if spec.distill.student.uri:
            found["spec.distill.student.uri"] = spec.distill.student.uri
    if spec.compress.calibration:
        found["spec.compress.calibration.uri"] = spec.compress.calibration.uri
    if spec.gate:
        found["spec.gate.data.uri"] = spec.gate.data.uri
    if spec.index:
        found["spec.index.data.uri"] = spec.index.data.uri
    return found


def serve_config(spec: Spec) -> dict[str, Any]:
    """Return the measured part of `serve` in plain units (seconds, bytes, CPUs)."""
    serve = spec.serve
    limits = serve.resources.limits
    return {
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
        }
        for metric in gate.metrics
    ]
    load = {"concurrency": gate.load.concurrency, "requests": gate.load.requests}
    return {"metrics": metrics, "load": load, "limits": limits, "repeats": gate.repeats}
