"""Which precisions of a model are made, as steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stillhouse.api.model import Spec
from stillhouse.errors import SpecError
from stillhouse.planning.aware import aware
from stillhouse.planning.imports import TEACHER
from stillhouse.planning.lowering import lowered
from stillhouse.planning.plan import Environment, StepDraft
from stillhouse.planning.static import asked, static

__all__ = ["candidates", "int8", "ladder"]

SENSITIVITY_SAMPLES = 128
PARITY_SAMPLES = 16
OF_ONNX = ("int8", "int4", "mixed", "fp16", "bf16")


def int8(spec: Spec, env: Environment) -> dict[str, Any]:
    """Return how a model is made INT8 where nothing is said of its operators."""
    return {"perChannel": True, "reduceRange": env.reduce_range, "exclude": 0, **_recurrent(spec)}


def _recurrent(spec: Spec) -> dict[str, Any]:
    """Return what is written only where there are LSTMs: other models keep their keys."""
    return {"recurrent": True} if spec.distill and spec.distill.student.architecture == "bilstm" else {}


def ladder(precision: str) -> tuple[str, ...]:
    """Return what the gate tries, in this order, of the candidates that are made."""
    if precision == "auto":
        return ("int8-qat", "int8-static", "int8-static-mixed", "int8", "int8-mixed", "mixed", "int4", "fp32")
    return ("int8-qat", "int8-static", "int8") if precision == "int8" else (precision,)


def candidates(spec: Spec, model_id: str, calibration: str | None, env: Environment) -> Iterator[tuple[StepDraft, bool]]:
    """Yield (draft, whether it makes a candidate)."""
    precision = spec.compress.precision
    fp32 = "compress/fp32"
    onnx_source = model_id == TEACHER and env.pins[spec.source.uri].info.get("format") == "onnx"
    config: dict[str, Any] = {"opset": 17, "samples": PARITY_SAMPLES, "threads": 1}
    if onnx_source:
        fp32 = TEACHER
        if precision not in OF_ONNX:
            raise SpecError(
                f"an ONNX source can be compressed to {_or(OF_ONNX)} in this version",
                field="spec.compress.precision",
                found=precision,
                allowed=_or(OF_ONNX),
                fix="write precision: int8, or give the model as safetensors",
            )
    else:
        yield StepDraft(fp32, "compress", "export", config, {"model": model_id}), True
    if precision == "fp32":
        return
    if precision in ("fp16", "bf16"):
        halve = {} if precision == "fp16" else {"to": precision}
        yield StepDraft(f"compress/{precision}", "compress", "halve", halve, {"model": fp32}), True
        return
    yield from lowered(spec.compress, fp32, calibration, env)
    if precision in ("int4", "mixed"):
        return
    if spec.compress.qat is not None and calibration is not None:
        yield from aware(spec, calibration, config, env)
        if precision == "int8":
            return
    given = asked(spec)
    if given is not None and calibration is not None:
        yield from static(given, spec, fp32, calibration, env)
        if precision == "int8":
            return
    quantize = int8(spec, env)
    yield StepDraft("compress/int8", "compress", "quantize-dynamic", quantize, {"model": fp32}), True
    if precision == "int8" or calibration is None:
        return
    rows = {
        "samples": SENSITIVITY_SAMPLES,
        "top": max(spec.compress.keep_fp32, 8),
        "reduceRange": env.reduce_range,
        "threads": 1,
        **_recurrent(spec),
    }
    yield StepDraft("compress/sensitivity", "compress", "sensitivity", rows, {"model": fp32, "data": calibration}), False
    parents = {"model": fp32, "sensitivity": "compress/sensitivity"}
    mixed = {**quantize, "exclude": spec.compress.keep_fp32}
    yield StepDraft("compress/int8-mixed", "compress", "quantize-dynamic", mixed, parents), True


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
