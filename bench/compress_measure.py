"""How a candidate of `bench-compress` is asked and timed: always through the engine that serves."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.compress_figures import Scores
from bench.harness.load import Mode, Sample
from bench.harness.quiet import QuietCheck
from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import SIGNATURE_FILE
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.ranking import ranks, reciprocal

BATCH = 16
AT = 10


def answers(folder: Path, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Ask in batches, two threads: embeddings float32 [texts, dimension], or probabilities [texts, labels]."""
    engine = Engine(folder, 2)
    return np.concatenate([engine.run_texts(texts[start : start + BATCH]).values for start in range(0, len(texts), BATCH)])


@dataclass(frozen=True)
class Quality:
    """What a candidate finds: the reciprocal rank of each pair (0 beyond the tenth), and its embeddings."""

    scores: Scores
    embeddings: npt.NDArray[np.float32]

    @classmethod
    def of(cls, folder: Path, queries: list[str], documents: list[str]) -> Quality:
        """Ask the model in `folder` about all pairs."""
        both = answers(folder, [*queries, *documents])
        return cls(reciprocal(ranks(both[: len(queries)], both[len(queries) :]), AT), both)

    def cosine(self, other: Quality) -> float:
        """Return the mean cosine of the embeddings with another's."""
        return float((self.embeddings * other.embeddings).sum(axis=1).mean())


@dataclass
class Held:
    """A candidate that is kept loaded, one thread: each measurement answers the same texts in the same batches."""

    name: str
    engine: Engine = field(repr=False)
    texts: Sequence[str] = field(repr=False)

    @classmethod
    def load(cls, name: str, folder: Path, texts: Sequence[str]) -> Held:
        """Load and warm up."""
        held = cls(name, Engine(folder, 1), texts)
        held.engine.run_rows(texts[:BATCH], count=False)
        return held

    def measure(self, mode: Mode, texts: Path, answers: int = 0) -> Sample:
        """Answer all texts once; `mode` and the rest are of sides that are loaded over time."""
        del mode, texts, answers
        quiet, cpu, start = QuietCheck(), time.process_time(), time.monotonic()
        latencies = []
        for first in range(0, len(self.texts), BATCH):
            begun = time.monotonic()
            self.engine.run_rows(self.texts[first : first + BATCH], count=False)
            latencies.append(1000 * (time.monotonic() - begun))
        seconds = time.monotonic() - start
        return Sample(
            throughput=len(self.texts) / seconds,
            right=len(self.texts),
            errors=0,
            latency_ms={"p50": float(np.median(latencies))},
            cpu_seconds=time.process_time() - cpu,
            right_in_window=len(self.texts),
            foreign_share=quiet.share(0.0),
            report={"seconds": seconds, "batch": BATCH},
        )


def engine_folder(folder: Path, fp32: Path) -> Path:
    """Lay the FP32 model's signature and tokenizer beside a rival's graph, which has the same inputs and output."""
    for name in (SIGNATURE_FILE, TOKENIZER_FILE):
        target = folder / name
        target.unlink(missing_ok=True)
        shutil.copyfile(fp32 / name, target)
    return folder
