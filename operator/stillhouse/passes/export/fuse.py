"""ONNX Runtime's transformer fusions: attention, layer norm with its skip, GELU with its bias, the embeddings."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

import onnx

__all__ = ["FUSED", "fuse"]

FUSED = ("Attention", "BiasGelu", "EmbedLayerNormalization", "MultiHeadAttention", "SkipLayerNormalization")


def fuse(model: onnx.ModelProto, heads: int, hidden_size: int) -> onnx.ModelProto:
    """Return `model` with what could be fused for `heads` attention heads of `hidden_size` / `heads` each.

    Only ONNX Runtime's own pattern rules are applied (`opt_level=0`): they do not depend on the machine. A graph in
    which nothing is recognised comes back as it is. Whether the result is right is for the caller's parity check.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with _quiet():
        made = optimizer.optimize_model(
            copy, model_type="bert", num_heads=heads, hidden_size=hidden_size, opt_level=0,
            optimization_options=FusionOptions("bert"),
        )  # fmt: skip
    fused: onnx.ModelProto = made.model
    _own_heads(fused, hidden_size // heads)
    return fused


def _own_heads(model: onnx.ModelProto, size: int) -> None:
    """Give every attention as many heads, of `size` each, as its weights have: of pruned ones the fusion does not know."""
    widths = {each.name: each.dims[1] // 3 for each in model.graph.initializer if len(each.dims) == 2}
    for node in model.graph.node:
        width = widths.get(node.input[1], 0) if node.op_type == "Attention" else 0
        if width and width % size == 0:
            for attribute in node.attribute:
                if attribute.name == "num_heads":
                    attribute.i = width // size


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        # The optimiser prints "failed in shape inference" for graphs that need no fusion of shapes: not for users.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
