"""`ModelRevision`: the immutable record of one build, success or permanent failure.

The controller creates it once and nobody changes it; a build that is wanted again is found by its `requestHash`. It is
owned by its `DistilledModel` and goes with it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.model import Metadata
from stillhouse.api.scalars import ModelName
from stillhouse.api.status import Figure, Lineage

__all__ = ["REVISION_KIND", "Between", "Candidate", "ModelRevision", "RevisionSpec", "ServeSettings"]

REVISION_KIND = "ModelRevision"

_DIGEST = r"^sha256:[0-9a-f]{64}$"
Digest = Annotated[str, StringConstraints(pattern=_DIGEST, max_length=71)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", max_length=64)]
Short = Annotated[str, StringConstraints(max_length=256)]
Text = Annotated[str, StringConstraints(max_length=4096)]

_ACCEPTED_HAS_ARTIFACT = CelRule(
    "self.outcome != 'Accepted' || (has(self.digest) && has(self.precision))", "an accepted revision has digest and precision"
)
_NEVER_CHANGES = CelRule("self == oldSelf", "a revision never changes")


class ServeSettings(ApiModel):
    """The settings of the server that the gate measured with; the pods that serve the revision have the same."""

    max_batch_size: Annotated[int, Field(ge=1, le=1024)]
    """Most rows that run together."""
    max_queue_delay: Short = "0"
    """Seconds that the first request waits for company."""
    queue_size: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Requests that may wait; 0: no limit."""
    queue_timeout: Short | None = None
    """Seconds of the longest wait."""
    instances: Annotated[int | None, Field(ge=1, le=256)] = None
    """Instances of the model."""
    threads: Annotated[int | None, Field(ge=1, le=256)] = None
    """Threads of each instance."""
    response_cache: bool = False
    """Whether repeated requests are answered from memory."""
    cpu: Short | None = None
    """CPUs of one pod."""
    memory: Short | None = None
    """Memory of one pod, in bytes."""
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    """GPUs of one pod; 0: it runs `triton-ort-cpu`, else `triton-nvidia`."""
    tensorrt: Short | None = None
    """What TensorRT computes in, where it is used."""
    workspace: Short | None = None
    """GPU memory that TensorRT may use, in bytes."""


class Candidate(ApiModel):
    """A candidate that the gate tried."""

    precision: Short
    """Its precision."""
    outcome: Literal["passed", "failed", "inconclusive", "untried"]
    """What the gate said."""
    digest: Short = ""
    """Its digest."""
    size: Annotated[int, Field(ge=0)] = 0
    """Bytes of all its files."""
    reason: Text = ""
    """The limit that it missed, with the figures."""


class Between(ApiModel):
    """The model between the small and the larger one of a cascade."""

    model: ModelName
    """The `DistilledModel`."""
    digest: Digest
    """Digest of the artifact that the thresholds were solved with."""


class RevisionSpec(ApiModel):
    """What was built, from what, and how it did."""

    model: ModelName
    """The `DistilledModel`."""
    request_hash: Hash
    """Hash of what was asked for."""
    plan_hash: Hash | None = None
    """Hash of the plan, with everything that a URI pointed to pinned; absent where the build ended before that was known."""
    outcome: Literal["Accepted", "Failed"]
    """Whether it may serve."""
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=128)]
    """Why, as one word of the conditions' reasons."""
    message: Text = ""
    """Why, for people."""
    digest: Digest | None = None
    """Digest of the artifact."""
    index: Digest | None = None
    """Digest of its retrieval index."""
    cascade: Digest | None = None
    """Digest of its cascade: calibration and threshold of this artifact, for a gateway (`spec.edge.cascade`)."""
    middle: Between | None = None
    """The model between, where the cascade has one (`spec.edge.cascade.middle`)."""
    cut: Digest | None = None
    """Digest of its two halves (`spec.edge.cut`)."""
    precision: Short | None = None
    """Its precision."""
    size: Annotated[int, Field(ge=0)] = 0
    """Bytes of all its files."""
    metrics: Annotated[tuple[Figure, ...], Field(max_length=32)] = ()
    """What the gate measured."""
    candidates: Annotated[tuple[Candidate, ...], Field(max_length=32)] = ()
    """Every candidate, in the order of the ladder."""
    lineage: Lineage | None = None
    """What it was made of; absent where the build ended before that was known."""
    serve: ServeSettings | None = None
    """The server that it was measured in."""

    cel_rules = (_NEVER_CHANGES, _ACCEPTED_HAS_ARTIFACT)

    @model_validator(mode="after")
    def _accepted_has_artifact(self) -> RevisionSpec:
        if self.outcome == "Accepted" and not (self.digest and self.precision):
            raise _ACCEPTED_HAS_ARTIFACT.broken()
        return self


class ModelRevision(ApiModel):
    """The record of one build of a model."""

    api_version: Literal["stillhouse.io/v1alpha1"]
    """Version of this API."""
    kind: Literal["ModelRevision"]
    """Kind of the resource."""
    metadata: Metadata
    """Name, labels, owner."""
    spec: RevisionSpec
    """What was built. It never changes."""
