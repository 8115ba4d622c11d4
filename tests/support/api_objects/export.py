"""`export`: the formats of other runtimes."""

from __future__ import annotations

from tests.support.api_objects.case import Case

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    Case(
        "an export of every field", "text", {"spec.export": [{"format": "litert", "precision": "fp32", "batch": 2, "tokens": 64}]}
    ),
    Case("every format", "text", {"spec.export": [{"format": each} for each in ("openvino", "litert", "coreml", "tensorrt")]}),
    Case("no export", "text", {"spec.export": []}),
)

INVALID: tuple[Case, ...] = (
    Case("a format twice", "text", {"spec.export": [{"format": "litert"}] * 2}, "spec.export", "each format once"),
    Case(
        "a shape where any is taken",
        "text",
        {"spec.export": [{"format": "openvino", "batch": 2}]},
        "spec.export[0]",
        "belong to formats of fixed shapes",
    ),
    Case("a format of nobody", "text", {"spec.export": [{"format": "onnxjs"}]}, "spec.export[0].format", ""),
    Case("rows without number", "text", {"spec.export": [{"format": "litert", "batch": 0}]}, "spec.export[0].batch", ""),
    Case(
        "an export of INT8", "text", {"spec.export": [{"format": "litert", "precision": "int8"}]}, "spec.export[0].precision", ""
    ),
)
