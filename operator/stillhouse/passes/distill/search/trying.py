"""One shape: made, exported as it would be served, timed on texts, and trained for a short while where it keeps the limits."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from stillhouse.errors import DataError, SourceError
from stillhouse.inference.engine import Engine
from stillhouse.passes.base import Artifact, Context
from stillhouse.passes.compress.dynamic import QuantizeConfig, QuantizeDynamic
from stillhouse.passes.distill.search.shapes import DIMENSIONS, Limits, Tried
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.students.config import StudentConfig
from stillhouse.passes.distill.train import Distill, DistillConfig, DistillFacts
from stillhouse.passes.export.onnx import ExportConfig, ExportOnnx

__all__ = ["Trying"]

_TIMED = 200
"""Texts that are timed, one after the other."""


class Trying:
    """Tries shapes. What a trial leaves goes once it is measured; a trial that was stopped goes on from its checkpoint."""

    def __init__(
        self,
        student: StudentConfig,
        stage: DistillConfig,
        quantize: QuantizeConfig | None,
        inputs: Mapping[str, Artifact],
        texts: Sequence[str],
        limits: Limits,
        ctx: Context,
    ) -> None:
        """`quantize`: how what serves is made INT8, None: it is FP32. `texts` are what it is timed on.

        Size and speed hardly hang on what the weights are, so what misses `limits` is known before it is trained; but where
        the training takes something out, only afterwards.
        """
        self._student, self._stage, self._quantize = student, stage, quantize
        self._inputs, self._texts, self._limits, self._ctx = inputs, texts[:_TIMED], limits, ctx
        self._answers: dict[int, Tensor] = {}  # teacher and rows are every shape's: what it says of the sample is asked once

    def __call__(self, shape: Mapping[str, int], metric: Callable[[str], None]) -> Tried:
        """Return what the shape showed; `metric` is told by what quality was judged, where it was.

        Raises:
            DataError: its quality is no number.
            StillhouseError: as the passes that it goes through.
        """
        began = time.monotonic()
        folder = self._ctx.scratch / ("shape-" + "-".join(str(value) for value in shape.values()))
        config = self._student.model_copy(update=_inside(shape))
        student = self._run(InitStudent(self._answers), config, self._inputs, folder / "student")
        tried = self._foreseen(shape, student, folder)
        if tried is None or self._limits.over(tried) == 0:
            trained = self._run(Distill(tell_epochs=False), self._stage, {**self._inputs, "student": student}, folder / "trained")
            quality = self._quality(shape, trained.facts["made"], metric)
            tried = replace(self._measured(shape, trained, folder), quality=quality)
        shutil.rmtree(folder, ignore_errors=True)
        return replace(tried, seconds=round(time.monotonic() - began, 1))

    def _foreseen(self, shape: Mapping[str, int], student: Artifact, folder: Path) -> Tried | None:
        """Return what a shape will measure, before it is trained; None where that cannot be told, or its training has begun."""
        begun = (folder / "trained" / "scratch").is_dir()  # was it found within the limits once, it is trained to its end
        if self._limits == Limits() or self._stage.prune is not None or begun:
            return None
        try:
            return self._measured(shape, student, folder)
        except SourceError:  # weights of chance may give what no check lets pass; those that were learned are checked again
            return None

    def _quality(self, shape: Mapping[str, int], facts: DistillFacts, metric: Callable[[str], None]) -> float:
        metric(facts.validation_metric)
        quality = float(facts.validation[facts.best_epoch - 1])  # best_epoch 0: no early stopping, the last one
        if not math.isfinite(quality):  # no place among the others, and not to be tried again
            raise DataError(
                f"a shape's {facts.validation_metric} is no finite number",
                field="spec.distill.stages[].learningRate",
                found=", ".join(f"{name} {value}" for name, value in shape.items()),
                allowed="finite numbers",
                fix="lower learningRate, or raise warmup",
            )
        return quality

    def _measured(self, shape: Mapping[str, int], model: Artifact, folder: Path) -> Tried:
        """Export a model as it would be served, and time it; its quality is not known yet."""
        served = exported = self._run(ExportOnnx(), ExportConfig(samples=4, quick=True), {"model": model}, folder / "exported")
        if self._quantize is not None:
            served = self._run(QuantizeDynamic(), self._quantize, {"model": exported}, folder / "quantized")
        macs = exported.facts["made"].macs
        count = int(macs.get("32", next(iter(macs.values()), 0)))
        return Tried(dict(shape), None, self._latency(served.path), served.size, count, 0.0)

    def _run(self, work: Any, config: Any, inputs: Mapping[str, Artifact], folder: Path) -> Artifact:
        """Run a pass in a folder of its own; its checkpoints stay there until the shape is measured."""
        out, scratch = folder / "out", folder / "scratch"
        shutil.rmtree(out, ignore_errors=True)
        for each in (out, scratch):
            each.mkdir(parents=True, exist_ok=True)
        facts = work.run(config, inputs, replace(self._ctx, out=out, scratch=scratch))
        size = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
        return Artifact("", work.kind, out, size, {"made": facts})

    def _latency(self, folder: Path) -> float:
        """Return the median of one text after the other, seconds, tokenising included."""
        engine = Engine(folder, self._ctx.threads)
        seconds = []
        for text in [*self._texts[:10], *self._texts]:  # the first ten warm up
            start = time.perf_counter()
            engine.run_texts([text])
            seconds.append(time.perf_counter() - start)
        timed = sorted(seconds[10:]) or sorted(seconds)
        return timed[len(timed) // 2]


def _inside(shape: Mapping[str, int]) -> dict[str, int]:
    return {DIMENSIONS[name]: value for name, value in shape.items()}
