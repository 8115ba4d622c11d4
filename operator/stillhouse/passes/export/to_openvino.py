"""`export-openvino`: OpenVINO's IR, for Intel's CPUs, GPUs and NPUs. Any number of rows and tokens."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillhouse.passes.export.elsewhere import Elsewhere, ExportedConfig, Made, Shape, described
from stillhouse.passes.export.plain import plain_graph
from stillhouse.passes.export.samples import Feed

__all__ = ["ToOpenVino"]


class ToOpenVino(Elsewhere):
    """`model.xml` and `model.bin`, run on this machine's CPU."""

    name = "export-openvino"
    form = "openvino"

    def convert(self, model: Path, network: Path | None, shape: Shape, config: ExportedConfig, out: Path) -> Made:
        """Read the ONNX graph by OpenVINO's own reader."""
        # Its Python package tells its maker of every import and conversion, unless the package that tells is not there.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino as ov

        graph = plain_graph(model, network, out)
        core = ov.Core()
        ov.save_model(core.read_model(graph), out / "model.xml", compress_to_fp16=config.precision == "fp16")
        if graph.parent == out:
            graph.unlink()
        read = core.read_model(out / "model.xml")
        compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})

        def answer(rows: Feed) -> NDArray[np.float32]:
            found: NDArray[np.float32] = compiled(rows)[0]
            return found

        inputs = {
            each.get_any_name(): (each.get_element_type().get_type_name(), [_written(side) for side in each.get_partial_shape()])
            for each in read.inputs
        }
        return Made(f"openvino {ov.__version__.split('-')[0]}", described(inputs), answer, operators=len(read.get_ops()))


def _written(side: object) -> str:
    return "n" if getattr(side, "is_dynamic", False) else str(side)
