"""Peers (a) and (b): FastAPI in front of transformers in FP32, the script that most tutorials show.

An async handler tokenises one text, runs one forward pass and answers; nothing is batched, and the pass blocks the
event loop. (a) leaves torch's threads at their default; (b) is this file with tuned threads and workers.
Pooling is all-MiniLM-L6-v2's own: the mean over real tokens, then L2 normalisation.
"""

from __future__ import annotations

import os

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModel, AutoTokenizer

from bench.peers.model import MAX_LENGTH, minilm_folder
from bench.peers.serve import MAX_LENGTH_VARIABLE, THREADS_VARIABLE

threads = int(os.environ.get(THREADS_VARIABLE, "0"))
max_length = int(os.environ.get(MAX_LENGTH_VARIABLE, "0")) or MAX_LENGTH
if threads:
    torch.set_num_threads(threads)

tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
model = AutoModel.from_pretrained(minilm_folder(), dtype=torch.float32).eval()
app = FastAPI()


class Request(BaseModel):
    """One text."""

    text: str


@app.get("/health")  # type: ignore[untyped-decorator]
async def health() -> dict[str, int]:
    """Answer when this worker's model is loaded."""
    return {"worker": os.getpid()}


@app.post("/embed")  # type: ignore[untyped-decorator]
async def embed(request: Request) -> dict[str, list[float]]:
    """Embedding of one text: 384 floats of L2 norm 1."""
    inputs = tokenizer(request.text, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    embedding = torch.nn.functional.normalize(pooled, dim=1)
    return {"embedding": embedding[0].tolist()}
