"""The resources that cases start from: minimal ones, complete ones, and the names that are kept free."""

from __future__ import annotations

import copy
from typing import Any

from tests.support.api_objects.complete_text import TEXT

__all__ = ["COMPLETE", "MINIMAL", "RESERVED", "Object", "complete"]

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
    "text": _resource(TEXT),
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


def complete(base: str) -> Object:
    """A copy of one of the complete objects."""
    return copy.deepcopy(COMPLETE[base])
