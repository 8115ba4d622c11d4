"""What `compress` needs of the rest of the file, and whether it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhouse.api.base import CelRule

if TYPE_CHECKING:
    from stillhouse.api.model import Spec

__all__ = ["COMPRESS_RULES", "compress_fits"]

_GOAL_NEEDS_GATE = CelRule(
    "!has(self.compress.goal) || has(self.gate)", "goal needs gate: candidates are measured on its rows", "compress.goal"
)
_RANGES_ARE_READ = CelRule(
    "!has(self.compress.int8) || self.compress.int8.ranges == 'dynamic' || has(self.distill) || has(self.compress.calibration)",
    "static ranges need compress.calibration (or distill.data): they are read off its rows",
    "compress.int8.ranges",
)
_LOSS_IS_MEASURED = CelRule(
    "self.compress.precision != 'mixed' || has(self.distill) || has(self.compress.calibration)",
    "mixed needs compress.calibration (or distill.data): what operators lose is measured on its rows",
    "compress.precision",
)
_ROUNDED_ON_ROWS = CelRule(
    "!has(self.compress.int4) || !has(self.compress.int4.method) || self.compress.int4.method != 'gptq' || has(self.distill)"
    " || has(self.compress.calibration)",
    "gptq needs compress.calibration (or distill.data): it rounds for what layers are given on its rows",
    "compress.int4.method",
)
_QAT_OF_STUDENTS = CelRule(
    "!has(self.compress.qat) || has(self.distill)",
    "qat needs distill: the student learns on its data, by its losses",
    "compress.qat",
)
_QAT_OF_LAYERS = CelRule(
    "!has(self.compress.qat) || !has(self.distill) || !has(self.distill.student.architecture)"
    " || self.distill.student.architecture != 'bilstm'",
    "qat rounds linear layers, convolutions and tables: a bilstm learns in its LSTMs, which stay as they are",
    "compress.qat",
)
_QAT_FILLS_ZEROS = CelRule(
    "!has(self.compress.qat) || !has(self.distill) || !self.distill.stages.exists(s, has(s.prune) && has(s.prune.weights))",
    "qat trains on after the last stage, and would fill the zeros of prune.weights",
    "compress.qat",
)
COMPRESS_RULES = (
    *(_GOAL_NEEDS_GATE, _RANGES_ARE_READ, _LOSS_IS_MEASURED, _ROUNDED_ON_ROWS),
    *(_QAT_OF_STUDENTS, _QAT_OF_LAYERS, _QAT_FILLS_ZEROS),
)


def compress_fits(spec: Spec) -> None:
    """Raise where candidates could not be measured, or nothing is there to read ranges and losses off."""
    if spec.compress.goal is not None and spec.gate is None:
        raise _GOAL_NEEDS_GATE.broken(fix="write gate with its data, or remove goal")
    int8 = spec.compress.int8
    if int8 is not None and int8.ranges != "dynamic" and spec.distill is None and spec.compress.calibration is None:
        raise _RANGES_ARE_READ.broken(fix="write compress.calibration: {uri: data:NAME}, or ranges: dynamic")
    if spec.distill is None and spec.compress.calibration is None:
        if spec.compress.precision == "mixed":
            raise _LOSS_IS_MEASURED.broken(fix="write compress.calibration: {uri: data:NAME}, or precision: int8")
        if spec.compress.int4 is not None and spec.compress.int4.method == "gptq":
            raise _ROUNDED_ON_ROWS.broken(fix="write compress.calibration: {uri: data:NAME}, or method: rtn")
    _qat_fits(spec)


def _qat_fits(spec: Spec) -> None:
    if spec.compress.qat is None:
        return
    if spec.distill is None:
        raise _QAT_OF_STUDENTS.broken(fix="write compress.int8: {} (the same without training), or add distill")
    if spec.distill.student.architecture == "bilstm":
        raise _QAT_OF_LAYERS.broken(fix="remove qat, or write architecture: cnn")
    if any(stage.prune is not None and stage.prune.weights is not None for stage in spec.distill.stages):
        raise _QAT_FILLS_ZEROS.broken(fix="remove qat, or prune heads, neurons or channels")
