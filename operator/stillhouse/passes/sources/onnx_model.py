"""Importing an ONNX model: what the graph takes and gives is held against the task; the artifact is one file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

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
from stillhouse.passes.sources.limits import chosen_max_length, image_spec
from stillhouse.passes.sources.numbers import check_numbers
from stillhouse.passes.sources.onnx_file import load_safely
from stillhouse.passes.sources.onnx_table import embedding_rows
from stillhouse.passes.sources.tokenizer import TokenizerInfo, inspect_tokenizer, refuse_code

__all__ = ["ImportedOnnx", "import_onnx"]

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

    `config` is the `ImportModelConfig`. The output becomes `sentence_embedding` or `logits`, whatever it was called.

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
    output = _output(model, "sentence_embedding" if embedding else "logits")
    labels = () if embedding else label_order(configuration, config.labels)
    if labels and output:
        _check_labels(labels, output)
    tokenizer, length, published = None, 0, 0
    clean = tidy(model, "sentence_embedding" if embedding else "logits")
    if config.task != "image-classification":
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
    if task == "image-classification":
        fits, allowed = len(names) == 1, "one input: pixels [batch, channels, height, width]"
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


def _output(model: onnx.ModelProto, wanted: str) -> int:
    """Reduce the graph to its one output of two dimensions; return that one's width, 0 where the graph leaves it open."""
    values = list(model.graph.output)
    flat = [value for value in values if len(value.type.tensor_type.shape.dim) == 2 and _is_float(value)]
    named = [value for value in flat if value.name == wanted]
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


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)


def _try(path: Path, signature: Signature, vocabulary: int, threads: int) -> int:
    """Open the model, run two batches of different shape, return the width of its output."""
    import numpy as np

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
