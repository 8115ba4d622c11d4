"""One ONNX Runtime session, set up for sharing cores with a server."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.errors import MissingPackages, SourceError
from stillhouse.extras import install
from stillhouse.inference.options import session_options, way_out
from stillhouse.inference.signature import Signature

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["MODEL_FILE", "ModelSession"]

MODEL_FILE = "model.onnx"
_FIX = "build the model again: still rebuild NAME"


class ModelSession:
    """An ONNX model of one file, run on the CPU. `run` may be called from several threads at once."""

    def __init__(self, folder: Path, signature: Signature, threads: int) -> None:
        """Load `model.onnx` of `folder`.

        Args:
            folder: the artifact.
            signature: its inputs and output; compared with the graph's.
            threads: intra-op threads.

        Raises:
            SourceError: not a readable model, or inputs and outputs differ from the signature's.
            MissingPackages: ONNX Runtime is not installed.
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingPackages("running a model needs ONNX Runtime", found=str(error), fix=install("serve")) from error
        path, options = folder / MODEL_FILE, session_options(threads)
        try:
            # Its falling back would be to the same provider once more, told on standard output.
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=False)
            found = tuple(value.name for value in self._session.get_inputs())
            shapes = {value.name: value.shape for value in self._session.get_outputs()}
        except Exception as error:  # ONNX Runtime has one exception class per status code, without a common base
            raise SourceError("the model is not readable", field=str(path), found=str(error), fix=way_out(error, _FIX)) from error
        if set(found) != set(signature.inputs) or signature.output not in shapes:
            raise SourceError(
                "the model's inputs and outputs differ from its signature's",
                field=str(path),
                found=f"inputs {', '.join(found)}; outputs {', '.join(shapes)}",
                allowed=f"inputs {', '.join(signature.inputs)}; output {signature.output}",
                fix=_FIX,
            )
        shape = shapes[signature.output]
        if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != signature.dimension):
            raise SourceError(
                "the model's output differs from its signature's",
                field=str(path),
                found=f"{signature.output} {shape}",
                allowed=f"[batch, {signature.dimension}]",
                fix=_FIX,
            )
        self._outputs = [signature.output]
        self._path = path

    def scales_by_run(self) -> bool:
        """Say whether the model takes the scale of its activations from all rows of a run (dynamic quantization).

        There a row's answer depends on its neighbours. An operator's name stands in the file as it is; reading the graph needs a
        package that no server has.
        """
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"DynamicQuantizeLinear") >= 0 or content.find(b"DynamicQuantizeLSTM") >= 0

    def run(self, feed: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
        """Run the model once; `feed` maps input name to array. Returns the signature's output, float32."""
        result: npt.NDArray[np.float32] = self._session.run(self._outputs, dict(feed))[0]
        return result
