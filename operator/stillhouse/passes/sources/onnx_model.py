"""Importing an ONNX model: what the graph takes and gives is held against the task; the artifact is one file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from stillhouse.api.source import TEXT_TASKS
from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.base import Context
from stillhouse.passes.export.macs import count_parameters
from stillhouse.passes.export.samples import feed
from stillhouse.passes.export.tidy import tidy, write_model
from stillhouse.passes.export.timing import open_session
from stillhouse.passes.sources.folder import SourceFolder, copy_file, read_json
from stillhouse.passes.sources.labels import label_order
from stillhouse.passes.sources.limits import chosen_max_length, feature_spec, image_spec
from stillhouse.passes.sources.numbers import check_numbers
from stillhouse.passes.sources.onnx_file import load_safely
from stillhouse.passes.sources.onnx_table import embedding_rows
from stillhouse.passes.sources.tokenizer import TokenizerInfo, inspect_tokenizer, refuse_code

__all__ = ["ImportedOnnx", "import_onnx"]

_ARRAYS = {
    "image-classification": "pixels [batch, channels, height, width]",
    "tabular-classification": "the columns [batch, columns]",
    "time-series-classification": "windows [batch, length, channels]",
}
_PROBABILITIES = ("probabilities", "output_probability")
"""What skl2onnx and onnxmltools call what a classifier says of its classes."""
_LEAST = 1e-6
"""A class that a tree has never seen in a leaf has a probability of 0, whose logarithm nobody could learn."""
_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, slots=True)
class ImportedOnnx:
    """What was found: `parameters` numbers in floating-point initializers, `dtypes` ONNX's names of their types."""

    signature: Signature
    tokenizer: TokenizerInfo | None
    parameters: int
    published_max_length: int
    dtypes: tuple[str, ...]


def import_onnx(config: Any, folder: SourceFolder, name: str, ctx: Context) -> ImportedOnnx:
    """Check `name` in `folder` and write an `onnx-model` artifact to `ctx.out`.

    `config` is the `ImportModelConfig`. The output becomes `sentence_embedding` or `logits`, whatever it was called. Of
    tables and time series one called `probabilities`, as exporters of trees and linear models call it, is taken for that: a
    softmax of its logarithm gives it back.

    Raises:
        UnsafeSource: external data or operators that reach outside the file's folder or need foreign code.
        SourceError: the graph is damaged, too new for the installed runtime, or does not fit the task.
    """
    ctx.progress.update(0, None, "", "reading the graph")
    model = load_safely(folder, name, ctx.progress)
    configuration = read_json(folder.path("config.json"), "config.json") if folder.has("config.json") else {}
    refuse_code(configuration, "config.json")
    embedding = config.task == "sentence-embedding"
    inputs = _inputs(model, config.task)
    output = _output(model, "sentence_embedding" if embedding else "logits", likely=_PROBABILITIES if config.features else ())
    if config.features is not None and model.graph.output[0].name in _PROBABILITIES:
        _take_logarithm(model)
    labels = () if embedding else label_order(configuration, config.labels)
    if labels and output:
        _check_labels(labels, output)
    tokenizer, length, published = None, 0, 0
    clean = tidy(model, "sentence_embedding" if embedding else "logits")
    if config.task in TEXT_TASKS:
        stated = configuration.get("vocab_size")
        rows = embedding_rows(clean.graph) or (stated if isinstance(stated, int) else None)
        check_numbers(configuration, ("vocab_size", "max_position_embeddings", "pad_token_id"))
        tokenizer = inspect_tokenizer(folder, configuration, rows)
        length, published = chosen_max_length(config.max_length, folder, configuration)
        copy_file(folder.path(TOKENIZER_FILE), ctx.out / TOKENIZER_FILE)
    ctx.progress.update(0, None, "", "writing the graph")
    size = write_model(clean, ctx.out / "model.onnx")
    ctx.progress.update(size, size, "bytes", "trying the graph")
    signature = Signature(
        task=config.task,
        inputs=inputs,
        output=clean.graph.output[0].name,
        dimension=output or len(labels),
        labels=labels,
        max_length=length,
        pad_id=tokenizer.pad_id if tokenizer else 0,
        tokenizer_digest=tokenizer.digest if tokenizer else "",
        image=image_spec(config.image),
        features=feature_spec(config.features),
    )
    dimension = _try(ctx.out / "model.onnx", signature, tokenizer.rows if tokenizer else 0, ctx.threads)
    if labels:
        _check_labels(labels, dimension)
    signature = Signature.from_json({**signature.to_json(), "dimension": dimension})
    signature.write(ctx.out)
    kinds = sorted({onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in clean.graph.initializer})
    return ImportedOnnx(signature, tokenizer, count_parameters(clean).total, published, tuple(kinds))


def _check_labels(labels: tuple[str, ...], outputs: int) -> None:
    if outputs != len(labels):
        raise SourceError(
            "the labels do not fit the graph",
            field="source.labels",
            found=f"{len(labels)} labels, {outputs} outputs",
            allowed=f"{outputs} labels",
            fix="list source.labels in the order of the model's outputs",
        )


def _inputs(model: onnx.ModelProto, task: str) -> tuple[str, ...]:
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in weights]
    if task not in TEXT_TASKS:
        fits, allowed = len(names) == 1, f"one input: {_ARRAYS[task]}"
        ordered = names
    else:
        fits, allowed = set(names) <= set(_TEXT_INPUTS) and "input_ids" in names, ", ".join(_TEXT_INPUTS)
        ordered = [name for name in _TEXT_INPUTS if name in names]
    if not fits:
        raise SourceError(
            "the graph's inputs do not fit the task",
            field="source.task",
            found=f"{task}; inputs {', '.join(names)}"[:300],
            allowed=allowed,
            fix="export the model again with these input names",
        )
    return tuple(ordered)


def _output(model: onnx.ModelProto, wanted: str, likely: tuple[str, ...] = ()) -> int:
    """Reduce the graph to its one output of two dimensions; return that one's width, 0 where the graph leaves it open.

    `likely`: names that do as well where `wanted` is none.
    """
    values = list(model.graph.output)
    flat = [value for value in values if len(value.type.tensor_type.shape.dim) == 2 and _is_float(value)]
    named = [value for value in flat if value.name == wanted]
    named = named or [value for value in flat if value.name in likely]
    maps = next((value.name for value in values if value.type.HasField("sequence_type")), None)
    if len(named or flat) != 1 and maps is not None:
        raise SourceError(
            f"the graph's output {maps} is a list of maps, not a tensor",
            field="source.uri",
            found=", ".join(value.name for value in values)[:300],
            allowed="one float output [batch, width]",
            fix="export it again without ZipMap: convert_sklearn(…, options={'zipmap': False})",
        )
    if len(named or flat) != 1:
        shapes = ", ".join(f"{value.name} with {len(value.type.tensor_type.shape.dim)} dimensions" for value in values)
        raise SourceError(
            f"the graph has no output that can be the {wanted}",
            field="source.uri",
            found=shapes[:300],
            allowed=f"one float output [batch, width], called {wanted} where there are several",
            fix="export the model with its pooling (or head) inside the graph",
        )
    chosen = (named or flat)[0]
    del model.graph.output[:]
    model.graph.output.append(chosen)
    return int(chosen.type.tensor_type.shape.dim[1].dim_value)


def _take_logarithm(model: onnx.ModelProto) -> None:
    """Let the graph give the logarithms of its one output, which are probabilities."""
    graph, given = model.graph, model.graph.output[0]
    least, kept, name = (f"stillhouse_{each}" for each in ("least", "kept", "logits"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(_LEAST, dtype=np.float32), least))
    graph.node.extend([onnx.helper.make_node("Max", [given.name, least], [kept]), onnx.helper.make_node("Log", [kept], [name])])
    given.name = name


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)


def _try(path: Path, signature: Signature, vocabulary: int, threads: int) -> int:
    """Open the model, run two batches of different shape, return the width of its output."""
    try:
        session = open_session(path, threads)
        for batch, length in ((1, 4), (3, 7)):
            output = session.run(None, feed(signature, batch, length, vocabulary))[0]
            if output.ndim != 2 or output.shape[0] != batch or not np.isfinite(output).all():
                raise ValueError(f"output of shape {list(output.shape)} for a batch of {batch}, or numbers that are not finite")
    except Exception as error:  # ONNX Runtime raises many kinds
        raise SourceError(
            "the installed ONNX Runtime cannot run the graph",
            field="source.uri",
            found=f"{error}".splitlines()[0][:300],
            allowed="a graph with a dynamic batch and sequence that gives one float output [batch, width]",
            fix="export it again: opset 17, dynamic axes for batch and sequence",
        ) from error
    return int(output.shape[1])
