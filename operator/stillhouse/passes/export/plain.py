"""Graphs as other runtimes read them: of ONNX's own operators."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.export.samples import feed
from stillhouse.passes.sources.tokenizer import vocabulary_rows

__all__ = ["link", "plain_graph"]

MODEL_FILE = "model.onnx"


def plain_graph(model: Path, network: Path | None, out: Path) -> Path:
    """Return an ONNX file of standard operators: the model's own, or one made anew in `out` where that has fused ones.

    Raises:
        SourceError: it has fused operators, and there is no network to make it from.
    """
    graph = onnx.load(model / MODEL_FILE, load_external_data=False)
    strange = sorted({f"{node.domain}:{node.op_type}" for node in graph.graph.node if node.domain not in ("", "ai.onnx")})
    if not strange:
        return model / MODEL_FILE
    if network is None:
        raise SourceError(
            "the graph has operators that only ONNX Runtime knows",
            field="source.uri",
            found=", ".join(strange)[:200],
            allowed="the operators of ONNX",
            fix="give the graph as it was before it was optimised",
        )
    from stillhouse.passes.export.exporters import legacy
    from stillhouse.passes.export.tidy import tidy, write_model
    from stillhouse.passes.models.artifact import load

    signature = Signature.read(model)
    example = feed(signature, 2, min(16, signature.max_length or 16), vocabulary_rows(model))
    made = legacy(load(network, "eager", "network"), signature, example, 17)
    target = out / MODEL_FILE
    write_model(tidy(made, signature.output), target)
    return target


def link(source: Path, target: Path) -> None:
    """Put a file of another artifact into this one, without a copy where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
