"""How activations get their scale in INT8."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.scalars import DecimalString, Percent

__all__ = ["Int8"]

_PERCENTILE_OF_ITSELF = CelRule(
    "!has(self.percentile) || self.ranges == 'percentile'", "percentile belongs to ranges: percentile", "percentile"
)
_NEARLY_ALL = CelRule(
    "!has(self.percentile) || self.percentile.matches('^(9[0-9]([.][0-9]+)?|100([.]0+)?)%$')",
    "percentile lies between 90% and 100%: ranges leave out only the rarest values",
    "percentile",
)
_BALANCE_OF_STATIC = CelRule(
    "!has(self.balance) || self.ranges != 'dynamic'", "balance belongs to static ranges: minmax, percentile or entropy", "balance"
)
_A_SHARE = CelRule(
    "!has(self.balance) || self.balance.matches('^(0([.][0-9]+)?|1([.]0+)?)$')", "balance lies between 0 and 1", "balance"
)


class Int8(ApiModel):
    """INT8 whose activations have ranges that were read off calibration data (static quantization), or found at every run."""

    ranges: Literal["dynamic", "minmax", "percentile", "entropy"] = "minmax"
    """`minmax`: all that was seen; `percentile`: all but the rarest values; `entropy`: what loses least of the histogram;
    `dynamic`: found anew at every run, no calibration. Static ranges make a row's answer independent of its neighbours in a
    batch, and convolutions fast."""
    percentile: Percent | None = None
    """With `ranges: percentile`: how many of the values on either side are kept in range, 99.999% when left out."""
    balance: DecimalString | None = None
    """With static ranges: how much of what is hard to round in an activation moves into the weights behind a norm (SmoothQuant's
    alpha), `0` to `1`; 0.5 when left out, `0`: nothing. An exact rewrite: answers in FP32 stay the same."""

    cel_rules = (_PERCENTILE_OF_ITSELF, _NEARLY_ALL, _BALANCE_OF_STATIC, _A_SHARE)

    @model_validator(mode="after")
    def _of_its_ranges(self) -> Int8:
        if self.percentile is not None:
            if self.ranges != "percentile":
                raise _PERCENTILE_OF_ITSELF.broken(fix="write ranges: percentile, or remove percentile")
            if not 90.0 <= float(self.percentile.removesuffix("%")) <= 100.0:
                raise _NEARLY_ALL.broken(allowed="90% to 100%", fix='write for example percentile: "99.99%"')
        if self.balance is not None:
            if self.ranges == "dynamic":
                raise _BALANCE_OF_STATIC.broken(fix="remove balance, or write ranges: minmax")
            if float(self.balance) > 1.0:
                raise _A_SHARE.broken(allowed='"0" to "1"', fix='write balance: "0.5"')
        return self
