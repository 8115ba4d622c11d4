"""Peer (c): FastAPI in front of ONNX Runtime with dynamic INT8, what an engineer does in an afternoon.

The same handler as peer (a), one request a run; the tokenizer is the Rust library alone, without transformers.
"""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

from bench.peers.model import MAX_LENGTH, minilm_folder
from bench.peers.onnx_int8 import int8_model
from bench.peers.serve import MAX_LENGTH_VARIABLE, THREADS_VARIABLE

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ.get(THREADS_VARIABLE, "0"))
session = onnxruntime.InferenceSession(str(int8_model()), options, providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.enable_truncation(int(os.environ.get(MAX_LENGTH_VARIABLE, "0")) or MAX_LENGTH)
app = FastAPI()


class Request(BaseModel):
    """One text."""

    text: str


class Answer(BaseModel):
    """Its embedding: 384 floats of L2 norm 1. As a declared model it is written to JSON by pydantic at once."""

    embedding: list[float]


@app.get("/health")  # type: ignore[untyped-decorator]
async def health() -> dict[str, int]:
    """Answer when this worker's model is loaded."""
    return {"worker": os.getpid()}


@app.post("/embed")  # type: ignore[untyped-decorator]
async def embed(request: Request) -> Answer:
    """Embedding of one text."""
    encoding = tokenizer.encode(request.text)
    ids = np.array([encoding.ids], dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(["last_hidden_state"], feeds)
    pooled = np.asarray(hidden)[0].mean(axis=0)  # one text has no padding
    return Answer(embedding=(pooled / np.linalg.norm(pooled)).tolist())
