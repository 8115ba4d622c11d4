"""What every export for another runtime does: convert, run the same rows through both, keep what was found beside the model.

A converter is one file beside this one (`to_openvino.py`, …): it says how to convert and, where its runtime is at hand, how to
run.
"""

from __future__ import annotations

import json
import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stillhouse.clients.store.files import disk_full
from stillhouse.errors import SourceError, SpecError
from stillhouse.inference.arrays import prepared
from stillhouse.inference.feed import text_feed, text_feeds
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE, TextEncoder
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.compress.cut import read_texts
from stillhouse.passes.evaluate.rows import read_rows
from stillhouse.passes.export.parity import MAX_ERROR, MIN_COSINE, compare
from stillhouse.passes.export.samples import Feed, feed, parity_feeds
from stillhouse.passes.export.timing import open_session
from stillhouse.passes.sources.tokenizer import vocabulary_rows

__all__ = [
    "ABOUT",
    "MODEL_FILE",
    "Answer",
    "Elsewhere",
    "ExportedConfig",
    "ExportedFacts",
    "Made",
    "Shape",
    "described",
]

ABOUT = "export.json"
MODEL_FILE = "model.onnx"
ROWS = 32
"""Rows of the gate's data that answers are compared on."""
LONGEST = 128
"""Tokens of a fixed shape where none are named; a shorter longest text of the model's is taken then."""
_HALF_ERROR, _HALF_COSINE = 2e-2, 0.999
"""What FP16 may differ by: a hundredth of an activation is lost here and there, and a row keeps its direction."""
Answer = Callable[[Feed], NDArray[np.float32]]


class ExportedConfig(PassConfig):
    """Configuration of an export; see `spec.export`. `batch` and `tokens` None: what the format takes by itself."""

    precision: Literal["fp32", "fp16"] = "fp32"
    batch: int | None = Field(default=None, ge=1, le=1024)
    tokens: int | None = Field(default=None, ge=1, le=8192)


@dataclass(frozen=True, slots=True)
class ExportedFacts:
    """What was made.

    `runtime`: who made it, as `package version`. `inputs`: name, type, shape of each. `checked`: `run` (its answers were compared
    with the ONNX model's on `rows` rows: largest absolute difference, lowest cosine), `structure` (its runtime is not for this
    machine: inputs, output and operators were read back) or `rendered` (it is made where it runs). `onnx_size`: bytes of the ONNX
    model.
    """

    format: str
    precision: str
    runtime: str
    inputs: tuple[str, ...]
    checked: Literal["run", "structure", "rendered"]
    size: int
    onnx_size: int
    rows: int = 0
    max_abs_error: float | None = None
    min_cosine: float | None = None
    operators: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """The one shape of a call: rows, and tokens (0 for what is no text)."""

    batch: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Made:
    """What a converter made. `answer` runs it (None: not on this machine); `fixed`: it takes this shape only (None: any)."""

    runtime: str
    inputs: tuple[str, ...]
    answer: Answer | None = None
    fixed: Shape | None = None
    checked: Literal["structure", "rendered"] = "structure"
    operators: int = 0


class Elsewhere(Pass[ExportedConfig, ExportedFacts]):
    """onnx-model (and the torch-model that it was made from) → exported-model."""

    version = 1
    kind = "exported-model"
    config_type = ExportedConfig
    form: ClassVar[str]

    @abstractmethod
    def convert(self, model: Path, network: Path | None, shape: Shape, config: ExportedConfig, out: Path) -> Made:
        """Write the model in its format to `out`. `model`: folder of the ONNX model, `network` of the torch-model.

        Raises:
            Exception: whatever the converter cannot do; it is told as a `SourceError` with the converter's own words.
        """

    def run(self, config: ExportedConfig, inputs: Mapping[str, Artifact], ctx: Context) -> ExportedFacts:
        """Convert, compare the answers on `inputs["data"]` (the gate's rows; else seeded ones), write `export.json`.

        Raises:
            SourceError: the converter refuses the model, or its answers differ from the ONNX model's.
            SpecError: the shape is none of the model's.
        """
        source = inputs["model"].path
        network = inputs["network"].path if "network" in inputs else None
        signature = Signature.read(source)
        shape = _shape(config, signature)
        ctx.progress.update(0, None, "", f"converting for {self.form}")
        made = self._converted(source, network, shape, config, ctx.out)
        if made.answer is None:
            found: tuple[int, float | None, float | None] = (0, None, None)
        else:
            ctx.progress.update(0, None, "", "comparing its answers with the ONNX model's")
            feeds = list(_feeds(source, signature, inputs.get("data"), made.fixed))
            found = _compared(source, made.answer, feeds, config.precision, self.form)
        signature.write(ctx.out)
        if (source / TOKENIZER_FILE).is_file():
            shutil.copyfile(source / TOKENIZER_FILE, ctx.out / TOKENIZER_FILE)
        about = {ABOUT, TOKENIZER_FILE, "signature.json"}
        facts = ExportedFacts(
            format=self.form,
            precision=config.precision,
            runtime=made.runtime,
            inputs=made.inputs,
            checked="run" if made.answer is not None else made.checked,
            size=sum(path.stat().st_size for path in ctx.out.rglob("*") if path.is_file() and path.name not in about),
            onnx_size=(source / MODEL_FILE).stat().st_size,
            rows=found[0],
            max_abs_error=found[1],
            min_cosine=found[2],
            operators=made.operators,
        )
        written = {**asdict(facts), "output": signature.output, "madeFrom": inputs["model"].digest}
        (ctx.out / ABOUT).write_text(json.dumps(written, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        ctx.progress.note(_said(facts))
        return facts

    def _converted(self, source: Path, network: Path | None, shape: Shape, config: ExportedConfig, out: Path) -> Made:
        try:
            return self.convert(source, network, shape, config, out)
        except (SourceError, SpecError):
            raise
        except Exception as error:  # converters have no common error
            if disk_full(error) or isinstance(error, MemoryError):
                raise
            said = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
            raise SourceError(
                f"the model cannot be converted for {self.form}",
                field="spec.export",
                found=f"{type(error).__name__}: {said}"[:400],
                allowed="operators that its converter knows",
                fix="leave this format out, or choose another architecture",
            ) from error


def _shape(config: ExportedConfig, signature: Signature) -> Shape:
    if not signature.takes_texts:
        if config.tokens is not None:
            what = "an image has" if signature.image is not None else "features have"
            raise SpecError(f"{what} no tokens", field="spec.export.tokens", found=str(config.tokens), fix="remove tokens")
        return Shape(config.batch or 1, 0)
    longest = signature.max_length
    if config.tokens is not None and longest and config.tokens > longest:
        raise SpecError(
            "the model takes no such long text",
            field="spec.export.tokens",
            found=str(config.tokens),
            allowed=f"at most {longest}",
            fix="lower it",
        )
    return Shape(config.batch or 1, config.tokens or min(longest or LONGEST, LONGEST))


def _feeds(source: Path, signature: Signature, data: Artifact | None, fixed: Shape | None) -> Iterator[Feed]:
    """Yield what is asked: seeded rows of many shapes (of the one, where it is fixed), then the gate's."""
    vocabulary = vocabulary_rows(source)
    if fixed is None:
        yield from parity_feeds(signature, ROWS, vocabulary)
    else:
        yield from (feed(signature, fixed.batch, fixed.tokens, vocabulary, seed=seed) for seed in range(max(1, 8 // fixed.batch)))
    if data is None:
        return
    batch = fixed.batch if fixed else 8
    if not signature.takes_texts:
        arrays = read_rows(data, signature).arrays
        assert arrays is not None  # it is the task's
        rows = prepared(arrays[:ROWS], signature)
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            yield {signature.inputs[0]: np.resize(part, (batch, *part.shape[1:])) if fixed else part}
        return
    tokens = min(fixed.tokens, signature.max_length or fixed.tokens) if fixed else signature.max_length
    encoded = TextEncoder(source / TOKENIZER_FILE, tokens).encode(read_texts(data.path)[:ROWS])
    if fixed is None:
        yield from (each for _, each in text_feeds(signature, encoded, most=batch))
        return
    for start in range(0, len(encoded.ids), batch):
        at = [min(start + row, len(encoded.ids) - 1) for row in range(batch)]
        ids, lengths = [encoded.ids[each] for each in at], [encoded.lengths[each] for each in at]
        yield text_feed(signature.inputs, ids, lengths, fixed.tokens, signature.pad_id)


def _compared(source: Path, answer: Answer, feeds: list[Feed], precision: str, form: str) -> tuple[int, float, float]:
    session = open_session(source / MODEL_FILE, 1)
    worst, scale, rows, lowest = 0.0, 1.0, 0, 1.0
    for each in feeds:
        want = session.run(None, each)[0]
        error, cosines = compare(want, answer(each))
        worst, scale = max(worst, error), max(scale, float(np.abs(want).max(initial=0.0)))
        lowest, rows = min(lowest, float(cosines.min())), rows + len(want)
    most, least = (MAX_ERROR, MIN_COSINE) if precision == "fp32" else (_HALF_ERROR, _HALF_COSINE)
    if worst > most * scale or lowest < least:
        raise SourceError(
            f"what was made for {form} does not answer as the ONNX model does",
            field="spec.export",
            found=f"differs by {worst:.3g}, lowest cosine {lowest:.5f}, on {rows} rows",
            allowed=f"at most {most * scale:.3g}, at least {least}",
            fix="write precision: fp32, or leave this format out",
        )
    return rows, worst, lowest


def described(inputs: Mapping[str, tuple[str, list[Any]]]) -> tuple[str, ...]:
    """Write inputs, name → (type, shape), as text: `input_ids int64 [n, tokens]`."""
    return tuple(f"{name} {kind} [{', '.join(map(str, shape))}]" for name, (kind, shape) in inputs.items())


def _said(facts: ExportedFacts) -> str:
    how = {
        "run": f"its answers differ by at most {facts.max_abs_error or 0.0:.3g} on {facts.rows} rows",
        "structure": f"read back: {facts.operators} operators; it runs on other machines only",
        "rendered": "it is built where it runs: build-engine.sh",
    }[facts.checked]
    return f"{facts.format} ({facts.precision}, {facts.size / 1e6:.1f} MB, by {facts.runtime}): {how}"
