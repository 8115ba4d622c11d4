#!/usr/bin/env python3
"""Train the teacher of `digits`: a small convolutional network, 10 to 40 s on one core. Needs `build_data.py` before.

Writes `teacher/model.safetensors`: the state of `students:teacher` (names and shapes as in its `state_dict`).

Example:
    python examples/digits/make_teacher.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _shared.commands import teacher_options
from _shared.progress import Progress

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).resolve().parent
SEED, EPOCHS, BATCH = 7, 40, 64


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images float32 [n, 1, 8, 8] in [0, 1] and labels int64 [n] of a file that `build_data.py` wrote."""
    import numpy as np
    import pyarrow.parquet as pq
    import torch

    table = pq.read_table(path)
    pixels = np.stack(table["image"].to_numpy(zero_copy_only=False)).astype(np.float32)
    labels = [int(label) for label in table["label"].to_pylist()]
    return torch.from_numpy(pixels).reshape(-1, 1, 8, 8), torch.tensor(labels)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Move the whole batch by at most one pixel each way: the only augmentation that 8×8 pixels bear."""
    import torch

    down, right = torch.randint(0, 3, (2,)).tolist()
    return torch.nn.functional.pad(images, (1, 1, 1, 1))[:, :, down : down + 8, right : right + 8]


def train(images: torch.Tensor, labels: torch.Tensor, progress: Progress) -> torch.nn.Module:
    """Train with AdamW and a cosine schedule; the same machine and seed give the same weights."""
    import torch
    from students import teacher

    torch.manual_seed(SEED)
    network = teacher(num_labels=10)
    steps = EPOCHS * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in progress.over(range(EPOCHS), EPOCHS, "training: epoch"):
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(network(shifted(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = teacher_options(__doc__, HERE, arguments)
    with Progress() as progress:
        right, count = make(options.data, options.out, progress)
    print(f"teacher: {right} of {count} validation images right; written to {options.out}")


def make(data: Path, out: Path, progress: Progress) -> tuple[int, int]:
    """Train, write the weights; return (validation images that it has right, validation images)."""
    progress.step("loading torch")
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    progress.step(f"training for {EPOCHS} epochs")
    network = train(*read(data / "train.parquet"), progress)
    progress.step("writing its weights, asking it about the validation images")
    out.mkdir(parents=True, exist_ok=True)
    save_file(dict(network.state_dict()), str(out / "model.safetensors"))
    images, labels = read(data / "validation.parquet")
    with torch.no_grad():
        right = int((network(images).argmax(1) == labels).sum())
    return right, len(labels)


if __name__ == "__main__":
    main()
