"""What the status says: conditions with documented reasons, the revision that serves, figures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stillhouse.api.base import ApiModel

__all__ = [
    "CONDITION_TYPES",
    "REASONS",
    "Candidate",
    "Condition",
    "Figure",
    "GatewayStatus",
    "Input",
    "Lineage",
    "Revision",
    "Status",
]

CONDITION_TYPES: dict[str, str] = {
    "Accepted": "the spec of this generation is valid and its sources can be used",
    "Built": "every step of this generation's plan has a receipt",
    "GatePassed": "a candidate of this generation met every limit of the gate",
    "Available": "some accepted revision answers, of this generation or of an earlier one",
    "Ready": "this generation's revision answers, on at least minReplicas replicas, and its rollout has ended",
    "GatewayAvailable": "clients are answered by the gateway (spec.edge), all of whose pods are new; absent without one",
    "BridgeAvailable": "the broker has the subscriptions of every bridge (spec.serve.mqtt); absent without one",
    "AgreementHolds": "what spec.edge.agreement looks at is within its bounds over all gateways; absent without it",
    "Scaling": "an autoscaler of ours decides the number of replicas; the reason says by what",
    "Reconciling": "work goes on towards this generation (kstatus); absent when there is none",
    "Stalled": "no work goes on and none will until something is changed (kstatus); absent otherwise",
}

REASONS: dict[str, str] = {
    "Accepted": "the resource is valid",
    "InvalidSpec": "the resource is not valid; the message names the field",
    "NotAvailable": "a field is used that this version does not implement",
    "SourceUnusable": "a model or data URI cannot be used",
    "CredentialsMissing": "a Secret of spec.credentials is not there",
    "CredentialsNotAllowed": "a Secret of spec.credentials lacks the label that lets models use it, or the operator may use none",
    "SourceUnsafe": "a source could run code or reach outside its directory",
    "DataInvalid": "rows, columns or splits are not what the task needs",
    "Building": "steps of the plan are running",
    "Built": "every step of the plan has a receipt",
    "BuildFailed": "a step failed; the message names it",
    "RecordUnreadable": "a stage ended well and what its worker left cannot be read; the message says what to do",
    "StoreFull": "the volume that holds the store is full; the message says what to do",
    "GatePassed": "a candidate met every limit",
    "GateFailed": "no candidate met every limit; the former revision serves",
    "GateInconclusive": "the figures were too noisy to tell; the former revision serves",
    "NoGate": "the resource asks for no gate",
    "Serving": "an accepted revision answers",
    "RollingOut": "the new revision is being started",
    "OlderRevisionServes": "a newer revision is accepted than the one that serves; the message says how to put it in place",
    "ServerDown": "no server answers",
    "Pinned": "serve.pin holds a revision",
    "PinNotFound": "no accepted revision has the digest that serve.pin names; what served goes on",
    "ServerCrashes": "the server ends again and again; the message has the last lines of its log",
    "ImageUnavailable": "an image cannot be pulled or started; the message says which and why",
    "Unschedulable": "no node takes a pod; the message is the scheduler's",
    "VolumeNotShared": "pods wait for a volume that one node alone can mount; the message names its claim",
    "PodsRefused": "the cluster refuses the pods (quota, policy); the message says why",
    "NotOwned": "an object of a name that is needed belongs to somebody else and is left alone; the message names it",
    "AwaitingCollection": "an object of a deleted namesake is still there; once Kubernetes has collected it, it is made anew",
    "ScalesByQueue": "an autoscaler goes by queue time and pending requests, from our metrics API",
    "ScalesByKeda": "KEDA has the external metrics here and scales by the same figures",
    "ScalesByCpu": "an autoscaler goes by CPU use; the message says why where mode is hpa",
    "ScaledExternally": "mode external: whoever writes /scale decides",
    "FixedReplicas": "there is no room between minReplicas and maxReplicas",
    "GatewayServes": "clients are answered by the gateway",
    "GatewayDown": "steps before another model are run by a gateway, and on this machine none runs",
    "GatewayStarting": "pods of the gateway are being started; the message says whom clients find meanwhile",
    "BridgeServes": "requests at the broker are answered by the model",
    "BridgeStarting": "pods of the bridge are being started, or have not been connected to the broker yet",
    "BridgeDisconnected": "a pod of the bridge that was connected to the broker is not any more",
    "GatewayLeaving": "spec.edge was removed; the gateway goes once no client can know its pods any more",
    "WithinBounds": "what the agreement watch looks at is within its bounds",
    "AgreementLow": "fewer answers are the larger model's than spec.edge.agreement asks for; the message has the figures of then",
    "ConfidenceDrift": "the small model's confidences have moved from those of the build; the message has the figures of then",
    "EscalationHigh": "more is escalated than the build measured; the message has the figures of then",
    "TooFewSamples": "too little traffic to tell whether the agreement holds",
    "AgreementUnknown": "no gateway has told yet, or none does any more, whether the agreement holds",
    "SecretMissing": "a Secret that spec.edge, spec.serve.mqtt or a step names is not there; the message says which",
    "ApplyFailed": "the API server refuses something that is needed (quota, policy, rights, load); the message says what",
}

Text = Annotated[str, StringConstraints(max_length=32768)]
Short = Annotated[str, StringConstraints(max_length=256)]


class Condition(ApiModel):
    """`metav1.Condition`."""

    type: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+$", max_length=316)]
    """What the condition is about."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """Generation of the spec that it speaks of."""
    last_transition_time: Annotated[str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})]
    """When `status` changed last, RFC 3339."""
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)]
    """Why, as one word."""
    message: Text = ""
    """Why, for people."""


class Figure(ApiModel):
    """One measured figure."""

    name: Short
    """What was measured."""
    value: Short
    """The value, with its unit."""


class Input(ApiModel):
    """A source that a build read."""

    name: Short
    """What it was for: source (the teacher, or the model itself), data, calibration, gate-data, and so on."""
    uri: Short = ""
    """What the spec called it."""
    digest: Short = ""
    """Digest of the bytes that were used."""


class Lineage(ApiModel):
    """What a revision was made of."""

    sources: Annotated[tuple[Input, ...], Field(max_length=16)] = ()
    """Teacher, data, calibration set and every other source, by digest."""
    toolchain: Annotated[tuple[Figure, ...], Field(max_length=32)] = ()
    """Packages that made it, with their versions."""


class Candidate(ApiModel):
    """A candidate of the gate."""

    name: Short = ""
    """Its name."""
    digest: Short = ""
    """Its digest."""
    precision: Short = ""
    """Its precision."""
    size: Short = ""
    """Size of all its files."""
    metrics: Annotated[tuple[Figure, ...], Field(max_length=32)] = ()
    """What the gate measured."""
    runtime: Short = ""
    """What serves it."""


class Revision(Candidate):
    """A built and accepted artifact."""

    request_hash: Short = ""
    """Hash of what was asked for."""
    plan_hash: Short = ""
    """Hash of the plan that made it, with every source pinned: `planHash` of `still plan` and `still status -o json`."""
    lineage: Lineage | None = None
    """What it was made of."""


class GatewayStatus(ApiModel):
    """The gateway before the model."""

    kind: Short = ""
    """Deployment or DaemonSet."""
    replicas: Annotated[int, Field(ge=0)] = 0
    """Its pods that exist."""
    ready_replicas: Annotated[int, Field(ge=0)] = 0
    """Its pods that answer."""
    revision: Short = ""
    """The revision whose cascade it has, or that runs in it; empty where it passes requests on to whichever there is."""


class Status(ApiModel):
    """What is."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = ()
    """Accepted, Built, GatePassed, Available, Ready, GatewayAvailable (`spec.edge`), BridgeAvailable (`spec.serve.mqtt`), and
    Reconciling or Stalled (kstatus)."""
    revision: Revision | None = None
    """The revision that serves."""
    variants: Annotated[tuple[Candidate, ...], Field(max_length=32)] = ()
    """Every candidate with its figures, also those that were rejected."""
    pin: Annotated[str, StringConstraints(max_length=71)] = ""
    """First digits of the digest that `serve.pin` holds."""
    progress: Short = ""
    """What is running, for people."""
    replicas: Annotated[int, Field(ge=0)] = 0
    """Replicas that exist."""
    ready_replicas: Annotated[int, Field(ge=0)] = 0
    """Replicas that answer."""
    selector: Annotated[str, StringConstraints(max_length=1024)] = ""
    """Label selector of the replicas, for `/scale`."""
    endpoint: Annotated[str, StringConstraints(max_length=512)] = ""
    """Where clients find the model."""
    gateway: GatewayStatus | None = None
    """What stands before its pods (`spec.edge`)."""
