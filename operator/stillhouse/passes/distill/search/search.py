"""`search-student`: shapes are tried with short trainings until the front stands still; one is taken."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.compress.dynamic import QuantizeConfig
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.distill.search.shapes import FILE, Limits, Tried, choose, front, nearest, words
from stillhouse.passes.distill.search.study import Study
from stillhouse.passes.distill.search.trying import Trying
from stillhouse.passes.distill.students.config import StudentConfig
from stillhouse.passes.distill.train import DistillConfig
from stillhouse.passes.picture import Axis, Point, scatter
from stillhouse.sizes import size

__all__ = ["PICTURE", "SearchConfig", "SearchFacts", "SearchStudent"]

PICTURE = "search.svg"
_FIELD = "spec.distill.search"


class SearchConfig(CamelConfig):
    """What is searched.

    `space`: values by dimension. `student` and `stage` are the configurations of the student and of its short training,
    `quantize` how the result is made INT8 (None: it serves in FP32). `size` in bytes, `latency` in seconds. `tolerance`:
    what share of the best quality may be given for speed. `patience`: trials without a change of the front that end it.
    """

    space: dict[str, list[int]]
    trials: int = Field(ge=1)
    patience: int = Field(ge=1)
    tolerance: float = Field(ge=0, le=1)
    size: float | None = None
    latency: float | None = None
    student: dict[str, Any]
    stage: dict[str, Any]
    quantize: dict[str, Any] | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SearchFacts:
    """What was found: the shape, its figures, the front (the fastest first) and how many shapes were tried."""

    shape: dict[str, int]
    metric: str
    taken: dict[str, Any]
    front: tuple[dict[str, Any], ...]
    tried: int
    seconds: float


class SearchStudent(Pass[SearchConfig, SearchFacts]):
    """Searches on the validation rows; the gate's rows are never seen."""

    name: ClassVar[str] = "search-student"
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "search"
    config_type = SearchConfig

    def run(self, config: SearchConfig, inputs: Mapping[str, Artifact], ctx: Context) -> SearchFacts:
        """Write `search.json` and `search.svg` into `ctx.out`.

        Raises:
            SpecError: no shape keeps the limits; the nearest is named.
            DataError: the validation has no texts.
            KeyboardInterrupt: stopped; what was tried is kept, and a trial under way goes on from its checkpoint.
        """
        torch.set_num_threads(ctx.threads)
        rows = Rows.of(inputs, "validation")
        column = next((each for each in ("text", "query") if each in rows.columns), None)
        texts = rows.texts(column) if column else []
        if not texts:
            raise DataError("a search times texts, and the validation has none", field="spec.distill.validation")
        limits = Limits(config.size, config.latency)
        study = Study(ctx.scratch / "journal", config.space, limits, config.seed)
        quantize = QuantizeConfig.model_validate(config.quantize) if config.quantize is not None else None
        trying = Trying(
            StudentConfig.model_validate(config.student),
            DistillConfig.model_validate(config.stage),
            quantize,
            inputs,
            texts,
            ctx,
        )
        metric = ["quality"]
        still, best = 0, front(study.tried)
        while len(study.tried) < config.trials and still < config.patience:
            shape = study.next()
            if shape is None:
                break
            ctx.progress.update(len(study.tried), config.trials, "shapes", ", ".join(f"{k} {v}" for k, v in shape.items()))
            found = trying(shape, lambda name: metric.__setitem__(0, name))
            study.tell(found)
            ctx.progress.note(f"{len(study.tried)} of {config.trials}: {words(found, metric[0])}")
            now = front(study.tried)
            still, best = (still + 1 if now == best else 0), now
        tried = study.tried
        taken = choose(tried, limits, config.tolerance)
        if taken is None:
            raise _infeasible(tried, limits, metric[0])
        ctx.progress.note(f"taken: {words(taken, metric[0])}")
        _write(ctx, tried, taken, limits, metric[0])
        told = [each.to_json() for each in front([each for each in tried if limits.over(each) == 0])]
        seconds = round(sum(each.seconds for each in tried), 1)
        return SearchFacts(dict(taken.shape), metric[0], taken.to_json(), tuple(told), len(tried), seconds)


def _infeasible(tried: list[Tried], limits: Limits, metric: str) -> SpecError:
    near = nearest(tried, limits)
    wanted = [f"maxSize {size(int(limits.size))}"] if limits.size is not None else []
    wanted += [f"maxLatencyP50 {limits.latency * 1e3:g} ms"] if limits.latency is not None else []
    raised = [f"maxSize: {math.ceil(near.size / 1024)}Ki"] if limits.size is not None and near.size > limits.size else []
    if limits.latency is not None and near.latency > limits.latency:
        raised.append(f"maxLatencyP50: {math.ceil(near.latency * 1e3 * 1.1)}ms")
    return SpecError(
        "no shape that was tried keeps the limits",
        field=_FIELD,
        found=f"the nearest of {len(tried)}: {words(near, metric)}",
        allowed=", ".join(wanted),
        fix=(f"write {', '.join(raised)}, which it keeps, or " if raised else "")
        + "search among smaller shapes (hiddenLayers, hiddenSize, vocabulary)",
    )


def _write(ctx: Context, tried: list[Tried], taken: Tried, limits: Limits, metric: str) -> None:
    best = front([each for each in tried if limits.over(each) == 0])
    data = {
        "version": 1,
        "metric": metric,
        "limits": {"size": limits.size, "latency": limits.latency},
        "taken": taken.to_json(),
        "front": [each.to_json() for each in best],
        "tried": [{**each.to_json(), "over": limits.over(each)} for each in tried],
    }
    (ctx.out / FILE).write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    points = [_point(each, taken, best) for each in tried]
    axes = Axis(lambda value: f"{value * 1e3:.2f} ms"), Axis(lambda value: f"{value:.3f}", logarithmic=False)
    below = f"{metric} over the median latency of a text; full: the front within the limits; green: taken"
    (ctx.out / PICTURE).write_text(scatter(points, *axes, "Shapes that were tried", below), encoding="utf-8")


def _point(each: Tried, taken: Tried, best: list[Tried]) -> Point:
    name = "-".join(str(value) for value in each.shape.values())
    return Point(name, each.latency, each.quality, "taken" if each is taken else "passed" if each in best else "missed")
