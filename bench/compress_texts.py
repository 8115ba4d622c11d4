"""The texts of `bench-compress`, from docstring-search's data: disjoint, and the same on every machine with the same packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.harness.errors import BenchError
from bench.harness.paths import ROOT

CALIBRATION, OTHERS, TIMED = 128, 256, 96
SEED = 20261127
BUILDER = ROOT / "examples" / "docstring-search" / "build_data.py"
UNLABELLED = 4000  # more are not read


@dataclass(frozen=True, slots=True)
class Texts:
    """`queries` and `documents` are judged on; the others are like none of them (the builder sees to it).

    Of these some are calibrated on, `others` decide what is chosen, `timed` are timed.
    """

    queries: list[str]
    documents: list[str]
    calibration: list[str]
    others: list[str]
    timed: list[str]

    @classmethod
    def of(cls, folder: Path, pairs: int) -> Texts:
        """Build the data in `folder` where it is missing, and read it; `pairs` at most.

        Raises:
            BenchError: it cannot be built, or there are too few texts.
        """
        import pyarrow.parquet as pq

        data = folder / "data"
        command = [sys.executable, str(BUILDER), "--out", str(data), "--max-unlabelled", str(UNLABELLED)]
        if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
            raise BenchError(f"{BUILDER.name} failed")
        texts = pq.read_table(data / "unlabelled.parquet")["text"].to_pylist()
        if len(texts) < CALIBRATION + OTHERS + TIMED:
            raise BenchError(f"only {len(texts)} texts to calibrate on and to time with, {CALIBRATION + OTHERS + TIMED} needed")
        split = pq.read_table(data / "validation.parquet", columns=["query", "document"])
        rows = np.sort(np.random.default_rng(SEED).permutation(split.num_rows)[:pairs])
        chosen = split.take(rows)
        first, second = CALIBRATION, CALIBRATION + OTHERS
        parts = (texts[:first], texts[first:second], texts[second : second + TIMED])
        return cls(chosen["query"].to_pylist(), chosen["document"].to_pylist(), *parts)


def calibration_file(folder: Path, texts: Sequence[str]) -> Path:
    """Write the calibration texts as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "calibration.parquet"
    pq.write_table(pa.table({"text": list(texts)}), path)
    return path
