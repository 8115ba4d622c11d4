"""Model folders as their publishers lay them out, a few KB each, written without torch; and safetensors made by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tests.support.tiny_model import WORDS

from stillhouse.clients.sources import digest_of
from stillhouse.errors import SourceError, StillhouseError

__all__ = ["WORDS", "bert_config", "bert_tensors", "pinned", "raised", "raw_safetensors", "tokenizer_data", "write_bert_folder"]


def tokenizer_data() -> dict[str, Any]:
    """Return the JSON data of a tokenizer whose tokens are `WORDS`, ids in their order."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, WORDS.index(token)) for token in ("[CLS]", "[SEP]")]
    )
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    return data


def bert_config(*, layers: int = 2, hidden: int = 32, heads: int = 4, rows: int | None = None, **more: Any) -> dict[str, Any]:
    """Return the config.json of a small BERT with the tiny tokenizer's vocabulary."""
    return {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": hidden * 2, "vocab_size": rows or len(WORDS),
        "max_position_embeddings": 48, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
        "pad_token_id": 0, **more,
    }  # fmt: skip


def bert_tensors(config: dict[str, Any], *, labels: int = 0, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Return random weights under the names of Hugging Face's BERT (with the prefix `bert.` when it has a head)."""
    rng = np.random.default_rng(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], hidden),
    }
    for number in range(config["num_hidden_layers"]):
        base = f"encoder.layer.{number}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{base}.{name}.weight": (hidden, hidden), f"{base}.{name}.bias": (hidden,)}
        shapes |= {f"{base}.intermediate.dense.weight": (inner, hidden), f"{base}.intermediate.dense.bias": (inner,)}
        shapes |= {f"{base}.output.dense.weight": (hidden, inner), f"{base}.output.dense.bias": (hidden,)}
    tensors = {name: (rng.normal(size=shape) * 0.2).astype(np.float32) for name, shape in shapes.items()}
    norms = ["embeddings.LayerNorm"]
    for number in range(config["num_hidden_layers"]):
        norms += [f"encoder.layer.{number}.attention.output.LayerNorm", f"encoder.layer.{number}.output.LayerNorm"]
    for name in norms:
        tensors |= {f"{name}.weight": np.ones(hidden, np.float32), f"{name}.bias": np.zeros(hidden, np.float32)}
    if labels:
        tensors = {f"bert.{name}": value for name, value in tensors.items()}
        tensors |= {
            "bert.pooler.dense.weight": (rng.normal(size=(hidden, hidden)) * 0.2).astype(np.float32),
            "bert.pooler.dense.bias": np.zeros(hidden, np.float32),
            "classifier.weight": rng.normal(size=(labels, hidden)).astype(np.float32),
            "classifier.bias": np.zeros(labels, np.float32),
        }
    return tensors


def write_bert_folder(folder: Path, *, labels: tuple[str, ...] = (), pooling: str | None = "mean", **config: Any) -> Path:
    """Write config.json, model.safetensors, tokenizer.json and, for `pooling`, the Sentence Transformers layout."""
    folder.mkdir(parents=True, exist_ok=True)
    data = bert_config(**config)
    if labels:
        data |= {"id2label": {str(number): label for number, label in enumerate(labels)}, "num_labels": len(labels)}
    (folder / "config.json").write_text(json.dumps(data))
    save_file(bert_tensors(data, labels=len(labels)), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_data(), sort_keys=True))
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A tiny model\n")
    if pooling is not None and not labels:
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        modules = [{"idx": n, "name": str(n), "path": path, "type": f"x.{kind}"} for n, (path, kind) in enumerate(kinds)]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        flags = {f"pooling_mode_{name}": name.startswith(pooling) for name in ("cls_token", "mean_tokens", "max_tokens")}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    return folder


def raw_safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Return the bytes of a safetensors file with any header, right or wrong."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def pinned(source: Path) -> str:
    """Return the digest that a plan pins the source to; any, where there is nothing to hash."""
    try:
        return digest_of(source)
    except (SourceError, OSError):
        return "sha256:0"


def raised(kind: type[StillhouseError], call: Callable[[], object]) -> str:
    """Run `call`, which must raise exactly `kind`; return the whole text that a user would read."""
    try:
        call()
    except StillhouseError as error:
        assert type(error) is kind, f"{type(error).__name__}: {error}"
        assert error.problem.field, "a user's mistake names its field"
        assert error.problem.fix or error.problem.allowed, "and what to do"
        return str(error)
    raise AssertionError(f"{kind.__name__} was not raised")
