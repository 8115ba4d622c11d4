"""The name of every child. Deterministic: two operators that create one create the same.

A model's name has at most 40 characters, so that every ending fits into the 63 of a DNS label.
"""

from __future__ import annotations

__all__ = [
    "VARIANT", "account", "backend", "between", "bridge", "build_job", "build_policy", "client_service", "gateway",
    "local_service", "of_revision", "revision", "workers", "workload",
]  # fmt: skip

VARIANT = "main"
"""The only variant so far; it is in names and selectors from the first day, since those cannot change later."""


def client_service(model: str) -> str:
    """Return the Service that clients use."""
    return model


def workload(model: str, variant: str = VARIANT) -> str:
    """Return the Deployment, and what guards and scales it: autoscaler, disruption budget, network policy."""
    return f"{model}-{variant}"


def backend(model: str, variant: str = VARIANT) -> str:
    """Return the headless Service of the pods themselves."""
    return f"{model}-{variant}-backend"


def account(model: str) -> str:
    """Return the ServiceAccount of the pods; it may do nothing, and they get no token."""
    return f"{model}-serve"


def build_job(model: str, request_hash: str, stage: str) -> str:
    """Return the Job of one stage of a build."""
    return f"{model}-{request_hash[:8]}-{stage}"


def build_policy(model: str, variant: str = VARIANT) -> str:
    """Return the NetworkPolicy of a build's pods."""
    return f"{model}-{variant}-build"


def workers(model: str, variant: str = VARIANT) -> str:
    """Return the Service by which pods that train together find each other, and the NetworkPolicy that lets them."""
    return f"{model}-{variant}-workers"


def revision(model: str, request_hash: str) -> str:
    """Return the ModelRevision of a build."""
    return f"{model}-{request_hash[:10]}"


def gateway(model: str, variant: str = VARIANT) -> str:
    """Return the gateway's workload, and what belongs to it: account, binding, network policy, disruption budget."""
    return f"{model}-{variant}-gateway"


def bridge(model: str, variant: str = VARIANT) -> str:
    """Return the bridge's workload, and what belongs to it: account, binding, network policy, disruption budget."""
    return f"{model}-{variant}-bridge"


def local_service(model: str, variant: str = VARIANT) -> str:
    """Return the Service by which clients reach the gateway of their own node."""
    return f"{model}-{variant}-local"


def between(model: str, digest: str, variant: str = VARIANT) -> str:
    """Return the headless Service of those pods of another model that serve an artifact, which a cascade was solved with."""
    return f"{model}-{variant}-middle-{digest.removeprefix('sha256:')[:8]}"


def of_revision(revision: str) -> str:
    """Return the headless Service of the pods that serve a revision, and no other."""
    return f"{revision}-pods"
