"""`DistilledModel`: one resource from a teacher to a served student."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule, Reserved, ReservedField
from stillhouse.api.build import Build
from stillhouse.api.compress import Compress
from stillhouse.api.distill import Distill
from stillhouse.api.edge import Edge
from stillhouse.api.export import Export
from stillhouse.api.fitting import RULES, parts_fit
from stillhouse.api.gate import Gate
from stillhouse.api.pipeline import Pipeline
from stillhouse.api.scalars import ModelName
from stillhouse.api.serve import Scale, Serve
from stillhouse.api.source import Credential, DataSource, ModelSource
from stillhouse.api.status import Status

__all__ = ["API_VERSION", "GROUP", "KIND", "DistilledModel", "Index", "Metadata", "Spec"]

GROUP = "stillhouse.io"
API_VERSION = f"{GROUP}/v1alpha1"
KIND = "DistilledModel"

_NOT_ITSELF = CelRule(
    "!has(self.spec.pipeline) || self.spec.pipeline.steps.all(s, !has(s.model) || s.model != self.metadata.name)",
    "a step of a pipeline is another model",
    "spec.pipeline.steps",
)
_NAME = CelRule(
    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40",
    "metadata.name must match ^[a-z]([-a-z0-9]*[a-z0-9])?$ and have at most 40 characters",
)


class Index(ApiModel):
    """A retrieval index built with the artifact: the client searches it, the server only embeds."""

    data: DataSource
    """Rows with `name` and `text`."""


class Spec(ApiModel):
    """What is wanted."""

    source: ModelSource
    """The model to start from."""
    distill: Distill | None = None
    """How the student is made; left out, the source is compressed as it is."""
    compress: Compress = Compress()
    """Which precisions are made and tried."""
    gate: Gate | None = None
    """What a candidate must show before it serves; left out, the smallest candidate serves."""
    index: Index | None = None
    """A retrieval index, for `sentence-embedding`."""
    export: Annotated[tuple[Export, ...], Field(max_length=4)] = ()
    """The model in the formats of other runtimes, each an artifact of its own beside what serves; each format once."""
    serve: Serve = Serve()
    """The server."""
    scale: Scale = Scale()
    """Replicas in a cluster."""
    variants: Annotated[Any, Reserved, ReservedField("hardware variants", "array")] = None
    """Hardware variants."""
    rollout: Annotated[Any, Reserved, ReservedField("canary and mirror rollouts")] = None
    """Canary and mirror rollouts."""
    pipeline: Pipeline | None = None
    """Steps that go on from what this model says; left out, the model's answer is the answer."""
    edge: Edge | None = None
    """The gateway before the model: limits, checks, audit, and a cascade to a larger model; left out: none."""
    privacy: Annotated[Any, Reserved, ReservedField("differential privacy")] = None
    """Differential privacy."""
    protect: Annotated[Any, Reserved, ReservedField("watermarks, signatures, limits")] = None
    """Watermarks, signatures, limits."""
    sites: Annotated[Any, Reserved, ReservedField("several sites", "array")] = None
    """Several sites."""
    packing: Annotated[Any, Reserved, ReservedField("several models on one server")] = None
    """Several models on one server."""
    build: Build = Build()
    """Resources, placement, queue and number of machines of builds in a cluster."""
    credentials: Annotated[tuple[Credential, ...], Field(max_length=16)] = ()
    """Secrets that sources are fetched with."""

    cel_rules = RULES

    @model_validator(mode="after")
    def _parts_fit(self) -> Spec:
        parts_fit(self)
        return self


class Metadata(ApiModel):
    """The metadata of every Kubernetes resource. What is not described here is written by the API server and left alone."""

    name: ModelName
    """Name of the model, also on the wire. At most 40 characters: children add their own endings."""
    namespace: str | None = None
    """Namespace in a cluster."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations; `stillhouse.io/rebuild` builds again."""
    uid: Any = None
    resource_version: Any = None
    generation: Any = None
    creation_timestamp: Any = None
    deletion_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    finalizers: Any = None
    owner_references: Any = None
    managed_fields: Any = None
    self_link: Any = None


class DistilledModel(ApiModel):
    """A model from its teacher to its service."""

    api_version: Literal["stillhouse.io/v1alpha1"]
    """Version of this API."""
    kind: Literal["DistilledModel"]
    """Kind of the resource."""
    metadata: Metadata
    """Name and labels."""
    spec: Spec
    """What is wanted."""
    status: Status | None = None
    """What is."""

    cel_rules = (_NAME, _NOT_ITSELF)

    @model_validator(mode="after")
    def _not_itself(self) -> DistilledModel:
        steps = self.spec.pipeline.steps if self.spec.pipeline else ()
        if any(step.model == self.metadata.name for step in steps):
            raise _NOT_ITSELF.broken(fix=f"{self.metadata.name} comes first by itself: leave that step out")
        return self
