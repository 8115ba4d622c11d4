"""What graphs of each precision are on a GPU: close to the CPU's answers or not, how fast, and what is left on the CPU.

    python bench/research/gpu_precisions.py TEXTS.parquet FOLDER…

Wants onnxruntime-gpu. A FOLDER is an onnx-model artifact (`model.onnx`, `tokenizer.json`).
"""

from __future__ import annotations

import collections
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pyarrow.parquet as pq
from tokenizers import Tokenizer

COUNT, BATCH, LENGTH, SHORT = 512, 32, 128, 32
PROVIDERS = (["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"])
Feeds = dict[str, npt.NDArray[np.int64]]


def feeds(folder: Path, texts: list[str]) -> Feeds:
    """Return the texts' tokens, int64 [texts, 128]."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    found = tokenizer.encode_batch(texts)
    names = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return {name: np.array([getattr(each, field) for each in found], dtype=np.int64) for name, field in names.items()}


def batches(inputs: Feeds, names: list[str]) -> Iterator[Feeds]:
    """Give the texts 32 at a time."""
    for first in range(0, COUNT, BATCH):
        yield {name: inputs[name][first : first + BATCH] for name in names}


def left_on_cpu(path: Path, providers: list[str], batch: Feeds) -> dict[str, int]:
    """Return operator → how many of them ran on the CPU."""
    options = ort.SessionOptions()
    options.enable_profiling, options.log_severity_level = True, 3
    session = ort.InferenceSession(str(path), options, providers=providers)
    session.run(None, batch)
    ran = [event["args"] for event in json.loads(Path(session.end_profiling()).read_text("utf-8")) if event.get("cat") == "Node"]
    return dict(collections.Counter(each["op_name"] for each in ran if each.get("provider") == "CPUExecutionProvider"))


def main() -> None:
    """Print a line of JSON for each folder and provider."""
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    texts = pq.read_table(sys.argv[1]).slice(0, COUNT)["text"].to_pylist()
    for folder in map(Path, sys.argv[2:]):
        inputs, reference = feeds(folder, texts), None
        for providers in PROVIDERS:
            session = ort.InferenceSession(str(folder / "model.onnx"), providers=providers)
            names = [each.name for each in session.get_inputs()]
            rows = np.concatenate([session.run(None, batch)[0] for batch in batches(inputs, names)])
            times, single = [], []
            for _ in range(5):
                began = time.perf_counter()
                for batch in batches(inputs, names):
                    session.run(None, batch)
                times.append(time.perf_counter() - began)
            for row in range(60):
                began = time.perf_counter()
                session.run(None, {name: inputs[name][row : row + 1, :SHORT] for name in names})
                single.append(time.perf_counter() - began)
            reference = rows if reference is None else reference
            cosines = (rows * reference).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(reference, axis=1)
            found = {"folder": folder.name, "provider": providers[0], "least_cosine": round(float(cosines.min()), 7)}
            found |= {"ms_32_texts": 1000 * min(times) * BATCH / COUNT, "ms_one_text": 1000 * sorted(single)[30]}
            if len(providers) > 1:
                found["on_cpu"] = left_on_cpu(folder / "model.onnx", providers, next(batches(inputs, names)))
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
