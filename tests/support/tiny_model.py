"""A model of a few KB that behaves like a real one: written in a millisecond, without torch.

Sentence embedding: embedding rows, mean over the mask, L2 norm. Text classification: the same mean through a matrix.
Image classification: the mean of each channel through a matrix. Tables and time series: all numbers through a matrix.
Every weight comes from a seed. Tokens are words.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stillhouse.inference.signature import FeatureSpec, ImageSpec, Signature, Task

__all__ = ["SERIES", "TABLE", "WORDS", "write_tiny_model"]

_VOCABULARY = "a file the of return open read write path list name value warm ready"
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *_VOCABULARY.split(" "))
TABLE = FeatureSpec((4,), ("age", "mean radius", "height", "größe"))
SERIES = FeatureSpec((6, 2))
IMAGE = ImageSpec(height=8, width=8, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))


def write_tiny_model(
    folder: Path,
    *,
    task: Task = "sentence-embedding",
    dimension: int = 16,
    labels: tuple[str, ...] = ("no", "yes", "perhaps"),
    max_length: int = 32,
    seed: int = 0,
    work: int = 0,
) -> Signature:
    """Write `model.onnx`, `tokenizer.json` (texts) and `signature.json` into `folder`.

    `work` multiplies the embeddings' mean `work` times by a 1024x1024 identity-like matrix, which makes an answer slow
    without changing it: a real, deterministic load for tests of queues and time limits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if task == "sentence-embedding":
        labels = ()
    image = IMAGE if task == "image-classification" else None
    features = {"tabular-classification": TABLE, "time-series-classification": SERIES}.get(task)
    if features:
        graph = _feature_graph(features, len(labels), seed)
    else:
        graph = _image_graph(len(labels), seed) if image else _text_graph(dimension, len(labels), seed, work)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    digest = ""
    if image is None and features is None:
        text = json.dumps(_tokenizer(), sort_keys=True)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    signature = Signature(
        task=task,
        inputs=("pixels",) if image else ("values",) if features else ("input_ids", "attention_mask"),
        output="logits" if labels else "sentence_embedding",
        dimension=len(labels) or dimension,
        labels=labels,
        max_length=max_length if digest else 0,
        pad_id=0,
        tokenizer_digest=digest,
        image=image,
        features=features,
    )
    signature.write(folder)
    return signature


def _text_graph(dimension: int, labels: int, seed: int, work: int) -> Any:
    random = np.random.default_rng(seed)
    table = random.normal(size=(len(WORDS), dimension)).astype(np.float32)
    weights = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([2], np.int64), "last")]
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "first"))
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["rows", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "first"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["wide", "first"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["mean0"]),
    ]
    mean = "mean0"
    if work:
        # Widen to 1024 columns, multiply `work` times by the identity, narrow again.
        side = 1024
        widen = np.zeros((dimension, side), np.float32)
        widen[:, :dimension] = np.eye(dimension, dtype=np.float32)
        weights += [
            numpy_helper.from_array(widen, "widen"),
            numpy_helper.from_array(np.ascontiguousarray(widen.T), "narrow"),
            numpy_helper.from_array(np.eye(side, dtype=np.float32), "identity"),
        ]
        nodes.append(helper.make_node("MatMul", [mean, "widen"], ["busy0"]))
        for step in range(work):
            nodes.append(helper.make_node("MatMul", [f"busy{step}", "identity"], [f"busy{step + 1}"]))
        nodes.append(helper.make_node("MatMul", [f"busy{work}", "narrow"], ["mean1"]))
        mean = "mean1"
    if labels:
        head = random.normal(size=(dimension, labels)).astype(np.float32)
        weights.append(numpy_helper.from_array(head, "head"))
        nodes.append(helper.make_node("MatMul", [mean, "head"], ["logits"]))
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])
    else:
        nodes.append(helper.make_node("LpNormalization", [mean], ["sentence_embedding"], axis=1, p=2))
        output = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", dimension])
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")
    ]
    return helper.make_graph(nodes, "tiny-text", inputs, [output], weights)


def _image_graph(labels: int, seed: int) -> Any:
    head = np.random.default_rng(seed).normal(size=(IMAGE.channels, labels)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "head"], ["logits"]),
    ]
    shape = ["batch", IMAGE.channels, IMAGE.height, IMAGE.width]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])
    return helper.make_graph(nodes, "tiny-image", inputs, [output], [numpy_helper.from_array(head, "head")])


def _feature_graph(features: FeatureSpec, labels: int, seed: int) -> Any:
    head = np.random.default_rng(seed).normal(size=(int(np.prod(features.shape)), labels)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["values"], ["flat"]), helper.make_node("MatMul", ["flat", "head"], ["logits"])]
    inputs = [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", *features.shape])]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])
    return helper.make_graph(nodes, "tiny-features", inputs, [output], [numpy_helper.from_array(head, "head")])


def _tokenizer() -> dict[str, Any]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    return data
