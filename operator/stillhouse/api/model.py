"""`DistilledModel`: one resource from a teacher to a served student."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule, Reserved, ReservedField
from stillhouse.api.build import Build
from stillhouse.api.compress import Compress
from stillhouse.api.distill import Distill
from stillhouse.api.edge import Edge
from stillhouse.api.gate import Gate
from stillhouse.api.pipeline import GIVEN, SAID, Pipeline
from stillhouse.api.scalars import ModelName
from stillhouse.api.serve import Scale, Serve
from stillhouse.api.source import Credential, DataSource, ModelSource
from stillhouse.api.status import Status

__all__ = ["API_VERSION", "GROUP", "KIND", "DistilledModel", "Index", "Metadata", "Spec"]

GROUP = "stillhouse.io"
API_VERSION = f"{GROUP}/v1alpha1"
KIND = "DistilledModel"

TEXT_METRICS = ("mrr@", "cosine", "neighbour-overlap@")
CLASS_METRICS = ("agreement", "accuracy", "macro-f1", "log-loss", "per-class-loss")

_INDEX_BELONGS = CelRule(
    "!has(self.index) || self.source.task == 'sentence-embedding'", "index belongs to task sentence-embedding only", "index"
)
_NO_RETRIEVAL_METRICS = CelRule(
    "!has(self.gate) || self.source.task == 'sentence-embedding' || self.gate.metrics.all(m,"
    " !(m.name.startsWith('mrr@') || m.name == 'cosine' || m.name.startsWith('neighbour-overlap@')))",
    "mrr@k, cosine and neighbour-overlap@k belong to task sentence-embedding",
    "gate.metrics",
)
_NO_CLASS_METRICS = CelRule(
    "!has(self.gate) || self.source.task != 'sentence-embedding' || self.gate.metrics.all(m,"
    " has(m.output) || !(m.name in ['agreement', 'accuracy', 'macro-f1', 'log-loss', 'per-class-loss']))",
    "agreement, accuracy, macro-f1, log-loss and per-class-loss belong to classification tasks",
    "gate.metrics",
)
_LOSSES_FIT_TASK = CelRule(
    "!has(self.distill) || self.distill.stages.all(s, s.losses.all(l, self.source.task == 'sentence-embedding'"
    " ? !(l.kind in ['logits', 'hard']) : !(l.kind in ['embedding', 'similarity', 'contrastive'])))",
    "losses embedding, similarity and contrastive belong to task sentence-embedding, logits and hard to classification",
    "distill.stages",
)
_RESIDUAL_EMBEDS = CelRule(
    "!has(self.distill) || !has(self.distill.student.architecture) || self.distill.student.architecture != 'residual'"
    " || self.source.task == 'sentence-embedding'",
    "architecture: residual belongs to task sentence-embedding only",
    "distill.student.architecture",
)
_GATE_FITS_QUEUE = CelRule(
    "!has(self.gate) || self.serve.queue.maxSize == 0 || self.serve.queue.maxSize >= self.gate.load.concurrency",
    "serve.queue.maxSize must be 0 or at least gate.load.concurrency: the gate's own clients would be refused",
    "serve.queue.maxSize",
)
_SEARCH_NEEDS_INDEX = CelRule(
    "!has(self.edge) || !has(self.edge.cascade) || self.source.task != 'sentence-embedding' || has(self.index)",
    "a cascade of sentence-embedding needs index: what two models find can be compared, their embeddings cannot",
    "index",
)
_LOGITS_OF_CLASSES = CelRule(
    "!has(self.edge) || !has(self.edge.cascade) || self.edge.cascade.method != 'temperature'"
    " || self.source.task != 'sentence-embedding'",
    "method temperature belongs to classification tasks",
    "edge.cascade.method",
)
_OUTLIERS_OF_SEARCH = CelRule(
    "!has(self.edge) || !has(self.edge.cascade) || !has(self.edge.cascade.outliers) || self.source.task == 'sentence-embedding'",
    "outliers belongs to task sentence-embedding only",
    "edge.cascade.outliers",
)
_MIDDLE_OF_CLASSES = CelRule(
    "!has(self.edge) || !has(self.edge.cascade) || !has(self.edge.cascade.middle) || self.source.task != 'sentence-embedding'",
    "middle belongs to classification tasks only",
    "edge.cascade.middle",
)
_PIPELINE_TAKES = CelRule(
    "!has(self.pipeline) || self.pipeline.steps.all(s, s.inputs.all(k,"
    " s.inputs[k].startsWith('request.')"
    " ? s.inputs[k] == (self.source.task == 'image-classification' ? 'request.IMAGE' : 'request.TEXT')"
    " : s.inputs[k].contains('.') || s.inputs[k] in"
    " (self.source.task == 'sentence-embedding' ? ['EMBEDDING'] : ['PROBABILITIES', 'LABEL'])))",
    "a step takes what this model says (EMBEDDING; of classification PROBABILITIES or LABEL)"
    " or is given (request.TEXT, request.IMAGE)",
    "pipeline.steps",
)
_APART_NEEDS_EDGE = CelRule(
    "!has(self.pipeline) || self.pipeline.placement != 'apart' || has(self.edge)",
    "a pipeline whose steps are apart is joined by the gateway: it needs edge",
    "pipeline.placement",
)
_NO_CASCADE_OF_STEPS = CelRule(
    "!has(self.pipeline) || !has(self.edge) || !has(self.edge.cascade)",
    "a cascade and a pipeline exclude each other: a larger model does not say what the steps say",
    "pipeline",
)
_NO_STEPS_BEFORE_STEPS = CelRule(
    "!has(self.pipeline) || !has(self.edge) || !has(self.edge.preprocess)",
    "a gateway that only preprocesses joins no pipeline",
    "pipeline",
)
_CUT_OF_TEXTS = CelRule(
    "!has(self.edge) || !has(self.edge.cut) || self.source.task != 'image-classification'",
    "cut belongs to tasks that take texts",
    "edge.cut",
)
_CUT_NEEDS_GATE = CelRule(
    "!has(self.edge) || !has(self.edge.cut) || has(self.gate)",
    "cut needs gate: the halves are held against the uncut model on its rows",
    "edge.cut",
)
_CUT_OR_PIPELINE = CelRule(
    "!has(self.edge) || !has(self.edge.cut) || !has(self.pipeline)", "cut and a pipeline exclude each other", "edge.cut"
)
_CUT_ON_CPUS = CelRule(
    "!has(self.edge) || !has(self.edge.cut) || self.serve.runtime == 'triton-ort-cpu'",
    "the upper half of a cut runs on runtime triton-ort-cpu",
    "edge.cut",
)
_OUTPUTS_GATED = CelRule(
    "!has(self.gate) || self.gate.metrics.all(m, !has(m.output) || (has(self.pipeline) && self.pipeline.placement == 'together'"
    " && self.pipeline.steps.exists(s, s.outputs.exists(k, s.outputs[k] == m.output))))",
    "output is one that a step of a pipeline (placement: together) gives to the answer",
    "gate.metrics",
)
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
    """Resources, placement and queue of builds in a cluster."""
    credentials: Annotated[tuple[Credential, ...], Field(max_length=16)] = ()
    """Secrets that sources are fetched with."""

    cel_rules = (
        _INDEX_BELONGS, _NO_RETRIEVAL_METRICS, _NO_CLASS_METRICS, _LOSSES_FIT_TASK, _RESIDUAL_EMBEDS, _GATE_FITS_QUEUE,
        _SEARCH_NEEDS_INDEX, _LOGITS_OF_CLASSES, _OUTLIERS_OF_SEARCH, _PIPELINE_TAKES, _APART_NEEDS_EDGE, _NO_CASCADE_OF_STEPS,
        _OUTPUTS_GATED, _NO_STEPS_BEFORE_STEPS, _MIDDLE_OF_CLASSES,
        _CUT_OF_TEXTS, _CUT_NEEDS_GATE, _CUT_OR_PIPELINE, _CUT_ON_CPUS,
    )  # fmt: skip

    @model_validator(mode="after")
    def _parts_fit(self) -> Spec:
        embedding = self.source.task == "sentence-embedding"
        if self.index is not None and not embedding:
            raise _INDEX_BELONGS.broken()
        names = [metric.name for metric in self.gate.metrics] if self.gate else []
        if not embedding and any(name.startswith(TEXT_METRICS) for name in names):
            raise _NO_RETRIEVAL_METRICS.broken()
        plain = [metric.name for metric in self.gate.metrics if metric.output is None] if self.gate else []
        if embedding and any(name in CLASS_METRICS for name in plain):
            raise _NO_CLASS_METRICS.broken()
        if self.distill is not None:
            wrong = {"logits", "hard"} if embedding else {"embedding", "similarity", "contrastive"}
            if any(loss.kind in wrong for stage in self.distill.stages for loss in stage.losses):
                raise _LOSSES_FIT_TASK.broken()
            if not embedding and self.distill.student.architecture == "residual":
                raise _RESIDUAL_EMBEDS.broken()
        if self.gate is not None and 0 < self.serve.queue.max_size < self.gate.load.concurrency:
            most = self.gate.load.concurrency
            raise _GATE_FITS_QUEUE.broken(fix=f"write maxSize: {most} (or 0, no limit), or lower spec.gate.load.concurrency")
        self._cut_fits()
        self._cascade_fits(embedding)
        self._pipeline_fits()
        return self

    def _cut_fits(self) -> None:
        if self.edge is None or self.edge.cut is None:
            return
        if self.source.task == "image-classification":
            raise _CUT_OF_TEXTS.broken(fix="remove cut")
        if self.gate is None:
            raise _CUT_NEEDS_GATE.broken(fix="write gate with its data")
        if self.pipeline is not None:
            raise _CUT_OR_PIPELINE.broken(fix="remove one of both")
        if self.serve.runtime != "triton-ort-cpu":
            raise _CUT_ON_CPUS.broken(fix="leave serve.runtime out")

    def _pipeline_fits(self) -> None:
        together = self.pipeline.steps if self.pipeline and self.pipeline.placement == "together" else ()
        outputs = [name for step in together for name in step.outputs.values()]
        if any(metric.output not in (None, *outputs) for metric in (self.gate.metrics if self.gate else ())):
            raise _OUTPUTS_GATED.broken(allowed=", ".join(outputs))
        if self.pipeline is None:
            return
        task = self.source.task
        known = (*SAID[task], f"request.{GIVEN[task]}")
        for step in self.pipeline.steps:
            for source in step.inputs.values():
                if ("." not in source or source.startswith("request.")) and source not in known:
                    raise _PIPELINE_TAKES.broken(allowed=", ".join(known), fix=f"step {step.name} takes {source}")
        if self.pipeline.placement == "apart" and self.edge is None:
            raise _APART_NEEDS_EDGE.broken(fix="add edge: {} to the spec, or write placement: together")
        if self.edge is not None and self.edge.cascade is not None:
            raise _NO_CASCADE_OF_STEPS.broken(fix="remove one of both")
        if self.edge is not None and self.edge.preprocess is not None:
            raise _NO_STEPS_BEFORE_STEPS.broken(fix="remove one of both")

    def _cascade_fits(self, embedding: bool) -> None:
        cascade = self.edge.cascade if self.edge else None
        if cascade is None:
            return
        if embedding and self.index is None:
            raise _SEARCH_NEEDS_INDEX.broken(fix="write index with its data, the rows that are searched")
        if embedding and cascade.method == "temperature":
            raise _LOGITS_OF_CLASSES.broken(fix="write platt or isotonic, or leave method out")
        if cascade.outliers is not None and not embedding:
            raise _OUTLIERS_OF_SEARCH.broken(fix="remove outliers")
        if cascade.middle is not None and embedding:
            raise _MIDDLE_OF_CLASSES.broken(fix="remove middle")


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
