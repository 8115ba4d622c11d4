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

from stillhouse.errors import DataError, MissingPackages, SourceError, SpecError
from stillhouse.extras import install
from stillhouse.inference.datatypes import Tensor, TensorSpec
from stillhouse.inference.encodings import Encoded, Encoding, decode, encode
from stillhouse.inference.options import session_options, way_out
from stillhouse.inference.preprocess.config import read
from stillhouse.planning.upper import UPPER

__all__ = ["CUT_FILE", "MARK", "UPPER", "Cut", "HalfSession", "packed", "sent", "travelled", "unpacked"]

CUT_FILE = "cut.json"
VERSION = 1
_FIX = "build the model again: still rebuild NAME"
MARK = "CUT"
"""Tensor INT64 [n, 1] that goes with every row: which cut it is of. The halves of two builds fit each other in shape alone."""
_BATCHED = ("", "fp16", "int8-rows")
"""Encodings that are types of tensors, each row for itself."""
_SCALE, _ZERO = ".scale", ".zero"


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a model was cut: `tensors` travel, `lower` and `upper` are the inputs of the halves, `output` is what comes out.

    `mark` is a number that no other cut has (0: none).
    """

    tensors: tuple[TensorSpec, ...]
    lower: tuple[str, ...]
    upper: tuple[str, ...]
    output: str
    encoding: str = ""
    mark: int = 0

    def __post_init__(self) -> None:
        """Refuse what no cut can be.

        Raises:
            ValueError: a part does not belong to the others.
        """
        names = [each.name for each in self.tensors]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"tensors {', '.join(names)}")
        if self.encoding:
            try:
                Encoding.parse(self.encoding, "encoding")
            except DataError as error:
                raise ValueError(f"encoding {self.encoding}") from error
        if not 0 <= self.mark < 2**63:
            raise ValueError(f"mark {self.mark}")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "version": VERSION,
            "tensors": [each.to_json() for each in self.tensors],
            "lower": list(self.lower),
            "upper": list(self.upper),
            "output": self.output,
            "encoding": self.encoding,
            "mark": self.mark,
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
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError, SpecError) as error:
            raise SourceError("the cut is not readable", field=str(path), found=str(error)[:200], fix=_FIX) from error


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
            raise MissingPackages("running a model needs ONNX Runtime", found=str(error), fix=install("serve")) from error
        self.cut = cut = Cut.read(folder)
        options = session_options(threads)
        if not optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        path = folder / f"{which}.onnx"
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=False)
            names = {each.name for each in self._session.get_inputs()}
            given = {each.name for each in self._session.get_outputs()}
        except Exception as error:  # ONNX Runtime has one exception class per status code, without a common base
            raise SourceError(
                "the half is not readable", field=str(path), found=str(error)[:300], fix=way_out(error, _FIX)
            ) from error
        self.inputs = cut.lower if which == "lower" else cut.upper
        self._outputs = [each.name for each in cut.tensors] if which == "lower" else [cut.output]
        if names != set(self.inputs) or not given >= set(self._outputs):
            found = ", ".join(sorted(names))
            raise SourceError("the half's tensors are not those of the cut", field=str(path), found=found, fix=_FIX)

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


def sent(cut: Cut) -> tuple[TensorSpec, ...]:
    """Return what the upper half is sent, rows first, in types that every server of the protocol knows.

    FP32 goes as `encoding` says: FP16, or INT8 with FP64 `NAME.scale` and INT64 `NAME.zero` [n, 1].

    Raises:
        SourceError: the encoding is none that a server could batch.
    """
    if cut.encoding not in _BATCHED:
        raise SourceError(
            "rows that are encoded so cannot be batched", field="encoding", found=cut.encoding, allowed="fp16, int8-rows"
        )
    found = [TensorSpec(MARK, "INT64", (-1, 1))]
    for each in cut.tensors:
        if each.datatype != "FP32" or not cut.encoding:
            found.append(each)
        elif cut.encoding == "fp16":
            found.append(TensorSpec(each.name, "FP16", each.shape))
        else:
            found.append(TensorSpec(each.name, "INT8", each.shape))
            found.append(TensorSpec(each.name + _SCALE, "FP64", (-1, 1)))
            found.append(TensorSpec(each.name + _ZERO, "INT64", (-1, 1)))
    names = {each.name for each in cut.tensors}
    found += [TensorSpec(name, "INT64", (-1, -1)) for name in cut.upper if name not in names]
    return tuple(found)


def packed(cut: Cut, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of `sent`. `tensors`: what the lower half gave, and the model's inputs.

    Raises:
        DataError: the encoding does not hold a value.
    """
    import numpy as np

    rows = len(tensors[cut.tensors[0].name])
    found: dict[str, Tensor] = {MARK: np.full((rows, 1), cut.mark, np.int64)}
    for name in dict.fromkeys((*(each.name for each in cut.tensors), *cut.upper)):
        tensor = tensors[name]
        if tensor.dtype != np.float32 or not cut.encoding:
            found[name] = tensor
            continue
        made = encode(name, tensor, Encoding.parse(cut.encoding, "encoding"))
        kind = np.dtype("<f2") if cut.encoding == "fp16" else np.dtype("i1")
        found[name] = np.frombuffer(made.data, kind).reshape(made.shape)
        if cut.encoding != "fp16":
            found[name + _SCALE] = np.array(made.scale, np.float64)[:, np.newaxis]
            found[name + _ZERO] = np.array(made.zero, np.int64)[:, np.newaxis]
    return found


def unpacked(cut: Cut, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the upper half takes, of the tensors of `sent`.

    Raises:
        DataError: they are of another cut, or a scale or zero is none.
    """
    if (given[MARK] != cut.mark).any():
        raise DataError(
            "these activations are of another build's lower half",
            field=MARK,
            found=str(int(given[MARK].flat[0])),
            allowed=str(cut.mark),
            fix="use what one build made on both sides: still pack NAME",
        )
    found = {name: given[name] for name in cut.upper}
    for each in cut.tensors:
        if each.datatype != "FP32" or not cut.encoding:
            continue
        tensor = given[each.name]
        scale: tuple[float, ...] = ()
        zero: tuple[int, ...] = ()
        if cut.encoding != "fp16":
            scale, zero = (tuple(given[each.name + end].ravel().tolist()) for end in (_SCALE, _ZERO))
        how = Encoding.parse(cut.encoding, "encoding")
        found[each.name] = decode(each.name, Encoded(how, "FP32", tensor.shape, tensor.tobytes(), scale, zero))
    return found
