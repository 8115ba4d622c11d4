"""What is done with the training rows before they are learned from."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.scalars import DecimalString, Percent

__all__ = ["Augment", "Balance", "Deduplicate", "Operation"]

_THRESHOLD_IS_A_SHARE = CelRule(
    "double(self.threshold) <= 1.0 && self.threshold.matches('[1-9]')", "threshold must be more than 0, at most 1", "threshold"
)
_TO_POSITIVE = CelRule("self.to.matches('[1-9]')", "to must be more than 0%", "to")
_CHANCE_POSITIVE = CelRule("self.chance.matches('[1-9]')", "chance must be more than 0%", "chance")
_FLIP_HAS_NO_AMOUNT = CelRule("!has(self.amount) || self.kind != 'flip'", "flip has no amount: it mirrors", "amount")


class Deduplicate(ApiModel):
    """Keeps one row of those that say nearly the same."""

    threshold: DecimalString = "0.8"
    """Share of character 5-grams in common (Jaccard) above which two texts are nearly the same; 1: only equal ones are, but
    for case and white space. Images are compared exactly only."""
    held_out: bool = True
    """Also leaves out rows that say nearly what a row of `validation`, the gate's data or the cascade's says."""

    cel_rules = (_THRESHOLD_IS_A_SHARE,)

    @model_validator(mode="after")
    def _is_a_share(self) -> Deduplicate:
        if not 0 < Decimal(self.threshold) <= 1:
            raise _THRESHOLD_IS_A_SHARE.broken()
        return self


class Balance(ApiModel):
    """Repeats rows of rare classes. Rows without a label stay once."""

    to: Percent = "100%"
    """Rows that every class gets, as a share of the largest one's."""
    most: Annotated[int, Field(ge=2, le=1000)] = 10
    """How often a row may be there at most: of a class of two rows, a thousand copies teach those two by heart."""

    cel_rules = (_TO_POSITIVE,)

    @model_validator(mode="after")
    def _reaches_something(self) -> Balance:
        if not Decimal(self.to.removesuffix("%")):
            raise _TO_POSITIVE.broken()
        return self


class Operation(ApiModel):
    """One way to change a row."""

    kind: Literal["synonym", "mask", "swap", "delete", "flip", "crop", "rotate", "noise"]
    """Of texts: `synonym` (words, by one of their neighbours among the teacher's token vectors), `mask` (words, by the
    tokenizer's mask), `swap` (neighbouring words), `delete` (a run of words). Of images: `flip` (left and right), `crop`
    (a moved window of the same size), `rotate`, `noise` (normal)."""
    amount: Percent | None = None
    """How much: of the words (`synonym`, `mask` and `delete` 15%, `swap` 10% when left out), of the side that `crop` moves by
    at most (12%), of a whole turn that `rotate` may take either way (4%), of the image's range as deviation of `noise` (5%)."""
    chance: Percent = "50%"
    """How likely a copy is changed in this way; a copy for which nothing is drawn is changed in one way."""

    cel_rules = (_CHANCE_POSITIVE, _FLIP_HAS_NO_AMOUNT)

    @model_validator(mode="after")
    def _does_something(self) -> Operation:
        if not Decimal(self.chance.removesuffix("%")):
            raise _CHANCE_POSITIVE.broken()
        if self.kind == "flip" and self.amount is not None:
            raise _FLIP_HAS_NO_AMOUNT.broken()
        return self


class Augment(ApiModel):
    """Adds changed copies of the rows. What the teacher says of a copy is asked of the teacher, not taken from its row."""

    operations: Annotated[tuple[Operation, ...], Field(min_length=1, max_length=8)]
    """What is done to a copy, in this order."""
    copies: Annotated[int, Field(ge=1, le=16)] = 1
    """Copies of every row."""
    labels: Literal["teacher", "keep"] = "teacher"
    """`teacher`: a copy has no label, only what the teacher says of it counts. `keep`: it has its row's, for operations that
    leave it as it is."""
