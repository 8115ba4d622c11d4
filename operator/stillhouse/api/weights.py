"""How weights become INT4, and how much may be lost by it."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.scalars import Percent

__all__ = ["Int4", "Mixed"]

_SOME_LOSS = CelRule("self.maxLoss.matches('[1-9]')", "maxLoss must be more than 0%", "maxLoss")


class Int4(ApiModel):
    """Weights of 4 bits: of linear layers, of attention's projections and of tables of embeddings."""

    block_size: Literal[16, 32, 64, 128] = 32
    """Neighbouring weights that share a scale. Smaller ones are nearer to FP32 and larger on disk (16: 25 % more than 32, 64:
    11 % less). A width that is no multiple is filled up with zeros."""
    method: Literal["gptq", "rtn"] | None = None
    """`gptq`: weights of layers are rounded so that their outputs on calibration data stay; `rtn`: each to the nearest value of
    its block. Left out: `gptq` where there is calibration data, else `rtn`. Tables are always rounded to the nearest."""
    activations: Literal["int8", "fp32"] = "int8"
    """In what layers of 4 bits compute: `int8` rounds each block of a token's activations to 8 bits, which is faster on CPUs
    with instructions for it; `fp32` leaves them as they are."""


class Mixed(ApiModel):
    """How far precisions may be lowered, operator by operator."""

    max_loss: Percent = "1%"
    """What the outputs may lose against FP32 on the calibration data, on average: of embeddings 1 - cosine, of labels the share
    of the likelihood of what FP32 says (1 - exp(-KL divergence)). The smallest model within it is made; the gate judges it as
    any."""

    layers: Literal["int8", "int4"] = "int8"
    """The lowest precision of layers. In `int8` they compute two to three times as fast as in FP32, in `int4` hardly faster
    and are smaller. Tables of embeddings, which are only looked up, go to INT4 in any case."""

    cel_rules = (_SOME_LOSS,)

    @model_validator(mode="after")
    def _some_loss(self) -> Mixed:
        if not Decimal(self.max_loss.removesuffix("%")):
            raise _SOME_LOSS.broken(fix='write maxLoss: "1%", or precision: fp32')
        return self
