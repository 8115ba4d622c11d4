"""Measure a bag of the teacher's token vectors before any training, by weighting and after a least-squares fit.

Usage:
    python bench/research/static_start.py CACHE [ROWS]

Prints MRR@10 on validation for several SIF constants, for the vectors as they are and after a ridge regression of the
teacher's sentence embeddings on the bags of ROWS training texts (no gradient descent: conjugate gradients on the sparse
normal equations, started from the static vectors).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from stillhouse.passes.ranking import ranks, reciprocal

VOCABULARY, LENGTH = 30522, 128


def bags(rows: list[npt.NDArray[np.int32]], weight: npt.NDArray[np.float64]) -> Any:
    """Sparse [rows, vocabulary]: each row's mean over its tokens, weighted."""
    sizes = np.array([min(len(row), LENGTH) for row in rows])
    ids = np.concatenate([row[:LENGTH] for row in rows])
    values = weight[ids] / np.repeat(sizes, sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    made = sparse.csr_matrix((values.astype(np.float32), ids, starts), shape=(len(rows), VOCABULARY))
    made.sum_duplicates()
    return made


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def mrr(vectors: npt.NDArray[np.float32], sides: list[Any]) -> float:
    query, document = (unit(side @ vectors) for side in sides)
    return float(reciprocal(ranks(query, document), 10).mean())


def ridge(
    matrix: Any, wanted: npt.NDArray[np.float32], start: npt.NDArray[np.float32], penalty: float, steps: int
) -> npt.NDArray[np.float32]:
    """Minimise |matrix x - wanted|² + penalty |x - start|² column by column (conjugate gradients, all columns at once)."""
    x = start.copy()
    residual = matrix.T @ (wanted - matrix @ x)
    direction = residual.copy()
    size = (residual**2).sum(0)
    for _ in range(steps):
        image = matrix.T @ (matrix @ direction) + penalty * direction
        step = size / (direction * image).sum(0)
        x += step * direction
        residual -= step * image
        new = (residual**2).sum(0)
        direction = residual + (new / size) * direction
        size = new
    return x


def main() -> None:
    cache = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 32768
    torch.set_num_threads(1)
    packed = np.load(cache / "tokens.npz")
    flat, sizes = packed["ids"], packed["sizes"][:count]
    ends = np.cumsum(sizes)
    rows = [flat[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    frequency = np.bincount(flat[: ends[-1]], minlength=VOCABULARY) / ends[-1]
    validation = json.loads((cache / "validation.json").read_text())
    sides = [[np.array(row, dtype=np.int32) for row in validation[name]] for name in ("query", "document")]
    vectors = np.load(cache / "vocabulary.npy")
    weights = np.sqrt(frequency + 1 / ends[-1])
    centred = vectors - (weights @ vectors) / weights.sum()
    wanted = np.concatenate([np.load(path) for path in sorted(cache.glob("teacher-*.npy"))])[:count].astype(np.float32)
    for a in (0.0, 1e-4, 3e-4, 1e-3, 3e-3):
        weight = a / (a + frequency) if a else np.ones(VOCABULARY)
        weight[[101, 102]] = 0
        made = [bags(side, weight) for side in sides]
        print(f"a {a}: as they are {mrr(vectors, made):.4f}, centred {mrr(centred, made):.4f}", flush=True)
        if a not in {3e-4, 1e-3}:
            continue
        matrix = bags(rows, weight)
        scale = (wanted * (matrix @ centred)).sum() / ((matrix @ centred) ** 2).sum()
        for penalty in (0.1, 0.5, 2.0):
            fitted = ridge(matrix, wanted, centred * scale, penalty, 20)
            likeness = [
                float((unit(side @ fitted) * target).sum(1).mean()) for side, target in zip(made, targets(cache), strict=True)
            ]
            print(f"  ridge {penalty}: {mrr(fitted, made):.4f}, cosine {np.mean(likeness):.4f}", flush=True)


def targets(cache: Path) -> list[npt.NDArray[np.float32]]:
    found = np.load(cache / "validation-128.npz")
    return [found["query"], found["document"]]


if __name__ == "__main__":
    main()
