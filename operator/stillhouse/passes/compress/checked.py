"""A quantized graph as an artifact: it loads, answers with numbers, and has its tokenizer and signature beside it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from stillhouse.clients.store.files import disk_full
from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context
from stillhouse.passes.export.parity import Parity, measure_parity
from stillhouse.passes.export.samples import Feed, parity_feeds
from stillhouse.passes.export.tidy import operator_counts, write_model
from stillhouse.passes.export.timing import open_session
from stillhouse.passes.sources.tokenizer import vocabulary_rows

__all__ = ["Checked", "write_checked"]

MODEL_FILE = "model.onnx"
_SAMPLES = 24


@dataclass(frozen=True, slots=True)
class Checked:
    """What was written: bytes, how often each operator is in it, and how near it is to FP32 on random inputs."""

    size: int
    operators: dict[str, int]
    parity: Parity


_INSTEAD = 'set spec.compress.precision to "int8" or "fp32"'


def write_checked(
    make: Callable[[], onnx.ModelProto], model: Artifact, ctx: Context, called: str, instead: str = _INSTEAD
) -> Checked:
    """Write what `make` makes of the FP32 `model` to `ctx.out`, and compare both.

    `called`: the precision, for people; `instead`: what to do where it cannot be made.

    Raises:
        SourceError: it cannot be made, does not load, or answers with what are no numbers.
    """
    source = model.path
    signature = Signature.read(source)
    ctx.progress.update(0, None, "", f"writing {called}")
    try:
        made = make()
        onnx.checker.check_model(made)
        size = write_model(made, ctx.out / MODEL_FILE)
        session = open_session(ctx.out / MODEL_FILE, ctx.threads)
    except (SourceError, OSError, MemoryError):
        raise
    except Exception as error:  # the quantizer, the checker and ONNX Runtime have no common error
        if disk_full(error):
            raise
        raise SourceError(
            f"the model cannot be quantized to {called}",
            field="spec.compress.precision",
            found=f"{type(error).__name__}: {error}".splitlines()[0][:300],
            allowed="a graph with linear layers, attention or embeddings in float32",
            fix=instead,
        ) from error
    ctx.progress.update(0, None, "", f"comparing {called} with FP32")
    reference = open_session(source / MODEL_FILE, ctx.threads)

    def expected(feed: Feed) -> NDArray[np.float32]:
        output: NDArray[np.float32] = reference.run(None, feed)[0]
        return output

    vocabulary = vocabulary_rows(source)
    parity = measure_parity(session, expected, parity_feeds(signature, _SAMPLES, vocabulary))
    if not math.isfinite(parity.max_abs_error):  # how far finite ones may be from FP32's, the gate knows
        raise SourceError(
            f"the {called} model gives what are no numbers",
            field="spec.compress.precision",
            found="outputs that are not finite, on random inputs",
            allowed="finite outputs",
            fix=instead,
        )
    if (source / "tokenizer.json").is_file():
        shutil.copyfile(source / "tokenizer.json", ctx.out / "tokenizer.json")
    signature.write(ctx.out)
    return Checked(size, operator_counts(made), parity)
