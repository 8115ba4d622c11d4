"""INT8 with ranges from calibration data, as steps. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillhouse.api.int8 import Int8
from stillhouse.api.model import Spec
from stillhouse.api.scalars import parse_percent
from stillhouse.planning.plan import Environment, StepDraft

__all__ = ["asked", "rounding", "static"]

SAMPLES = 128
"""Calibration rows that are read: of some hundred, more change no range worth telling."""
_CONVOLVED = ("image-classification", "time-series-classification")
PERCENTILE, BALANCE = 99.999, 0.5


def asked(spec: Spec) -> Int8 | None:
    """Return how static quantization is to be done, None where it is not.

    Unasked, `auto` tries it where it gains: of images and time series, whose convolutions it makes fast, and in a search, which
    measures all.
    """
    compress = spec.compress
    if compress.int8 is not None:
        return compress.int8 if compress.int8.ranges != "dynamic" else None
    gains = spec.source.task in _CONVOLVED or compress.goal is not None
    return Int8() if compress.precision == "auto" and gains else None


def _ranged(given: Int8) -> dict[str, Any]:
    """Return how ranges are found, as the passes' configurations have it."""
    how: dict[str, Any] = {"ranges": given.ranges, "balance": BALANCE if given.balance is None else float(given.balance)}
    if given.ranges == "percentile":
        how["percentile"] = parse_percent(given.percentile) * 100 if given.percentile else PERCENTILE
    return how


def rounding(given: Int8, env: Environment) -> dict[str, Any]:
    """Return how numbers are rounded within them, likewise."""
    return {**_ranged(given), "samples": SAMPLES, "reduceRange": env.reduce_range}


def static(given: Int8, spec: Spec, fp32: str, calibration: str, env: Environment) -> Iterator[tuple[StepDraft, bool]]:
    """Yield (draft, whether it makes a candidate); the rung with sensitive operators in FP32 in `auto` alone."""
    config = {**rounding(given, env), "exclude": 0}
    parents = {"model": fp32, "data": calibration}
    yield StepDraft("compress/int8-static", "compress", "quantize-static", config, parents), True
    if spec.compress.precision != "auto":
        return
    kept = spec.compress.keep_fp32
    rows = {"samples": SAMPLES, "top": max(kept, 8), "reduceRange": env.reduce_range, "threads": 1, "static": _ranged(given)}
    yield StepDraft("compress/sensitivity-static", "compress", "sensitivity", rows, parents), False
    parents = {**parents, "sensitivity": "compress/sensitivity-static"}
    yield StepDraft("compress/int8-static-mixed", "compress", "quantize-static", {**config, "exclude": kept}, parents), True
