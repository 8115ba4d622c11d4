"""Rival compressors: each reads `model.onnx` and calibration rows and writes a quantized `model.onnx`, with its own defaults.

    python quantizers.py TOOL MODE MODEL ROWS OUT

TOOL: `onnxruntime` (its own `quantization`, also the project's environment), `optimum` (ORTQuantizer with the avx512_vnni
settings) or `neural-compressor` (its ONNX part, onnx-neural-compressor). MODE: `dynamic` or `static`. ROWS: an .npz with
`lengths` int64 [rows] and, for each input of the model, int64 [rows, tokens], padded on the right; every row is given on its
own, without its padding. It runs in the tool's environment (`install-quantizer.sh`) and imports nothing of this project.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Feed = dict[str, Any]


def feeds(path: Path) -> list[Feed]:
    """Read the rows; int64 [1, tokens] for each input."""
    import numpy as np

    stored = dict(np.load(path))
    lengths = stored.pop("lengths")
    return [
        {name: values[row : row + 1, :length].astype(np.int64) for name, values in stored.items()}
        for row, length in enumerate(lengths)
    ]


class Reader:
    """Calibration rows as both ONNX Runtime and Neural Compressor ask for them."""

    def __init__(self, rows: list[Feed]) -> None:
        """Begin with the first row."""
        self._rows = rows
        self._left: Iterator[Feed] = iter(rows)

    def get_next(self) -> Feed | None:
        """Return the next row, None after the last."""
        return next(self._left, None)

    def rewind(self) -> None:
        """Begin anew."""
        self._left = iter(self._rows)


def with_onnxruntime(mode: str, model: Path, rows: Path, out: Path) -> None:
    """`onnxruntime.quantization` with nothing said beyond what it requires."""
    from onnxruntime.quantization import quantize_dynamic, quantize_static

    if mode == "dynamic":
        quantize_dynamic(model, out)
    else:
        quantize_static(model, out, Reader(feeds(rows)))


def with_optimum(mode: str, model: Path, rows: Path, out: Path) -> None:
    """Optimum's ORTQuantizer; static ranges by MinMax, its documented start."""
    from onnxruntime.quantization import CalibrationMethod
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig, CalibrationConfig

    with tempfile.TemporaryDirectory() as scratch:
        alone = Path(scratch) / "model"
        alone.mkdir()
        shutil.copyfile(model, alone / "model.onnx")
        quantizer = ORTQuantizer.from_pretrained(alone)
        config = AutoQuantizationConfig.avx512_vnni(is_static=mode == "static")
        ranges = None
        if mode == "static":
            dataset = [{name: values[0] for name, values in feed.items()} for feed in feeds(rows)]
            calibration = CalibrationConfig(
                dataset_name="docstrings",
                dataset_config_name="",
                dataset_split="",
                dataset_num_samples=len(dataset),
                method=CalibrationMethod.MinMax,
            )
            ranges = quantizer.fit(
                dataset=dataset,
                calibration_config=calibration,
                onnx_augmented_model_name=str(Path(scratch) / "augmented.onnx"),
                operators_to_quantize=config.operators_to_quantize,
            )
        made = Path(scratch) / "made"
        quantizer.quantize(quantization_config=config, save_dir=made, calibration_tensors_range=ranges)
        shutil.copyfile(made / "model_quantized.onnx", out)


def with_neural_compressor(mode: str, model: Path, rows: Path, out: Path) -> None:
    """Neural Compressor's `quantize` with its default configuration of the mode."""
    from onnx_neural_compressor.data_reader import CalibrationDataReader
    from onnx_neural_compressor.quantization import quantize
    from onnx_neural_compressor.quantization.config import DynamicQuantConfig, StaticQuantConfig

    class Rows(Reader, CalibrationDataReader):  # type: ignore[misc]  # it is untyped here
        """Of the class that it asks for."""

    config = DynamicQuantConfig() if mode == "dynamic" else StaticQuantConfig(calibration_data_reader=Rows(feeds(rows)))
    quantize(str(model), str(out), config)


TOOLS = {"onnxruntime": with_onnxruntime, "optimum": with_optimum, "neural-compressor": with_neural_compressor}


def main() -> None:
    """Read the command line and quantize."""
    tool, mode, model, rows, out = sys.argv[1:]
    TOOLS[tool](mode, Path(model), Path(rows), Path(out))


if __name__ == "__main__":
    main()
