"""`DistilledModel`: one resource from a teacher to a served student."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from stillhouse.api.base import ApiModel, CelRule, Reserved, ReservedField
from stillhouse.api.compress import Compress
from stillhouse.api.distill import Distill
from stillhouse.api.gate import Gate
from stillhouse.api.scalars import ModelName
from stillhouse.api.serve import Scale, Serve
from stillhouse.api.source import DataSource, ModelSource
from stillhouse.api.status import Status

__all__ = ["API_VERSION", "GROUP", "KIND", "DistilledModel", "Index", "Metadata", "Spec"]

GROUP = "stillhouse.io"
API_VERSION = f"{GROUP}/v1alpha1"
KIND = "DistilledModel"

TEXT_METRICS = ("mrr@", "cosine", "neighbour-overlap@")
CLASS_METRICS = ("agreement", "accuracy", "macro-f1", "log-loss", "per-class-loss")


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
    serve: Serve = Serve()
    """The server."""
    scale: Scale = Scale()
    """Replicas in a cluster."""
    variants: Annotated[Any, Reserved, ReservedField("hardware variants")] = None
    """Hardware variants."""
    rollout: Annotated[Any, Reserved, ReservedField("canary and mirror rollouts")] = None
    """Canary and mirror rollouts."""
    pipeline: Annotated[Any, Reserved, ReservedField("pipelines of several steps")] = None
    """Pipelines of several steps."""
    edge: Annotated[Any, Reserved, ReservedField("the edge gateway")] = None
    """The edge gateway."""
    privacy: Annotated[Any, Reserved, ReservedField("differential privacy")] = None
    """Differential privacy."""
    protect: Annotated[Any, Reserved, ReservedField("watermarks, signatures, limits")] = None
    """Watermarks, signatures, limits."""
    sites: Annotated[Any, Reserved, ReservedField("several sites")] = None
    """Several sites."""
    packing: Annotated[Any, Reserved, ReservedField("several models on one server")] = None
    """Several models on one server."""
    build: Annotated[Any, Reserved, ReservedField("resources, placement and queue of builds")] = None
    """Resources, placement and queue of builds."""
    credentials: Annotated[Any, Reserved, ReservedField("credentials of sources")] = None
    """Credentials of sources."""

    cel_rules = (
        CelRule(
            "!has(self.index) || self.source.task == 'sentence-embedding'",
            "index belongs to task sentence-embedding only",
        ),
        CelRule(
            "!has(self.gate) || !has(self.gate.metrics) || self.source.task == 'sentence-embedding' ||"
            " self.gate.metrics.all(m, !(m.name.startsWith('mrr@') || m.name == 'cosine'"
            " || m.name.startsWith('neighbour-overlap@')))",
            "mrr@k, cosine and neighbour-overlap@k belong to task sentence-embedding",
        ),
        CelRule(
            "!has(self.gate) || !has(self.gate.metrics) || self.source.task != 'sentence-embedding' ||"
            " self.gate.metrics.all(m, !(m.name in ['agreement', 'accuracy', 'macro-f1', 'log-loss', 'per-class-loss']))",
            "agreement, accuracy, macro-f1, log-loss and per-class-loss belong to classification tasks",
        ),
        CelRule(
            "!has(self.distill) || self.distill.stages.all(s, s.losses.all(l, self.source.task == 'sentence-embedding'"
            " ? !(l.kind in ['logits', 'hard']) : !(l.kind in ['embedding', 'similarity'])))",
            "losses embedding and similarity belong to task sentence-embedding, logits and hard to classification",
        ),
        CelRule(
            "!has(self.distill) || !has(self.distill.student.init) || self.distill.student.init != 'layers'"
            " || !has(self.distill.student.hiddenSize)",
            "init: layers copies the teacher's layers, so leave hiddenSize out or use init: svd",
        ),
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Spec:
        embedding = self.source.task == "sentence-embedding"
        if self.index is not None and not embedding:
            raise ValueError(self.cel_rules[0].message)
        names = [metric.name for metric in self.gate.metrics] if self.gate else []
        if not embedding and any(name.startswith(TEXT_METRICS) for name in names):
            raise ValueError(self.cel_rules[1].message)
        if embedding and any(name in CLASS_METRICS for name in names):
            raise ValueError(self.cel_rules[2].message)
        if self.distill is not None:
            wrong = {"logits", "hard"} if embedding else {"embedding", "similarity"}
            if any(loss.kind in wrong for stage in self.distill.stages for loss in stage.losses):
                raise ValueError(self.cel_rules[3].message)
            student = self.distill.student
            if student.init == "layers" and student.hidden_size is not None:
                raise ValueError(self.cel_rules[4].message)
        return self


class Metadata(ApiModel):
    """The part of the metadata that matters here; everything else of Kubernetes' is accepted and left alone."""

    model_config = ConfigDict(extra="allow")

    name: ModelName
    """Name of the model, also on the wire. At most 40 characters: children add their own endings."""
    namespace: str | None = None
    """Namespace in a cluster."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations; `stillhouse.io/rebuild` builds again."""


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

    cel_rules = (
        CelRule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40",
            "metadata.name must match ^[a-z]([-a-z0-9]*[a-z0-9])?$ and have at most 40 characters",
        ),
    )
