"""Objects that are DistilledModels and objects that are not, for whoever gives a verdict on them.

`CASES` is fed to `api.load.parse` (unit) and to a real API server (integration): both must accept and refuse the same.
Cases of one part of the API are in the module that has the part's name.
"""

from __future__ import annotations

from tests.support.api_objects import (
    broker,
    build,
    cascade,
    compress,
    cut,
    distill,
    edge,
    export,
    features,
    gate,
    loss,
    model,
    pipeline,
    pods,
    preprocess,
    prune,
    scalars,
    search,
    serve,
    source,
    stage,
    student,
    teachers,
)
from tests.support.api_objects.case import GONE, Case, edited, leaves
from tests.support.api_objects.resources import COMPLETE, MINIMAL, RESERVED, complete

__all__ = ["CASES", "COMPLETE", "GONE", "MINIMAL", "RESERVED", "Case", "complete", "edited", "leaves"]

CASES: tuple[Case, ...] = (
    *model.VALID,
    *model.INVALID,
    *scalars.VALID,
    *scalars.INVALID,
    *source.VALID,
    *source.INVALID,
    *features.VALID,
    *features.INVALID,
    *distill.VALID,
    *distill.INVALID,
    *student.VALID,
    *student.INVALID,
    *search.VALID,
    *search.INVALID,
    *stage.VALID,
    *stage.INVALID,
    *prune.VALID,
    *prune.INVALID,
    *loss.VALID,
    *loss.INVALID,
    *teachers.VALID,
    *teachers.INVALID,
    *compress.VALID,
    *compress.INVALID,
    *export.VALID,
    *export.INVALID,
    *gate.VALID,
    *gate.INVALID,
    *serve.VALID,
    *serve.INVALID,
    *pods.VALID,
    *pods.INVALID,
    *build.VALID,
    *build.INVALID,
    *edge.VALID,
    *edge.INVALID,
    *cascade.VALID,
    *cascade.INVALID,
    *cut.VALID,
    *cut.INVALID,
    *preprocess.VALID,
    *preprocess.INVALID,
    *broker.VALID,
    *broker.INVALID,
    *pipeline.VALID,
    *pipeline.INVALID,
)
