"""`spec.export`: the model in the formats of other runtimes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule

__all__ = ["Export", "ExportFormat"]

ExportFormat = Literal["openvino", "litert", "coreml", "tensorrt"]
SHAPELESS = ("openvino",)
"""Formats whose model takes any number of rows and tokens."""

_SHAPES = CelRule(
    "self.format != 'openvino' || (!has(self.batch) && !has(self.tokens))",
    "batch and tokens belong to formats of fixed shapes: a model of openvino takes any",
)


class Export(ApiModel):
    """A copy of the FP32 model for another runtime, checked against the ONNX model's answers where that runtime is here."""

    format: ExportFormat
    """`openvino`, `litert` (TensorFlow Lite), `coreml` or `tensorrt` (what builds an engine on a machine with a GPU)."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """In which the weights are kept; `fp16` of `tensorrt` is what the engine may compute in."""
    batch: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Rows of a call, 1 where left out. `litert` and `coreml` take exactly these, `tensorrt` at most these."""
    tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Tokens of a row, where the model takes texts: shorter ones are padded, longer ones cut. Left out: the model's longest, at
    most 128."""

    cel_rules = (_SHAPES,)

    @model_validator(mode="after")
    def _shapes_belong(self) -> Export:
        if self.format in SHAPELESS and (self.batch is not None or self.tokens is not None):
            raise _SHAPES.broken(fix="remove batch and tokens")
        return self
