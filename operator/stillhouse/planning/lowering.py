"""INT4 and mixed precisions as steps. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillhouse.api.compress import Compress
from stillhouse.api.scalars import parse_percent
from stillhouse.api.weights import Int4, Mixed
from stillhouse.planning.plan import Environment, StepDraft

__all__ = ["INT4", "MIXED", "SEARCHED", "lowered"]

INT4, MIXED, MEASURED = "compress/int4", "compress/mixed", "compress/sensitivity-mixed"
SEARCHED = ("small", "balanced")
"""Goals that these are tried for. None is made for `fast`: INT8 computes faster on CPUs (docs/how-to/choose-a-precision.md)."""
SAMPLES = 128


def lowered(compress: Compress, fp32: str, calibration: str | None, env: Environment) -> Iterator[tuple[StepDraft, bool]]:
    """Yield (draft, whether it makes a candidate) of what a spec asks for. `fp32` makes the FP32 model."""
    searched = compress.goal in SEARCHED
    int4 = compress.int4 or Int4()
    method = int4.method or ("gptq" if calibration else "rtn")
    config: dict[str, Any] = {"blockSize": int4.block_size, "method": method, "activations": int4.activations, "threads": 1}
    rows = {"data": calibration} if calibration else {}
    if compress.precision == "int4" or searched:
        learned = method == "gptq"
        more = {"samples": SAMPLES} if learned else {}
        yield StepDraft(INT4, "compress", "quantize-int4", {**config, **more}, {"model": fp32, **(rows if learned else {})}), True
    if calibration and (compress.precision == "mixed" or searched):
        mixed = compress.mixed or Mixed()
        config |= {"samples": SAMPLES, "reduceRange": env.reduce_range, "layers": mixed.layers}
        yield StepDraft(MEASURED, "compress", "sensitivity-mixed", config, {"model": fp32, **rows}), False
        asked = {**config, "maxLoss": parse_percent(mixed.max_loss), "strict": compress.precision == "mixed"}
        yield StepDraft(MIXED, "compress", "quantize-mixed", asked, {"model": fp32, "sensitivity": MEASURED, **rows}), True
