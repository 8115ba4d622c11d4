"""`spec.edge`: the gateway before a model, at the edge or in a cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.broker import Broker
from stillhouse.api.cascade import Cascade
from stillhouse.api.cut import Cut
from stillhouse.api.guarding import Clients, Guard, SecretName, Tls
from stillhouse.api.pods import PodTemplate
from stillhouse.api.preprocess import Preprocess
from stillhouse.api.scalars import DecimalString, Duration, Percent, Quantity
from stillhouse.api.serve import Resources

__all__ = ["Agreement", "Away", "Collect", "Edge", "Prices", "Queued", "Run", "Telemetry"]

_QUEUE_BELONGS = CelRule("!has(self.queue) || self.policy == 'queue'", "queue belongs to policy queue", "queue")
_ONE_PER_NODE = CelRule("self.kind != 'DaemonSet' || self.replicas <= 2", "a DaemonSet has one pod a node", "replicas")
_ONE_OF_CLAIM = CelRule(
    "!has(self.claim) || self.kind == 'Deployment' && self.replicas == 1",
    "what is on a claim has one gateway: kind Deployment with replicas 1",
    "claim",
)
_TOKEN_IN_SECRET = CelRule(
    "!has(self.backendToken) || (has(self.cascade)"
    " ? !has(self.cascade.larger.address) || self.cascade.larger.address.startsWith('grpcs://')"
    " : has(self.preprocess) ? !has(self.preprocess.address) || self.preprocess.address.startsWith('grpcs://')"
    " : has(self.cut) && has(self.cut.address) && self.cut.address.startsWith('grpcs://'))",
    "a token is shown to a cascade's larger model, the model behind preprocess, or an upper half at an address; over TLS alone",
    "backendToken",
)
_BROKER_OF_ADDRESS = CelRule(
    "!has(self.broker) || (has(self.cascade) ? has(self.cascade.larger.address)"
    " && self.cascade.larger.address.startsWith(has(self.broker.certificate) ? 'mqtts://' : 'mqtt')"
    " : has(self.preprocess) && has(self.preprocess.address)"
    " && self.preprocess.address.startsWith(has(self.broker.certificate) ? 'mqtts://' : 'mqtt'))",
    "broker belongs to a larger model, or the one behind preprocess, at mqtt(s)://HOST:PORT, its certificate to mqtts://",
    "broker",
)
_AGREEMENT_OF_CASCADE = CelRule(
    "!has(self.agreement) || has(self.cascade)", "agreement belongs to a cascade: without one, one model answers", "agreement"
)
_STEPS_OR_CASCADE = CelRule(
    "!has(self.preprocess) || !has(self.cascade)",
    "preprocess and cascade exclude each other: one edge has no model, the other one has",
    "preprocess",
)
_CUT_ALONE = CelRule(
    "!has(self.cut) || (!has(self.cascade) && !has(self.preprocess))",
    "cut excludes cascade and preprocess: half a model answers nothing by itself, and takes texts itself",
    "cut",
)
_AWAY_OF_CASCADE = CelRule(
    "self.away.policy == 'answer' || has(self.cascade)",
    "policies queue and fail belong to a cascade: without one, there is no larger model that could be away",
    "away.policy",
)


class Queued(ApiModel):
    """The queue on disk. What is in it survives the process, and is delivered at least once with an idempotency key."""

    max_size: Quantity = "256Mi"
    """Bytes of all that waits; what comes beyond is answered as with policy `fail`."""
    max_age: Duration = "24h"
    """Older requests are dropped, and counted."""


class Away(ApiModel):
    """What happens to a request that needs the larger model while that is not there."""

    policy: Literal["answer", "queue", "fail"] = "answer"
    """`answer`: the small model's answer, with response parameter `away`. `queue`: that, and the request is kept on disk and
    delivered later. `fail`: UNAVAILABLE."""
    queue: Queued | None = None
    """Bounds of the queue, of policy `queue`."""
    hedge: bool = False
    """Ask the larger model twice where the first answer is slower than 95 % are, within a budget of requests."""

    cel_rules = (_QUEUE_BELONGS,)

    @model_validator(mode="after")
    def _queue_belongs(self) -> Away:
        if self.queue is not None and self.policy != "queue":
            raise _QUEUE_BELONGS.broken(fix="write policy: queue, or remove queue")
        return self


class Collect(ApiModel):
    """Requests that were escalated, or that the models answered differently, as the next training set. They hold raw inputs."""

    max_size: Quantity = "64Mi"
    """Bytes of all files; the oldest go first. Patterns of the guard that mask have masked them."""


class Agreement(ApiModel):
    """A sample of what the small model answers also goes to the larger one, after the client has its answer."""

    sample: Percent = "1%"
    """Share of the small model's answers that is checked."""
    min_agreement: Percent | None = None
    """Below it (by the interval's upper end) the condition `AgreementHolds` is false; `targetAgreement` when left out."""
    max_drift: DecimalString = "0.2"
    """Most population stability index of the confidences against those at the gate: 0.1 is little, 0.25 is much."""
    collect: Collect | None = None
    """Keep such requests; left out: no input is kept."""


class Prices(ApiModel):
    """For the cost of a thousand answers; in one currency."""

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{1,8}$", max_length=8)] = "EUR"
    """What it is called."""
    cpu_hour: DecimalString | None = None
    """Of one CPU for an hour at the edge."""
    cloud_call: DecimalString | None = None
    """Of one answer of the larger model."""


class Telemetry(ApiModel):
    """Spans of OpenTelemetry."""

    endpoint: Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~%/-]*)?$", max_length=512)]
    """Where they go, over OTLP/HTTP, such as `http://collector:4318`."""
    sample: Percent = "10%"
    """Share of requests that have no parent of their own; the others follow their parent."""


class Run(ApiModel):
    """The gateway's pods in a cluster."""

    kind: Literal["Deployment", "DaemonSet"] = "Deployment"
    """`DaemonSet`: one a node, of those that `podTemplate.spec.nodeSelector` chooses; clients are sent to their own node's."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    """Pods of a Deployment."""
    claim: SecretName | None = None
    """PersistentVolumeClaim of the namespace, of this gateway alone, on which queue, audit log and collected requests outlive
    the pod; with one replica, which ends before the next one starts. Left out: they end with the pod."""
    resources: Resources = Resources()
    """CPU and memory of a pod; one CPU and 512 MiB at most when left out."""
    pod_template: PodTemplate = PodTemplate()
    """Labels, annotations and placement."""

    cel_rules = (_ONE_PER_NODE, _ONE_OF_CLAIM)

    @model_validator(mode="after")
    def _one_per_node(self) -> Run:
        if self.kind == "DaemonSet" and self.replicas > 2:  # 2 is what is there when it is left out
            raise _ONE_PER_NODE.broken(fix="remove replicas")
        if self.claim is not None and (self.kind != "Deployment" or self.replicas != 1):
            raise _ONE_OF_CLAIM.broken(fix="write replicas: 1 and no other kind, or remove claim")
        return self


class Edge(ApiModel):
    """A gateway before the model: limits, checks, audit, and the cascade to a larger model.

    In a cluster clients find it under the model's own Service; on an edge machine `still edge FILE` starts it with the model in
    its own process.
    """

    cascade: Cascade | None = None
    """When the larger model answers; left out, this one answers everything."""
    preprocess: Preprocess | None = None
    """Only steps run here, and a model elsewhere takes what they give: nothing else is built of such a file. Left out, requests
    go on as they come."""
    cut: Cut | None = None
    """Only the model's lower layers run here, and their activations travel to the upper ones; left out, the model is whole."""
    away: Away = Away()
    """What happens while the larger model is not there."""
    clients: Clients = Clients()
    """Who may ask, and how much."""
    tls: Tls | None = None
    """TLS at the front, in a cluster; left out: none. `still edge` takes files."""
    backend_authority: SecretName | None = None
    """Secret with `ca.crt` of the certificates of those that are asked at an address, in a cluster; left out: the system's
    authorities. Of a larger model, or one behind `preprocess`, without `address`: that its gateway has TLS, with a certificate
    for MODEL.NAMESPACE.svc."""
    backend_token: SecretName | None = None
    """Secret with `token`, which is shown to the larger model, or the one behind `preprocess`, in a cluster: one of its gateway's
    `clients.tokens`. Or to what stands before the upper half, at the address of a cut."""
    broker: Broker | None = None
    """What is shown to the broker of such a model at `mqtts://`, in a cluster; `backendAuthority` is its authority."""
    guard: Guard | None = None
    """What requests may hold, and the audit log; left out: every message of the protocol up to 64 MiB."""
    agreement: Agreement | None = None
    """Whether the small model still answers as the larger one does."""
    prices: Prices | None = None
    """For the cost of answers in metrics and `still edge status`."""
    telemetry: Telemetry | None = None
    """Spans of OpenTelemetry; left out: none. `traceparent` is passed on in any case."""
    max_in_flight: Annotated[int, Field(ge=0, le=100_000)] = 512
    """Inferences under way in one gateway; what comes beyond is refused at once. 0: as many as their latency says."""
    rest: bool = True
    """Whether the protocol's REST twin is answered too."""
    run: Run = Run()
    """The pods in a cluster."""

    cel_rules = (_AGREEMENT_OF_CASCADE, _AWAY_OF_CASCADE, _STEPS_OR_CASCADE, _TOKEN_IN_SECRET, _BROKER_OF_ADDRESS, _CUT_ALONE)

    @model_validator(mode="after")
    def _parts_fit(self) -> Edge:
        if self.cascade is None and self.agreement is not None:
            raise _AGREEMENT_OF_CASCADE.broken()
        if self.cascade is None and self.away.policy != "answer":
            raise _AWAY_OF_CASCADE.broken()
        if self.preprocess is not None and self.cascade is not None:
            raise _STEPS_OR_CASCADE.broken(fix="remove one of both")
        beyond = self.cascade.larger if self.cascade else self.preprocess
        address = beyond.address or "grpcs://" if beyond else self.cut.address if self.cut else None
        if self.backend_token is not None and not (address or "").startswith("grpcs://"):
            raise _TOKEN_IN_SECRET.broken(fix="write grpcs:// in the address, or remove backendToken")
        behind = (beyond.address or "") if beyond else ""
        if self.broker is not None and not behind.startswith("mqtts://" if self.broker.certificate else "mqtt"):
            raise _BROKER_OF_ADDRESS.broken(fix="write mqtts:// in the address, or remove broker")
        if self.cut is not None and (self.cascade is not None or self.preprocess is not None):
            raise _CUT_ALONE.broken(fix="remove cut, or the other")
        return self
