"""Objects that are DistilledModels and objects that are not, for whoever gives a verdict on them.

`CASES` is fed to `api.load.parse` (unit) and to a real API server (integration): both must accept and refuse the same.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CASES", "COMPLETE", "RESERVED", "Case", "complete", "edited", "leaves"]

GONE = object()
"""As the value of an edit: the field is removed."""

Object = dict[str, Any]


def _resource(spec: Object) -> Object:
    return {"apiVersion": "stillhouse.io/v1alpha1", "kind": "DistilledModel", "metadata": {"name": "m"}, "spec": spec}


MINIMAL = {
    "text": _resource({"source": {"uri": "models:minilm", "task": "sentence-embedding"}}),
    "class": _resource({"source": {"uri": "hf://owner/model@main", "task": "text-classification"}}),
    "image": _resource(
        {"source": {"uri": "file://net", "task": "image-classification", "image": {"height": 8, "width": 8, "channels": 1}}}
    ),
}

# Between them every field that this version implements is set.
COMPLETE = {
    "text": _resource(
        {
            "source": {"uri": "models:minilm", "task": "sentence-embedding", "maxLength": 128},
            "distill": {
                "student": {
                    "hiddenLayers": 2,
                    "hiddenSize": 192,
                    "intermediateSize": 768,
                    "attentionHeads": 6,
                    "init": "svd",
                    "vocabulary": {"maxSize": 12000},
                },
                "data": {
                    "uri": "data:docstrings",
                    "columns": {"text": "body", "query": "q", "document": "d", "name": "n"},
                    "maxRows": 12000,
                },
                "validation": {"uri": "data:validation"},
                "maxLength": 64,
                "stages": [
                    {
                        "name": "soft",
                        "losses": [
                            {"kind": "embedding", "weight": "1", "distance": "mse"},
                            {"kind": "similarity", "weight": "0.5", "temperature": "0.05", "keys": 2048},
                            {"kind": "hidden", "layer": 3},
                        ],
                        "epochs": 4,
                        "batchSize": 128,
                        "learningRate": "0.001",
                        "warmup": "5%",
                        "weightDecay": "0.01",
                    },
                    {"name": "more", "losses": [{"kind": "embedding"}]},
                ],
                "seed": 7,
            },
            "compress": {"precision": "auto", "calibration": {"uri": "data:calibration"}, "keepFp32": 4},
            "gate": {
                "data": {"uri": "data:search-gate"},
                "metrics": [{"name": "mrr@10", "min": "70%", "of": "teacher"}, {"name": "cosine", "min": "0.9"}],
                "load": {"concurrency": 4, "requests": 1000},
                "maxLatencyP50": "5ms",
                "maxLatencyP99": "20ms",
                "minThroughput": "100.5",
                "maxSize": "12Mi",
                "repeats": 3,
            },
            "index": {"data": {"uri": "data:documents"}},
            "serve": {
                "batching": {"maxBatchSize": 32, "maxQueueDelay": "500us"},
                "queue": {"maxSize": 100, "timeout": "1s"},
                "instances": 2,
                "threads": 1,
                "responseCache": True,
                "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "500m", "memory": "0.5Gi"}},
                "pin": "sha256:" + "0f" * 32,
                "podTemplate": {
                    "metadata": {"labels": {"team": "search"}, "annotations": {"note": "any text: 1"}},
                    "spec": {
                        "nodeSelector": {"disk": "ssd"},
                        "tolerations": [
                            {"key": "dedicated", "value": "models", "effect": "NoExecute", "tolerationSeconds": 60},
                            {"operator": "Exists", "effect": "NoSchedule"},
                        ],
                        "affinity": {
                            "nodeAffinity": {
                                "requiredDuringSchedulingIgnoredDuringExecution": {
                                    "nodeSelectorTerms": [
                                        {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
                                    ]
                                },
                                "preferredDuringSchedulingIgnoredDuringExecution": [
                                    {
                                        "weight": 10,
                                        "preference": {"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["4"]}]},
                                    }
                                ],
                            },
                            "podAffinity": {
                                "preferredDuringSchedulingIgnoredDuringExecution": [
                                    {
                                        "weight": 1,
                                        "podAffinityTerm": {
                                            "labelSelector": {"matchExpressions": [{"key": "web", "operator": "Exists"}]},
                                            "topologyKey": "topology.kubernetes.io/zone",
                                        },
                                    }
                                ]
                            },
                            "podAntiAffinity": {
                                "requiredDuringSchedulingIgnoredDuringExecution": [
                                    {
                                        "labelSelector": {"matchLabels": {"app": "noisy"}},
                                        "topologyKey": "kubernetes.io/hostname",
                                    }
                                ]
                            },
                        },
                        "topologySpreadConstraints": [
                            {
                                "maxSkew": 1,
                                "topologyKey": "kubernetes.io/hostname",
                                "whenUnsatisfiable": "DoNotSchedule",
                                "minDomains": 2,
                            }
                        ],
                        "priorityClassName": "high",
                        "runtimeClassName": "nvidia",
                        "imagePullSecrets": [{"name": "registry"}],
                    },
                },
                "strategy": {"type": "Recreate"},
                "revisionHistoryLimit": 3,
            },
            "scale": {"minReplicas": 1, "maxReplicas": 8, "mode": "external", "replicas": 3},
            "build": {
                "resources": {"limits": {"cpu": "8", "memory": "32Gi"}, "requests": {"cpu": "4", "memory": "16Gi"}},
                "placement": {
                    "nodeSelector": {"pool": "batch"},
                    "tolerations": [{"key": "batch", "operator": "Exists"}],
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [{"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["7"]}]}]
                            }
                        }
                    },
                    "priorityClassName": "low",
                    "runtimeClassName": "gvisor",
                    "imagePullSecrets": [{"name": "registry"}],
                },
                "workers": 4,
                "queue": "team-a",
            },
            "edge": {
                "cascade": {
                    "larger": {"model": "large", "address": "grpcs://cloud.example:443"},
                    "data": {"uri": "data:threshold", "columns": {"label": "name"}},
                    "calibration": {"uri": "data:cascade-calibration"},
                    "test": {"uri": "data:test", "maxRows": 1000},
                    "method": "isotonic",
                    "targetAgreement": "98.5%",
                    "judgedBy": "labels",
                    "neighbors": 5,
                    "outliers": {"keep": "95%", "policy": "refuse"},
                    "cost": "12.5",
                },
                "away": {"policy": "queue", "queue": {"maxSize": "1Gi", "maxAge": "12h"}, "hedge": True},
                "clients": {"tokens": "clients", "rate": 100, "burst": 20, "concurrency": 8},
                "tls": {"secret": "front", "clientAuthority": "staff"},
                "backendAuthority": "cloud-ca",
                "backendToken": "cloud-token",
                "guard": {
                    "maxRows": 64,
                    "maxTextLength": 2000,
                    "maxMessageSize": "4Mi",
                    "patterns": [
                        {"name": "ticket", "regex": "TCK-[0-9]{6}", "action": "mask"},
                        {"name": "card", "named": "card"},
                    ],
                    "audit": {"mode": "required", "key": "audit", "raw": True, "keep": "720h", "maxSize": "2Gi"},
                },
                "agreement": {
                    "sample": "5%",
                    "minAgreement": "97%",
                    "maxDrift": "0.25",
                    "collect": {"maxSize": "16Mi"},
                },
                "prices": {"currency": "CHF", "cpuHour": "0.04", "cloudCall": "0.0005"},
                "telemetry": {"endpoint": "http://collector:4318", "sample": "1%"},
                "maxInFlight": 256,
                "rest": False,
                "run": {
                    "kind": "Deployment",
                    "replicas": 1,
                    "claim": "search-data",
                    "resources": {
                        "limits": {"cpu": "1", "memory": "512Mi"},
                        "requests": {"cpu": "100m", "memory": "128Mi"},
                    },
                    "podTemplate": {
                        "metadata": {"labels": {"team": "edge"}},
                        "spec": {"nodeSelector": {"place": "shop"}},
                    },
                },
            },
        }
    ),
    "class": _resource(
        {
            "source": {"uri": "file://teacher", "task": "text-classification", "labels": ["no", "yes"]},
            "distill": {
                "student": {"uri": "hf://owner/small"},
                "data": {"uri": "file://train.csv", "columns": {"text": "t", "label": "l", "weight": "w"}},
                "unlabelled": {"uri": "file://more.csv", "columns": {"text": "t"}, "maxRows": 50000},
                "deduplicate": {"threshold": "0.9", "heldOut": True},
                "balance": {"to": "50%", "most": 4},
                "augment": {
                    "operations": [{"kind": "synonym", "amount": "20%", "chance": "40%"}, {"kind": "delete"}],
                    "copies": 2,
                    "labels": "teacher",
                },
                "report": True,
                "stages": [{"losses": [{"kind": "logits", "temperature": "3", "alpha": "0.7"}, {"kind": "hard"}]}],
            },
            "gate": {
                "data": {"uri": "file://gate.csv"},
                "metrics": [{"name": "macro-f1", "min": "0.8"}, {"name": "log-loss", "max": "105%", "of": "teacher"}],
            },
            "serve": {
                "runtime": "triton-nvidia",
                "gpu": {"count": 2, "tensorrt": {"precision": "fp16", "workspace": "2Gi"}},
            },
            "credentials": [
                {"secret": "hub", "for": "hf://owner"},
                {"secret": "bucket.keys", "for": "s3://models/teachers"},
                {"secret": "registry", "for": "oci://registry.example:5000/team"},
                {"secret": "files", "for": "https://files.example/"},
            ],
            "edge": {
                "cascade": {"larger": {"model": "large"}, "data": {"uri": "data:threshold"}, "escalationBudget": "20%"},
                "run": {"kind": "DaemonSet"},
            },
        }
    ),
    "image": _resource(
        {
            "source": {
                "uri": "file://net",
                "task": "image-classification",
                "image": {"height": 8, "width": 8, "channels": 1, "mean": ["0.5"], "std": ["0.25"]},
                "factory": {"target": "nets:teacher", "arguments": {"width": 32, "activation": "relu"}},
            },
            "distill": {
                "student": {"factory": {"target": "nets.small:student"}},
                "data": {"uri": "file://train.parquet", "columns": {"image": "pixels"}},
                "augment": {"operations": [{"kind": "flip"}, {"kind": "rotate", "amount": "5%"}], "labels": "keep"},
                "stages": [{"losses": [{"kind": "hard"}]}],
            },
            "compress": {"int8": {"ranges": "percentile", "percentile": "99.9%", "balance": "0.25"}},
            "pipeline": {
                "placement": "together",
                "steps": [
                    {"name": "odds", "onnx": {"uri": "models:odds"}, "inputs": {"p": "PROBABILITIES", "x": "request.IMAGE"}},
                    {
                        "name": "decide",
                        "onnx": {"uri": "file://decide.onnx"},
                        "inputs": {"odds": "odds.log/odds:0"},
                        "outputs": {"yes:0": "YES"},
                    },
                ],
            },
        }
    ),
    "table": _resource(
        {
            "source": {
                "uri": "models:trees",
                "task": "tabular-classification",
                "labels": ["no", "yes"],
                "features": {"columns": ["age", "mean radius", "größe"]},
            },
            "distill": {
                "student": {"architecture": "mlp", "hiddenLayers": 2, "hiddenSize": 32},
                "data": {"uri": "file://train.csv", "columns": {"label": "class"}},
                "stages": [{"losses": [{"kind": "logits"}]}],
            },
            "pipeline": {
                "placement": "together",
                "steps": [
                    {
                        "name": "odds",
                        "onnx": {"uri": "models:odds"},
                        "inputs": {"p": "PROBABILITIES", "x": "request.FEATURES"},
                        "outputs": {"yes": "YES"},
                    },
                ],
            },
        }
    ),
    "series": _resource(
        {
            "source": {
                "uri": "models:gait",
                "task": "time-series-classification",
                "labels": ["walks", "sits"],
                "features": {"length": 128, "channels": 9},
            },
            "distill": {
                "student": {"architecture": "cnn", "convolution": {"channels": [8, 16], "separable": True}},
                "data": {"uri": "file://train.parquet", "columns": {"features": "window"}},
                "stages": [{"losses": [{"kind": "logits"}]}],
            },
            "compress": {"qat": {"epochs": 2, "learningRate": "0.00005"}},
        }
    ),
    "steps": _resource(
        {
            "source": {"uri": "models:minilm", "task": "text-classification"},
            "edge": {
                "preprocess": {
                    "steps": [
                        {"kind": "tokenise", "input": "TEXT", "maxLength": 8, "padding": "full", "datatype": "INT32"},
                        {
                            "kind": "image",
                            "height": 4,
                            "width": 5,
                            "channels": 1,
                            "mean": ["-0.5"],
                            "std": ["0.2"],
                            "maxPixels": 100,
                        },
                        {"kind": "window", "length": 8, "hop": 4, "merge": True},
                        {
                            "kind": "statistics",
                            "names": ["mean", "median"],
                            "quantiles": ["0.9"],
                            "rate": "50",
                            "bands": [{"low": "0", "high": "25"}],
                        },
                        {"kind": "normalise", "mean": ["0"], "std": ["1.5"], "clip": "3", "output": "X"},
                        {
                            "kind": "python",
                            "function": "features.sums:total",
                            "inputs": [{"name": "IN", "datatype": "FP32", "shape": [-1, 2]}],
                            "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [-1]}],
                        },
                    ],
                    "model": "large",
                    "address": "mqtts://broker.example:8883",
                    "encoding": "int8-rows+zstd",
                },
            },
        }
    ),
    "apart": _resource(
        {
            "source": {"uri": "models:minilm", "task": "text-classification"},
            "pipeline": {
                "placement": "apart",
                "steps": [
                    {"name": "topic", "model": "topics", "inputs": {"TEXT": "request.TEXT"}, "outputs": {"LABEL": "TOPIC"}},
                    {
                        "name": "mood",
                        "model": "moods",
                        "backendAuthority": "moods-ca",
                        "backendToken": "moods-token",
                        "inputs": {"TEXT": "request.TEXT"},
                        "outputs": {"LABEL": "MOOD", "PROBABILITIES": "MOODS"},
                    },
                ],
            },
            "edge": {},
        }
    ),
    "broker": _resource(
        {
            "source": {"uri": "models:minilm", "task": "text-classification"},
            "serve": {
                "mqtt": {
                    "address": "mqtts://broker.example:8883",
                    "authority": "broker-ca",
                    "credentials": "bridge",
                    "certificate": "bridge-certificate",
                    "backendAuthority": "front-ca",
                    "backendToken": "bridge-token",
                    "replicas": 2,
                },
            },
            "edge": {
                "cascade": {
                    "larger": {"model": "large", "address": "mqtts://broker.example:8883"},
                    "data": {"uri": "data:threshold"},
                    "escalationBudget": "20%",
                },
                "backendAuthority": "broker-ca",
                "broker": {"credentials": "gateway", "certificate": "gateway-certificate"},
                "tls": {"secret": "front"},
                "clients": {"tokens": "clients"},
            },
        }
    ),
}

RESERVED: dict[str, Any] = {
    "spec.variants": [{"name": "gpu"}],
    "spec.rollout": {"canary": "10%"},
    "spec.privacy": {"epsilon": "8"},
    "spec.protect": {"watermark": {}},
    "spec.sites": [{"name": "north"}],
    "spec.packing": {"with": "other"},
}
"""A plausible use of every name that is kept free."""


@dataclass(frozen=True)
class Case:
    """A complete object with some fields changed.

    `field` is the path that a refusal must name, `None` where the object is valid; `says` is part of its message on both
    sides, where both say the same.
    """

    name: str
    base: str
    edits: Mapping[str, Any] = field(default_factory=dict)
    field: str | None = None
    says: str = ""
    minimal: bool = False

    @property
    def object(self) -> Object:
        """The object itself, a new copy each time."""
        return edited((MINIMAL if self.minimal else COMPLETE)[self.base], self.edits)


def complete(base: str) -> Object:
    """A copy of one of the complete objects."""
    return copy.deepcopy(COMPLETE[base])


def edited(base: Object, edits: Mapping[str, Any]) -> Object:
    """A copy with fields changed, by path such as `spec.gate.metrics[0].min`; `GONE` removes one."""
    result = copy.deepcopy(base)
    for path, value in edits.items():
        *way, last = _parts(path)
        place: Any = result
        for part in way:
            place = place[part] if isinstance(part, int) else place.setdefault(part, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return result


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every path below a value, with what stands there: containers as well as what they hold."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{position}]")


def _parts(path: str) -> list[str | int]:
    return [int(index) if index else name for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]


def _bad(name: str, base: str, field: str, value: Any, says: str = "", **more: Any) -> Case:
    """One changed field, which is also the one to name."""
    return Case(name, base, {field: value}, field, says, **more)


_STEP = "spec.pipeline.steps[1]"
_GATED: Object = {"data": {"uri": "file://gate.csv"}, "metrics": [{"name": "agreement", "output": "YES", "min": "90%"}]}
_PIPELINES = [
    _bad("a pipeline of nothing", "image", "spec.pipeline.steps", []),
    _bad("a step of both kinds", "image", f"{_STEP}.model", "other", "either onnx or model"),
    Case("a step of neither kind", "image", {f"{_STEP}.onnx": GONE}, f"{_STEP}.model", "either onnx or model"),
    _bad("a step that takes nothing", "image", f"{_STEP}.inputs", {}),
    Case("a tensor's odd name", "image", {f"{_STEP}.inputs": {"a b": "PROBABILITIES"}}, _STEP, "names of tensors"),
    Case("an output's odd name", "image", {f"{_STEP}.outputs": {"": "YES"}}, _STEP, "names of tensors"),
    _bad("a name in the answer that is none", "image", f"{_STEP}.outputs", {"yes": "a b"}),
    _bad("a reference that is none", "image", f"{_STEP}.inputs", {"odds": "odds."}),
    _bad("a step called request", "image", f"{_STEP}.name", "request", "another name"),
    _bad("a step called base", "image", f"{_STEP}.name", "base", "another name"),
    _bad("a step with a wrong name", "image", f"{_STEP}.name", "Decide"),
    _bad("an output with the model's name", "image", f"{_STEP}.outputs", {"yes": "LABEL"}, "other names"),
    _bad("an onnx step apart", "image", "spec.pipeline.placement", "apart", "takes steps of model"),
    _bad("a model step together", "apart", "spec.pipeline.placement", "together", "takes steps of onnx"),
    _bad("a placement that nobody knows", "image", "spec.pipeline.placement", "beside"),
    Case("two steps of one name", "apart", {f"{_STEP}.name": "topic"}, "spec.pipeline.steps", "the same name"),
    Case(
        "a step that comes later",
        "image",
        {"spec.pipeline.steps[0].inputs": {"x": "decide.yes"}},
        "spec.pipeline.steps",
        "before",
    ),
    Case("a step of itself", "image", {f"{_STEP}.inputs": {"odds": "decide.yes"}}, "spec.pipeline.steps", "before"),
    Case("a step that is not there", "image", {f"{_STEP}.inputs": {"odds": "even.x"}}, "spec.pipeline.steps", "before"),
    Case("two outputs of one name", "apart", {f"{_STEP}.outputs.LABEL": "MOODS"}, "spec.pipeline.steps", "two outputs"),
    Case("two steps' outputs of one name", "apart", {f"{_STEP}.outputs.LABEL": "TOPIC"}, "spec.pipeline.steps", "two outputs"),
    Case("a last step that says nothing", "image", {f"{_STEP}.outputs": GONE}, "spec.pipeline.steps", "last step needs outputs"),
    Case("a tensor of another task", "image", {f"{_STEP}.inputs": {"x": "EMBEDDING"}}, "spec.pipeline.steps", "a step takes"),
    Case("an input of another task", "image", {f"{_STEP}.inputs": {"x": "request.TEXT"}}, "spec.pipeline.steps", "a step takes"),
    Case(
        "an output that no step gives",
        "image",
        {"spec.gate": _GATED, f"{_STEP}.outputs": {"yes": "NO"}},
        "spec.gate",
        "output is",
    ),
    Case("an output gated without a pipeline", "text", {"spec.gate.metrics[0]": _GATED["metrics"][0]}, "spec.gate", "output is"),
    Case(
        "an output of another metric",
        "image",
        {"spec.gate": _GATED, "spec.gate.metrics[0].name": "accuracy"},
        "spec.gate",
        "belongs",
    ),
    Case("apart without a gateway", "apart", {"spec.edge": GONE}, "spec.pipeline.placement", "needs edge"),
    Case("a step of the model itself", "apart", {f"{_STEP}.model": "m"}, "", "another model"),
    Case(
        "a pipeline beside a cascade",
        "class",
        {
            "spec.pipeline": {
                "steps": [{"name": "a", "onnx": {"uri": "models:a"}, "inputs": {"x": "LABEL"}, "outputs": {"y": "Y"}}]
            }
        },
        "spec.pipeline",
        "exclude each other",
    ),
]
_STAGE = "spec.distill.stages[0]"
_LOSS = f"{_STAGE}.losses[0]"
_CREDENTIAL = "spec.credentials[0]"
_METRIC = "spec.gate.metrics[0]"
_POD = "spec.serve.podTemplate"
_EDGE = "spec.edge"
_CASCADE = f"{_EDGE}.cascade"
_CUT: dict[str, Any] = {"layer": "encoder.2"}
_CUT_WHOLE = {**_CUT, "encoding": "int8-rows", "maxDifference": "0.05", "address": "grpcs://cloud.example:443"}
_FIRST, _TUNED = "spec.distill.teachers[0]", "spec.source.fineTune"
_TEACHERS: list[Any] = [
    {"uri": "models:minilm"},
    {"uri": "models:b", "weight": "2.5", "maxLength": 128, "labels": ["yes", "no"]},
    {"uri": "models:c", "weight": "0", "factory": {"target": "nets:teacher", "arguments": {"width": 8}}},
]
_RELATIONS: dict[str, Any] = {"spec.distill.stages": [{"losses": [{"kind": "similarity"}, {"kind": "relational-distance"}]}]}
_HARD: dict[str, Any] = {"losses": [{"kind": "hard"}]}
_ASSISTANT: dict[str, Any] = {
    "student": {"hiddenLayers": 2, "hiddenSize": 64},
    "stages": [{"losses": [{"kind": "logits"}], "epochs": 2}],
}
_RELATED: dict[str, Any] = {
    "spec.distill.assistants": [{"student": {"hiddenLayers": 3}, "stages": [{"losses": [{"kind": "similarity"}]}]}]
}
_TUNE: dict[str, Any] = {
    "data": {"uri": "data:tuning", "columns": {"label": "topic"}},
    "validation": {"uri": "data:tuning-validation"},
    "epochs": 4,
    "batchSize": 16,
    "learningRate": "0.0001",
    "headLearningRate": "0.002",
    "warmup": "6%",
    "weightDecay": "0.1",
    "labelSmoothing": "0.05",
    "balanced": True,
    "freeze": {"embeddings": True},
    "earlyStopping": {"patience": 2, "minGain": "0.001"},
    "seed": 3,
}
_SEARCH: dict[str, Any] = {
    "hiddenLayers": [1, 2], "vocabulary": [4000, 8000], "maxSize": "4Mi", "maxLatencyP50": "2ms", "trials": 4, "patience": 2,
    "epochs": 2, "tolerance": "2%",
}  # fmt: skip
_INT8 = "spec.compress.int8"
_GATE: dict[str, Any] = {"data": {"uri": "data:gate"}}
_MQTT = "spec.serve.mqtt"
_STEPS = f"{_EDGE}.preprocess"
_STEP = f"{_STEPS}.steps[0]"
_NORMALISE = f"{_STEPS}.steps[4]"
_NODES = f"{_POD}.spec.affinity.nodeAffinity"
LATER = "not available in this version"

_STUDENT = "spec.distill.student"
_SOFT = "spec.distill.stages[0].losses"
_SEARCHED = "spec.distill.search"
_PLAIN = [{"kind": "embedding"}]
_CNN = {
    "architecture": "cnn",
    "hiddenLayers": 2,
    "hiddenSize": 96,
    "embeddingSize": 64,
    "pooling": "mean",
    "init": "random",
    "convolution": {"kernelSizes": [3, 5], "separable": True, "dilated": True},
}
_CONVOLVED = {"architecture": "residual", "hiddenSize": 256, "convolution": {"kernelSizes": [3], "dilated": True}}
_VALID = [
    *(Case(f"complete {base}", base) for base in COMPLETE),
    *(Case(f"minimal {base}", base, minimal=True) for base in MINIMAL),
    Case("an output gated in the ensemble", "image", {"spec.gate": _GATED}),
    Case("null is left out", "text", {"spec.gate": None, "spec.distill.seed": None, "spec.rollout": None}),
    Case("a whole number with a point", "text", {"spec.distill.seed": 8.0}),
    Case("no fraction of a second but a unit", "text", {"spec.gate.maxLatencyP99": "1.5s"}),
    Case("bytes without a unit", "text", {"spec.gate.maxSize": "1048576"}),
    Case("memory in other units, equal", "text", {"spec.serve.resources.requests.memory": "524288Ki"}),
    Case("an argument that is null is left out", "image", {"spec.source.factory.arguments.width": None}),
    Case("a name of 40 characters", "text", {"metadata.name": "a" + "b" * 39}),
    Case("a name that ends with a digit", "text", {"metadata.name": "m-2"}),
    Case("labels and annotations", "text", {"metadata.labels": {"team": "search"}, "metadata.annotations": {"a": "b"}}),
    Case(
        "a residual student", "text", {"spec.distill.student": {"architecture": "residual", "hiddenSize": 192, "init": "static"}}
    ),
    Case("a residual student of the teacher's width", "text", {"spec.distill.student": {"architecture": "residual"}}),
    Case("an encoder, said explicitly", "text", {"spec.distill.student.architecture": "encoder"}),
    Case("rows drawn by weight", "text", {"spec.distill.data.columns": {"weight": "w"}}),
    Case(
        "rows drawn by weight to fine-tune",
        "class",
        {"spec.source.fineTune": {"data": {"uri": "data:t", "columns": {"weight": "w"}}}},
    ),
    Case("repetitions and nothing else", "text", {"spec.distill.deduplicate": {}}),
    Case("equal rows alone", "text", {"spec.distill.deduplicate": {"threshold": "1", "heldOut": False}}),
    Case("a report without anything to report", "text", {"spec.distill.report": True}),
    *(Case(f"loss {kind}", "class", {_LOSS: {"kind": kind, "temperature": "2"}}) for kind in ("reverse-kl", "jsd", "tvd")),
    *(Case(f"loss {kind}", "text", {_LOSS: {"kind": kind}}) for kind in ("relational-distance", "relational-angle")),
    Case("keys of contrastive-teacher", "text", {_LOSS: {"kind": "contrastive-teacher", "temperature": "0.1", "keys": 64}}),
    Case(
        "weight and temperature on a course",
        "class",
        {_LOSS: {"kind": "logits", "weightSchedule": {"to": "0"}, "temperatureSchedule": {"to": "1", "shape": "cosine"}}},
    ),
    Case("a weight that begins at 0", "class", {_LOSS: {"kind": "logits", "weight": "0", "weightSchedule": {"to": "1"}}}),
    *(
        Case(f"a stage with {name}", "text", {f"{_STAGE}.{name}": value})
        for name, value in (("progressive", "alone"), ("freeze", {"layers": 2}), ("earlyStopping", {"patience": 2}))
    ),
    *(
        Case(f"a stage that prunes: {', '.join(value)}", "text", {f"{_STAGE}.prune": value})
        for value in (
            {"neurons": "99.5%", "heads": "5%", "channels": "50%", "by": "magnitude"},
            {"heads": "50%", "recovery": "0%"},
        )
    ),
    Case(
        "zeros in the last stage",
        "text",
        {"spec.distill.stages": [{"losses": [{"kind": "embedding"}], "prune": {"weights": "90%"}}]},
    ),
    Case("embeddings frozen, layers too", "text", {f"{_STAGE}.freeze": {"embeddings": True, "layers": 1}}),
    Case("the largest logits", "class", {"spec.distill.topLogits": 5}),
    *(
        Case(f"loss {kind}", base, {_LOSS: {"kind": kind, "layers": [{"teacher": 6, "student": 2}, {"teacher": 3}]}})
        for kind, base in (
            ("hidden", "text"),
            ("hidden-tokens", "text"),
            ("attention-transfer", "image"),
            ("attention-relation", "class"),
            ("value-relation", "text"),
        )
    ),
    *(Case(f"loss pooled, {base}", base, {_LOSS: {"kind": "pooled", "distance": "mse"}}) for base in ("class", "text")),
    Case("labels smoothed", "class", {_LOSS: {"kind": "hard", "labelSmoothing": "0.1"}}),
    Case("labels balanced", "class", {_LOSS: {"kind": "hard", "classWeights": {"balanced": True}}}),
    Case("labels weighted", "class", {_LOSS: {"kind": "logits", "classWeights": {"byLabel": {"a": "2", "b c": "0.5"}}}}),
    Case(
        "labels weighted, not balanced",
        "class",
        {_LOSS: {"kind": "hard", "classWeights": {"balanced": False, "byLabel": {"a": "2"}}}},
    ),
    Case("a convolutional student", "text", {_STUDENT: _CNN, _SOFT: [{"kind": "embedding"}]}),
    Case("a recurrent student", "text", {_STUDENT: {"architecture": "bilstm", "hiddenSize": 64}, _SOFT: [{"kind": "pooled"}]}),
    Case("a residual student of convolutions", "text", {_STUDENT: _CONVOLVED, _SOFT: [{"kind": "embedding"}]}),
    Case("training in bfloat16", "class", {"spec.distill.stages[0].mixedPrecision": "auto"}),
    Case("a bag with pairs", "text", {_STUDENT: {"architecture": "mlp", "bigrams": 4096}, _SOFT: [{"kind": "embedding"}]}),
    Case("a text's cnn on two workers", "text", {_STUDENT: {"architecture": "cnn"}, _SOFT: _PLAIN, "spec.build.workers": 2}),
    Case("an image's convolutions", "image", {_STUDENT: {"architecture": "cnn", "convolution": {"channels": [8, 16]}}}),
    Case("an image's numbers", "image", {_STUDENT: {"architecture": "mlp", "hiddenLayers": 2, "init": "random"}}),
    Case("layers at the teacher's width", "text", {"spec.distill.student": {"hiddenLayers": 2, "init": "layers"}}),
    Case("external, one replica", "text", {"spec.scale": {"mode": "external", "replicas": 1}}),
    Case("one replica said explicitly", "text", {"spec.scale": {"replicas": 1, "maxReplicas": 4}}),
    Case("a token for a model beside", "text", {"spec.edge.cascade.larger.address": GONE}),
    Case("several gateways without a claim", "text", {"spec.edge.run.claim": GONE, "spec.edge.run.replicas": 2}),
    Case("no metrics", "text", {"spec.gate.metrics": []}),
    Case("per class loss", "class", {"spec.gate.metrics": [{"name": "per-class-loss", "max": "2%"}]}),
    Case("a queue as long as the gate has clients", "text", {"spec.serve.queue.maxSize": 4}),
    Case("a short queue without a gate", "text", {"spec.serve.queue.maxSize": 1, "spec.gate": GONE}),
    Case("a GPU with ONNX Runtime alone", "class", {"spec.serve.gpu": {}}),
    Case("a runtime of GPUs, nothing said of them", "class", {"spec.serve.gpu": GONE}),
    Case("every taint tolerated", "text", {f"{_POD}.spec.tolerations": [{"operator": "Exists"}]}),
    Case("an annotation of a tool", "text", {f"{_POD}.metadata.annotations": {"sidecar.istio.io/inject": "true"}}),
    Case("a label of Kubernetes that is not ours", "text", {f"{_POD}.metadata.labels": {"app.kubernetes.io/part-of": "search"}}),
    Case("status is the server's", "text", {"status": {"observedGeneration": 3}}),
    Case("a gateway and nothing else", "image", {"spec.edge": {}}),
    Case("several teachers", "class", {"spec.distill.teachers": _TEACHERS, "spec.distill.weighting": "confidence"}),
    Case(
        "teachers whose weights are learned",
        "class",
        {
            "spec.distill.teachers": [{"uri": "models:a", "labels": ["yes", "no"]}, {"uri": "models:b"}],
            "spec.distill.weighting": "learned",
            "spec.distill.validation": {"uri": "data:v"},
        },
    ),
    Case("teachers of similarities", "text", {**_RELATIONS, "spec.distill.teachers": _TEACHERS}),
    Case("no teachers", "class", {"spec.distill.teachers": [], "spec.distill.assistants": []}),
    Case("assistants", "class", {"spec.distill.assistants": [_ASSISTANT, {**_ASSISTANT, "student": {"uri": "models:between"}}]}),
    Case("an assistant taught by several, a student by it", "text", {"spec.distill.teachers": _TEACHERS, **_RELATED}),
    Case("a source that is fine-tuned", "class", {"spec.source.fineTune": _TUNE}),
    Case("a fine-tuning of nothing but data", "class", {"spec.source.fineTune": {"data": {"uri": "data:t"}}}),
    Case("a search", "text", {"spec.distill.student": {"hiddenSize": 64}, "spec.distill.search": _SEARCH}),
    Case("widths and heads to search", "text", {_STUDENT: {}, _SEARCHED: {"hiddenSize": [64, 96], "attentionHeads": [2, 8]}}),
    Case("widths to search for two heads", "text", {_STUDENT: {"attentionHeads": 2}, _SEARCHED: {"hiddenSize": [64, 66]}}),
    Case("as deep as dilated goes", "text", {_STUDENT: _CONVOLVED, _SOFT: _PLAIN, _SEARCHED: {"hiddenLayers": [1, 10]}}),
    Case(
        "deeper where nothing is dilated",
        "text",
        {_STUDENT: {"architecture": "cnn"}, _SOFT: _PLAIN, _SEARCHED: {"hiddenLayers": [1, 11]}},
    ),
    Case("a goal", "text", {"spec.compress": {"goal": "balanced"}}),
    Case("INT4", "text", {"spec.compress": {"precision": "int4"}}),
    Case("INT4 as wished", "text", {"spec.compress": {"precision": "int4", "int4": {"blockSize": 64, "method": "gptq"}}}),
    Case("mixed", "text", {"spec.compress": {"precision": "mixed", "mixed": {"maxLoss": "0.5%"}}}),
    Case("mixed for a goal", "text", {"spec.compress": {"goal": "small", "mixed": {}, "int4": {"activations": "fp32"}}}),
    Case(
        "mixed on calibration data of its own",
        "text",
        {"spec.distill": GONE, "spec.compress": {"precision": "mixed", "calibration": {"uri": "data:calibration"}}},
    ),
    *(Case(f"half the size in {each}", "text", {"spec.compress": {"precision": each}}) for each in ("fp16", "bf16")),
    *(
        Case(f"ranges {each}", "text", {"spec.compress": {"precision": "int8", "int8": {"ranges": each}}})
        for each in ("dynamic", "minmax", "percentile", "entropy")
    ),
    *(
        Case(f"learned in INT8, {base}", base, {"spec.compress": {"qat": {"epochs": 2, "learningRate": "0.00005"}, **more}})
        for base, more in (("text", {"precision": "int8"}), ("class", {"int8": {"ranges": "entropy"}}), ("image", {"goal": None}))
    ),
    Case("static ranges without balance", "class", {"spec.compress": {"int8": {"balance": "0"}}}),
    Case(
        "dynamic ranges without any rows",
        "text",
        {"spec.distill": GONE, "spec.compress": {"precision": "int8", "int8": {"ranges": "dynamic"}}},
    ),
    Case("a model in halves", "text", {"spec.edge": {"cut": _CUT}}),
    Case("halves of every field", "text", {"spec.edge": {"cut": _CUT_WHOLE}}),
    Case(
        "a token for who has the upper half",
        "text",
        {"spec.edge": {"cut": {**_CUT, "address": "grpcs://halves.example:443"}, "backendToken": "halves"}},
    ),
    Case(
        "an export of every field", "text", {"spec.export": [{"format": "litert", "precision": "fp32", "batch": 2, "tokens": 64}]}
    ),
    Case("every format", "text", {"spec.export": [{"format": each} for each in ("openvino", "litert", "coreml", "tensorrt")]}),
    Case("no export", "text", {"spec.export": []}),
    Case("a cascade by temperature", "class", {f"{_CASCADE}.method": "temperature"}),
    Case(
        "an agreement of nearly everything",
        "class",
        {f"{_CASCADE}.escalationBudget": GONE, f"{_CASCADE}.targetAgreement": "99.9%"},
    ),
    Case("a model between", "class", {f"{_CASCADE}.middle": {"model": "between", "address": "grpc://near:8001", "cost": "2.5"}}),
    Case(
        "a token for the model between",
        "class",
        {f"{_CASCADE}.middle": {"model": "between", "address": "grpcs://near.example:443", "token": "near"}},
    ),
    Case("an address in brackets", "class", {f"{_CASCADE}.larger.address": "grpc://[::1]:8001"}),
    Case(
        "a broker in the clear",
        "broker",
        {f"{_CASCADE}.larger.address": "mqtt://broker:1883", f"{_EDGE}.broker.certificate": GONE},
    ),
    Case("a broker behind steps", "steps", {f"{_EDGE}.broker": {"credentials": "gateway", "certificate": "gateway-certificate"}}),
    Case("a token for the model behind steps", "steps", {f"{_STEPS}.address": GONE, f"{_EDGE}.backendToken": "mine"}),
    Case("a bridge and no gateway", "broker", {_EDGE: GONE, _MQTT: {"address": "mqtt://[::1]:1883"}}),
    Case("a bridge by the system's authorities", "broker", {f"{_MQTT}.backendAuthority": GONE, f"{_MQTT}.authority": GONE}),
]


def _kind(name: str, student: Object, says: str) -> Case:
    """Return a student of another kind than a transformer, with a loss that it can have."""
    return Case(name, "text", {_STUDENT: student, _SOFT: _PLAIN}, _STUDENT, says)


_INVALID = [
    Case(
        "heads of a cnn", "text", {_STUDENT: {"architecture": "cnn", "attentionHeads": 4}, _SOFT: _PLAIN}, _STUDENT, "have none"
    ),
    Case(
        "layers into a cnn", "text", {_STUDENT: {"architecture": "cnn", "init": "layers"}, _SOFT: _PLAIN}, _STUDENT, "start from"
    ),
    Case("narrow vectors of an encoder", "text", {_STUDENT: {"embeddingSize": 64}}, _STUDENT, "embeddingSize belongs"),
    Case(
        "pooling of a bag",
        "text",
        {_STUDENT: {"architecture": "mlp", "pooling": "max"}, _SOFT: _PLAIN},
        _STUDENT,
        "pooling belongs",
    ),
    Case(
        "kernels of an lstm",
        "text",
        {_STUDENT: {**_CNN, "architecture": "bilstm"}, _SOFT: _PLAIN},
        _STUDENT,
        "belongs to architecture",
    ),
    Case(
        "pairs of an lstm",
        "text",
        {_STUDENT: {"architecture": "bilstm", "bigrams": 512}, _SOFT: _PLAIN},
        _STUDENT,
        "bigrams belongs",
    ),
    _kind("half a direction", {"architecture": "bilstm", "hiddenSize": 33}, "even"),
    Case("a layer of a cnn", "text", {_STUDENT: _CNN}, "spec.distill.stages", "none of its kind"),
    Case(
        "a layer that the student has not",
        "text",
        {_SOFT: [{"kind": "hidden", "layers": [{"teacher": 6, "student": 3}]}]},
        "spec.distill.stages",
        "beyond student.hiddenLayers",
    ),
    Case(
        "heads to search for an mlp",
        "text",
        {_STUDENT: {"architecture": "mlp"}, _SOFT: _PLAIN, "spec.distill.search": {"attentionHeads": [1, 2]}},
        "spec.distill.search.attentionHeads",
        "to search among",
    ),
    Case(
        "heads to search for convolutions",
        "text",
        {_STUDENT: _CONVOLVED, _SOFT: _PLAIN, "spec.distill.search": {"attentionHeads": [1, 2]}},
        "spec.distill.search.attentionHeads",
        "nor of convolutions",
    ),
    Case(
        "heads of convolutions", "text", {_STUDENT: {**_CONVOLVED, "attentionHeads": 4}, _SOFT: _PLAIN}, _STUDENT, "attention's"
    ),
    Case("convolutions of an encoder", "text", {_STUDENT: {"convolution": {"kernelSizes": [3]}}}, _STUDENT, "cnn and residual"),
    Case(
        "neurons of convolutions to prune",
        "text",
        {_STUDENT: _CONVOLVED, "spec.distill.stages": [{"losses": _PLAIN, "prune": {"neurons": "50%"}}]},
        "spec.distill.stages",
        "no heads",
    ),
    Case(
        "channels of convolutions to prune",
        "text",
        {_STUDENT: _CONVOLVED, "spec.distill.stages": [{"losses": _PLAIN, "prune": {"channels": "50%"}}]},
        "spec.distill.stages",
        "channels to prune",
    ),
    Case(
        "relations of convolutions",
        "text",
        {_STUDENT: _CONVOLVED, _SOFT: [{"kind": "value-relation"}]},
        "spec.distill.stages",
        "look at attention",
    ),
    Case(
        "neurons of an assistant's convolutions to prune",
        "text",
        {
            _SOFT: _PLAIN,
            "spec.distill.assistants": [{"student": _CONVOLVED, "stages": [{"losses": _PLAIN, "prune": {"heads": "50%"}}]}],
        },
        "spec.distill.assistants[0].stages",
        "no heads",
    ),
    Case(
        "relations to an assistant of convolutions",
        "text",
        {
            _SOFT: [{"kind": "value-relation"}],
            "spec.distill.assistants": [{"student": _CONVOLVED, "stages": [{"losses": _PLAIN}]}],
        },
        "spec.distill.assistants",
        "an assistant with convolution",
    ),
    Case(
        "stages of a residual student",
        "text",
        {_STUDENT: {**_CONVOLVED, "convolution": {"channels": [8]}}, _SOFT: _PLAIN},
        _STUDENT,
        "channels belongs to architecture cnn",
    ),
    Case(
        "dilated without end", "text", {_STUDENT: {**_CONVOLVED, "hiddenLayers": 11}, _SOFT: _PLAIN}, _STUDENT, "beyond any text"
    ),
    Case(
        "dilated without end to search",
        "text",
        {_STUDENT: _CONVOLVED, _SOFT: _PLAIN, _SEARCHED: {"hiddenLayers": [2, 11]}},
        f"{_SEARCHED}.hiddenLayers",
        "beyond any text",
    ),
    Case(
        "no size at all to search within",
        "text",
        {_SEARCHED: {"hiddenLayers": [1], "maxSize": "0"}},
        f"{_SEARCHED}.maxSize",
        "more than 0",
    ),
    Case(
        "no time at all to search within",
        "text",
        {_SEARCHED: {"hiddenLayers": [1], "maxLatencyP50": "0ms"}},
        f"{_SEARCHED}.maxLatencyP50",
        "more than 0",
    ),
    *(
        Case(f"half a head to search: {name}", "text", {_STUDENT: student, _SEARCHED: search}, _SEARCHED, "must be a multiple")
        for name, student, search in (
            ("widths and heads", {}, {"hiddenSize": [64, 96], "attentionHeads": [2, 5]}),
            ("widths", {"attentionHeads": 6}, {"hiddenSize": [96, 128]}),
            ("heads", {"hiddenSize": 64}, {"attentionHeads": [2, 3]}),
        )
    ),
    _bad("another mixed precision", "text", "spec.distill.stages[0].mixedPrecision", "fp16"),
    Case("an lstm of images", "image", {_STUDENT: {"architecture": "bilstm"}}, _STUDENT, "take texts"),
    Case("tokens of an image", "image", {_STUDENT: {"architecture": "mlp", "bigrams": 512}}, _STUDENT, "students of texts"),
    Case("kernels of an image", "image", {_STUDENT: _CNN}, _STUDENT, "students of texts"),
    Case(
        "stages of a text",
        "text",
        {_STUDENT: {"architecture": "cnn", "convolution": {"channels": [8]}}, _SOFT: _PLAIN},
        _STUDENT,
        "image-classification",
    ),
    _bad("credential without a prefix", "class", "spec.credentials[0]", {"secret": "s"}),
    _bad("credential without a secret", "class", "spec.credentials[0]", {"for": "s3://b"}),
    _bad("credential of a user in the host", "class", f"{_CREDENTIAL}.for", "https://me@files.example/"),
    _bad("credential for every host", "class", f"{_CREDENTIAL}.for", "https://"),
    _bad("credential for what is not encrypted", "class", f"{_CREDENTIAL}.for", "http://files.example/"),
    _bad("credential with a query", "class", f"{_CREDENTIAL}.for", "https://files.example/?a=b"),
    _bad("credential of no Secret's name", "class", f"{_CREDENTIAL}.secret", "A_b"),
    _bad("too many credentials", "class", "spec.credentials", [{"secret": "s", "for": "s3://bucket"}] * 17),
    _bad("unknown field", "text", "spec.gates", {}),
    Case(
        "an image's cnn on two workers",
        "image",
        {_STUDENT: {"architecture": "cnn"}, "spec.build.workers": 2},
        "spec.build.workers",
        "normalises over its batch",
    ),
    Case(
        "a text's cnn whose channels go",
        "text",
        {_STUDENT: {"architecture": "cnn"}, _SOFT: _PLAIN, f"{_STAGE}.prune": {"channels": "50%"}},
        "spec.distill.stages",
        "no channels to prune",
    ),
    _bad("no worker", "text", "spec.build.workers", 0),
    _bad("workers in words", "text", "spec.build.workers", "two"),
    Case("more workers than rows", "text", {"spec.distill.stages[0].batchSize": 3}, "spec.build.workers", "at least one row"),
    _bad("a queue that no label can name", "text", "spec.build.queue", "a.b"),
    _bad("a queue of 64 characters", "text", "spec.build.queue", "a" * 64),
    _bad("a spread of builds", "text", "spec.build.placement.topologySpreadConstraints", []),
    _bad(
        "a build's request above its limit",
        "text",
        "spec.build.resources.requests.memory",
        "33Gi",
        "must not exceed",
    ),
    _bad("a build's node of no label", "text", "spec.build.placement.nodeSelector", {"a b": "c"}, "not one of Kubernetes"),
    _bad("unknown field further in", "text", "spec.serve.batching.maxBatch", 8),
    _bad("unknown field in a list", "text", f"{_METRIC}.minimum", "1%"),
    _bad("unknown field that is null", "text", "spec.gates", None),
    _bad("snake case", "text", "spec.distill.student.hidden_layers", 2),
    _bad("unknown field of the metadata", "text", "metadata.lables", {}),
    Case("no source", "text", {"spec.source": GONE}, "spec.source"),
    Case("a source that is null", "text", {"spec.source": None}, "spec.source"),
    Case("no task", "text", {"spec.source.task": GONE}, "spec.source.task"),
    Case("no losses", "text", {"spec.distill.stages[0].losses": GONE}, "spec.distill.stages[0].losses"),
    _bad("an empty list of stages", "text", "spec.distill.stages", []),
    _bad("unknown task", "text", "spec.source.task", "embedding"),
    _bad("not a URI", "text", "spec.source.uri", "minilm"),
    _bad("a URI that is a number", "text", "spec.source.uri", 7),
    _bad("a URI that is too long", "text", "spec.source.uri", "file://" + "x" * 1020),
    _bad("a name in capitals", "text", "metadata.name", "Docstrings", minimal=True),
    _bad("a name with a dot", "text", "metadata.name", "a.b"),
    _bad("a name of 41 characters", "text", "metadata.name", "a" * 41),
    _bad("a name that begins with a digit", "text", "metadata.name", "2m"),
    _bad("a wrong unit of time", "text", "spec.gate.maxLatencyP99", "20 millis"),
    _bad("no unit of time", "text", "spec.gate.maxLatencyP99", "20"),
    _bad("a wrong unit of size", "text", "spec.gate.maxSize", "12MB"),
    _bad("a negative decimal", "text", f"{_LOSS}.weight", "-1"),
    _bad("a decimal with an exponent", "text", f"{_LOSS}.weight", "1e-3"),
    _bad("a percentage without its sign", "text", "spec.distill.stages[0].warmup", "5"),
    _bad("a percentage above 100", "text", "spec.distill.stages[0].warmup", "101%"),
    _bad("pruning of nothing", "text", f"{_STAGE}.prune", {"by": "taylor"}, "names what is taken out"),
    *(
        Case(
            f"pruning of {share} of the {kind}",
            "text",
            {f"{_STAGE}.prune": {kind: share}},
            f"{_STAGE}.prune.{kind}",
            "more than 0%",
        )
        for kind, share in (("heads", "0%"), ("neurons", "100%"), ("channels", "0.00%"), ("weights", "100.0%"))
    ),
    Case(
        "zeros and parts together",
        "text",
        {f"{_STAGE}.prune": {"weights": "50%", "heads": "50%"}},
        f"{_STAGE}.prune.weights",
        "one or the other",
    ),
    Case(
        "a recovery of everything",
        "text",
        {f"{_STAGE}.prune": {"heads": "50%", "recovery": "100%"}},
        f"{_STAGE}.prune.recovery",
        "must leave steps",
    ),
    Case(
        "zeros that the next stage fills",
        "text",
        {
            "spec.distill.stages": [
                {"losses": [{"kind": "embedding"}], "prune": {"weights": "50%"}},
                {"losses": [{"kind": "embedding"}]},
            ]
        },
        "spec.distill.stages",
        "belongs to the last stage",
    ),
    *(
        Case(
            f"{part} of a student that is a {kind}",
            "text",
            {_STUDENT: {"architecture": kind}, _SOFT: _PLAIN, f"{_STAGE}.prune": {part: "50%"}},
            "spec.distill.stages",
            "to prune",
        )
        for kind, part in (
            ("cnn", "heads"),
            ("cnn", "neurons"),
            ("bilstm", "neurons"),
            ("bilstm", "channels"),
            ("mlp", "channels"),
        )
    ),
    Case("channels of a cnn", "image", {_STUDENT: {"architecture": "cnn"}, f"{_STAGE}.prune": {"channels": "50%"}}),
    Case("neurons of an mlp", "image", {_STUDENT: {"architecture": "mlp"}, f"{_STAGE}.prune": {"neurons": "50%"}}),
    Case(
        "an lstm of an odd width to search for",
        "text",
        {_STUDENT: {"architecture": "bilstm"}, _SOFT: _PLAIN, "spec.distill.search": {"hiddenSize": [16, 33]}},
        "spec.distill.search.hiddenSize",
        "even",
    ),
    Case(
        "a search of images",
        "image",
        {
            _STUDENT: {"architecture": "mlp"},
            "spec.distill.search": {"hiddenSize": [16, 32]},
            "spec.distill.validation": {"uri": "data:v"},
        },
        "spec.distill.search",
        "take texts",
    ),
    _bad("a float where a decimal string belongs", "text", f"{_LOSS}.weight", 0.5),
    _bad("a whole number where a decimal string belongs", "text", "spec.distill.stages[0].learningRate", 1),
    _bad("a number where a percentage belongs", "text", f"{_METRIC}.min", 70),
    _bad("a number where a duration belongs", "text", "spec.serve.batching.maxQueueDelay", 1),
    _bad("a number where a CPU quantity belongs", "text", "spec.serve.resources.limits.cpu", 2),
    _bad("text where a number belongs", "text", "spec.distill.seed", "7"),
    _bad("a fraction where a whole number belongs", "text", "spec.distill.seed", 7.5),
    _bad("a boolean where a number belongs", "text", "spec.distill.seed", True),
    _bad("text where a boolean belongs", "text", "spec.serve.responseCache", "yes"),
    _bad("a number where a boolean belongs", "text", "spec.serve.responseCache", 1),
    _bad("a list where a mapping belongs", "text", "spec.serve", []),
    _bad("a mapping where a list belongs", "text", "spec.distill.stages", {"losses": []}),
    _bad("null in a list", "text", "spec.distill.stages[1]", None),
    _bad("too many replicas", "text", "spec.scale.maxReplicas", 1001),
    _bad("batch of nothing", "text", "spec.serve.batching.maxBatchSize", 0),
    _bad("not a digest", "text", "spec.serve.pin", "sha256:abc"),
    _bad("unknown metric", "text", f"{_METRIC}.name", "f1"),
    _bad("a metric of no rank", "text", f"{_METRIC}.name", "mrr@0"),
    _bad("an argument that is a boolean", "image", "spec.source.factory.arguments.width", True),
    _bad("an argument with a fraction", "image", "spec.source.factory.arguments.width", 0.5),
    _bad("an argument that is a list", "image", "spec.source.factory.arguments.width", [1]),
    _bad("a factory without its function", "image", "spec.source.factory.target", "nets"),
    _bad("a factory with letters beyond ASCII", "image", "spec.source.factory.target", "netz:größe"),
    _bad("a label that stands twice", "class", "spec.source.labels", ["no", "yes", "no"]),
    _bad("an address without a port", "text", f"{_CASCADE}.larger.address", "grpcs://cloud.example"),
    _bad("an address of another protocol", "text", f"{_CASCADE}.larger.address", "https://cloud.example:443"),
    _bad("a broker without a port", "text", f"{_CASCADE}.larger.address", "mqtts://broker.example"),
    _bad("an address with a user", "text", f"{_CASCADE}.larger.address", "grpcs://me@cloud.example:443"),
    _bad("a sample of no percentage", "text", f"{_EDGE}.agreement.sample", "0.01"),
    _bad("a collector without its protocol", "text", f"{_EDGE}.telemetry.endpoint", "collector:4318"),
    _bad("a pattern of no name", "text", f"{_EDGE}.guard.patterns[0].name", "Card Number"),
    _bad("an unknown pattern", "text", f"{_EDGE}.guard.patterns[1].named", "passport"),
    _bad("a policy of none", "text", f"{_EDGE}.away.policy", "drop"),
    # Contradictions: rules over several fields.
    Case("no aim", "text", {f"{_CASCADE}.targetAgreement": GONE}, f"{_CASCADE}.targetAgreement", "write one of"),
    Case("both aims", "text", {f"{_CASCADE}.escalationBudget": "10%"}, f"{_CASCADE}.targetAgreement", "write one of"),
    _bad("an agreement that no sample shows", "text", f"{_CASCADE}.targetAgreement", "100%", "between 0% and 100%"),
    _bad("an agreement of nothing", "text", f"{_CASCADE}.targetAgreement", "0.0%", "between 0% and 100%"),
    _bad("every input is usual", "text", f"{_CASCADE}.outliers.keep", "100.0%", "between 0% and 100%"),
    _bad("no input is usual", "text", f"{_CASCADE}.outliers.keep", "00%", "between 0% and 100%"),
    Case("a search of no index", "text", {"spec.index": GONE}, "spec.index", "needs index"),
    Case(
        "temperature of embeddings",
        "text",
        {f"{_CASCADE}.method": "temperature", f"{_CASCADE}.judgedBy": "answer"},
        f"{_CASCADE}.method",
        "classification",
    ),
    Case(
        "temperature by labels",
        "class",
        {f"{_CASCADE}.method": "temperature", f"{_CASCADE}.judgedBy": "labels"},
        f"{_CASCADE}.method",
        "fitted to answers",
    ),
    _bad("a model between of embeddings", "text", f"{_CASCADE}.middle", {"model": "between"}, "classification tasks only"),
    Case(
        "a model between behind a broker",
        "class",
        {f"{_CASCADE}.middle": {"model": "between", "address": "mqtts://broker:8883"}},
        f"{_CASCADE}.middle.address",
        "asked by gRPC",
    ),
    Case(
        "a token shown to pods between",
        "class",
        {f"{_CASCADE}.middle": {"model": "between", "token": "near"}},
        f"{_CASCADE}.middle.token",
        "over TLS alone",
    ),
    _bad("outliers of classes", "class", f"{_CASCADE}.outliers", {}, "sentence-embedding only"),
    Case("a queue of another policy", "text", {f"{_EDGE}.away.policy": "fail"}, f"{_EDGE}.away.queue", "belongs to policy queue"),
    Case(
        "nobody to be away", "image", {"spec.edge": {"away": {"policy": "fail"}}}, f"{_EDGE}.away.policy", "belong to a cascade"
    ),
    Case("agreement with nobody", "image", {"spec.edge": {"agreement": {}}}, f"{_EDGE}.agreement", "belongs to a cascade"),
    Case(
        "a goal of one precision",
        "text",
        {"spec.compress": {"goal": "fast", "precision": "int8"}},
        "spec.compress.goal",
        "belongs to",
    ),
    Case(
        "a goal without a gate",
        "text",
        {"spec.compress": {"goal": "fast"}, "spec.gate": GONE},
        "spec.compress.goal",
        "needs gate",
    ),
    *(
        Case(name, "text", {"spec.compress": given}, f"spec.compress.{field}", says)
        for name, given, field, says in (
            ("INT4's settings of INT8", {"precision": "int8", "int4": {}}, "int4", "belongs to"),
            ("mixed for the fastest", {"goal": "fast", "mixed": {}}, "mixed", "belongs to"),
            ("a block of 48", {"precision": "int4", "int4": {"blockSize": 48}}, "int4.blockSize", ""),
            ("no loss", {"precision": "mixed", "mixed": {"maxLoss": "0%"}}, "mixed.maxLoss", "more than 0%"),
        )
    ),
    Case(
        "mixed without rows",
        "text",
        {"spec.distill": GONE, "spec.compress": {"precision": "mixed"}},
        "spec.compress.precision",
        "needs compress.calibration",
    ),
    Case(
        "gptq without rows",
        "text",
        {"spec.distill": GONE, "spec.compress": {"precision": "int4", "int4": {"method": "gptq"}}},
        "spec.compress.int4.method",
        "needs compress.calibration",
    ),
    Case(
        "a search among nothing",
        "text",
        {"spec.distill.student": {}, "spec.distill.search": {"trials": 3}},
        "spec.distill.search",
        "something to search",
    ),
    Case(
        "a search without validation",
        "text",
        {"spec.distill.student": {}, "spec.distill.search": _SEARCH, "spec.distill.validation": GONE},
        "spec.distill.search",
        "needs validation",
    ),
    Case(
        "searched and said",
        "text",
        {"spec.distill.student": {"hiddenLayers": 2}, "spec.distill.search": _SEARCH},
        "spec.distill.search",
        "left out of student",
    ),
    Case(
        "a search for a factory's shape",
        "text",
        {"spec.distill.student": {"factory": {"target": "nets:student"}}, "spec.distill.search": _SEARCH},
        "spec.distill.search",
        "left out of student",
    ),
    Case("teachers' layers", "text", {"spec.distill.teachers": _TEACHERS}, "spec.distill.teachers", "several teachers teach by"),
    Case(
        "teachers' embeddings as keys",
        "text",
        {"spec.distill.stages": [{"losses": [{"kind": "similarity", "keys": 64}]}], "spec.distill.teachers": _TEACHERS},
        "spec.distill.teachers",
        "without keys",
    ),
    Case(
        "teachers of no weight",
        "class",
        {"spec.distill.teachers": [{"uri": "models:a", "weight": "0.0"}, {"uri": "models:b", "weight": "0"}]},
        "spec.distill.teachers",
        "weight 0",
    ),
    Case(
        "a weight of NaN",
        "class",
        {"spec.distill.teachers": [{"uri": "models:a", "weight": "NaN"}]},
        f"{_FIRST}.weight",
    ),
    Case("a weight below 0", "class", {"spec.distill.teachers": [{"uri": "models:a", "weight": "-1"}]}, f"{_FIRST}.weight"),
    Case("a weighting of nobody", "class", {"spec.distill.weighting": "select"}, "spec.distill.weighting", "name them"),
    Case(
        "learned weights without validation",
        "class",
        {"spec.distill.teachers": [{"uri": "models:a"}], "spec.distill.weighting": "learned"},
        "spec.distill.weighting",
        "labels of validation",
    ),
    Case(
        "weights both learned and given",
        "class",
        {
            "spec.distill.teachers": _TEACHERS,
            "spec.distill.weighting": "learned",
            "spec.distill.validation": {"uri": "data:v"},
        },
        "spec.distill.weighting",
        "no weight given",
    ),
    Case(
        "how sure an embedding is",
        "text",
        {**_RELATIONS, "spec.distill.teachers": _TEACHERS, "spec.distill.weighting": "confidence"},
        "spec.distill.weighting",
        "fixed weights",
    ),
    Case(
        "an assistant whose next stage fills its zeros",
        "class",
        {"spec.distill.assistants": [{"student": {}, "stages": [{**_HARD, "prune": {"weights": "50%"}}, _HARD]}]},
        "spec.distill.assistants[0].stages",
        "belongs to the last stage",
    ),
    Case(
        "an assistant whose stages have one name",
        "class",
        {"spec.distill.assistants": [{"student": {}, "stages": [{**_HARD, "name": "a"}, {**_HARD, "name": "a"}]}]},
        "spec.distill.assistants[0].stages",
        "name of its own",
    ),
    Case(
        "an assistant with a layer beyond its own",
        "class",
        {
            "spec.distill.assistants": [
                {
                    "student": {"hiddenLayers": 2},
                    "stages": [{"losses": [{"kind": "hidden", "layers": [{"teacher": 1, "student": 3}]}]}],
                }
            ]
        },
        "spec.distill.assistants[0].stages",
        "beyond student.hiddenLayers",
    ),
    Case("an assistant without stages", "class", {"spec.distill.assistants": [{"student": {}}]}, "spec.distill.assistants[0]"),
    Case(
        "an assistant of another kind",
        "class",
        {"spec.distill.assistants": [{**_ASSISTANT, "student": {"architecture": "bilstm"}}]},
        "spec.distill.assistants[0].student.architecture",
    ),
    Case(
        "an assistant of another task",
        "class",
        {"spec.distill.assistants": [{**_ASSISTANT, "stages": [{"losses": [{"kind": "embedding"}]}]}]},
        "spec.distill.stages",
        "belong to task",
    ),
    Case(
        "an assistant that stops without validation",
        "class",
        {"spec.distill.assistants": [{"student": {}, "stages": [{"losses": [{"kind": "hard"}], "earlyStopping": {}}]}]},
        "spec.distill.validation",
        "needs validation",
    ),
    Case(
        "a residual assistant of classes",
        "class",
        {"spec.distill.assistants": [{**_ASSISTANT, "student": {"architecture": "residual"}}]},
        "spec.distill.student.architecture",
        "sentence-embedding only",
    ),
    Case("embeddings tuned", "text", {"spec.source.fineTune": _TUNE}, "spec.source.fineTune", "text-classification"),
    Case(
        "a factory's network tuned",
        "class",
        {"spec.source.fineTune": _TUNE, "spec.source.factory": {"target": "nets:teacher"}},
        "spec.source.fineTune",
        "Hugging Face knows",
    ),
    Case("a tuning at rate 0", "class", {"spec.source.fineTune": {**_TUNE, "headLearningRate": "0"}}, "spec.source.fineTune"),
    Case(
        "labels all smoothed",
        "class",
        {"spec.source.fineTune": {**_TUNE, "labelSmoothing": "1"}},
        f"{_TUNED}.labelSmoothing",
    ),
    Case(
        "a tuning that stops without validation",
        "class",
        {"spec.source.fineTune": {"data": {"uri": "data:t"}, "earlyStopping": {"patience": 2}}},
        "spec.source.fineTune.earlyStopping",
        "needs validation",
    ),
    _bad("another goal", "text", "spec.compress.goal", "cheap"),
    Case("other ranges", "text", {_INT8: {"ranges": "mse"}}, f"{_INT8}.ranges"),
    Case(
        "a percentile of minmax", "text", {_INT8: {"percentile": "99.9%"}}, f"{_INT8}.percentile", "belongs to ranges: percentile"
    ),
    Case(
        "a range that leaves out half",
        "text",
        {_INT8: {"ranges": "percentile", "percentile": "50%"}},
        f"{_INT8}.percentile",
        "between 90% and 100%",
    ),
    Case("balance of no ranges", "text", {_INT8: {"ranges": "dynamic", "balance": "0.5"}}, f"{_INT8}.balance", "static ranges"),
    Case("more than all", "text", {_INT8: {"balance": "1.5"}}, f"{_INT8}.balance", "between 0 and 1"),
    *(
        Case(name, "text", {"spec.compress": {"qat": {}, **more}, **edits}, f"spec.compress.{field}", says)
        for name, more, edits, field, says in (
            ("INT8 learned for FP16", {"precision": "fp16"}, {}, "qat", "precision int8 or auto"),
            ("learned with ranges of every run", {"int8": {"ranges": "dynamic"}}, {}, "int8.ranges", "ranges that stay"),
            ("learned at no rate", {"qat": {"learningRate": "0.0"}}, {}, "qat.learningRate", "more than 0"),
            ("learned without a lesson", {}, {"spec.distill": GONE}, "qat", "needs distill"),
            ("LSTMs that learn INT8", {}, {_STUDENT: {"architecture": "bilstm"}, _SOFT: _PLAIN}, "qat", "LSTMs"),
            (
                "zeros that are filled",
                {},
                {"spec.distill.stages": [{"losses": _PLAIN, "prune": {"weights": "50%"}}]},
                "qat",
                "fill the zeros",
            ),
        )
    ),
    Case(
        "int8 of another precision", "text", {"spec.compress": {"precision": "fp32", "int8": {}}}, _INT8, "precision int8 or auto"
    ),
    Case(
        "ranges read off no rows",
        "text",
        {"spec.distill": GONE, "spec.compress": {"precision": "int8", "int8": {}}},
        f"{_INT8}.ranges",
        "need compress.calibration",
    ),
    Case("a format twice", "text", {"spec.export": [{"format": "litert"}] * 2}, "spec.export", "each format once"),
    Case(
        "a shape where any is taken",
        "text",
        {"spec.export": [{"format": "openvino", "batch": 2}]},
        "spec.export[0]",
        "belong to formats of fixed shapes",
    ),
    Case("a format of nobody", "text", {"spec.export": [{"format": "onnxjs"}]}, "spec.export[0].format", ""),
    Case("rows without number", "text", {"spec.export": [{"format": "litert", "batch": 0}]}, "spec.export[0].batch", ""),
    Case(
        "an export of INT8", "text", {"spec.export": [{"format": "litert", "precision": "int8"}]}, "spec.export[0].precision", ""
    ),
    Case(
        "a token behind steps in the clear", "steps", {f"{_EDGE}.backendToken": "mine"}, f"{_EDGE}.backendToken", "over TLS alone"
    ),
    Case(
        "a broker and none behind steps",
        "steps",
        {f"{_EDGE}.broker": {"credentials": "gateway"}, f"{_STEPS}.address": GONE},
        f"{_EDGE}.broker",
        "broker belongs to",
    ),
    Case("a cut and a cascade", "class", {f"{_EDGE}.cut": _CUT}, f"{_EDGE}.cut", "excludes cascade and preprocess"),
    Case(
        "a cut and steps",
        "text",
        {"spec.edge": {"cut": _CUT, "preprocess": {"steps": [{"kind": "tokenise"}], "model": "large"}}},
        f"{_EDGE}.cut",
        "excludes cascade and preprocess",
    ),
    Case(
        "a token shown to the pods of the upper half",
        "text",
        {"spec.edge": {"cut": _CUT, "backendToken": "halves"}},
        f"{_EDGE}.backendToken",
        "over TLS alone",
    ),
    Case(
        "a token for nobody", "text", {"spec.edge": {"backendToken": "halves"}}, f"{_EDGE}.backendToken", "shown to a cascade's"
    ),
    Case("a cut without a gate", "text", {"spec.edge": {"cut": _CUT}, "spec.gate": GONE}, f"{_EDGE}.cut", "needs gate"),
    Case("a cut and a pipeline", "apart", {"spec.edge": {"cut": _CUT}, "spec.gate": _GATE}, f"{_EDGE}.cut", "and a pipeline"),
    Case(
        "a cut of images",
        "image",
        {"spec.edge": {"cut": _CUT}, "spec.pipeline": GONE, "spec.gate": _GATE},
        f"{_EDGE}.cut",
        "texts",
    ),
    Case("a cut on GPUs", "class", {"spec.edge": {"cut": _CUT}}, f"{_EDGE}.cut", "triton-ort-cpu"),
    Case("a cut of no layer", "text", {"spec.edge": {"cut": {}}}, f"{_EDGE}.cut.layer", ""),
    Case("a cut of another encoding", "text", {"spec.edge": {"cut": {**_CUT, "encoding": "zstd"}}}, f"{_EDGE}.cut.encoding", ""),
    Case("a burst of no rate", "text", {f"{_EDGE}.clients.rate": GONE}, f"{_EDGE}.clients.burst", "belongs to rate"),
    Case(
        "steps and a cascade",
        "class",
        {_STEPS: {"steps": [{"kind": "tokenise"}], "model": "large"}},
        _STEPS,
        "exclude each other",
    ),
    Case(
        "steps before a pipeline",
        "steps",
        {"spec.pipeline": COMPLETE["apart"]["spec"]["pipeline"]},
        "spec.pipeline",
        "joins no pipeline",
    ),
    _bad("no steps", "steps", f"{_STEPS}.steps", []),
    Case("steps for nobody", "steps", {f"{_STEPS}.model": GONE}, f"{_STEPS}.model"),
    _bad("an unknown encoding", "steps", f"{_STEPS}.encoding", "gzip"),
    _bad("an unknown step", "steps", f"{_STEP}.kind", "magic"),
    _bad("a field of another step", "steps", f"{_STEP}.rate", "50", "belongs to statistics only"),
    Case("a full row of no length", "steps", {f"{_STEP}.maxLength": GONE}, f"{_STEP}.maxLength", "needs maxLength"),
    Case("a window without its hop", "steps", {f"{_STEPS}.steps[2].hop": GONE}, f"{_STEPS}.steps[2]", "needs length, hop"),
    Case("bands of no rate", "steps", {f"{_STEPS}.steps[3].rate": GONE}, f"{_STEPS}.steps[3].rate", "need the rate"),
    Case("a claim of several gateways", "text", {"spec.edge.run.replicas": 2}, "spec.edge.run.claim", "one gateway"),
    Case(
        "a token in the clear",
        "text",
        {"spec.edge.cascade.larger.address": "grpc://cloud.example:80"},
        "spec.edge.backendToken",
        "over TLS alone",
    ),
    Case(
        "a broker of nobody", "class", {f"{_EDGE}.broker": {"credentials": "gateway"}}, f"{_EDGE}.broker", "belongs to a larger"
    ),
    Case(
        "a broker's certificate in the clear",
        "broker",
        {f"{_CASCADE}.larger.address": "mqtt://b:1883"},
        f"{_EDGE}.broker",
        "mqtts",
    ),
    Case("a bridge to a server", "broker", {f"{_MQTT}.address": "grpcs://cloud:443"}, f"{_MQTT}.address", ""),
    Case("a bridge without a port", "broker", {f"{_MQTT}.address": "mqtts://broker"}, f"{_MQTT}.address", ""),
    Case("a bridge's certificates in the clear", "broker", {f"{_MQTT}.address": "mqtt://b:1883"}, f"{_MQTT}.address", "mqtts"),
    Case(
        "a bridge without its token", "broker", {f"{_MQTT}.backendToken": GONE}, f"{_MQTT}.backendToken", "as one of its clients"
    ),
    Case("a bridge's token for nobody", "broker", {f"{_EDGE}.clients": GONE}, f"{_MQTT}.backendToken", "as one of its clients"),
    Case("a bridge's authority of nobody", "broker", {f"{_EDGE}.tls": GONE}, f"{_MQTT}.backendAuthority", "belongs to edge.tls"),
    Case(
        "a bridge without a certificate",
        "broker",
        {f"{_EDGE}.tls.clientAuthority": "ca"},
        f"{_MQTT}.backendAuthority",
        "no certif",
    ),
    Case(
        "a broker of a cut",
        "text",
        {_EDGE: {"cut": {**_CUT, "address": "mqtts://broker:8883"}, "broker": {"credentials": "gateway"}}},
        f"{_EDGE}.broker",
        "belongs to a larger",
    ),
    Case("no bridge", "broker", {f"{_MQTT}.replicas": 0}, f"{_MQTT}.replicas", ""),
    Case(
        "a token for a file",
        "image",
        {"spec.pipeline.steps[0].backendToken": "mine"},
        "spec.pipeline.steps[0].backendToken",
        "step of model",
    ),
    Case("a claim of every node", "text", {"spec.edge.run.kind": "DaemonSet"}, "spec.edge.run.claim", "one gateway"),
    _bad("more deviations than means", "steps", f"{_NORMALISE}.std", ["1", "2"], "as many numbers"),
    _bad("a deviation of nothing", "steps", f"{_NORMALISE}.std", ["0.00"], "more than 0"),
    _bad("a function of no module", "steps", f"{_STEPS}.steps[5].function", "total"),
    _bad("three pods a node", "class", f"{_EDGE}.run.replicas", 3, "one pod a node"),
    Case("two patterns in one", "text", {f"{_EDGE}.guard.patterns[1].regex": "x"}, f"{_EDGE}.guard.patterns[1].regex", "one of"),
    Case("limit missing", "text", {f"{_METRIC}.min": GONE}, _METRIC, "give min or max, one of them"),
    Case("both limits", "text", {f"{_METRIC}.max": "90%"}, _METRIC, "give min or max, one of them"),
    *(
        Case(
            f"a share that nothing reaches: {share}",
            "class",
            {"spec.gate.metrics": [{"name": "accuracy", "min": share}]},
            _METRIC,
            "no model reaches more",
        )
        for share in ("700%", "100.001%", "1.1", "7", "10")
    ),
    *(
        Case(f"a share that can be reached: {metric}", "class", {"spec.gate.metrics": [metric]})
        for metric in (
            {"name": "accuracy", "min": "100%"},
            {"name": "accuracy", "min": "100.000%"},
            {"name": "accuracy", "min": "1.0"},
            {"name": "accuracy", "min": "0%"},
            {"name": "accuracy", "min": "7%"},
            {"name": "accuracy", "min": "110%", "of": "teacher"},
            {"name": "log-loss", "max": "1.5"},
        )
    ),
    Case("a loss with a lower limit", "class", {"spec.gate.metrics": [{"name": "log-loss", "min": "1"}]}, _METRIC, "take max"),
    Case("an upper limit on accuracy", "class", {"spec.gate.metrics": [{"name": "accuracy", "max": "1"}]}, _METRIC, "takes min"),
    Case(
        "agreement of the teacher",
        "class",
        {"spec.gate.metrics": [{"name": "agreement", "min": "1", "of": "teacher"}]},
        f"{_METRIC}.of",
        "against the teacher already",
    ),
    Case(
        "a shape and a model",
        "text",
        {"spec.distill.student.uri": "file://small"},
        "spec.distill.student",
        "only one of them",
    ),
    Case(
        "a model and a factory",
        "image",
        {"spec.distill.student.uri": "file://small"},
        "spec.distill.student",
        "only one of them",
    ),
    Case(
        "heads that do not divide",
        "text",
        {"spec.distill.student.attentionHeads": 7},
        "spec.distill.student.hiddenSize",
        "multiple of attentionHeads",
    ),
    Case(
        "layers at another width",
        "text",
        {"spec.distill.student.init": "layers"},
        "spec.distill.student.hiddenSize",
        "copies the teacher's layers",
    ),
    Case(
        "a residual student with the teacher's singular directions",
        "text",
        {"spec.distill.student.architecture": "residual"},
        "spec.distill.student.init",
        "starts from static token vectors",
    ),
    Case(
        "a residual student that classifies",
        "class",
        {"spec.distill.student": {"architecture": "residual", "hiddenSize": 64}},
        "spec.distill.student.architecture",
        "belongs to task sentence-embedding",
    ),
    Case(
        "an architecture of a model of its own",
        "class",
        {"spec.distill.student.architecture": "encoder"},
        "spec.distill.student",
        "only one of them",
    ),
    Case(
        "a temperature of embedding",
        "text",
        {f"{_LOSS}.temperature": "2"},
        f"{_LOSS}.temperature",
        "temperature belongs to losses logits",
    ),
    Case("keys of embedding", "text", {f"{_LOSS}.keys": 64}, f"{_LOSS}.keys", "belongs to losses similarity"),
    Case(
        "keys of squared differences",
        "text",
        {"spec.distill.stages[0].losses[1].distance": "mse"},
        "spec.distill.stages[0].losses[1].keys",
        "with distance cosine",
    ),
    Case("a temperature of 0", "class", {f"{_LOSS}.temperature": "0.00"}, f"{_LOSS}.temperature", "more than 0"),
    Case("alpha above 1", "class", {f"{_LOSS}.alpha": "1.1"}, f"{_LOSS}.alpha", "at most 1"),
    Case(
        "logits of an embedding kept",
        "text",
        {"spec.distill.topLogits": 5},
        "spec.distill.topLogits",
        "belongs to classification",
    ),
    Case("no logits kept", "class", {"spec.distill.topLogits": 0}, "spec.distill.topLogits"),
    Case("all of a label smoothed", "class", {_LOSS: {"kind": "hard", "labelSmoothing": "1"}}, f"{_LOSS}.labelSmoothing"),
    Case("labels of jsd smoothed", "class", {_LOSS: {"kind": "jsd", "labelSmoothing": "0.1"}}, f"{_LOSS}.labelSmoothing"),
    Case(
        "labels of tvd weighted",
        "class",
        {_LOSS: {"kind": "tvd", "classWeights": {"balanced": True}}},
        f"{_LOSS}.classWeights",
        "belongs to losses logits and hard",
    ),
    *(
        Case(name, "class", {_LOSS: {"kind": "hard", "classWeights": weights}}, f"{_LOSS}.classWeights", "only one of them")
        for name, weights in {
            "labels both balanced and weighted": {"balanced": True, "byLabel": {"a": "2"}},
            "labels neither balanced nor weighted": {"balanced": False},
            "labels in no way weighted": {},
        }.items()
    ),
    _bad("a likeness above 1", "class", "spec.distill.deduplicate.threshold", "1.5", "at most 1"),
    _bad("a likeness of 0", "class", "spec.distill.deduplicate.threshold", "0.0", "more than 0"),
    _bad("a balance of nothing", "class", "spec.distill.balance.to", "0%", "more than 0%"),
    _bad("rows that are there once at most", "class", "spec.distill.balance.most", 1),
    _bad("copies without a change", "class", "spec.distill.augment.operations", []),
    _bad("no copies", "class", "spec.distill.augment.copies", 0),
    _bad("a change that never happens", "class", "spec.distill.augment.operations[0].chance", "0%", "more than 0%"),
    _bad("a weight of rows that judge", "text", "spec.gate.data.columns.weight", "w"),
    *(
        Case(
            f"rows of {place} drawn by weight and in groups",
            "text",
            {
                "spec.distill.data.columns": {"group": "g"},
                "spec.distill.unlabelled": {"uri": "data:more"},
                f"spec.distill.{place}.columns": {"group": "g", "weight": "w"},
                "spec.distill.stages": [{"losses": [{"kind": "contrastive"}]}],
            },
            "spec.distill.data.columns",
            "contrastive draws groups",
        )
        for place in ("data", "unlabelled")
    ),
    _bad("an unknown change", "class", "spec.distill.augment.operations[0].kind", "translate"),
    _bad("labels of a third kind", "class", "spec.distill.augment.labels", "both"),
    _bad("an amount of mirroring", "image", "spec.distill.augment.operations[0].amount", "5%", "flip has no amount"),
    Case("a layer of logits", "class", {f"{_LOSS}.layer": 2}, f"{_LOSS}.layer", "belongs to losses hidden"),
    Case("layers of logits", "class", {f"{_LOSS}.layers": [{"teacher": 2}]}, f"{_LOSS}.layers", "belongs to losses hidden"),
    Case(
        "a layer and pairs of layers",
        "text",
        {_LOSS: {"kind": "hidden", "layer": 2, "layers": [{"teacher": 2}]}},
        f"{_LOSS}.layers",
        "only one of them",
    ),
    Case("a layer of pooled", "text", {_LOSS: {"kind": "pooled", "layer": 2}}, f"{_LOSS}.layer", "belongs to losses hidden"),
    Case("no pair of layers", "text", {_LOSS: {"kind": "hidden", "layers": []}}, f"{_LOSS}.layers"),
    Case("a pair without a teacher", "text", {_LOSS: {"kind": "hidden", "layers": [{"student": 1}]}}, f"{_LOSS}.layers[0]"),
    *(
        _bad(f"a gate of nothing: {field}", "text", f"spec.gate.{field}", none, "more than 0")
        for field, none in (("maxSize", "0.0Mi"), ("maxLatencyP50", "0ms"), ("maxLatencyP99", "0.0s"))
    ),
    Case(
        "a stage whose losses count for nothing",
        "text",
        {"spec.distill.stages[0].losses": [{"kind": "embedding", "weight": "0"}, {"kind": "similarity", "weight": "0.0"}]},
        "spec.distill.stages[0].losses",
        "nothing would be learned",
    ),
    _bad("a learning rate of 0", "text", "spec.distill.stages[0].learningRate", "0", "more than 0"),
    Case("stages of one name", "text", {"spec.distill.stages[1].name": "soft"}, "spec.distill.stages", "name of its own"),
    Case("jsd of an embedding", "text", {_LOSS: {"kind": "jsd"}}, "spec.distill.stages", "belong to task"),
    Case("angles of classes", "class", {_LOSS: {"kind": "relational-angle"}}, "spec.distill.stages", "belong to task"),
    Case("a teacher's rows of classes", "class", {_LOSS: {"kind": "contrastive-teacher"}}, "spec.distill.stages"),
    Case("relations of classes", "class", {_LOSS: {"kind": "relational-distance"}}, "spec.distill.stages", "belong to task"),
    Case("logits of an embedding", "text", {f"{_LOSS}.kind": "logits"}, "spec.distill.stages", "belong to task"),
    Case("embeddings of a class", "class", {"spec.distill.stages[0].losses[1].kind": "embedding"}, "spec.distill.stages"),
    Case("an index of classes", "class", {"spec.index": {"data": {"uri": "data:x"}}}, "spec.index", "belongs to task"),
    Case("mrr of classes", "class", {f"{_METRIC}.name": "mrr@10"}, "spec.gate.metrics", "belong to task"),
    Case("accuracy of embeddings", "text", {f"{_METRIC}.name": "accuracy"}, "spec.gate.metrics", "classification tasks"),
    Case("an image of text", "class", {"spec.source.image": {"height": 8, "width": 8}}, "spec.source.image", "only"),
    Case("no image of images", "image", {"spec.source.image": GONE}, "spec.source.image", "needs image"),
    Case("columns of text", "class", {"spec.source.features": {"columns": ["a"]}}, "spec.source.features", "only"),
    Case("no columns of a table", "table", {"spec.source.features": GONE}, "spec.source.features", "needs features (columns)"),
    Case(
        "a window of a table",
        "table",
        {"spec.source.features": {"length": 3}},
        "spec.source.features",
        "needs features (columns)",
    ),
    Case("columns of a series", "series", {"spec.source.features": {"columns": ["a"]}}, "spec.source.features", "needs features"),
    _bad("columns and a length", "series", "spec.source.features", {"columns": ["a"], "length": 3}, "give columns"),
    _bad("channels of a table", "table", "spec.source.features", {"columns": ["a"], "channels": 3}, "give columns"),
    _bad("features of nothing", "table", "spec.source.features", {}, "give columns"),
    _bad("a column twice", "table", "spec.source.features.columns", ["a", "b", "a"]),
    _bad("no columns", "table", "spec.source.features.columns", []),
    Case(
        "the label is a column",
        "table",
        {"spec.source.features.columns": ["a", "label"]},
        "spec.source.features.columns",
        "stand beside a row",
    ),
    Case(
        "an endless window",
        "series",
        {"spec.source.features": {"length": 65536, "channels": 17}},
        "spec.source.features.length",
        "1048576 numbers",
    ),
    Case(
        "an image and columns",
        "table",
        {"spec.source.image": {"height": 8, "width": 8}},
        "spec.source.image",
        "image-classification only",
    ),
    Case("a cnn of a table", "table", {_STUDENT: {"architecture": "cnn"}}, f"{_STUDENT}.architecture", "have none"),
    Case("an lstm of a series", "series", {_STUDENT: {"architecture": "bilstm"}}, f"{_STUDENT}.architecture", "take texts"),
    Case("an encoder of a table", "table", {_STUDENT: {"architecture": "encoder"}}, _STUDENT, "begins at random"),
    Case("heads of a table", "table", {_STUDENT: {"hiddenSize": 32, "attentionHeads": 2}}, _STUDENT, "begins at random"),
    Case("a start of a series", "series", {_STUDENT: {"hiddenSize": 32, "init": "layers"}}, _STUDENT),
    Case("tokens of a series", "series", {_STUDENT: {"architecture": "mlp", "bigrams": 512}}, _STUDENT, "students of texts"),
    Case(
        "a search for a table",
        "table",
        {
            _STUDENT: {"architecture": "mlp"},
            "spec.distill.validation": {"uri": "data:validation"},
            "spec.distill.search": {"hiddenSize": [16, 32]},
        },
        "spec.distill.search",
        "take texts",
    ),
    Case(
        "noise in a table",
        "table",
        {"spec.distill.augment": {"operations": [{"kind": "noise"}]}},
        "spec.distill.augment",
        "leaves the label",
    ),
    Case(
        "an image of a table's request",
        "table",
        {"spec.pipeline.steps[0].inputs": {"x": "request.IMAGE"}},
        "spec.pipeline.steps",
        "request.FEATURES",
    ),
    Case("a table's default student", "table", {_STUDENT: {"hiddenSize": 16}}),
    Case("one channel", "series", {"spec.source.features": {"length": 16}, _STUDENT: {"architecture": "mlp"}}),
    Case("one mean of three channels", "image", {"spec.source.image.channels": 3}, "spec.source.image", "one number per channel"),
    _bad("a deviation of 0", "image", "spec.source.image.std", ["0.0"], "more than 0"),
    *(
        Case(
            f"our own label {key}", "text", {f"{_POD}.metadata.labels": {key: "x"}}, f"{_POD}.metadata.labels", "Stillhouse's own"
        )
        for key in ("stillhouse.io/model", "app.kubernetes.io/component", "app.kubernetes.io/name", "pod-template-hash")
    ),
    Case(
        "our own annotation",
        "text",
        {f"{_POD}.metadata.annotations": {"stillhouse.io/digest": "x"}},
        f"{_POD}.metadata.annotations",
        "Stillhouse's own",
    ),
    *(
        Case(f"a malformed key of {place}", "text", {f"{_POD}.{place}": {"a b": "x"}}, f"{_POD}.{place}", "not one of Kubernetes")
        for place in ("metadata.labels", "metadata.annotations", "spec.nodeSelector")
    ),
    Case("a label with a space in it", "text", {f"{_POD}.metadata.labels": {"a": "b c"}}, f"{_POD}.metadata.labels"),
    *(
        _bad(f"{name} of a pod", "text", f"{_POD}.spec.{name}", value)
        for name, value in {
            "containers": [{"name": "mine"}],
            "volumes": [],
            "securityContext": {},
            "serviceAccountName": "admin",
            "hostNetwork": True,
        }.items()
    ),
    _bad("a toleration with a value too many", "text", f"{_POD}.spec.tolerations[1].value", "x", "has no value"),
    Case(
        "a toleration of nothing",
        "text",
        {f"{_POD}.spec.tolerations": [{"value": "x"}]},
        f"{_POD}.spec.tolerations[0].operator",
        "needs operator Exists",
    ),
    _bad("seconds of a taint that evicts nobody", "text", f"{_POD}.spec.tolerations[1].tolerationSeconds", 3, "NoExecute"),
    Case(
        "nothing to be in",
        "text",
        {f"{_NODES}.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values": []},
        f"{_NODES}.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values",
        "Gt and Lt one",
    ),
    Case(
        "an order of pods' labels",
        "text",
        {
            f"{_POD}.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector": {
                "matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]
            }
        },
        f"{_POD}.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions",
        "labels of nodes only",
    ),
    Case(
        "fewest domains of a wish",
        "text",
        {f"{_POD}.spec.topologySpreadConstraints[0].whenUnsatisfiable": "ScheduleAnyway"},
        f"{_POD}.spec.topologySpreadConstraints[0].minDomains",
        "belongs to DoNotSchedule",
    ),
    _bad("a strategy that nobody knows", "text", "spec.serve.strategy.type", "BlueGreen"),
    _bad("no former revision kept", "text", "spec.serve.revisionHistoryLimit", 0),
    _bad("an unknown runtime", "text", "spec.serve.runtime", "vllm"),
    Case(
        "GPUs of a runtime of CPUs", "class", {"spec.serve.runtime": GONE}, "spec.serve.gpu", "belongs to runtime triton-nvidia"
    ),
    _bad("a cache of an ensemble", "class", "spec.serve.responseCache", True, "belongs to runtime triton-ort-cpu"),
    _bad("no workspace", "class", "spec.serve.gpu.tensorrt.workspace", "0Gi", "more than 0"),
    _bad("no CPU", "text", "spec.serve.resources.limits", {"cpu": "0m"}),
    _bad("no memory", "text", "spec.serve.resources.limits", {"memory": "0Gi"}),
    _bad("more CPU asked than allowed", "text", "spec.serve.resources.requests.cpu", "1.5", "must not exceed"),
    _bad("more memory asked than allowed", "text", "spec.serve.resources.requests.memory", "1Gi", "must not exceed"),
    _bad("a queue shorter than the gate's clients", "text", "spec.serve.queue.maxSize", 3, "at least gate.load.concurrency"),
    Case(
        "more clients of the gate than the queue holds",
        "text",
        {"spec.gate.load.concurrency": 101},
        "spec.serve.queue.maxSize",
        "at least gate.load.concurrency",
    ),
    Case("fewest above most", "text", {"spec.scale.minReplicas": 9}, "spec.scale.minReplicas", "must not exceed maxReplicas"),
    Case("replicas of our own scaling", "text", {"spec.scale.mode": "hpa"}, "spec.scale.replicas", "belongs to mode external"),
    *_PIPELINES,
    # What a later version brings.
    _bad("scale to zero", "text", "spec.scale.minReplicas", 0, LATER),
    _bad("zero replicas", "text", "spec.scale.replicas", 0, LATER),
    *(_bad(f"reserved {path}", "text", path, value, LATER) for path, value in RESERVED.items()),
]

CASES = (*_VALID, *_INVALID)
