#!/usr/bin/env python3
"""Build the texts of `docstring-packages`: the installed package that a docstring is from.

A class is a package with at least 900 texts, of which at most 2,000 have a label here; a package's name is masked in its texts,
and a text that stands in several packages is dropped. Files (Parquet):

| file | columns | what |
|---|---|---|
| `train` | `text`, `label` | what both models learn from |
| `validation`, `gate`, `calibration`, `threshold`, `test` | `text`, `label` | disjoint; near-duplicates are in one of them only |

Example:
    python examples/docstring-packages/build_data.py
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _shared.dataset import Columns, is_current, report, token_histogram, write
from _shared.docstrings import extract_all
from _shared.packages import installed_files, installed_versions, python_version
from _shared.progress import Progress
from _shared.splits import in_hash_order
from _shared.topics import Topic, few_per_class, fold_of, labelled, topics_of

VERSION = 2
SEED = 20261127
LEAST, MOST = 900, 2_000
FOLDS = 4
SHARES = {"threshold": 0.18, "calibration": 0.08, "gate": 0.06, "validation": 0.06}
"""Of the three quarters that are not tested."""


def columns(topics: Iterable[Topic]) -> Columns:
    """Labelled texts as a table in hash order."""
    ordered = in_hash_order(topics, lambda topic: topic.text, SEED)
    return {"text": [topic.text for topic in ordered], "label": [topic.label for topic in ordered]}


def build(folder: Path, processes: int, progress: Progress) -> dict[str, Any] | None:
    """Write the data set; `None` where it is there already."""
    inputs = {"builder": VERSION, "seed": SEED, "python": python_version(), "packages": installed_versions()}
    if is_current(folder, inputs):
        return None
    progress.step("reading the installed packages")
    every = topics_of(extract_all(installed_files(), progress, processes))
    known = few_per_class(labelled(every, LEAST), MOST, SEED)
    topics = [topic for label in sorted(known) for topic in known[label]]
    progress.step(f"{len(topics)} texts in {len(known)} classes")
    parts: dict[str, list[Topic]] = defaultdict(list)
    for topic, place in zip(topics, fold_of(topics, FOLDS, 0, SHARES, SEED, progress), strict=True):
        parts[place].append(topic)
    tables: dict[str, Columns] = {name: columns(part) for name, part in sorted(parts.items())}
    facts = {
        "classes": dict(sorted(Counter(topic.label for topic in topics).items())),
        "tokenLengths": {"train.text": token_histogram([topic.text for topic in parts["train"]])},
    }
    return write(folder, tables, inputs, facts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "data", metavar="DIR")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="parsing processes (2)")
    options = parser.parse_args(arguments)
    with Progress() as progress:
        manifest = build(options.out, options.processes, progress)
    report(options.out, manifest)


if __name__ == "__main__":
    main()
