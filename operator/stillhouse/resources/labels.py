"""The labels and annotations of every child. Selectors are a subset that never changes."""

from __future__ import annotations

__all__ = [
    "APPLIED", "COMPONENT", "CREDENTIALS", "DIGEST", "MANAGED_BY", "MODEL", "MOVED", "QUEUE", "REBUILD", "REQUEST", "REVISION",
    "SOURCES_LABEL", "SOURCES_NAME", "STAGE", "TRACK", "VARIANT",
    "bridge", "building", "gateway", "labels", "of_artifact", "query", "selector", "together",
]  # fmt: skip

MODEL = "stillhouse.io/model"
VARIANT = "stillhouse.io/variant"
TRACK = "stillhouse.io/track"
REQUEST = "stillhouse.io/request"
"""First 32 hex digits of a build's request hash: a label's value has at most 63 characters."""
STAGE = "stillhouse.io/stage"
REVISION = "stillhouse.io/revision"
"""Of pods: the ModelRevision that they serve, of a gateway's the one whose cascade it has."""
DIGEST = "stillhouse.io/digest"
"""Of pods that serve: first 32 hex digits of their artifact's digest. Another model's cascade may have been solved with it."""
MOVED = "stillhouse.io/moved"
"""Annotation of the Service that clients use: when it went from the model's pods to the gateway's."""
QUEUE = "kueue.x-k8s.io/queue-name"
"""Kueue's, on a Job: the LocalQueue that admits it."""
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"

REBUILD = "stillhouse.io/rebuild"
"""Annotation of a DistilledModel: another value builds it anew."""
APPLIED = "stillhouse.io/applied"
"""Annotation of a child: hash of what we wanted of it when we wrote it last."""

CREDENTIALS = "stillhouse.io/credentials"
"""Label of a Secret, "true": models of its namespace may fetch their sources with it."""

SOURCES_NAME = "stillhouse-sources"
"""ConfigMap of a namespace that binds named sources to URIs."""
SOURCES_LABEL = "stillhouse.io/sources=bindings"
"""Label of that ConfigMap: without it each ConfigMap of the cluster would stream by."""

_TRACK = "stable"


def labels(model: str, variant: str, component: str) -> dict[str, str]:
    """Return the labels of a child. `component`: serve, build, gateway or bridge."""
    return {
        "app.kubernetes.io/name": "stillhouse",
        MANAGED_BY: "stillhouse",
        COMPONENT: component,
        MODEL: model,
        VARIANT: variant,
        TRACK: _TRACK,
    }


def selector(model: str, variant: str) -> dict[str, str]:
    """Return the labels that choose a variant's serving pods."""
    return {MODEL: model, VARIANT: variant, TRACK: _TRACK, COMPONENT: "serve"}


def building(model: str, variant: str) -> dict[str, str]:
    """Return the labels that choose the pods of a variant's builds."""
    return {**selector(model, variant), COMPONENT: "build"}


def together(model: str, variant: str, request_hash: str) -> dict[str, str]:
    """Return the labels that choose the pods that train together in one build."""
    return {**building(model, variant), REQUEST: request_hash[:32], STAGE: "train"}


def gateway(model: str, variant: str) -> dict[str, str]:
    """Return the labels that choose the pods of the gateway before a variant."""
    return {**selector(model, variant), COMPONENT: "gateway"}


def of_artifact(digest: str) -> dict[str, str]:
    """Return the label of pods that serve an artifact; none where there is no digest."""
    found = digest.removeprefix("sha256:")[:32]
    return {DIGEST: found} if found else {}


def bridge(model: str, variant: str) -> dict[str, str]:
    """Return the labels that choose the pods of the bridge to a variant."""
    return {**selector(model, variant), COMPONENT: "bridge"}


def query(values: dict[str, str]) -> str:
    """Return labels as the text of a label selector."""
    return ",".join(f"{name}={value}" for name, value in sorted(values.items()))
