#!/usr/bin/env python3
"""Make the large model of `docstring-packages`: all-MiniLM-L6-v2, fine-tuned on the labelled texts. Needs `build_data.py` before.

Masked mean over the last states, unit length, a linear head; layers and token vectors learn, the head faster. Of a text that is
longer than `STRETCH` tokens every epoch sees another stretch, the beginning half of the time: that costs half of reading whole
texts, and the model answers from whole texts (`maxLength` of the YAML files).
Written as a Hugging Face folder in the Sentence Transformers layout whose weights also hold the head, `classifier.weight`
[labels, 384] and `classifier.bias` [labels]; `config.json` has the order of the labels. Where that folder is of this very data,
nothing is done.

Example:
    python examples/docstring-packages/make_teacher.py
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _shared.dataset import MANIFEST, digest, is_current, seal
from _shared.minilm import encoder_folder, read, write_classifier
from _shared.progress import Progress

HERE = Path(__file__).resolve().parent
READ, STRETCH = 256, 64
"""Tokens of a text, special ones included: those that an answer is from (and no more than the encoder was made for), and those
that one step learns from."""
BATCH = 32
RATE, HEAD_RATE = 2e-4, 2e-3
SCALE = 16.0
"""Of the unit embedding before the head: with length 1 a softmax of 16 classes could not become sure."""
VERSION, SEED = 2, 7


def fine_tune(
    rows: Sequence[list[int]], labels: Sequence[str], classes: Sequence[str], epochs: int, progress: Progress
) -> tuple[Any, Any]:
    """Return network and head after training on the labels; `rows` are the texts' tokens, as `tokens` gives them."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(SEED)
    network = AutoModel.from_pretrained(encoder_folder(), add_pooling_layer=False)
    head = torch.nn.Linear(network.config.hidden_size, len(classes))
    network.embeddings.requires_grad_(False)  # places and kinds stay as they are
    network.embeddings.word_embeddings.requires_grad_(True)  # which words stand in a text says most here
    encoder = [*network.embeddings.word_embeddings.parameters(), *network.encoder.parameters()]
    groups = [{"params": encoder, "lr": RATE}, {"params": head.parameters(), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    place = {label: number for number, label in enumerate(classes)}
    truth = torch.tensor([place[label] for label in labels])
    steps = epochs * sum(1 for _ in batches(rows, range(len(rows))))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [RATE, HEAD_RATE], total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(SEED)
    chance = random.Random(SEED)
    step = 0
    for _ in range(epochs):
        seen = [stretch(row, chance) for row in rows]
        for part in batches(seen, torch.randperm(len(rows), generator=generator).tolist()):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                embeddings = embed(network, [seen[at] for at in part])
            logits = head(embeddings.float() * SCALE)
            loss = torch.nn.functional.cross_entropy(logits, truth[part], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            progress.tick(f"fine-tuning, step {step}/{steps}, loss {loss.item():.3f}")
    return network.eval(), head


def tokens(texts: Sequence[str]) -> list[list[int]]:
    """Give the token ids of each text, at most `READ`, special ones included."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(encoder_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(READ)
    tokenizer.no_padding()
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def stretch(row: list[int], chance: random.Random) -> list[int]:
    """Give `STRETCH` tokens of a longer row between its special ones: half of the time the first, else any."""
    longest = STRETCH - 2
    extra = len(row) - 2 - longest
    if extra <= 0:
        return row
    start = 0 if chance.random() < 0.5 else chance.randint(0, extra)
    return [row[0], *row[1 + start : 1 + start + longest], row[-1]]


def batches(rows: Sequence[list[int]], order: Sequence[int]) -> Iterator[list[int]]:
    """Yield rows to learn from together: alike long, so that little is padding; in an order of chance."""
    for start in range(0, len(order) - BATCH + 1, BATCH * 16):
        chunk = sorted(order[start : start + BATCH * 16], key=lambda at: len(rows[at]))
        parts = [list(chunk[at : at + BATCH]) for at in range(0, len(chunk) - BATCH + 1, BATCH)]
        yield from sorted(parts, key=lambda part: part[0] * 2654435761 % 2**32)


def embed(network: Any, rows: Sequence[list[int]]) -> Any:
    """Give unit embeddings, float32 [rows, 384], of rows of token ids."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    kept = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    states = network(input_ids=ids, attention_mask=kept).last_hidden_state
    weights = kept.unsqueeze(-1).float()
    return torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=1)


def share_right(network: Any, head: Any, rows: Sequence[list[int]], labels: Sequence[str], classes: Sequence[str]) -> float:
    """Give the share of whole texts whose label the model says."""
    import torch

    right = 0
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))  # alike long together
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            said = head(embed(network, [rows[at] for at in part]) * SCALE).argmax(1).tolist()
            right += sum(classes[each] == labels[at] for each, at in zip(said, part, strict=True))
    return right / len(rows)


def write_teacher(out: Path, network: Any, head: Any, classes: Sequence[str], inputs: Mapping[str, Any]) -> None:
    """Write the folder that `import-model` takes for a pooled classifier; `inputs`: what it is made of."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    (out / MANIFEST).unlink(missing_ok=True)
    write_classifier(out, tensors, (head.weight * SCALE).detach().contiguous(), head.bias.detach(), classes)
    # Last: without it all is made anew.
    seal(out, {"model.safetensors": {"digest": digest(out / "model.safetensors")}}, inputs, {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data", type=Path, default=HERE / "data", metavar="DIR", help="what build_data.py wrote")
    parser.add_argument("--out", type=Path, default=HERE / "teacher", metavar="DIR")
    options = parser.parse_args(arguments)
    if not (options.data / "train.parquet").is_file():
        parser.error(f"{options.data / 'train.parquet'} is not there; run: python examples/docstring-packages/build_data.py")
    inputs = {"builder": VERSION, "epochs": options.epochs, "train": digest(options.data / "train.parquet")}
    if is_current(options.out, inputs):
        print(f"{options.out} is up to date: nothing done")
        return
    train, validation = read(options.data / "train.parquet"), read(options.data / "validation.parquet")
    classes = sorted(set(train["label"]))
    with Progress() as progress:
        progress.step(f"fine-tuning all-MiniLM-L6-v2 on {len(train['text'])} texts of {len(classes)} classes")
        network, head = fine_tune(tokens(train["text"]), train["label"], classes, options.epochs, progress)
        right = share_right(network, head, tokens(validation["text"]), validation["label"], classes)
        write_teacher(options.out, network, head, classes, inputs)
    print(f"large model: {right:.3f} of {len(validation['text'])} validation texts right; {options.out}")


if __name__ == "__main__":
    main()
