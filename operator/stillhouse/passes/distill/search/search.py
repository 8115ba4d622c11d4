"""`search-student`: shapes are tried with short trainings until the front stands still; one is taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field

from stillhouse.errors import DataError
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.compress.dynamic import QuantizeConfig
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.distill.prune.config import course_of
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.distill.search.possible import refuse_impossible
from stillhouse.passes.distill.search.shapes import FILE, Limits, Tried, choose, feasible, front, idle, words
from stillhouse.passes.distill.search.study import Study
from stillhouse.passes.distill.search.telling import infeasible, picture, table
from stillhouse.passes.distill.search.trying import Trying
from stillhouse.passes.distill.students.config import StudentConfig
from stillhouse.passes.distill.train import DistillConfig

__all__ = ["PICTURE", "TABLE", "SearchConfig", "SearchFacts", "SearchStudent"]

PICTURE = "search.svg"
TABLE = "search.txt"


class SearchConfig(CamelConfig):
    """What is searched.

    `space`: values by dimension. `student` and `stage` are the configurations of the student and of its short training,
    `quantize` how the result is made INT8 (None: it serves in FP32). `size` in bytes, `latency` in seconds. `tolerance`:
    what share of the best quality may be given for speed. `patience`: trials in a row that bring nothing (see `idle`), after
    which it ends.
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
    version: ClassVar[int] = 3
    kind: ClassVar[str] = "search"
    config_type = SearchConfig

    def run(self, config: SearchConfig, inputs: Mapping[str, Artifact], ctx: Context) -> SearchFacts:
        """Write `search.json`, `search.txt` and `search.svg` into `ctx.out`.

        Raises:
            SpecError: some of what may be tried cannot be made; or no shape keeps the limits, and the nearest is named.
            DataError: the validation has no texts.
            KeyboardInterrupt: stopped; what was tried is kept, and a trial under way goes on from its checkpoint.
        """
        torch.set_num_threads(ctx.threads)
        rows = Rows.of(inputs, "validation")
        column = next((each for each in ("text", "query") if each in rows.columns), None)
        texts = rows.texts(column) if column else []
        if not texts:
            raise DataError("a search times texts, and the validation has none", field="spec.distill.validation")
        stage = DistillConfig.model_validate(config.stage)
        origin = inputs.get("origin")
        refuse_impossible(config.student, config.space, stage, (origin or inputs["teacher"]).path, own=origin is None)
        limits = Limits(config.size, config.latency)
        study = Study(ctx.scratch / "journal", config.space, limits, config.seed)
        quantize = QuantizeConfig.model_validate(config.quantize) if config.quantize is not None else None
        trying = Trying(
            StudentConfig.model_validate(config.student),
            stage,
            quantize,
            inputs,
            texts,
            limits,
            ctx,
        )
        while len(study.tried) < config.trials and idle(study.tried, limits) < config.patience:
            shape = study.next()
            if shape is None:
                break
            ctx.progress.update(len(study.tried), config.trials, "shapes", ", ".join(f"{k} {v}" for k, v in shape.items()))
            found = trying(shape, study.judged_by)
            study.tell(found)
            ctx.progress.note(f"{len(study.tried)} of {config.trials}: {words(found, study.metric)}")
        tried = study.tried
        taken = choose(tried, limits, config.tolerance)
        if taken is None:
            early = len(tried) < min(config.trials, study.count) and idle(tried, limits) >= config.patience
            raise infeasible(tried, limits, study.metric, config.patience if early else None)
        _write(ctx, tried, taken, limits, study.metric)
        ctx.progress.note(f"taken: {words(taken, study.metric)}")
        told = [each.to_json() for each in front(feasible(tried, limits))]
        seconds = round(sum(each.seconds for each in tried), 1)
        return SearchFacts(dict(taken.shape), study.metric, taken.to_json(), tuple(told), len(tried), seconds)

    def foresee(self, config: SearchConfig, inputs: Mapping[str, Artifact]) -> None:
        """Refuse a short training that leaves no step to prune in.

        Raises:
            SpecError: the recovery takes them all.
        """
        stage = DistillConfig.model_validate(config.stage)
        if stage.prune is not None and "data" in inputs:
            course_of(stage.prune, stage.steps(Rows.of(inputs).learned), stage.warmup, epochs="spec.distill.search.epochs")


def _write(ctx: Context, tried: list[Tried], taken: Tried, limits: Limits, metric: str) -> None:
    data = {
        "version": 1,
        "metric": metric,
        "limits": {"size": limits.size, "latency": limits.latency},
        "taken": taken.to_json(),
        "front": [each.to_json() for each in front(feasible(tried, limits))],
        "tried": [{**each.to_json(), "over": limits.over(each)} for each in tried],
    }
    (ctx.out / FILE).write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    told = table(tried, taken, limits, metric)
    (ctx.out / TABLE).write_text("\n".join(told) + "\n", encoding="utf-8")
    (ctx.out / PICTURE).write_text(picture(tried, taken, limits, metric), encoding="utf-8")
    for line in told:
        ctx.progress.note(line)
