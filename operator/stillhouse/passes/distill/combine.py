"""What several teachers say, as one teacher's: whatever learns from outputs need not know how many there were."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from safetensors.numpy import load_file, save_file

from stillhouse.errors import DataError, SourceError, SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.distill.mixing import beside, fitted, log_probabilities, mixed, row_weights
from stillhouse.passes.distill.rows import NO_LABEL, Rows
from stillhouse.passes.distill.teacher import OUTPUTS_FILE, read_outputs
from stillhouse.passes.distill.top_logits import check, shorten

__all__ = ["CombineConfig", "CombineFacts", "CombineOutputs"]

_FEW_LABELS: Final = 100
_SHOWN: Final = 8


class CombineConfig(CamelConfig):
    """What is combined. `weights`: position among the resource's teachers → how much it counts.

    `top_logits`: of the mixture's logits only so many, the largest; see `top_logits.py`.
    """

    output: Literal["embedding", "logits"]
    weights: dict[int, float] = Field(min_length=1)
    weighting: Literal["fixed", "confidence", "select", "learned"] = "fixed"
    top_logits: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, slots=True)
class CombineFacts:
    """What came of it. `weights`: position → mean over the rows.

    `agreement`: share of rows whose most probable class is the same for all teachers (None: embeddings). Where weights were
    learned, `labelled` rows of the validation they were fitted to, and `accuracy` of each teacher and of the `mixture` on these.
    """

    rows: int
    dimension: int
    shards: int
    weights: dict[str, float]
    agreement: float | None = None
    labelled: int = 0
    accuracy: dict[str, float] | None = None


class CombineOutputs(Pass[CombineConfig, CombineFacts]):
    """Mix probabilities, or put embeddings side by side, shard by shard; see `mixing.py`."""

    name: ClassVar[str] = "combine-outputs"
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "teacher-outputs"
    config_type = CombineConfig

    def run(self, config: CombineConfig, inputs: Mapping[str, Artifact], ctx: Context) -> CombineFacts:
        """Fill `ctx.out` as `teacher-outputs` does, the classes in the order of the source's labels.

        Raises:
            SpecError: a teacher has other labels than the source.
            DataError: weights are to be learned, and the validation has no labels.
        """
        labels = Signature.read(inputs["teacher"].path).labels
        positions = sorted(config.weights)
        folders = [inputs[f"outputs-{position}"].path for position in positions]
        told = [_description(folder) for folder in folders]
        orders = [_order(position, each["labels"], labels) for position, each in zip(positions, told, strict=True)]
        given = np.array([config.weights[position] for position in positions], dtype=np.float64)
        labelled, accuracy = 0, None
        if config.weighting == "learned":
            given, labelled, accuracy = _learn(positions, orders, labels, inputs)
            if labelled < _FEW_LABELS:
                ctx.progress.note(f"the teachers' weights are fitted to {labelled} labels, which are few")
        if config.top_logits is not None:
            check(config.top_logits, len(labels))
        rows, shards = int(told[0]["rows"]), int(told[0]["shards"])
        sums, same, width = np.zeros(len(positions)), 0, 0
        for number in range(shards):
            parts = [load_file(str(folder / _shard(number)))[config.output] for folder in folders]
            if config.output == "embedding":
                made: dict[str, npt.NDArray[np.generic]] = {"embedding": beside(parts, given)}
                sums += len(parts[0]) * given / given.sum()
            else:
                logs = [log_probabilities(part[:, order]) for part, order in zip(parts, orders, strict=True)]
                weights = row_weights(logs, given, config.weighting)
                sums += weights.sum(axis=0)
                first = np.stack([part.argmax(axis=1) for part in logs])
                same += int((first == first[0]).all(axis=0).sum())
                logits = mixed(logs, weights)
                made = {"logits": logits} if config.top_logits is None else dict(shorten(logits, config.top_logits))
            width = len(labels) or made[config.output].shape[1]
            # Columns in another order leave arrays that lie column by column, whose bytes would be written as if they did not.
            save_file({name: np.ascontiguousarray(values) for name, values in made.items()}, str(ctx.out / _shard(number)))
            ctx.progress.update(number + 1, shards, "shards", "combining the teachers")
        means = {str(position): round(float(each) / max(1, rows), 6) for position, each in zip(positions, sums, strict=True)}
        counting = ", ".join(f"teachers[{position}] {mean:.2f}" for position, mean in means.items())
        agreement = round(same / max(1, rows), 6) if config.output == "logits" else None
        ctx.progress.note(f"weights: {counting}" + ("" if agreement is None else f"; all agree on {agreement:.1%} of the rows"))
        description = {**told[0], "dimension": width, "outputs": [config.output], "labels": list(labels)}
        description |= {"layers": [], "teacher_layers": 0, "weighting": config.weighting, "weights": means}
        (ctx.out / OUTPUTS_FILE).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return CombineFacts(rows, width, shards, means, agreement, labelled, accuracy)

    def foresee(self, config: CombineConfig, inputs: Mapping[str, Artifact]) -> None:
        """Refuse other labels before any teacher is asked. A source that is fine-tuned has none yet.

        Raises:
            SpecError: a teacher has other labels than the source, or than the first teacher.
        """
        models = sorted((role for role in inputs if role.startswith("model-")), key=lambda role: int(role.removeprefix("model-")))
        first = inputs.get("teacher") or (inputs[models[0]] if models else None)
        if first is not None:
            labels = Signature.read(first.path).labels
            for role in models:
                _order(int(role.removeprefix("model-")), Signature.read(inputs[role].path).labels, labels)


def _shard(number: int) -> str:
    return f"outputs-{number:05d}.safetensors"


def _description(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / OUTPUTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError("the teacher's outputs are not readable", field=str(folder), found=str(error)) from error
    return found


def _order(position: int, theirs: Sequence[str], ours: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return where each of our labels stands among theirs.

    Raises:
        SpecError: they are not the same labels.
    """
    if set(theirs) != set(ours) or len(theirs) != len(ours):
        more, less = [label for label in theirs if label not in ours], [label for label in ours if label not in theirs]
        only = "; ".join(
            f"only {whose}: {', '.join(labels[:_SHOWN])}" for whose, labels in (("its", more), ("the source's", less)) if labels
        )
        raise SpecError(
            "this teacher has other labels than the source",
            field=f"spec.distill.teachers[{position}].labels",
            found=_shown(theirs) + (f" ({only})" if only else ""),
            allowed=f"the source's, in any order: {_shown(ours)}",
            fix="name its labels in the order of its outputs as the source names them, or leave this teacher out",
        )
    place = {label: number for number, label in enumerate(theirs)}
    return np.array([place[label] for label in ours], dtype=np.int64)


def _shown(labels: Sequence[str]) -> str:
    return ", ".join(labels[:_SHOWN]) + (", …" if len(labels) > _SHOWN else "") if labels else "none"


def _learn(
    positions: Sequence[int], orders: Sequence[npt.NDArray[np.int64]], labels: Sequence[str], inputs: Mapping[str, Artifact]
) -> tuple[npt.NDArray[np.float64], int, dict[str, float]]:
    """Return weights, how many labels they were fitted to, and who was right on how many of these rows."""
    truth = Rows.of(inputs, "validation").labels(labels)
    known = np.zeros(0, dtype=bool) if truth is None else truth != NO_LABEL
    if truth is None or not known.any():
        raise DataError(
            "the teachers' weights are fitted to labels, and the validation has none",
            field="validation.columns.label",
            found="no label column" if truth is None else "no row has a label",
            fix="name the column: columns: {label: YOUR_COLUMN}, or write weighting: confidence",
        )
    parts = []
    for position, order in zip(positions, orders, strict=True):
        said = read_outputs(inputs[f"judged-{position}"].path)[0]["logits"].numpy()
        parts.append(log_probabilities(said[:, order][known]))
    truth = truth[known]
    weights = fitted(parts, truth)
    accuracy = {str(position): _right(part, truth) for position, part in zip(positions, parts, strict=True)}
    accuracy["mixture"] = _right(mixed(parts, row_weights(parts, weights, "learned")), truth)
    return weights, len(truth), accuracy


def _right(logits: npt.NDArray[Any], truth: npt.NDArray[np.int64]) -> float:
    return round(float((logits.argmax(axis=1) == truth).mean()), 6)
