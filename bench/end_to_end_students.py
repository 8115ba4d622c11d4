"""The students of `bench-end-to-end`: resources with a seed put in, carried out by the passes and kept in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.compress_ours import SOURCE
from bench.harness.errors import BenchError
from bench.harness.paths import cache_folder
from bench.ours import EXAMPLES, MODELS, build, carry_out
from stillhouse.entrypoints.local.display import showing
from stillhouse.entrypoints.local.workspace import Workspace, open_file
from stillhouse.errors import StillhouseError

__all__ = ["CONTROL", "HEADLINE", "STUDENTS", "Student", "make", "reference"]

SEARCH = EXAMPLES / "docstring-search"
DATA = SEARCH / "data"
HEADLINE, CONTROL = "residual", "control"
STUDENTS = {
    HEADLINE: SEARCH / "full.yaml",
    "attention": MODELS / "search-attention.yaml",
    "cnn": MODELS / "search-cnn.yaml",
    "mlp": MODELS / "search-mlp.yaml",
    CONTROL: SEARCH / "full.yaml",
}
HARD = [{"kind": "contrastive", "weight": "1"}, {"kind": "embedding", "weight": "0"}]
"""What the control learns from: the pairs alone. Student, texts and steps are the headline's, and so is its start, fitted to the
teacher's outputs: that is why they are named, with no weight."""
SOURCES = {
    "models:minilm": SOURCE,
    "data:docstrings": f"file://{DATA}/unlabelled.parquet",
    "data:validation": f"file://{DATA}/validation.parquet",
}
INT8 = "compress/int8"


@dataclass(frozen=True)
class Student:
    """A student by one seed: folder and digest of its INT8 model, and what its receipt says of its size and work."""

    name: str
    seed: int
    folder: Path
    digest: str
    facts: dict[str, Any]


def seeded(file: Path, seed: int, *, hard: bool = False) -> Path:
    """Write a resource with another seed, for its student alone: no gate, no index, INT8; `hard`: taught as the control."""
    document = yaml.safe_load(file.read_text("utf-8"))
    spec = document["spec"]
    spec["distill"]["seed"] = seed
    spec["compress"] = {"precision": "int8"}
    spec["distill"].pop("validation", None)  # which changes nothing, and takes time after each epoch
    for key in ("gate", "index", "serve", "scale"):
        spec.pop(key, None)
    folder = cache_folder() / "end-to-end"
    folder.mkdir(parents=True, exist_ok=True)
    if hard:
        spec["distill"]["stages"][0]["losses"] = HARD
        document["metadata"]["name"] += "-control"
    path = folder / f"{document['metadata']['name']}-{seed}.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return path


def opened(name: str, seed: int, file: Path | None = None) -> Workspace:
    """Bind and plan.

    Raises:
        BenchError: the data is missing, or the resource is refused.
    """
    if not (DATA / "test.parquet").is_file():
        raise BenchError(f"no {DATA}/test.parquet: python examples/docstring-search/build_data.py")
    try:
        return open_file(seeded(file or STUDENTS[name], seed, hard=name == CONTROL), sources=SOURCES)
    except StillhouseError as error:
        raise BenchError(str(error)) from error


def make(name: str, seeds: Sequence[int], file: Path | None = None) -> list[Student]:
    """Make a student by each seed where the store lacks it; what was stopped goes on.

    Raises:
        BenchError: it cannot be made.
    """
    made = []
    with showing() as listener:
        for seed in seeds:
            work = opened(name, seed, file)
            try:
                artifact = carry_out(work, INT8, listener)
            except StillhouseError as error:
                raise BenchError(f"{name}, seed {seed}: {error}") from error
            made.append(Student(name, seed, artifact.path, artifact.digest, {**artifact.facts, "bytes": artifact.size}))
    return made


def reference(name: str) -> Student:
    """Build MiniLM itself by one of `bench/models`: `minilm-fp32` or `minilm-int8`.

    Raises:
        BenchError: it does not build.
    """
    folder, digest, _ = build(MODELS / f"{name}.yaml")
    return Student(name, 0, folder, digest, {})
