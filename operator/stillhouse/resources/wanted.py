"""What builders are given: whose child it is, which revision serves, and what the administrator settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillhouse.api.edge import Edge
from stillhouse.api.model import API_VERSION, KIND, Spec
from stillhouse.planning.steps import PRECISION as STEPS
from stillhouse.resources import labels, names

__all__ = ["Between", "Building", "ClusterSettings", "Gateway", "Owner", "Scaling", "Serving", "Target", "metadata"]


@dataclass(frozen=True, slots=True)
class Owner:
    """The DistilledModel that a child belongs to."""

    name: str
    namespace: str
    uid: str

    def reference(self) -> dict[str, Any]:
        """Return the owner reference: deletion is Kubernetes' work, also while the operator is down."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


@dataclass(frozen=True, slots=True)
class Serving:
    """The revision that pods are to serve. `serve` are its measured settings in plain units (planning.request.serve_config).

    `pods` is `serve.podTemplate` in the form of the API, what is left out left out; `strategy` of the Deployment; `cut`: digest
    of its halves, of which pods serve the upper one beside it.
    Of a gate's pod, which is told its candidates one by one, revision, digest and precision are empty.
    """

    revision: str = ""
    digest: str = ""
    precision: str = ""
    serve: Mapping[str, Any] = field(default_factory=dict)
    cpu_request: str | None = None
    memory_request: str | None = None
    pods: Mapping[str, Any] = field(default_factory=dict)
    strategy: str = "RollingUpdate"
    cut: str | None = None


@dataclass(frozen=True, slots=True)
class Building:
    """`spec.build`: limits and requests of a stage's worker, as the API has quantities (None: what the administrator settled).

    `placement` is in the form of the API, what is left out left out; `queue` a LocalQueue of Kueue. `needed` is what must stay in
    the store (`reconcile/needed.py`): the worker frees the rest; None: it frees nothing. `workers` pods train together.
    """

    cpu: str | None = None
    memory: str | None = None
    cpu_request: str | None = None
    memory_request: str | None = None
    placement: Mapping[str, Any] = field(default_factory=dict)
    queue: str = ""
    needed: Mapping[str, Any] | None = None
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Between:
    """The model between the small and the larger one: its name, and the digest of what a cascade was solved with."""

    model: str
    digest: str


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """Whom a gateway asks: a DistilledModel of the namespace, or where `model` is empty somebody at this port."""

    model: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class Gateway:
    """What `spec.edge` asks for, and the revision that its gateway stands before.

    `spec` is the whole one, which has an `edge`; `digest` and `cascade` are those of the model and of its cascade (None: it has
    none); `middle` is the model between, where that cascade has one; `cut` the digest of its halves. A revision of precision
    `steps` is no model: `digest` is of the steps.
    """

    spec: Spec
    revision: str = ""
    digest: str = ""
    precision: str = ""
    cascade: str | None = None
    middle: Between | None = None
    cut: str | None = None

    @property
    def edge(self) -> Edge:
        """Return the part that says what the gateway does."""
        assert self.spec.edge is not None
        return self.spec.edge

    @property
    def per_node(self) -> bool:
        """Return whether there is one on every node."""
        return self.edge.run.kind == "DaemonSet"

    @property
    def engine(self) -> bool:
        """Return whether the model runs in the gateway's own process, with the steps that its artifact has."""
        return self.per_node and not self.lower and not self.steps

    @property
    def steps(self) -> bool:
        """Return whether it runs steps alone, before another model; until they are packed, it is as without them."""
        return self.edge.preprocess is not None and self.precision == STEPS

    @property
    def lower(self) -> bool:
        """Return whether the lower half of the model runs in the gateway's process; until a model is cut, it is whole."""
        return self.edge.cut is not None and self.cut is not None

    @property
    def bound(self) -> bool:
        """Return whether it belongs to this revision and no other: by model, half of it, steps, or a confidence fitted on it."""
        return self.engine or self.lower or self.steps or (self.edge.cascade is not None and self.cascade is not None)

    @property
    def asks_pods(self) -> bool:
        """Return whether it asks pods of the model, which it finds by the API server."""
        at_address = self.edge.cut is not None and self.edge.cut.address is not None
        return not self.engine and not self.steps and not (self.lower and at_address)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many replicas: `mode` hpa, cpu or external; `replicas` counts in mode external only."""

    mode: str
    least: int
    most: int
    replicas: int


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What the administrator settled for the whole operator.

    `serve_image` and `worker_image` are complete references; `store_claim` is the PersistentVolumeClaim of the model's
    namespace that holds the artifacts; `sources` binds names such as `models:minilm` to URIs; `pull_secrets` names of Secrets;
    `operator_namespace` where the operator runs, whose pods may read metrics, as may those of `monitoring_namespace`;
    `max_concurrent_builds` over all models. `serve_gpu_image` is of runtime triton-nvidia. `image_registry` replaces the registry
    of every image. `metrics_api`: whether the metrics API runs, behind Service `metrics_service` of `operator_namespace` (empty:
    it is not even looked whose the cluster's external metrics are); `scale_down_after_s`: how long fewer replicas must be enough
    before there are fewer. `monitors`: a ServiceMonitor for each model where the cluster knows that kind, found by
    `monitor_labels`. `source_hosts` and `source_networks` open what builds may not fetch from by default
    (clients/sources/remote/rules.py), `source_limit` is the size of the largest source;
    `credentials` whether `spec.credentials` may name Secrets. `gateway_role` is the ClusterRole (`ClusterRole/NAME`, or
    `Role/NAME` in the model's namespace) by which gateways read EndpointSlices; `edge_packages` are those of the gateway's image
    whose functions steps of `spec.edge.preprocess` may call; `api_server_ports` and `api_server_cidrs` (none:
    any) are where they find the API server.
    """

    serve_image: str = "ghcr.io/stillhouse/serve:0.1.0"
    worker_image: str = "ghcr.io/stillhouse/worker:0.1.0"
    serve_gpu_image: str = "ghcr.io/stillhouse/serve-nvidia:0.1.0"
    gateway_image: str = "ghcr.io/stillhouse/gateway:0.1.0"
    image_registry: str = ""
    store_claim: str = "stillhouse-models"
    operator_namespace: str = "stillhouse"
    sources: Mapping[str, str] = field(default_factory=dict)
    pull_secrets: tuple[str, ...] = ()
    monitors: bool = True
    monitor_labels: Mapping[str, str] = field(default_factory=dict)
    monitor_interval: str = "30s"
    monitoring_namespace: str = ""
    cpu_target_percent: int = 75
    metrics_api: bool = False
    metrics_service: str = ""
    scale_down_after_s: int = 300
    build_memory: str = "8Gi"
    build_cpu: str = "2"
    job_deadline_s: int = 6 * 3600
    max_concurrent_builds: int = 4
    source_hosts: tuple[str, ...] = ()
    source_networks: tuple[str, ...] = ()
    source_limit: str = "64Gi"
    credentials: bool = True
    gateway_role: str = "ClusterRole/stillhouse-gateway"
    edge_packages: tuple[str, ...] = ()
    api_server_ports: tuple[int, ...] = (443, 6443)
    api_server_cidrs: tuple[str, ...] = ()


def metadata(owner: Owner, name: str, component: str, variant: str = names.VARIANT) -> dict[str, Any]:
    """Return the metadata of a child."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels.labels(owner.name, variant, component),
        "ownerReferences": [owner.reference()],
    }
