"""torch.onnx's two exporters behind one signature.

`legacy` traces (TorchScript) and gives a graph that ONNX Runtime's transformer fusions recognise; `dynamo` goes through
torch.export and follows newer models. Neither is always faster: the pass measures.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import torch

from stillhouse.inference.signature import Signature
from stillhouse.passes.export.samples import Feed

__all__ = ["EXPORTERS", "dynamo", "legacy"]

_OUTPUT = "stillhouse_output"
"""A name that no module has: an output called like a value inside gives an invalid graph. `tidy` gives it its real name."""
_LEGACY_OPSETS = (14, 20)
_DYNAMO_OPSET = 18


def legacy(network: torch.nn.Module, signature: Signature, example: Feed, opset: int) -> onnx.ModelProto:
    """Trace `network` on `example`; batch and sequence are dynamic. `opset` is kept within what the exporter writes (14…20).

    Raises:
        Exception: whatever torch finds impossible to trace.
    """
    axes: dict[str, dict[int, str]] = {name: _axes(signature) for name in example}
    axes[_OUTPUT] = {0: "batch"}
    buffer = io.BytesIO()
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            network,
            tuple(torch.from_numpy(value) for value in example.values()),
            buffer,
            dynamo=False,
            opset_version=min(max(opset, _LEGACY_OPSETS[0]), _LEGACY_OPSETS[1]),
            input_names=list(signature.inputs),
            output_names=[_OUTPUT],
            dynamic_axes=axes,
            do_constant_folding=True,
        )
    return onnx.load_model_from_string(buffer.getvalue())


def dynamo(network: torch.nn.Module, signature: Signature, example: Feed, opset: int) -> onnx.ModelProto:
    """Export `network` by torch.export; batch and sequence are dynamic. Opsets below 18 become 18.

    Raises:
        Exception: whatever torch.export finds impossible.
    """
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    sequence = torch.export.Dim("sequence", min=1, max=max(signature.max_length, 2))
    shapes = tuple({0: batch, 1: sequence} if signature.takes_texts else {0: batch} for _ in example)
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            network,
            tuple(torch.from_numpy(value) for value in example.values()),
            dynamo=True,
            opset_version=max(opset, _DYNAMO_OPSET),
            input_names=list(signature.inputs),
            output_names=[_OUTPUT],
            # Network.forward takes *inputs, which torch.export sees as one tuple.
            dynamic_shapes=(shapes,),
            external_data=False,
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    return model


EXPORTERS = {"legacy": legacy, "dynamo": dynamo}


def _axes(signature: Signature) -> dict[int, str]:
    return {0: "batch", 1: "sequence"} if signature.takes_texts else {0: "batch"}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings, progress lines and dumps of graphs off the terminal; what matters comes out of the checks."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.onnx._internal")]
    levels = [logger.level for logger in loggers]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        _silent_c(),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _silent_c() -> Iterator[None]:
    """Send what torch's C++ prints nowhere: the graph of a network that it cannot trace, on standard output."""
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # it may be closed
                stream.flush()
    library = ctypes.CDLL(None)
    with contextlib.ExitStack() as held:
        try:
            kept = os.dup(1)
        except OSError:  # there is no standard output
            yield
            return
        held.callback(os.close, kept)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        held.callback(os.close, nowhere)
        library.fflush(None)  # C keeps a buffer of its own: what was said before goes where it was meant to
        os.dup2(nowhere, 1)
        try:
            yield
        finally:
            library.fflush(None)
            os.dup2(kept, 1)
