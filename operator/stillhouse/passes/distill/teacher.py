"""What the teacher says of every row of the training data, computed once and kept in shards."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from stillhouse.api.loss import CLASS_LOSSES, EMBEDDING_LOSSES, LAYER_LOSSES, told
from stillhouse.errors import SourceError, SpecError
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.distill.encoded import Arrays, Texts, length_batches, read_inputs
from stillhouse.passes.distill.pace import Pace
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.distill.top_logits import check, shorten
from stillhouse.passes.distill.validation import forward_size
from stillhouse.passes.finite import demand_finite
from stillhouse.passes.models.artifact import load
from stillhouse.passes.models.device import device_of, reading_device, tensors_of
from stillhouse.passes.models.features import features
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.precision import reading_precision, reading_precision_name

__all__ = [
    "FEATURES_FIELD",
    "OUTPUTS_FILE",
    "TeacherOutputs",
    "TeacherOutputsConfig",
    "TeacherOutputsFacts",
    "read_outputs",
]

OUTPUTS_FILE: Final = "outputs.json"
FEATURES_FIELD: Final = "spec.distill.stages[].losses[].kind"


class TeacherOutputsConfig(CamelConfig):
    """What of the teacher is kept. `layers` count from 1; 0 is the embeddings below the first layer, -1 the last layer.

    `top_logits`: of the logits only so many, the largest; see `top_logits.py`.
    """

    outputs: tuple[Literal["embedding", "logits", "hidden", "features"], ...] = Field(min_length=1)
    max_length: int | None = Field(default=None, ge=1)
    layers: tuple[int, ...] = ()
    top_logits: int | None = Field(default=None, ge=1)
    shard_rows: int = Field(default=4096, ge=1)


@dataclass(frozen=True, slots=True)
class TeacherOutputsFacts:
    """What came of it.

    `precision` is the arithmetic of the forward (`bfloat16` where the processor multiplies it in hardware). `tokens` were read,
    `truncated_tokens` of `truncated_rows` lay behind the limit and were not.
    """

    rows: int
    tokens: int
    truncated_rows: int
    truncated_tokens: int
    dimension: int
    shards: int
    precision: str
    seconds: float


class TeacherOutputs(Pass[TeacherOutputsConfig, TeacherOutputsFacts]):
    """Run the teacher over every row once.

    Shards hold rows in the data's order: `embedding`, `hidden-N` and `features` float16 [rows, dimension] (the targets' rounding,
    2⁻¹¹ relative, is far below what a student can follow), `logits` float32 [rows, labels] or what
    `top_logits.py` keeps of them. A shard depends on its own
    rows only, so one that is there is never computed again.
    """

    name: ClassVar[str] = "teacher-outputs"
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "teacher-outputs"
    config_type = TeacherOutputsConfig

    def run(self, config: TeacherOutputsConfig, inputs: Mapping[str, Artifact], ctx: Context) -> TeacherOutputsFacts:
        """Fill `ctx.out` with shards and `outputs.json`.

        Raises:
            SpecError: an output or a layer that this teacher does not have.
            DataError: the rows are not what the teacher reads, or it gives no finite numbers for one.
        """
        torch.set_num_threads(ctx.threads)
        ctx.progress.update(0, None, "rows", "loading the teacher")
        teacher = load(inputs["teacher"].path, role="teacher").to(reading_device())
        layers = _check(teacher, config)
        source = Rows.of(inputs)
        data = read_inputs(source, inputs["teacher"].path, teacher.signature, config.max_length, ctx.progress)
        total = data.count
        seconds = _Stopwatch(ctx.scratch / "seconds.json")
        names = [f"outputs-{number:05d}.safetensors" for number in range((total + config.shard_rows - 1) // config.shard_rows)]
        ready = [_is_whole(ctx.scratch / name) for name in names]
        pace = Pace(data.lengths, ctx.progress, "asking the teacher")
        for at in (at for at, there in enumerate(ready) if there):
            pace.skip(slice(at * config.shard_rows, (at + 1) * config.shard_rows))
        for number, name in enumerate(names):
            if ready[number]:
                continue
            first = number * config.shard_rows
            rows = np.arange(first, min(first + config.shard_rows, total), dtype=np.int64)
            tensors = _shard(teacher, data, rows, config, layers, pace, source)
            # Aside, to the disk, then renamed: a file under its final name is whole whatever happens.
            aside = ctx.scratch / (name + ".tmp")
            save_file(tensors, str(aside))
            _sync(aside)
            aside.replace(ctx.scratch / name)
            seconds.lap()
        for name in names:
            _place(ctx.scratch / name, ctx.out / name)
        text = isinstance(data, Texts)
        facts = TeacherOutputsFacts(
            rows=total,
            tokens=int(data.lengths.sum()) if text else 0,
            truncated_rows=int((data.cut > 0).sum()) if isinstance(data, Texts) else 0,
            truncated_tokens=int(data.cut.sum()) if isinstance(data, Texts) else 0,
            dimension=teacher.signature.dimension,
            shards=len(names),
            precision=reading_precision_name(teacher),
            seconds=round(seconds.total, 3),
        )
        description = dataclasses.asdict(facts)
        del description["seconds"]  # the artifact is data: the same rows give the same bytes
        description |= {"outputs": list(config.outputs), "layers": list(layers), "shard_rows": config.shard_rows}
        description |= {"labels": list(teacher.signature.labels), "teacher_layers": teacher.layers, "version": 1}
        (ctx.out / OUTPUTS_FILE).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return facts


def read_outputs(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read all shards: name → tensor over all rows, in the data's order, as stored (float16 or float32); and outputs.json.

    Raises:
        SourceError: a shard is missing or damaged.
    """
    parts: dict[str, list[Tensor]] = {}
    try:
        description: dict[str, Any] = json.loads((folder / OUTPUTS_FILE).read_text(encoding="utf-8"))
        for number in range(int(description["shards"])):
            with safe_open(str(folder / f"outputs-{number:05d}.safetensors"), framework="pt", device="cpu") as file:
                for name in file.keys():  # noqa: SIM118 (not a dict: it has no __iter__)
                    parts.setdefault(name, []).append(file.get_tensor(name))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise SourceError("the teacher's outputs are not readable", field=str(folder), found=str(error)) from error
    return {name: torch.cat(tensors) for name, tensors in parts.items()}, description


def _check(teacher: Network, config: TeacherOutputsConfig) -> tuple[int, ...]:
    """Return the layers to keep, each once.

    Raises:
        SpecError: the teacher has not what is asked for.
    """
    embeds = teacher.signature.task == "sentence-embedding"
    for output in config.outputs:
        if output in {"embedding", "logits"} and (output == "embedding") != embeds:
            raise SpecError(
                f"the teacher has no {output}",
                field="spec.distill.stages[].losses[].kind",
                found=f"a teacher for {teacher.signature.task}",
                allowed=told((*(EMBEDDING_LOSSES if embeds else CLASS_LOSSES), *LAYER_LOSSES, "pooled")),
            )
    if config.top_logits is not None:
        check(config.top_logits, teacher.signature.dimension)
    if "hidden" not in config.outputs:
        return ()
    layers = tuple(sorted({teacher.layers if layer == -1 else layer for layer in config.layers}))
    wrong = [layer for layer in layers if not 0 <= layer <= teacher.layers]
    if wrong or not layers or not teacher.layers:
        raise SpecError(
            "the teacher has no such layer" if teacher.layers else "the teacher shows no layers",
            field="spec.distill.stages[].losses[].layer",
            found=str(wrong[0]) if wrong else "none",
            allowed=f"1 to {teacher.layers}" if teacher.layers else "none: a factory's network shows no layers",
            fix="choose a layer that the teacher has, or another loss",
        )
    return layers


def _shard(
    teacher: Network,
    data: Texts | Arrays,
    rows: npt.NDArray[np.int64],
    config: TeacherOutputsConfig,
    layers: Sequence[int],
    pace: Pace,
    source: Rows,
) -> dict[str, npt.NDArray[np.generic]]:
    out: dict[str, npt.NDArray[np.generic]] = {}
    first, place = int(rows[0]), device_of(teacher)
    for batch in length_batches(data.lengths, rows, *forward_size(teacher)):
        wanted = features(teacher, FEATURES_FIELD) if "features" in config.outputs else contextlib.nullcontext()
        with torch.inference_mode(), reading_precision(teacher), wanted as kept:
            result = teacher.run(*tensors_of(data.batch(batch), place), hidden=bool(layers))
        found: dict[str, npt.NDArray[np.generic]] = {}
        if "embedding" in config.outputs:
            found["embedding"] = _on_cpu(result.output, np.float16)
        if "logits" in config.outputs:
            logits = _on_cpu(result.output, np.float32)
            found |= {"logits": logits} if config.top_logits is None else shorten(logits, config.top_logits)
        if kept is not None:
            found["features"] = _on_cpu(kept.take(), np.float16)
        found |= {f"hidden-{layer}": _on_cpu(result.hidden[layer], np.float16) for layer in layers}
        for name, values in found.items():
            demand_finite(values, whose="teacher", what=name, field=source.field, count=source.count, rows=batch)
            out.setdefault(name, np.empty((len(rows), *values.shape[1:]), dtype=values.dtype))[batch - first] = values
        pace.read(batch)
    return out


def _on_cpu(values: Tensor, dtype: type[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    array: npt.NDArray[np.floating[Any]] = values.float().cpu().numpy().astype(dtype)
    return array


def _is_whole(path: Path) -> bool:
    try:
        with safe_open(str(path), framework="np") as file:
            return bool(list(file.keys()))
    except (OSError, SafetensorError):
        return False


def _place(source: Path, target: Path) -> None:
    """Put a shard into the artifact and leave it in scratch: a kill in between must not cost the shard."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class _Stopwatch:
    """Seconds of work over all attempts of a step; kept in its scratch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.total = float(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            self.total = 0.0
        self._last = time.monotonic()

    def lap(self) -> None:
        """Add the time since the last lap."""
        now = time.monotonic()
        self.total += now - self._last
        self._last = now
        self._path.write_text(json.dumps(self.total), encoding="utf-8")
