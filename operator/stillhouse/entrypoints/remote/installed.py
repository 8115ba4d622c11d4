"""The operator as it is installed: its Lease, claim and account, as its Deployment tells them, whatever the release is called."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from stillhouse.clients.kube.interface import Forbidden
from stillhouse.clients.kube.kinds import CONFIG_MAP, DEPLOYMENT
from stillhouse.resources.wanted import ClusterSettings

__all__ = ["Installed", "installed"]

_OPERATOR, _METRICS = "app.kubernetes.io/component=operator", "app.kubernetes.io/component=metrics"
_INSTANCE = "app.kubernetes.io/instance"
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Installed:
    """What a release is like; without a Deployment (it runs elsewhere, or nowhere) the names are those of a release `stillhouse`.

    `watches` is the namespace that it works in, empty: the whole cluster; `settings` is None where they may not be read.
    """

    namespace: str
    deployment: Body | None = None
    metrics: Body | None = None
    lease_namespace: str = ""
    lease: str = "stillhouse-operator"
    watches: str = ""
    settings: Body | None = field(default=None)

    @property
    def claim(self) -> str:
        """The claim that holds artifacts, in each namespace with models."""
        return str((self.settings or {}).get("store_claim") or ClusterSettings().store_claim)

    @property
    def release(self) -> str:
        """What helm calls it."""
        labels = ((self.deployment or {}).get("metadata") or {}).get("labels") or {}
        return str(labels.get(_INSTANCE) or "stillhouse")

    @property
    def fullname(self) -> str:
        """What the names of its objects begin with."""
        name = str(((self.deployment or {}).get("metadata") or {}).get("name") or "stillhouse-operator")
        return name.removesuffix("-operator")

    @property
    def account(self) -> str:
        """The ServiceAccount of its pods; empty where there is no Deployment."""
        return str(_pod(self.deployment).get("serviceAccountName") or "default") if self.deployment else ""

    @property
    def image(self) -> str:
        """The image that it runs."""
        return str(_operator_of(self.deployment).get("image", ""))

    @property
    def version(self) -> str:
        """The version of its chart's application."""
        labels = ((self.deployment or {}).get("metadata") or {}).get("labels") or {}
        return str(labels.get("app.kubernetes.io/version", ""))


async def installed(kube: Any, namespace: str) -> Installed:
    """Look at the release in a namespace.

    Raises:
        KubeError: Deployments may not be listed there.
    """
    operators = [each for each in await kube.find(DEPLOYMENT, namespace, _OPERATOR) if _option(each, "lease-name")]
    if not operators:
        return Installed(namespace, lease_namespace=namespace)
    operator = operators[0]
    release = (operator["metadata"].get("labels") or {}).get(_INSTANCE, "")
    metrics = await kube.find(DEPLOYMENT, namespace, f"{_METRICS},{_INSTANCE}={release}")
    return Installed(
        namespace,
        operator,
        metrics[0] if metrics else None,
        _option(operator, "lease-namespace") or namespace,
        _option(operator, "lease-name"),
        _option(operator, "namespace"),
        await _settings(kube, namespace, operator),
    )


async def _settings(kube: Any, namespace: str, operator: Body) -> Body | None:
    names = [each["configMap"]["name"] for each in _pod(operator).get("volumes") or [] if "configMap" in each]
    try:
        found = await kube.get(CONFIG_MAP, namespace, names[0]) if names else None
        data = json.loads(((found or {}).get("data") or {}).get("settings.json") or "null")
    except (Forbidden, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _pod(deployment: Body | None) -> Body:
    pod: Body = (((deployment or {}).get("spec") or {}).get("template") or {}).get("spec") or {}
    return pod


def _operator_of(deployment: Body | None) -> Body:
    containers: list[Body] = _pod(deployment).get("containers") or []
    return next((each for each in containers if each.get("name") == "operator"), {})


def _option(deployment: Body, name: str) -> str:
    """Return an option of the operator's command, empty where it is left out."""
    start = f"--{name}="
    return next(
        (str(each)[len(start) :] for each in _operator_of(deployment).get("args") or [] if str(each).startswith(start)), ""
    )
