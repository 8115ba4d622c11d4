"""`serve` and `scale`: how a model is served, and by how many."""

from __future__ import annotations

from tests.support.api_objects.case import GONE, Case, bad

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    Case("external, one replica", "text", {"spec.scale": {"mode": "external", "replicas": 1}}),
    Case("one replica said explicitly", "text", {"spec.scale": {"replicas": 1, "maxReplicas": 4}}),
    Case("a queue as long as the gate has clients", "text", {"spec.serve.queue.maxSize": 4}),
    Case("a short queue without a gate", "text", {"spec.serve.queue.maxSize": 1, "spec.gate": GONE}),
    Case("a GPU with ONNX Runtime alone", "class", {"spec.serve.gpu": {}}),
    Case("a runtime of GPUs, nothing said of them", "class", {"spec.serve.gpu": GONE}),
)

INVALID: tuple[Case, ...] = (
    bad("too many replicas", "text", "spec.scale.maxReplicas", 1001),
    bad("batch of nothing", "text", "spec.serve.batching.maxBatchSize", 0),
    bad("not a digest", "text", "spec.serve.pin", "sha256:abc"),
    bad("a strategy that nobody knows", "text", "spec.serve.strategy.type", "BlueGreen"),
    bad("no former revision kept", "text", "spec.serve.revisionHistoryLimit", 0),
    bad("an unknown runtime", "text", "spec.serve.runtime", "vllm"),
    Case(
        "GPUs of a runtime of CPUs", "class", {"spec.serve.runtime": GONE}, "spec.serve.gpu", "belongs to runtime triton-nvidia"
    ),
    bad("a cache of an ensemble", "class", "spec.serve.responseCache", True, "belongs to runtime triton-ort-cpu"),
    bad("no workspace", "class", "spec.serve.gpu.tensorrt.workspace", "0Gi", "more than 0"),
    bad("no CPU", "text", "spec.serve.resources.limits", {"cpu": "0m"}),
    bad("no memory", "text", "spec.serve.resources.limits", {"memory": "0Gi"}),
    bad("more CPU asked than allowed", "text", "spec.serve.resources.requests.cpu", "1.5", "must not exceed"),
    bad("more memory asked than allowed", "text", "spec.serve.resources.requests.memory", "1Gi", "must not exceed"),
    bad("a queue shorter than the gate's clients", "text", "spec.serve.queue.maxSize", 3, "at least gate.load.concurrency"),
    Case(
        "more clients of the gate than the queue holds",
        "text",
        {"spec.gate.load.concurrency": 101},
        "spec.serve.queue.maxSize",
        "at least gate.load.concurrency",
    ),
    Case("fewest above most", "text", {"spec.scale.minReplicas": 9}, "spec.scale.minReplicas", "must not exceed maxReplicas"),
    Case("replicas of our own scaling", "text", {"spec.scale.mode": "hpa"}, "spec.scale.replicas", "belongs to mode external"),
)
