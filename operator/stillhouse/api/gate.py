"""What a candidate must show before it serves."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.limits import LIMIT_RULES, SOME_TAIL, refuse_nothing
from stillhouse.api.pipeline import OutputName
from stillhouse.api.scalars import DecimalString, Duration, Quantity, ShareOrDecimal
from stillhouse.api.source import DataSource

__all__ = ["METRIC_PATTERN", "Gate", "Load", "Metric"]

METRIC_PATTERN = (
    r"^(agreement|accuracy|macro-f1|log-loss|per-class-loss|cosine|neighbour-overlap@[1-9][0-9]{0,2}|mrr@[1-9][0-9]{0,2})$"
)

LOSSES = ("log-loss", "per-class-loss")

_ONE_LIMIT = CelRule("has(self.min) != has(self.max)", "give min or max, one of them")
_LOSSES_TAKE_MAX = CelRule(
    "has(self.max) == (self.name in ['log-loss', 'per-class-loss'])",
    "log-loss and per-class-loss take max, every other metric takes min",
)
_AGAINST_TEACHER_ALREADY = CelRule(
    "self.of != 'teacher' || !(self.name in ['agreement', 'cosine', 'per-class-loss'])",
    "agreement, cosine and per-class-loss are measured against the teacher already: leave out of",
    "of",
)

_OUTPUT_AGREES = CelRule(
    "!has(self.output) || self.name == 'agreement'",
    "output belongs to agreement: whether a pipeline decides as it would on what the teacher says",
    "output",
)

_SHARE = r"^(0([.][0-9]+)?|1([.]0+)?|[1-9]?[0-9]([.][0-9]+)?%|100([.]0+)?%)$"
_CAN_BE_MET = CelRule(
    f"self.of == 'teacher' || !has(self.min) || self.min.matches('{_SHARE}')",
    "no model reaches more than 100 % of this figure; only a share of the teacher's figure can be larger",
    "min",
)


class Metric(ApiModel):
    """One limit on quality. The unfavourable end of the 95 % interval is compared, not the estimate."""

    name: Annotated[str, StringConstraints(pattern=METRIC_PATTERN, max_length=40)]
    """`agreement` with the teacher, `accuracy`, `macro-f1`, `log-loss`, `per-class-loss` (largest drop of a class's
    recall against the teacher), `cosine` to the teacher's embedding, `neighbour-overlap@k`, `mrr@k`."""
    min: ShareOrDecimal | None = None
    """Lowest value that passes: at most 100 % (1) where it is `absolute`."""
    max: ShareOrDecimal | None = None
    """Highest value that passes, for losses."""
    output: OutputName | None = None
    """Name in the answer of a pipeline's output, for `agreement`: the share of rows on which the steps decide as they do on what
    the teacher says. Of several numbers a row the largest counts, else equality."""
    of: Literal["absolute", "teacher"] = "absolute"
    """`teacher`: the limit is a share of the teacher's own figure on the same rows."""

    cel_rules = (_ONE_LIMIT, _LOSSES_TAKE_MAX, _AGAINST_TEACHER_ALREADY, _CAN_BE_MET, _OUTPUT_AGREES)

    @model_validator(mode="after")
    def _one_limit(self) -> Metric:
        if (self.min is None) == (self.max is None):
            raise _ONE_LIMIT.broken()
        if (self.max is not None) != (self.name in LOSSES):
            raise _LOSSES_TAKE_MAX.broken()
        if self.of == "teacher" and self.name in {"agreement", "cosine", "per-class-loss"}:
            raise _AGAINST_TEACHER_ALREADY.broken()
        if self.of == "absolute" and self.min is not None and not re.fullmatch(_SHARE, self.min):
            raise _CAN_BE_MET.broken("write a lower limit; of the teacher's own figure: of: teacher", "0% to 100%, or 0 to 1")
        if self.output is not None and self.name != "agreement":
            raise _OUTPUT_AGREES.broken(fix="write name: agreement, or remove output")
        return self


class Load(ApiModel):
    """The load under which latency and throughput are measured: a closed loop of this many clients."""

    concurrency: Annotated[int, Field(ge=1, le=1024)] = 4
    """Clients, each waiting for its answer before it asks again."""
    requests: Annotated[int, Field(ge=50, le=1_000_000)] = 1000
    """Requests per repeat, taken from the gate's data in order."""


class Gate(ApiModel):
    """Measured through the server that will serve, at its CPU limit."""

    data: DataSource
    """Rows to measure on: `text` and `label`, `query` and `document`, or `image` (or what `source.features` names) and `label`.
    Must not overlap the training or calibration data."""
    metrics: Annotated[tuple[Metric, ...], Field(max_length=16)] = ()
    """Limits on quality."""
    load: Load = Load()
    """Load for the limits on speed."""
    max_latency_p50: Annotated[Duration | None, Field(alias="maxLatencyP50")] = None
    """Highest median latency under load."""
    max_latency_p99: Annotated[Duration | None, Field(alias="maxLatencyP99")] = None
    """Highest 99th percentile under load."""
    min_throughput: DecimalString | None = None
    """Lowest throughput under load, answers per second."""
    max_size: Quantity | None = None
    """Largest size of all files of the artifact."""
    repeats: Annotated[int, Field(ge=1, le=20)] = 3
    """How often a speed measurement that is too noisy to tell may be repeated."""

    cel_rules = (*LIMIT_RULES, SOME_TAIL)

    @model_validator(mode="after")
    def _something(self) -> Gate:
        refuse_nothing(self.max_size, self.max_latency_p50, self.max_latency_p99)
        return self
