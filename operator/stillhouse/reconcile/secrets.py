"""Whether a model may fetch with the Secrets that it names. Their data is never read: the kubelet mounts it, by its own right."""

from __future__ import annotations

from stillhouse.clients.kube.interface import Body, Kube
from stillhouse.clients.kube.kinds import SECRET
from stillhouse.reconcile.decide import Verdict
from stillhouse.resources import fetching, labels
from stillhouse.resources.wanted import ClusterSettings, Owner

__all__ = ["LOOK_AGAIN_S", "unusable"]

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
