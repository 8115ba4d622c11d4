"""`cut`: an ONNX model in two halves, equal to the whole one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from stillhouse.errors import DataError, SourceError, SpecError
from stillhouse.inference.datatypes import ITEM_BYTES, TensorSpec, datatype_name
from stillhouse.inference.feed import text_feeds
from stillhouse.inference.halves import CUT_FILE, Cut, HalfSession, sent, travelled
from stillhouse.inference.options import session_options
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE, TextEncoder
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.compress.frontier import BESIDE, LAYER, allowed, halves
from stillhouse.passes.compress.masks import sizes_of_mask
from stillhouse.passes.export.samples import parity_feeds
from stillhouse.passes.export.tidy import write_model
from stillhouse.passes.sources.tokenizer import vocabulary_rows

__all__ = ["CutConfig", "CutFacts", "CutModel", "described"]

MODEL_FILE = "model.onnx"
_SAMPLES = 24
_ENCODING = "spec.edge.cut.encoding"


class CutConfig(PassConfig):
    """Configuration of `cut`.

    `at`: names of tensors, or of nodes whose first output is meant. `encoding`: how they travel ("": plain). `max_difference`: of
    the answers' numbers from the whole model's, times the largest magnitude of those where that is above 1.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    at: tuple[str, ...] = Field(min_length=1, max_length=16)
    encoding: str = Field(default="", max_length=20)
    max_difference: float = Field(default=1e-5, ge=0)


@dataclass(frozen=True, slots=True)
class CutFacts:
    """What was cut. `sent`: what travels, as name, type and shape.

    `difference`: largest of the answers as they will be served (both halves optimised, tensors encoded). Without optimisation and
    encoding it is 0, or the pass fails. `bytes_per_row`: what travels of one row of the sample with the longest rows, plain.
    `sent_bytes` of a mean row of the gate's data, as it is sent, and `text_bytes` of its text: 0 without data.
    """

    tensors: tuple[str, ...]
    lower_size: int
    upper_size: int
    difference: float
    rows: int
    bytes_per_row: int
    sent: tuple[str, ...] = ()
    sent_bytes: float = 0.0
    text_bytes: float = 0.0


class CutModel(Pass[CutConfig, CutFacts]):
    """onnx-model → cut-model."""

    name = "cut"
    version = 1
    kind = "cut-model"
    config_type = CutConfig

    def run(self, config: CutConfig, inputs: Mapping[str, Artifact], ctx: Context) -> CutFacts:
        """Cut `inputs["model"]`; with `inputs["data"]`, the gate's rows, the halves are held against the whole on these.

        Raises:
            SpecError: the named tensors are not there, or are no frontier.
            SourceError: the halves do not give what the whole gives.
        """
        source = inputs["model"].path
        signature = Signature.read(source)
        whole = onnx.load(source / MODEL_FILE, load_external_data=False)
        feeds = list(parity_feeds(signature, _SAMPLES, vocabulary_rows(source)))
        cuttable = sizes_of_mask(whole, feeds, signature.output)
        lower, upper, names = halves(cuttable, config.at, signature.output)
        lower_size = write_model(lower, ctx.out / "lower.onnx")
        low, high = (tuple(each.name for each in half.graph.input) for half in (lower, upper))
        # Types and ranks are asked of the runtime: onnx knows no shapes of the fused operators.
        draft = Cut(tuple(TensorSpec(name, "FP32", (-1,)) for name in names), low, high, signature.output, config.encoding)
        _write(ctx, draft)
        made = [HalfSession(ctx.out, "lower", ctx.threads).run(feed) for feed in feeds]
        specs = tuple(_spec(name, [each[name] for each in made]) for name in names)
        for value in upper.graph.input:
            if value.name in names:
                value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(made[0][value.name].dtype)
        upper_size = write_model(upper, ctx.out / "upper.onnx")
        cut = Cut(specs, low, high, signature.output, config.encoding, _mark(ctx.out, config.encoding))
        _write(ctx, cut)
        signature.write(ctx.out)
        if (source / TOKENIZER_FILE).is_file():
            shutil.copyfile(source / TOKENIZER_FILE, ctx.out / TOKENIZER_FILE)
        _differences(whole, cut, feeds, ctx, "", optimised=False, most=0.0)
        texts: list[str] = []
        order: list[list[int]] = []
        if "data" in inputs:
            _rows_apart(names, feeds, made)
            if set(high) - set(names) - BESIDE:
                found = ", ".join(sorted(set(high) - set(names) - BESIDE))
                text = "the upper half would need what the model is asked, beside the activations"
                raise SpecError(text, field=LAYER, found=found, allowed=allowed(cuttable, signature.output))
            texts = read_texts(inputs["data"].path)
            encoder = TextEncoder(source / TOKENIZER_FILE, signature.max_length)
            encoded = encoder.encode(texts)
            order, feeds = map(list, zip(*text_feeds(signature, encoded), strict=True))
        difference = _differences(
            whole, cut, feeds, ctx, config.encoding, optimised=True, most=config.max_difference, order=order
        )
        largest = max(sum(tensor.nbytes // max(len(tensor), 1) for tensor in each.values()) for each in made)
        rows = sum(len(next(iter(feed.values()))) for feed in feeds)
        facts = CutFacts(names, lower_size, upper_size, difference, rows, largest)
        if not texts:
            return facts
        facts = _measured(facts, cut, texts, encoded.lengths)
        for line in described(facts):
            ctx.progress.note(line)
        return facts


def described(facts: CutFacts) -> tuple[str, ...]:
    """Return what travels, and what of it is more than the text itself, as lines."""
    share = facts.sent_bytes / facts.text_bytes if facts.text_bytes else 0.0
    text = f"{facts.sent_bytes:.0f} bytes a row, where the text has {facts.text_bytes:.0f}"
    compared = f"{share:.1f} times as much" if share >= 1 else f"{share:.0%} of it"
    return (
        f"what travels: {', '.join(facts.sent)}",
        f"{text}: {compared}" + (" (the text alone would be smaller)" if share >= 1 else ""),
        f"halves against the whole: at most {facts.difference:.3g} on {facts.rows} rows",
    )


def _measured(facts: CutFacts, cut: Cut, texts: Sequence[str], lengths: Sequence[int]) -> CutFacts:
    """Add the bytes of a mean row that is sent alone: places of any length have as many as the text has tokens."""
    total = 0
    for spec in sent(cut):
        sizes = [sum(each < 0 for each in spec.shape[1:]), math.prod(each for each in spec.shape[1:] if each >= 0)]
        total += ITEM_BYTES[spec.datatype] * sizes[1] * sum(length ** sizes[0] for length in lengths)
    shapes = tuple(f"{each.name} {each.datatype} {_written(each.shape)}" for each in sent(cut))
    size = sum(len(text.encode()) for text in texts)
    return dataclasses.replace(facts, sent=shapes, sent_bytes=total / len(texts), text_bytes=size / len(texts))


def _written(shape: Sequence[int]) -> str:
    return "[" + ", ".join(["n", *("tokens" if each < 0 else str(each) for each in shape[1:])]) + "]"


def read_texts(folder: Path) -> list[str]:
    """Return every text of a dataset.

    Raises:
        DataError: it has none.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "data.parquet")
    found = [text for role in ("text", "query", "document") if role in table.column_names for text in table[role].to_pylist()]
    if not found:
        raise DataError("a cut is held against the uncut model on texts", field="spec.gate.data", found="no texts")
    return found


def _rows_apart(names: Sequence[str], feeds: Sequence[Any], made: Sequence[Mapping[str, Any]]) -> None:
    """Refuse tensors that a server cannot batch.

    Raises:
        SpecError: rows are not along a tensor's first axis.
    """
    for name in names:
        if any(
            not each[name].ndim or len(each[name]) != len(next(iter(feed.values())))
            for feed, each in zip(feeds, made, strict=True)
        ):
            raise SpecError(
                "this tensor does not have the rows along its first axis: requests could not be batched",
                field=LAYER,
                found=f"{name} {list(made[0][name].shape)}",
                fix="cut elsewhere",
            )


def _mark(folder: Path, encoding: str) -> int:
    """Return a number of both halves and how they meet, that fits INT64 and is not 0."""
    digest = hashlib.sha256(encoding.encode())
    for half in ("lower", "upper"):
        digest.update(hashlib.sha256((folder / f"{half}.onnx").read_bytes()).digest())
    return int.from_bytes(digest.digest()[:8], "big") >> 1 | 1


def _spec(name: str, tensors: Sequence[Any]) -> TensorSpec:
    """Return type and shape of what a half gave: places that differ between the samples may have any length."""
    shapes = [tensor.shape for tensor in tensors]
    same = [sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*shapes, strict=True)]
    return TensorSpec(name, datatype_name(tensors[0]) or "", tuple(same))


def _write(ctx: Context, cut: Cut) -> None:
    (ctx.out / CUT_FILE).write_text(json.dumps(cut.to_json(), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _differences(
    whole: onnx.ModelProto,
    cut: Cut,
    feeds: Sequence[Any],
    ctx: Context,
    encoding: str,
    *,
    optimised: bool,
    most: float,
    order: Sequence[Sequence[int]] = (),
) -> float:
    import onnxruntime as ort

    options = session_options(ctx.threads)
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = ort.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    lower = HalfSession(ctx.out, "lower", ctx.threads, optimised=optimised)
    upper = HalfSession(ctx.out, "upper", ctx.threads, optimised=optimised)
    worst = 0.0
    for at, feed in enumerate(feeds):
        wanted = reference.run([cut.output], feed)[0].astype(np.float64)
        found = upper.run({**feed, **travelled(lower.run(feed), encoding)})[cut.output].astype(np.float64)
        difference = float(np.abs(found - wanted).max(initial=0.0)) if np.isfinite(found).all() else float("inf")
        worst = max(worst, difference)
        peak = float(np.abs(wanted).max(initial=0.0))
        if difference > most * max(1.0, peak):
            row = int(np.abs(found - wanted).max(axis=tuple(range(1, wanted.ndim))).argmax())
            raise SourceError(
                "the halves do not give what the whole model gives",
                field=_ENCODING if encoding else LAYER,
                found=f"{cut.output} of row {order[at][row] if order else row} differs by {difference:.3g}",
                allowed=f"{most:g} times the largest magnitude of the whole model's answers, {max(1.0, peak):.3g}",
                fix="another encoding, another layer, or a larger maxDifference",
            )
    return worst
