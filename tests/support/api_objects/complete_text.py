"""The spec of the complete resource for texts."""

from __future__ import annotations

from typing import Any

__all__ = ["TEXT"]

TEXT: dict[str, Any] = {
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
                            "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
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
