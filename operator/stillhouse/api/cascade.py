"""`spec.edge.cascade`: when the small model answers, and when the larger one does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.guarding import SecretName
from stillhouse.api.scalars import DecimalString, ModelName, Percent
from stillhouse.api.source import DataSource

__all__ = ["Address", "Cascade", "Larger", "Middle", "Outliers"]

Address = Annotated[
    str,
    StringConstraints(
        pattern=r"^(grpc|mqtt)s?://(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?):[1-9][0-9]{0,4}$",
        max_length=280,
    ),
]

_ONE_AIM = CelRule(
    "has(self.targetAgreement) != has(self.escalationBudget)",
    "write one of targetAgreement and escalationBudget",
    "targetAgreement",
)
_SOME_AGREEMENT = CelRule(
    "!has(self.targetAgreement) || !self.targetAgreement.matches('^(100|0*([.]0*)?%)')",
    "targetAgreement lies between 0% and 100%: no sample of rows shows the ends",
    "targetAgreement",
)
_TEMPERATURE_OF_ANSWERS = CelRule(
    "self.method != 'temperature' || self.judgedBy == 'answer'",
    "method temperature is fitted to answers: it cannot be judged by labels",
    "method",
)
_MIDDLE_BY_CALL = CelRule(
    "!has(self.address) || !self.address.startsWith('mqtt')",
    "the model between is asked by gRPC: a request cannot wait twice at a broker",
    "address",
)
_TOKEN_OVER_TLS = CelRule(
    "!has(self.token) || (has(self.address) && self.address.startsWith('grpcs://'))",
    "a token is shown at an address over TLS alone",
    "token",
)
_KEEP_WITHIN = CelRule("!self.keep.matches('^(100|0*([.]0*)?%)')", "keep lies between 0% and 100%", "keep")


class Larger(ApiModel):
    """The model that answers what the small one is not sure of: any server of the Open Inference Protocol."""

    model: ModelName
    """Its name there. Without `address`, a DistilledModel of this namespace (on one machine: one that `still up` serves)."""
    address: Address | None = None
    """Where it is, as `grpcs://HOST:PORT` (`grpc://` without TLS), or behind a broker, as `mqtts://HOST:PORT` (docs/mqtt.md;
    `mqtt://` without TLS). `still edge --cloud` is stronger than this."""


class Middle(ApiModel):
    """A model that is asked between the small one and the larger one, with a confidence and a threshold of its own."""

    model: ModelName
    """A DistilledModel of the same task and labels, built in the same store before this one; in a cluster, of this namespace."""
    address: Address | None = None
    """Where it is served, as `grpcs://HOST:PORT`. `still edge --middle` is stronger than this. Left out in a cluster: the pods
    that serve the very artifact which the thresholds were solved with."""
    token: SecretName | None = None
    """Secret with `token`, which is shown to it at its address, in a cluster."""
    cost: DecimalString = "3"
    """What an answer of it costs, where one of the small model costs 1: of the thresholds that hold, the cheapest are taken."""

    cel_rules = (_MIDDLE_BY_CALL, _TOKEN_OVER_TLS)

    @model_validator(mode="after")
    def _address_fits(self) -> Middle:
        if (self.address or "").startswith("mqtt"):
            raise _MIDDLE_BY_CALL.broken(fix="write grpcs://HOST:PORT")
        if self.token is not None and not (self.address or "").startswith("grpcs://"):
            raise _TOKEN_OVER_TLS.broken(fix="write address: grpcs://HOST:PORT, or remove token")
        return self


class Outliers(ApiModel):
    """Inputs unlike those that the confidence was fitted on: how often an answer is right says nothing about them."""

    keep: Percent = "99%"
    """At least this share of usual inputs counts as usual (split conformal prediction on the calibration rows)."""
    policy: Literal["escalate", "flag", "refuse"] = "escalate"
    """`escalate`: the larger model answers. `flag`: as if it were usual, with response parameter `outlier`. `refuse`:
    INVALID_ARGUMENT."""

    cel_rules = (_KEEP_WITHIN,)

    @model_validator(mode="after")
    def _within(self) -> Outliers:
        if self.keep.startswith("100") or not self.keep.strip("0.%"):
            raise _KEEP_WITHIN.broken()
        return self


class Cascade(ApiModel):
    """The small model answers where its calibrated confidence reaches a threshold; else the larger one does.

    The threshold is solved when the model is built, on rows of your own, from an agreement that you want or an escalation
    that you can pay, with 97.5 % certainty for requests like those rows.
    """

    larger: Larger
    """The larger model."""
    middle: Middle | None = None
    """One more stage, for classification. Where it is away, the larger model is asked."""
    data: DataSource
    """Rows (`text`, `image`, or what `source.features` names; `label` where there are labels: for retrieval the name of the right
    row) that the threshold is solved on. They must not be in the training, calibration or gate data. What agrees is judged
    against `spec.source`."""
    calibration: DataSource | None = None
    """Rows that the confidence is fitted on; left out, every second row of `data`."""
    test: DataSource | None = None
    """Rows that the solved threshold is checked on; nothing is chosen by them."""
    method: Literal["auto", "temperature", "isotonic", "platt"] = "auto"
    """How the confidence is fitted. `auto`: `temperature` for classification, `platt` for retrieval and where labels judge.
    `temperature` needs logits, so it is for classification only; `isotonic` wants some thousand rows."""
    target_agreement: Percent | None = None
    """At least this share of all answers is the one that the larger model gives."""
    escalation_budget: Percent | None = None
    """At most this share of requests goes to the larger model."""
    judged_by: Literal["answer", "labels"] = "answer"
    """`labels`: an answer that is as right as the larger model's counts as agreeing, for `data` with labels."""
    neighbors: Annotated[int, Field(ge=2, le=100)] = 10
    """Nearest rows of the index that a search returns and that its confidence is read from."""
    outliers: Outliers | None = None
    """What is done about unusual inputs; for `sentence-embedding`. Left out: nothing but for values that are no numbers."""
    cost: DecimalString = "10"
    """What an answer of the larger model costs, where one of the small model costs 1: for the stored curve, and with
    `middle` for the choice of thresholds."""

    cel_rules = (_ONE_AIM, _SOME_AGREEMENT, _TEMPERATURE_OF_ANSWERS)

    @model_validator(mode="after")
    def _one_aim(self) -> Cascade:
        if (self.target_agreement is None) == (self.escalation_budget is None):
            raise _ONE_AIM.broken(fix='write targetAgreement: "98%" or escalationBudget: "20%"')
        target = self.target_agreement
        if target is not None and (target.startswith("100") or not target.strip("0.%")):
            raise _SOME_AGREEMENT.broken(fix='write "99%"; for no disagreement at all, send everything to the larger model')
        if self.method == "temperature" and self.judged_by == "labels":
            raise _TEMPERATURE_OF_ANSWERS.broken(fix="write platt or isotonic, or leave method out")
        return self
