"""A step's graph, run on the CPU: in Triton's backend, in the gateway's process, and by the gate on what the teacher says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillhouse.errors import MissingPackages, SourceError
from stillhouse.extras import install
from stillhouse.inference.options import session_options, way_out

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["StepSession"]


class StepSession:
    """An ONNX graph over tensors whose first dimension are the rows. `run` may be called from several threads at once."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load the graph.

        Raises:
            SourceError: it is not readable.
            MissingPackages: ONNX Runtime is not installed.
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingPackages("running a step needs ONNX Runtime", found=str(error), fix=install("serve")) from error
        options = session_options(threads)
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has one exception class per status code, without a common base
            raise SourceError(
                "a step's graph is not readable", field=str(path), found=str(error), fix=way_out(error, "")
            ) from error
        self._flat = {each.name for each in self._session.get_inputs() if len(each.shape) == 1}

    def run(self, feed: Mapping[str, npt.NDArray[Any]], wanted: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
        """Run the graph; tensors are `[rows, …]` on both sides, also those of the rows alone: `[rows, 1]`.

        Texts are taken as `str` or `bytes` in arrays of objects, and given as `bytes`.

        Raises:
            Exception: ONNX Runtime's own.
        """
        names = list(wanted)
        answers = self._session.run(names, {name: self._taken(name, array) for name, array in feed.items()})
        return {name: _given(array) for name, array in zip(names, answers, strict=True)}

    def _taken(self, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if array.dtype == object:
            array = _each(array, lambda value: value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
        return array.reshape(len(array)) if name in self._flat else array


def _given(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    import numpy as np

    if array.dtype.kind in "OU":
        array = _each(array, lambda value: str(value).encode("utf-8"))
    return np.ascontiguousarray(array.reshape(len(array), 1) if array.ndim == 1 else array)


def _each(array: npt.NDArray[Any], change: Any) -> npt.NDArray[Any]:
    import numpy as np

    found = np.empty(array.size, dtype=object)
    found[:] = [change(value) for value in array.ravel()]
    return found.reshape(array.shape)
