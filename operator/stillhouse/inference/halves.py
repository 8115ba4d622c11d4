"""A model that was cut in two (`passes/compress/cut.py`): the lower half at the edge, the upper one in the cloud.

Folder: `lower.onnx`, `upper.onnx`, `cut.json`, and the whole model's `signature.json` and tokenizer. Between the halves travel
the tensors of the cut, encoded or plain (`inference.encodings`), and those inputs of the model that the upper half reads too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stillhouse.errors import MissingPackages, SourceError, SpecError
from stillhouse.inference.datatypes import Tensor, TensorSpec
from stillhouse.inference.encodings import Encoding, decode, encode
from stillhouse.inference.preprocess.config import read

__all__ = ["CUT_FILE", "Cut", "HalfSession", "travelled"]

CUT_FILE = "cut.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a model was cut: `tensors` travel, `lower` and `upper` are the inputs of the halves, `output` is what comes out."""

    tensors: tuple[TensorSpec, ...]
    lower: tuple[str, ...]
    upper: tuple[str, ...]
    output: str
    encoding: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "version": VERSION,
            "tensors": [each.to_json() for each in self.tensors],
            "lower": list(self.lower),
            "upper": list(self.upper),
            "output": self.output,
            "encoding": self.encoding,
        }

    @classmethod
    def read(cls, folder: Path) -> Cut:
        """Read `cut.json`.

        Raises:
            SourceError: it is missing, of another version, or not readable.
        """
        path = folder / CUT_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("version") != VERSION:
                raise ValueError("another version")
            return read(cls, data, CUT_FILE)
        except (OSError, ValueError, KeyError, AttributeError, TypeError, SpecError) as error:
            raise SourceError("the cut is not readable", field=str(path), found=str(error)[:200]) from error


class HalfSession:
    """One half, run on the CPU. `run` may be called from several threads at once."""

    def __init__(self, folder: Path, which: Literal["lower", "upper"], threads: int = 1, *, optimised: bool = True) -> None:
        """Load a half.

        Raises:
            SourceError: it is not readable, or its tensors are not those of the cut.
            MissingPackages: ONNX Runtime is not installed.
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingPackages("running a model needs ONNX Runtime", found=str(error)) from error
        self.cut = cut = Cut.read(folder)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if not optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        path = folder / f"{which}.onnx"
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has one exception class per status code, without a common base
            raise SourceError("the half is not readable", field=str(path), found=str(error)[:300]) from error
        self.inputs = cut.lower if which == "lower" else cut.upper
        self._outputs = [each.name for each in cut.tensors] if which == "lower" else [cut.output]
        names = {each.name for each in self._session.get_inputs()}
        if names != set(self.inputs) or not {each.name for each in self._session.get_outputs()} >= set(self._outputs):
            found = ", ".join(sorted(names))
            raise SourceError("the half's tensors are not those of the cut", field=str(path), found=found)

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the half; of `tensors` it takes its inputs. Returns the cut's tensors, or the model's output, by name."""
        found = self._session.run(self._outputs, {name: tensors[name] for name in self.inputs})
        return dict(zip(self._outputs, found, strict=True))


def travelled(tensors: Mapping[str, Tensor], encoding: str) -> dict[str, Tensor]:
    """Return tensors as they are after their way: FP32 encoded and decoded, the others as they were.

    Raises:
        DataError: the encoding does not hold a value.
    """
    if not encoding:
        return dict(tensors)
    how = Encoding.parse(encoding, "encoding")
    return {
        name: decode(name, encode(name, tensor, how)) if tensor.dtype == "float32" else tensor for name, tensor in tensors.items()
    }
