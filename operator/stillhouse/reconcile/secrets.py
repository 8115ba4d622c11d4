"""Whether a model may fetch with the Secrets that it names. Their data is never read: the kubelet mounts it, by its own right."""

from __future__ import annotations

from stillhouse.api.broker import Mqtt
from stillhouse.clients.kube.interface import Body, Kube
from stillhouse.clients.kube.kinds import SECRET
from stillhouse.reconcile.decide import Verdict
from stillhouse.reconcile.stand import stands
from stillhouse.resources import fetching, gateway_place, labels
from stillhouse.resources.bridge import bridge_secrets
from stillhouse.resources.wanted import ClusterSettings, Gateway, Owner

__all__ = ["LOOK_AGAIN_S", "absent", "absent_of_bridge", "unusable"]

LOOK_AGAIN_S = 15.0
"""Secrets are not watched, which would need the right to list all of them: who mends one is seen after this long."""


async def unusable(kube: Kube, owner: Owner, spec: Body, settings: ClusterSettings) -> Verdict | None:
    """Return why a Secret of `spec.credentials` cannot be used, None where all can.

    Raises:
        KubeError: the server does not say.
    """
    named = fetching.secrets(spec)
    if named and not settings.credentials:
        return Verdict(
            "CredentialsNotAllowed",
            "spec.credentials: this operator may not look at Secrets; ask the administrator: value credentials.enabled",
        )
    for name in named:
        found = await kube.look(SECRET, owner.namespace, name)
        if found is None:
            return Verdict(
                "CredentialsMissing",
                f"spec.credentials: there is no Secret {name} in {owner.namespace}; kubectl create secret generic {name}"
                f" -n {owner.namespace} --from-literal=KEY=VALUE && kubectl label secret {name} -n {owner.namespace}"
                f" {labels.CREDENTIALS}=true",
            )
        if (found["metadata"].get("labels") or {}).get(labels.CREDENTIALS) != "true":
            return Verdict(
                "CredentialsNotAllowed",
                f"spec.credentials: Secret {name} is not marked for models; kubectl label secret {name} -n {owner.namespace}"
                f" {labels.CREDENTIALS}=true",
            )
    return None


async def absent(
    kube: Kube, owner: Owner, gateway: Gateway | None, workload: Body | None, settings: ClusterSettings
) -> Verdict | None:
    """Return which Secret of the gateway is not there, None where none is missed: its pods would wait, and only an event say why.

    Looked at while the gateway's pods are not all there, and where the operator may look.

    Raises:
        KubeError: the server does not say.
    """
    if gateway is None:
        return None
    return await _absent(kube, owner, gateway_place.mounted(gateway), workload, settings)


async def absent_of_bridge(
    kube: Kube, owner: Owner, mqtt: Mqtt | None, workload: Body | None, settings: ClusterSettings
) -> Verdict | None:
    """Return which Secret of `spec.serve.mqtt` is not there, as `absent` does."""
    return await _absent(kube, owner, bridge_secrets(mqtt), workload, settings) if mqtt is not None else None


async def _absent(
    kube: Kube, owner: Owner, named: tuple[gateway_place.Mounted, ...], workload: Body | None, settings: ClusterSettings
) -> Verdict | None:
    if not settings.credentials or stands(workload).full:
        return None
    for each in named:
        if await kube.look(SECRET, owner.namespace, each.name) is None:
            return Verdict("SecretMissing", f"spec.{each.field}: there is no Secret {each.name} in {owner.namespace}")
    return None
