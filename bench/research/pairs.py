"""What does a bag learn from knowing which summary belongs to which body? No encoder: token vectors alone, 0 MACs.

Usage:
    python bench/research/pairs.py CACHE DATA mix                         # ridge regression on mixed targets
    python bench/research/pairs.py CACHE DATA LR BATCH EPOCHS TEMPERATURE WEIGHT   # contrastive training

`mix`: a row's target is its teacher's embedding plus a multiple of its partner's. Contrastive training starts from the
fitted bag: pairs nearer to each other than to the rest of the batch, plus WEIGHT times the distance to the teacher on as
many other rows. Prints MRR@10 and the mean cosine to the teacher, on validation.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.research.static_start import VOCABULARY, bags, mrr, ridge, targets, unit

RARE, PENALTY, STEPS = 3e-4, 0.1, 20
Matrix = npt.NDArray[np.float32]


class Texts:
    """What `prepare.py` and the builder left: tokens, weights, targets, partners, validation."""

    def __init__(self, cache: Path, data: Path) -> None:
        self.wanted = np.concatenate([np.load(path) for path in sorted(cache.glob("teacher-*.npy"))]).astype(np.float32)
        packed = np.load(cache / "tokens.npz")
        flat, sizes = packed["ids"], packed["sizes"][: len(self.wanted)]
        ends = np.cumsum(sizes)
        self.rows = [flat[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        frequency = np.bincount(flat[: ends[-1]], minlength=VOCABULARY) / ends[-1]
        self.weight = (RARE / (RARE + frequency)).astype(np.float32)
        self.weight[[101, 102]] = 0
        vectors = np.load(cache / "vocabulary.npy")
        share = np.sqrt(frequency + 1 / ends[-1])
        self.start = vectors - (share @ vectors) / share.sum()
        groups = pq.read_table(data / "unlabelled.parquet", columns=["group"])["group"].to_pylist()[: len(self.rows)]
        self.partner = partners(groups)
        self.bags = bags(self.rows, self.weight)
        validation = json.loads((cache / "validation.json").read_text())
        sides = [[np.array(row, dtype=np.int32) for row in validation[name]] for name in ("query", "document")]
        self.sides = [bags(side, self.weight) for side in sides]
        self.aims = targets(cache)

    def fit(self, wanted: Matrix) -> Matrix:
        """Ridge regression of these targets."""
        first = self.bags @ self.start
        scale = (wanted * first).sum() / (first**2).sum()
        return ridge(self.bags, wanted, self.start * scale, PENALTY, STEPS)

    def report(self, vectors: Matrix, label: str) -> None:
        near = [float((unit(side @ vectors) * aim).sum(1).mean()) for side, aim in zip(self.sides, self.aims, strict=True)]
        print(f"{label}: {mrr(vectors, self.sides):.4f}, cosine {np.mean(near):.4f}", flush=True)


def partners(groups: list[int | None]) -> npt.NDArray[np.int64]:
    """Row number of the other row of the same group, -1 for none."""
    first: dict[int, int] = {}
    found = np.full(len(groups), -1, dtype=np.int64)
    for row, group in enumerate(groups):
        if group is None:
            continue
        if group in first:
            found[row], found[first[group]] = first[group], row
        first[group] = row
    return found


def mixed(texts: Texts) -> None:
    paired = texts.partner >= 0
    print(f"{len(texts.rows)} rows, {paired.sum()} of them in pairs")
    for mix in (0.0, 0.5, 1.0, 2.0):
        wanted = texts.wanted.copy()
        wanted[paired] += mix * texts.wanted[texts.partner[paired]]
        texts.report(texts.fit(unit(wanted)), f"mix {mix}")


def contrastive(texts: Texts, rate: float, size: int, epochs: int, temperature: float, weight: float) -> None:
    fitted = texts.fit(texts.wanted)
    texts.report(fitted, "start")
    torch.manual_seed(0)
    tokens = nn.Parameter(torch.from_numpy(fitted.astype(np.float32)))
    weights, wanted = torch.from_numpy(texts.weight), torch.from_numpy(texts.wanted)
    ids = [torch.from_numpy(row.astype(np.int64)) for row in texts.rows]

    def embed(index: Any) -> Tensor:
        parts = [ids[row] for row in index]
        sizes = torch.tensor([len(part) for part in parts])
        flat = torch.cat(parts)
        share = weights[flat] / torch.repeat_interleave(sizes, sizes)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)[:-1]])
        return F.normalize(F.embedding_bag(flat, tokens, starts, mode="sum", per_sample_weights=share), dim=1)

    first = np.array([row for row, other in enumerate(texts.partner) if other > row])
    optimizer = torch.optim.AdamW([tokens], lr=rate, weight_decay=0.0, fused=True)
    rng = np.random.default_rng(0)
    steps, step = epochs * (len(first) // size), 0
    for epoch in range(epochs):
        order = rng.permutation(first)
        for at in range(0, len(order) - size + 1, size):
            rise, fall = min(1.0, (step + 1) / (0.1 * steps)), 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.param_groups[0]["lr"] = rate * rise * fall
            rows = order[at : at + size]
            scores = embed(rows) @ embed(texts.partner[rows]).T / temperature
            right = torch.arange(size)
            loss = F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)
            if weight:
                others = rng.integers(0, len(ids), size)
                loss = loss + weight * (1 - (embed(others) * wanted[others]).sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        texts.report(tokens.detach().numpy(), f"epoch {epoch + 1} loss {float(loss.detach()):.3f}")


def main() -> None:
    torch.set_num_threads(2)
    texts = Texts(Path(sys.argv[1]), Path(sys.argv[2]))
    if sys.argv[3:] == ["mix"]:
        mixed(texts)
        return
    rate, size, epochs, temperature, weight = sys.argv[3:]
    contrastive(texts, float(rate), int(size), int(epochs), float(temperature), float(weight))


if __name__ == "__main__":
    main()
