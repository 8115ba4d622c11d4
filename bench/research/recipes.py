"""Train one student by one recipe and append what came out to a JSON Lines file.

Usage:
    python bench/research/recipes.py CACHE OUT.jsonl NAME [KEY=VALUE ...]

CACHE is what `prepare.py` wrote. Keys and defaults are in `Recipe`. Figures are MRR@10 on the validation split (queries
against all bodies of the split), never on test.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillhouse.passes.ranking import ranks, reciprocal

CLS, SEP, UNK = 101, 102, 100


@dataclass
class Recipe:
    """One run. Lengths are in tokens."""

    arch: str = "bert"  # bert | bag | sum (a bag of wide vectors plus a narrow encoder)
    layers: int = 2
    hidden: int = 192
    heads: int = 6
    ffn: int = 768
    wide: int = 384  # width of the token vectors of `bag` and `sum`
    init: str = "static"  # static | random | a .npy file of fitted token vectors (static_start.py), SIF weights applied
    scale: float = 1.0  # root mean square of the first token vectors
    sif: float = 1e-3  # a of SIF weighting a / (a + p) for `bag` and `sum`; 0: none
    positions: bool = True
    rows: int = 12288
    epochs: float = 4.0
    batch: int = 128
    lr: float = 1e-3
    lr_embeddings: float = 0.0  # 0: as lr
    warmup: float = 0.05
    decay: str = "linear"  # linear | cosine
    weight_decay: float = 0.01
    length: int = 64
    eval_length: int = 128
    cosine: float = 1.0
    similarity: float = 0.0  # weight of the KL between similarity distributions
    temperature: float = 0.05
    matrix: float = 0.0  # weight of the mean squared difference of similarities
    queue: int = 0  # random rows of the teacher's embeddings that the similarity distributions are over, beside the batch
    clip: float = 1.0
    threads: int = 2
    half: bool = False
    seed: int = 0
    evals: int = 4


class Layer(nn.Module):
    """A post-norm BERT layer, or a pre-norm one."""

    def __init__(self, hidden: int, heads: int, ffn: int, pre: bool) -> None:
        super().__init__()
        self.heads, self.pre = heads, pre
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        rows, length, hidden = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
        # In float32 also under autocast: the backward of bfloat16 attention is ten times slower on the CPU (torch 2.15).
        y = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask[:, None, None, :])
        return self.out(y.transpose(1, 2).reshape(rows, length, hidden))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.pre:
            x = x + self.attend(self.norm1(x), mask)
            return x + self.down(F.gelu(self.up(self.norm2(x))))
        x = self.norm1(x + self.attend(x, mask))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Student(nn.Module):
    """Token ids to unit vectors of the teacher's 384 dimensions."""

    def __init__(self, recipe: Recipe, vectors: Tensor, counts: Tensor, dimension: int = 384) -> None:
        super().__init__()
        self.recipe = recipe
        width = recipe.hidden if recipe.arch == "bert" else recipe.wide
        self.tokens = nn.Embedding(len(vectors), width)
        self.project = nn.Linear(recipe.hidden, dimension)
        self.bag = nn.Linear(width, dimension, bias=False) if recipe.arch != "bert" else None
        self.narrow = nn.Linear(width, recipe.hidden) if recipe.arch == "sum" else None
        self.positions = nn.Embedding(512, recipe.hidden)
        self.norm = nn.LayerNorm(recipe.hidden)
        layers = 0 if recipe.arch == "bag" else recipe.layers
        self.layers = nn.ModuleList(Layer(recipe.hidden, recipe.heads, recipe.ffn, recipe.arch == "sum") for _ in range(layers))
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
            elif "norm" not in name:
                nn.init.zeros_(parameter)
        if not recipe.positions:
            nn.init.zeros_(self.positions.weight)
            self.positions.weight.requires_grad_(False)
        if recipe.init.endswith(".npy"):
            assert self.bag is not None
            self.tokens.weight.data.copy_(torch.from_numpy(np.load(recipe.init)))
            self.bag.weight.data.copy_(torch.eye(dimension))
            self.bag.weight.requires_grad_(False)
            self.project.weight.data.zero_()
            if self.narrow is not None:
                nn.init.orthogonal_(self.narrow.weight)
        elif recipe.init != "random":
            self._start(recipe, vectors, counts, width)

    @torch.no_grad()
    def _start(self, recipe: Recipe, vectors: Tensor, counts: Tensor, width: int) -> None:
        """Token vectors by weighted PCA of the teacher's, and the map back as the first projection."""
        frequency = counts / counts.sum()
        weight = (counts + 1).sqrt()
        weight = weight / weight.sum()
        mean = weight @ vectors
        centred = vectors - mean
        _, axes = torch.linalg.eigh(((centred * weight[:, None]).T @ centred).double())
        axes = axes.flip(1)[:, :width].float()
        if recipe.arch == "bert":
            square, _ = torch.linalg.qr(torch.randn(width, width))
            axes = axes @ square
        reduced = centred @ axes
        factor = recipe.scale / reduced.pow(2).mean().sqrt()
        if recipe.arch == "bert":
            self.tokens.weight.copy_(reduced * factor)
            self.project.weight.copy_(axes / factor)
            self.project.bias.copy_(mean)
            return
        self.project.weight.zero_()
        if recipe.sif:
            reduced = reduced * (recipe.sif / (recipe.sif + frequency))[:, None]
        self.tokens.weight.copy_(reduced * factor)
        assert self.bag is not None
        self.bag.weight.copy_(axes / factor)
        self.bag.weight.requires_grad_(False)  # the token vectors themselves are trained

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.tokens(ids)
        keep = mask.unsqueeze(-1).to(x.dtype)
        count = keep.sum(1)
        out: Tensor = 0.0 if self.bag is None else self.bag((x * keep).sum(1) / count)
        if self.layers:
            h = x if self.narrow is None else self.narrow(x)
            h = self.norm(h + self.positions.weight[: ids.shape[1]])
            for layer in self.layers:
                h = layer(h, mask)
            out = out + self.project((h * keep).sum(1) / count)
        return F.normalize(out.float(), dim=1)


@dataclass
class Texts:
    """Token ids of many texts; `rows[i]` is a numpy view."""

    rows: list[np.ndarray[Any, np.dtype[np.int32]]]

    def cut(self, index: int, length: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        row = self.rows[index]
        return row if len(row) <= length else np.append(row[: length - 1], np.int32(SEP))

    def batch(self, index: list[int], length: int) -> tuple[Tensor, Tensor]:
        rows = [self.cut(one, length) for one in index]
        ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=bool)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = True
        return torch.from_numpy(ids), torch.from_numpy(mask)


def epoch(lengths: np.ndarray[Any, np.dtype[np.int64]], batch: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Batches of like lengths in random order: sorted within random pools of 50 batches."""
    order = rng.permutation(len(lengths))
    found = []
    for start in range(0, len(order), 50 * batch):
        pool = order[start : start + 50 * batch]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        found += [pool[at : at + batch].tolist() for at in range(0, len(pool) - batch + 1, batch)]
    yield from (found[number] for number in rng.permutation(len(found)))


@torch.inference_mode()
def evaluate(student: Student, validation: dict[str, Texts], wanted: dict[str, Any], length: int) -> tuple[float, float]:
    student.eval()
    out = {}
    for name, texts in validation.items():
        vectors = np.zeros((len(texts.rows), 384), dtype=np.float32)
        order = sorted(range(len(texts.rows)), key=lambda row: len(texts.rows[row]))
        for start in range(0, len(order), 64):
            index = order[start : start + 64]
            vectors[index] = student(*texts.batch(index, length)).numpy()
        out[name] = vectors
    student.train()
    likeness = float(np.mean([(out[name] * wanted[name]).sum(1).mean() for name in out]))
    return float(reciprocal(ranks(out["query"], out["document"]), 10).mean()), likeness


def loss_of(recipe: Recipe, made: Tensor, wanted: Tensor, queue: Tensor) -> Tensor:
    loss = recipe.cosine * (1 - (made * wanted).sum(1)).mean()
    if recipe.similarity:
        keys = torch.cat([wanted, queue]) if len(queue) else wanted
        own = torch.eye(len(made), len(keys), dtype=torch.bool)
        # With a queue the student's vectors are compared with the teacher's keys (SEED); without, with each other.
        mine = made @ (keys if len(queue) else made).T
        log_student = torch.log_softmax((mine / recipe.temperature).masked_fill(own, -1e4), dim=1)
        log_teacher = torch.log_softmax((wanted @ keys.T / recipe.temperature).masked_fill(own, -1e4), dim=1)
        loss = loss + recipe.similarity * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    if recipe.matrix:
        loss = loss + recipe.matrix * (made @ made.T - wanted @ wanted.T).pow(2).mean()
    return loss


def run(cache: Path, recipe: Recipe) -> tuple[dict[str, Any], Student]:
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    rng = np.random.default_rng(recipe.seed)
    packed = np.load(cache / "tokens.npz")
    flat, sizes = packed["ids"], packed["sizes"]
    blocks = sorted(cache.glob("teacher-*.npy"))
    wanted = np.concatenate([np.load(path) for path in blocks[: math.ceil(recipe.rows / 8192)]])[: recipe.rows]
    if len(wanted) < min(recipe.rows, len(sizes)):
        raise SystemExit(f"only {len(wanted)} rows of the teacher are there")
    ends = np.cumsum(sizes[: len(wanted)])
    texts = Texts([flat[end - size : end] for end, size in zip(ends, sizes, strict=False)])
    targets = torch.from_numpy(wanted.astype(np.float32))
    validation = {
        name: Texts([np.array(row, dtype=np.int32) for row in rows])
        for name, rows in json.loads((cache / "validation.json").read_text()).items()
    }
    counts = torch.from_numpy(np.bincount(flat[: ends[-1]], minlength=30522)).float()
    student = Student(recipe, torch.from_numpy(np.load(cache / "vocabulary.npy")), counts)
    lengths = np.minimum(sizes[: len(wanted)], recipe.length)
    per_epoch = sum(1 for _ in epoch(lengths, recipe.batch, rng))
    steps = max(1, round(per_epoch * recipe.epochs))
    embeddings = [student.tokens.weight]
    others = [value for name, value in student.named_parameters() if name != "tokens.weight" and value.requires_grad]
    groups = [{"params": embeddings, "lr": recipe.lr_embeddings or recipe.lr}, {"params": others, "lr": recipe.lr}]
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, betas=(0.9, 0.98), fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    aims = dict(np.load(cache / f"validation-{recipe.eval_length}.npz"))
    curve = [(0, *evaluate(student, validation, aims, recipe.eval_length))]
    print(
        f"start {curve[0][1]:.4f} cosine {curve[0][2]:.4f}; {steps} steps of {recipe.batch}, {lengths.mean():.1f} tokens a row",
        flush=True,
    )
    queue = torch.zeros(0, 384)
    started, cpu, seen, total = time.monotonic(), time.process_time(), 0, 0.0
    marks = {round(steps * (mark + 1) / recipe.evals) for mark in range(recipe.evals)}
    step = 0
    while step < steps:
        for index in epoch(lengths, recipe.batch, rng):
            if step == steps:
                break
            share = step / max(1, recipe.warmup * steps)
            rest = (step - recipe.warmup * steps) / ((1 - recipe.warmup) * steps)
            factor = share if share < 1 else (1 - rest if recipe.decay == "linear" else 0.5 * (1 + math.cos(math.pi * rest)))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            ids, mask = texts.batch(index, recipe.length)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.half):
                made = student(ids, mask)
            target = targets[index]
            if recipe.queue:
                queue = targets[rng.integers(0, len(targets), recipe.queue)]
            loss = loss_of(recipe, made, target, queue)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), recipe.clip)
            optimizer.step()
            step += 1
            seen += len(index)
            total += float(loss.detach())
            if step in marks:
                paused, paused_cpu = time.monotonic(), time.process_time()
                curve.append((step, *evaluate(student, validation, aims, recipe.eval_length)))
                print(
                    f"{step} {curve[-1][1]:.4f} cosine {curve[-1][2]:.4f} loss {total / step:.4f} {paused_cpu - cpu:.0f} CPU s",
                    flush=True,
                )
                started, cpu = started + time.monotonic() - paused, cpu + time.process_time() - paused_cpu
    facts = json.loads((cache / "facts.json").read_text())
    mrr = curve[-1][1]
    found = {
        "mrr": round(mrr, 4),
        "vs_teacher": round(mrr / facts["teacher256"], 4),
        "vs_bm25": round(mrr / facts["bm25"], 4),
        "curve": [(step, round(value, 4), round(likeness, 4)) for step, value, likeness in curve],
        "steps": steps,
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "recipe": dataclasses.asdict(recipe),
    }
    return found, student


def parse(words: list[str]) -> Recipe:
    recipe = Recipe()
    for word in words:
        key, _, value = word.partition("=")
        kind = type(getattr(recipe, key))
        setattr(recipe, key, value == "1" if kind is bool else kind(value))
    return recipe


def main() -> None:
    cache, out, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    found, student = run(cache, parse(sys.argv[4:]))
    line = {"name": name, **found}
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")
    torch.save(student.state_dict(), cache / f"{name}.pt")
    print(name, {key: value for key, value in line.items() if key in {"mrr", "vs_teacher", "vs_bm25", "seconds", "cpu_seconds"}})


if __name__ == "__main__":
    main()
