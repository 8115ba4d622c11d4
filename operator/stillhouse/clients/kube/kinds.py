"""The kinds of objects that Stillhouse reads and writes, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

__all__ = [
    "ACCESS_REVIEW", "ACCOUNT", "API_SERVICE", "BINDING", "CLAIM", "CONFIG_MAP", "DAEMON_SET", "DEPLOYMENT", "DISRUPTION_BUDGET",
    "EVENT", "HPA", "JOB", "LEASE", "MODEL", "MONITOR", "NETWORK_POLICY", "POD", "REVISION", "SCALED_OBJECT", "SECRET",
    "SELF_REVIEW", "SERVICE", "SLICE", "Kind", "by_name",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. `api_version` is `v1` or `GROUP/VERSION`, `plural` its name in paths."""

    api_version: str
    name: str
    plural: str

    @property
    def root(self) -> str:
        """Return where the server lists the kinds of this version."""
        return "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the path of an object, or of all of a namespace; of all namespaces where that is empty."""
        parts = [self.root]
        if namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


MODEL = Kind("stillhouse.io/v1alpha1", "DistilledModel", "distilledmodels")
REVISION = Kind("stillhouse.io/v1alpha1", "ModelRevision", "modelrevisions")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
DAEMON_SET = Kind("apps/v1", "DaemonSet", "daemonsets")
BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
SERVICE = Kind("v1", "Service", "services")
ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
HPA = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
JOB = Kind("batch/v1", "Job", "jobs")
MONITOR = Kind("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors")
"""Not every cluster knows it (`Kube.serves`)."""
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
NAMESPACE = Kind("v1", "Namespace", "namespaces")
SECRET = Kind("v1", "Secret", "secrets")
API_SERVICE = Kind("apiregistration.k8s.io/v1", "APIService", "apiservices")
ACCESS_REVIEW = Kind("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews")
SELF_REVIEW = Kind("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews")
SCALED_OBJECT = Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")

_BY_NAME = {
    kind.name: kind
    for kind in (
        MODEL, REVISION, DEPLOYMENT, SERVICE, ACCOUNT, CONFIG_MAP, POD, EVENT, DISRUPTION_BUDGET, NETWORK_POLICY, HPA, JOB, LEASE,
        MONITOR, SECRET, API_SERVICE, SCALED_OBJECT, CLAIM, DAEMON_SET, BINDING, SLICE,
    )
}  # fmt: skip


def by_name(name: str) -> Kind:
    """Return the kind that an object's `kind` names.

    Raises:
        KeyError: it is none of ours.
    """
    return _BY_NAME[name]
