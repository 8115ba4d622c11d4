"""`import-step`: bring the ONNX file of a pipeline's step into the store: what it takes and gives, tried once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from stillhouse.errors import SourceError
from stillhouse.inference.steps import Step, Tensor, write_steps
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.export.macs import count_parameters
from stillhouse.passes.export.tidy import tidy_as_it_is, write_model
from stillhouse.passes.export.timing import open_session
from stillhouse.passes.sources.folder import SourceFolder
from stillhouse.passes.sources.onnx_file import load_safely
from stillhouse.passes.sources.pinned import readable, refuse_changed

__all__ = ["STEP_MODEL", "ImportStep", "ImportStepConfig", "StepFacts"]

STEP_MODEL = "model.onnx"
_TYPES = {
    "FLOAT": "FP32", "DOUBLE": "FP64", "FLOAT16": "FP16", "INT8": "INT8", "INT16": "INT16", "INT32": "INT32", "INT64": "INT64",
    "UINT8": "UINT8", "UINT16": "UINT16", "UINT32": "UINT32", "UINT64": "UINT64", "BOOL": "BOOL", "STRING": "BYTES",
}  # fmt: skip
"""ONNX's name of a type → the protocol's."""
_BATCHES = (1, 3)


class ImportStepConfig(PassConfig):
    """What planning asks for: the file's digest, and how the step is joined: see `inference.steps.Step`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    digest: str
    name: str
    position: int
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What was imported: the step as `inference.steps.Step` says it, and the number of its weights."""

    step: dict[str, Any]
    source_digest: str
    parameters: int


class ImportStep(Pass[ImportStepConfig, StepFacts]):
    """A .onnx file over tensors → `onnx-step`."""

    name = "import-step"
    version = 1
    kind = "onnx-step"
    config_type = ImportStepConfig

    def run(self, config: ImportStepConfig, inputs: Mapping[str, Artifact], ctx: Context) -> StepFacts:
        """Check `ctx.source` and write the artifact: `model.onnx`, and `pipeline.json` of this one step.

        Raises:
            UnsafeSource: external data or operators that reach outside the file's folder or need foreign code.
            SourceError: it is no ONNX file, or one whose rows cannot be batched, or the installed runtime cannot run it.
        """
        if ctx.source is None or not ctx.source.exists():
            raise SourceError("the source is gone", field="source.uri", found=str(ctx.source), fix="run the command again")
        with readable(ctx, "source.uri"):
            facts = _import(config, ctx.source, ctx)
            refuse_changed(ctx.source, config.digest, "source.uri")
        return facts


def _import(config: ImportStepConfig, source: Path, ctx: Context) -> StepFacts:
    if source.is_file():
        folder, name = SourceFolder.open(source.parent), source.name
    else:
        folder = SourceFolder.open(source)
        graphs = [each for each in sorted(folder.files) if each.endswith(".onnx")]
        if len(graphs) != 1:
            raise SourceError(
                "a step is one ONNX file",
                field="source.uri",
                found=", ".join(graphs[:8]) or ", ".join(sorted(folder.files)[:8]),
                allowed="a .onnx file, or a folder with one",
                fix=f"name one of them: …/{graphs[0]}" if graphs else "export the step to ONNX",
            )
        name = graphs[0]
    ctx.progress.update(0, None, "", "reading the graph")
    model = tidy_as_it_is(load_safely(folder, name, ctx.progress))
    takes = _takes(model)
    write_model(model, ctx.out / STEP_MODEL)
    step = Step(config.name, config.inputs, config.outputs, takes, _tried(ctx.out / STEP_MODEL, model, takes, ctx.threads))
    write_steps([step], ctx.out)
    return StepFacts(step.to_json(), config.digest, count_parameters(model).total)


def _takes(model: onnx.ModelProto) -> tuple[Tensor, ...]:
    weights = {each.name for each in model.graph.initializer}
    found = []
    for value in model.graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        datatype = _datatype(value)
        dims = [each.dim_value if each.HasField("dim_value") else 0 for each in kind.shape.dim]
        if not datatype or not dims or dims[0] > 0 or not all(each > 0 for each in dims[1:]):
            raise SourceError(
                "an input of a step cannot be batched",
                field="source.uri",
                found=f"{value.name}: {datatype or 'no tensor that a server knows'} "
                f"[{', '.join(str(each or '?') for each in dims)}]",
                allowed="tensors [rows, …]: the first dimension open, the others fixed",
                fix="export it again with a dynamic first dimension and fixed others",
            )
        found.append(Tensor(value.name, datatype, tuple(dims[1:]) or (1,), flat=len(dims) == 1))
    return tuple(found)


def _datatype(value: onnx.ValueInfoProto) -> str:
    if not value.type.HasField("tensor_type"):
        return ""
    return _TYPES.get(onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type), "")


def _tried(path: Path, model: onnx.ModelProto, takes: tuple[Tensor, ...], threads: int) -> tuple[Tensor, ...]:
    """Run two batches; return the outputs with the shapes that they had. Outputs that are no tensors are left out."""
    import numpy as np

    names = {value.name: _datatype(value) for value in model.graph.output}
    wanted = [name for name, datatype in names.items() if datatype]
    shapes: dict[str, set[tuple[int, ...]]] = {name: set() for name in wanted}
    try:
        session = open_session(path, threads)
        for rows in _BATCHES:
            feed = {each.name: _made_up(each, rows) for each in takes}
            for name, array in zip(wanted, session.run(wanted, feed), strict=True):
                found = np.asarray(array)
                if not found.ndim or found.shape[0] != rows:
                    raise ValueError(f"{name} has shape {list(found.shape)} for {rows} rows")
                shapes[name].add(found.shape[1:])
                if len(shapes[name]) > 1:
                    raise ValueError(f"{name} has another shape with other rows: {sorted(shapes[name])}")
    except Exception as error:  # ONNX Runtime raises many kinds
        raise SourceError(
            "the installed ONNX Runtime cannot run the step's graph row by row",
            field="source.uri",
            found=f"{error}".splitlines()[0][:300],
            allowed="a graph whose every output has a row for each row that is given, of one shape",
            fix="export it again: opset 17, the batch as the first dimension of every input and output",
        ) from error
    return tuple(Tensor(name, names[name], *_shape(shapes[name].pop())) for name in wanted)


def _shape(shape: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    return (shape, False) if shape else ((1,), True)


def _made_up(tensor: Tensor, rows: int) -> Any:
    import numpy as np

    shape = (rows,) if tensor.flat else (rows, *tensor.shape)
    if tensor.datatype == "BYTES":
        return np.full(shape, "a", dtype=object)
    kinds = {"FP32": np.float32, "FP64": np.float64, "FP16": np.float16, "BOOL": np.bool_}
    kind = kinds.get(tensor.datatype) or np.dtype(tensor.datatype.lower())
    return np.random.default_rng(0).random(shape).astype(kind)
