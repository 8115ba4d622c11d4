"""`export-litert`: a .tflite file for LiteRT (TensorFlow Lite) on phones and microcontrollers. One shape of rows and tokens."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillhouse.errors import SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.export.elsewhere import Elsewhere, ExportedConfig, Made, Shape, described
from stillhouse.passes.export.samples import Feed, feed

__all__ = ["ToLiteRt"]


class ToLiteRt(Elsewhere):
    """`model.tflite`, run by LiteRT's interpreter on this machine."""

    name = "export-litert"
    form = "litert"

    def convert(self, model: Path, network: Path | None, shape: Shape, config: ExportedConfig, out: Path) -> Made:
        """Convert the network by litert-torch: it reads torch's own graph, and no ONNX."""
        import litert_torch
        import torch
        from ai_edge_litert.interpreter import Interpreter

        from stillhouse.passes.models.artifact import load

        assert network is not None  # planning refuses it
        if config.precision == "fp16":
            raise SpecError(
                "litert is written in FP32 in this version",
                field="spec.export.precision",
                found="fp16",
                allowed="fp32",
                fix="leave precision out; LiteRT's own tools make smaller ones of the file",
            )
        signature = Signature.read(model)
        example = feed(signature, shape.batch, shape.tokens, 1, padded=False)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
            converted = litert_torch.convert(
                load(network, "eager", "network").eval(), tuple(torch.from_numpy(each) for each in example.values())
            )
            converted.export(str(out / "model.tflite"))
        interpreter = Interpreter(model_path=str(out / "model.tflite"), num_threads=1)
        runner = interpreter.get_signature_runner()
        names = dict(zip(runner.get_input_details(), signature.inputs, strict=True))
        details = runner.get_input_details()

        def answer(rows: Feed) -> NDArray[np.float32]:
            given = {theirs: rows[ours].astype(details[theirs]["dtype"]) for theirs, ours in names.items()}
            found: NDArray[np.float32] = next(iter(runner(**given).values()))
            return found

        inputs = {
            f"{theirs} ({ours})": (np.dtype(details[theirs]["dtype"]).name, list(details[theirs]["shape"]))
            for theirs, ours in names.items()
        }
        version = importlib.metadata.version("litert-torch")
        operators = len(interpreter._get_ops_details())
        return Made(f"litert-torch {version}", described(inputs), answer, shape, operators=operators)
