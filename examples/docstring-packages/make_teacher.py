#!/usr/bin/env python3
"""Make the large model of `docstring-packages`: all-MiniLM-L6-v2, fine-tuned on the labelled texts. Needs `build_data.py` before.

Masked mean over the last states, unit length, a linear head; the layers learn for two epochs, the head faster, and the token
vectors stay as they are.
Written as a Hugging Face folder in the Sentence Transformers layout whose weights also hold the head, `classifier.weight`
[labels, 384] and `classifier.bias` [labels]; `config.json` has the order of the labels. Also writes the small model's texts
(`data/training/`): the labelled ones and the unlabelled, together.

Example:
    python examples/docstring-packages/make_teacher.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _shared.dataset import write
from _shared.minilm import encoder_folder, read, write_classifier
from _shared.progress import Progress

HERE = Path(__file__).resolve().parent
MAX_LENGTH = 64
BATCH = 32
RATE, HEAD_RATE = 1e-4, 2e-3
SCALE = 16.0
"""Of the unit embedding before the head: with length 1 a softmax of 16 classes could not become sure."""
SEED = 7


def fine_tune(
    texts: Sequence[str], labels: Sequence[str], classes: Sequence[str], epochs: int, progress: Progress
) -> tuple[Any, Any, Any]:
    """Return tokenizer, network and head after training on the labels."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(SEED)
    folder = encoder_folder()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.enable_padding()
    network = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    head = torch.nn.Linear(network.config.hidden_size, len(classes))
    network.embeddings.requires_grad_(False)  # half of the weights, of which a few thousand texts touch little
    groups = [{"params": network.encoder.parameters(), "lr": RATE}, {"params": head.parameters(), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    place = {label: number for number, label in enumerate(classes)}
    truth = torch.tensor([place[label] for label in labels])
    steps = epochs * (len(texts) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [RATE, HEAD_RATE], total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(SEED)
    step = 0
    for _ in range(epochs):
        for rows in batches(texts, torch.randperm(len(texts), generator=generator).tolist()):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                embeddings = embed(network, tokenizer, [texts[row] for row in rows])
            logits = head(embeddings.float() * SCALE)
            loss = torch.nn.functional.cross_entropy(logits, truth[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            progress.tick(f"fine-tuning, step {step}/{steps}, loss {loss.item():.3f}")
    return tokenizer, network.eval(), head


def batches(texts: Sequence[str], order: Sequence[int]) -> Iterator[list[int]]:
    """Yield rows to learn from together: of texts that are alike long, so that little is padding; in an order of chance."""
    for start in range(0, len(order) - BATCH + 1, BATCH * 16):
        chunk = sorted(order[start : start + BATCH * 16], key=lambda row: len(texts[row]))
        parts = [list(chunk[at : at + BATCH]) for at in range(0, len(chunk) - BATCH + 1, BATCH)]
        yield from sorted(parts, key=lambda part: part[0] * 2654435761 % 2**32)


def embed(network: Any, tokenizer: Any, texts: Sequence[str]) -> Any:
    """Give unit embeddings, float32 [texts, 384]."""
    import torch

    encodings = tokenizer.encode_batch(list(texts))
    ids = torch.tensor([encoding.ids for encoding in encodings])
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    states = network(input_ids=ids, attention_mask=mask).last_hidden_state
    kept = mask.unsqueeze(-1).float()
    return torch.nn.functional.normalize((states * kept).sum(1) / kept.sum(1), dim=1)


def write_teacher(out: Path, network: Any, head: Any, classes: Sequence[str]) -> None:
    """Write the folder that `import-model` takes for a pooled classifier."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    write_classifier(out, tensors, (head.weight * SCALE).detach().contiguous(), head.bias.detach(), classes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data", type=Path, default=HERE / "data", metavar="DIR", help="what build_data.py wrote")
    parser.add_argument("--out", type=Path, default=HERE / "teacher", metavar="DIR")
    options = parser.parse_args(arguments)
    if not (options.data / "train.parquet").is_file():
        parser.error(f"{options.data / 'train.parquet'} is not there; run: python examples/docstring-packages/build_data.py")
    train, validation = read(options.data / "train.parquet"), read(options.data / "validation.parquet")
    unlabelled = read(options.data / "unlabelled.parquet")["text"]
    classes = sorted(set(train["label"]))
    import torch

    with Progress() as progress:
        progress.step(f"fine-tuning all-MiniLM-L6-v2 on {len(train['text'])} texts of {len(classes)} classes")
        tokenizer, network, head = fine_tune(train["text"], train["label"], classes, options.epochs, progress)
        right = 0
        with torch.inference_mode():
            for start in range(0, len(validation["text"]), 64):
                part = slice(start, start + 64)
                said = head(embed(network, tokenizer, validation["text"][part]) * SCALE).argmax(1).tolist()
                right += sum(classes[each] == label for each, label in zip(said, validation["label"][part], strict=True))
        write_teacher(options.out, network, head, classes)
        texts, labels = [*train["text"], *unlabelled], [*train["label"], *([None] * len(unlabelled))]
        write(options.data / "training", {"training": {"text": texts, "label": labels}}, {"epochs": options.epochs}, {})
    print(
        f"large model: {right / len(validation['text']):.3f} of {len(validation['text'])} validation texts right; {options.out}"
    )


if __name__ == "__main__":
    main()
