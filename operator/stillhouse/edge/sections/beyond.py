"""Who answers beside the model at the edge: a larger one, a pipeline's models, who takes what was preprocessed or cut."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stillhouse.edge.sections.base import File, Part
from stillhouse.edge.sections.places import Larger

__all__ = ["Away", "Cascade", "Cut", "Pipeline", "Preprocess", "Queue", "Step"]


class Cascade(Part):
    """Folder of the cascade's artifact, and who is asked beyond it: `middle`, where the artifact has one, and `larger`."""

    folder: File
    outliers: Literal["escalate", "flag", "refuse"] = "escalate"
    middle: Larger | None = None
    larger: Larger


class Queue(Part):
    """The queue on disk; bytes and seconds."""

    folder: File
    maxSize: Annotated[int, Field(ge=1)]  # noqa: N815
    maxAge: Annotated[float, Field(gt=0)]  # noqa: N815


class Away(Part):
    """What happens while the larger model is not there."""

    policy: Literal["answer", "queue", "fail"] = "answer"
    hedge: bool = False
    queue: Queue | None = None


class Step(Part):
    """A step of a pipeline: where its inputs come from, its outputs' names in the answer, and who answers for its model."""

    name: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    at: Larger


class Pipeline(Part):
    """Models that go on from what `edge` says: what that is given, what it says, and the steps (`edge.join`)."""

    takes: str
    says: tuple[str, ...]
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]


class Preprocess(Part):
    """Who takes what the steps of `edge` give, and how it travels."""

    encoding: Literal["none", "fp16", "int8", "int8-rows", "zstd", "fp16+zstd", "int8+zstd", "int8-rows+zstd"] = "none"
    larger: Larger


class Cut(Part):
    """Who has the upper half."""

    upper: Larger
