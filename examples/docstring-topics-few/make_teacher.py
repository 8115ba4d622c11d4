#!/usr/bin/env python3
"""Make the teacher of `docstring-topics-few` and what its student learns on. Needs `build_data.py` before.

The teacher is all-MiniLM-L6-v2 as it is: masked mean over its last states, unit length, and a logistic regression on top,
fitted on 5 or 10 labels a class. Written as a Hugging Face folder in the Sentence Transformers layout whose weights also
hold the head, `classifier.weight` [labels, 384] and `classifier.bias` [labels]; `config.json` has the order of the labels.

The student's texts are the few labelled ones, then the unlabelled of the library, then those of installed packages: one
file, `label` is null where nobody knows it. A resource that reads the first `maxRows` gets what is most like the task.

Example:
    python examples/docstring-topics-few/make_teacher.py --shots 10
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _shared.dataset import write
from _shared.minilm import encoder_folder, read, write_classifier
from _shared.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

HERE = Path(__file__).resolve().parent
MAX_LENGTH = 128
STRENGTH = 10.0
"""Inverse regularisation of the logistic regression; on the validation rows anything from 3 to 100 is as good."""


def embed(texts: Sequence[str], progress: Progress) -> npt.NDArray[np.float32]:
    """Give unit embeddings float32 [texts, 384] of all-MiniLM-L6-v2, texts cut to 128 tokens."""
    import numpy as np
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = encoder_folder()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.enable_padding()
    network = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    out = np.zeros((len(texts), network.config.hidden_size), dtype=np.float32)
    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(texts), 64):
        rows = by_length[start : start + 64]
        encodings = tokenizer.encode_batch([texts[row] for row in rows])
        ids = torch.tensor([encoding.ids for encoding in encodings])
        mask = torch.tensor([encoding.attention_mask for encoding in encodings])
        with torch.inference_mode():
            states = network(input_ids=ids, attention_mask=mask).last_hidden_state
        kept = mask.unsqueeze(-1).float()
        pooled = (states * kept).sum(1) / kept.sum(1)
        out[rows] = torch.nn.functional.normalize(pooled, dim=1).numpy()
        progress.tick(f"embedding {start + len(rows)}/{len(texts)}")
    return out


def fit_head(
    embeddings: npt.NDArray[np.float32], labels: Sequence[str], strength: float = STRENGTH
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], list[str]]:
    """Fit a multinomial logistic regression.

    Returns:
        Weight float32 [classes, width], bias float32 [classes], and the classes in their order.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=3000).fit(embeddings, list(labels))
    return model.coef_.astype("float32"), model.intercept_.astype("float32"), [str(name) for name in model.classes_]


def write_teacher(out: Path, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], classes: Sequence[str]) -> None:
    """Write the folder that `import-model` takes for a pooled classifier."""
    import torch
    from safetensors.torch import load_file

    known = load_file(encoder_folder() / "model.safetensors")
    tensors = {name: tensor for name, tensor in known.items() if "pooler" not in name}
    write_classifier(out, tensors, torch.from_numpy(weight).contiguous(), torch.from_numpy(bias), classes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--shots", type=int, default=10, choices=(5, 10), help="labels a class (10)")
    parser.add_argument("--data", type=Path, default=HERE / "data", metavar="DIR", help="what build_data.py wrote")
    parser.add_argument("--out", type=Path, default=HERE / "teacher", metavar="DIR")
    options = parser.parse_args(arguments)
    few_path = options.data / f"train-{options.shots}.parquet"
    if not few_path.is_file():
        parser.error(f"{few_path} is not there; run: python examples/docstring-topics-few/build_data.py")
    with Progress() as progress:
        few, unlabelled = read(few_path), read(options.data / "unlabelled.parquet")
        validation = read(options.data / "validation.parquet")
        progress.step(f"fitting a head on {len(few['text'])} labelled texts")
        embeddings = embed([*few["text"], *validation["text"]], progress)
        weight, bias, classes = fit_head(embeddings[: len(few["text"])], few["label"])
        write_teacher(options.out, weight, bias, classes)
        logits = embeddings[len(few["text"]) :] @ weight.T + bias
        right = sum(classes[row] == label for row, label in zip(logits.argmax(1), validation["label"], strict=True))
        # The few labelled texts come first: `maxRows` of the resource then never drops them. The library's are few beside the
        # packages' and the nearest to what is asked, so they come next. Training draws its own order.
        rows = list(zip(unlabelled["text"], unlabelled["source"], strict=True))
        rest = [text for where in ("library", "installed") for text, source in rows if source == where]
        texts = [*few["text"], *rest]
        labels = [*few["label"], *([None] * len(rest))]
        write(options.data / "training", {"training": {"text": texts, "label": labels}}, {"shots": options.shots}, {})
    print(f"teacher: {right / len(logits):.3f} of {len(logits)} validation texts right; written to {options.out}")
    print(f"the student's texts: {len(few['text'])} with a label, {len(unlabelled['text'])} without")


if __name__ == "__main__":
    main()
