#!/usr/bin/env python3
"""Build the texts of `docstring-topics-few`: the part of the standard library that a docstring is from.

A class is a top-level module or package with at least 50 texts; its name is masked in its texts, and a text that several
classes share is dropped. Few labels, much text: 5 or 10 labels a class, everything else is unlabelled. Files (Parquet):

| file | columns | what |
|---|---|---|
| `train-5`, `train-10` | `text`, `label` | 5 and 10 texts of every class; the 5 are among the 10 |
| `unlabelled` | `text`, `source` | the other training texts (`library`) and docstrings of installed packages (`installed`) |
| `validation`, `gate`, `threshold`, `test` | `text`, `label` | disjoint; near-duplicates are in one of them only |

The test set is one of five folds: `--fold 0` to `--fold 4` together test every text once.

Example:
    python examples/docstring-topics-few/build_data.py --fold 0
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
from _shared.packages import installed_files, installed_versions, python_version, standard_library_files
from _shared.pairs import unlike_held_out
from _shared.progress import Progress
from _shared.splits import in_hash_order
from _shared.topics import Topic, few_per_class, fold_of, labelled, topics_of

VERSION = 1
SEED = 20261122
FOLDS = 5
REST_SHARES = {"gate": 0.2, "validation": 0.15, "threshold": 0.05}
"""Of the four folds that are not tested; the remaining 60 % give the few labels and, without theirs, unlabelled text."""


def installed_texts(processes: int, limit: int | None, held_out: Sequence[str], progress: Progress) -> list[str]:
    """Docstrings of installed packages in hash order, none of them like a held-out text."""
    found = extract_all(installed_files(), progress, processes)
    ordered = in_hash_order((topic.text for topic in topics_of(found)), str, SEED)
    ordered = ordered if limit is None else ordered[: limit + limit // 2 + 100]
    return unlike_held_out(ordered, held_out, progress)[:limit]


def columns(topics: Iterable[Topic]) -> Columns:
    """Labelled texts as a table in hash order."""
    ordered = in_hash_order(topics, lambda topic: topic.text, SEED)
    return {"text": [topic.text for topic in ordered], "label": [topic.label for topic in ordered]}


def build(folder: Path, fold: int, limit: int | None, processes: int, progress: Progress) -> dict[str, Any] | None:
    """Write the data set; `None` where it is there already."""
    versions = installed_versions() if limit != 0 else {}
    arguments = {"fold": fold, "maxInstalled": limit}
    inputs = {"builder": VERSION, "seed": SEED, **arguments, "python": python_version(), "packages": versions}
    if is_current(folder, inputs):
        return None
    progress.step(f"reading the standard library of Python {inputs['python']}")
    topics = labelled(topics_of(extract_all(standard_library_files(), progress, processes)))
    classes = Counter(topic.label for topic in topics)
    progress.step(f"{len(topics)} texts in {len(classes)} classes")
    parts: dict[str, list[Topic]] = defaultdict(list)
    for topic, place in zip(topics, fold_of(topics, FOLDS, fold, REST_SHARES, SEED, progress), strict=True):
        parts[place].append(topic)
    train = parts.pop("train")
    ten = few_per_class(train, 10, SEED)
    few = {topic for topics_of_class in ten.values() for topic in topics_of_class}
    tables: dict[str, Columns] = {f"train-{n}": columns(t for c in ten.values() for t in c[:n]) for n in (5, 10)}
    tables |= {name: columns(part) for name, part in sorted(parts.items())}
    rest = [topic.text for topic in train if topic not in few]
    held_out = [topic.text for part in parts.values() for topic in part]
    others = installed_texts(processes, limit, [*held_out, *rest], progress) if limit != 0 else []
    both = [(text, "library") for text in rest] + [(text, "installed") for text in others]
    rows = in_hash_order(both, lambda row: row[0], SEED)
    tables["unlabelled"] = {"text": [text for text, _ in rows], "source": [source for _, source in rows]}
    lengths = {"unlabelled.text": token_histogram([text for text, _ in rows])}
    facts = {"classes": dict(sorted(classes.items())), "tokenLengths": lengths}
    return write(folder, tables, inputs, facts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "data", metavar="DIR")
    parser.add_argument("--fold", type=int, default=0, choices=range(FOLDS), help="which fifth is tested (0)")
    parser.add_argument("--max-installed", type=int, metavar="N", help="texts of installed packages, 0 for none; all by default")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="parsing processes (2)")
    options = parser.parse_args(arguments)
    if options.max_installed is not None and options.max_installed < 0:
        parser.error(f"--max-installed: {options.max_installed} is no number of texts; give 0 or more, or leave it out")
    with Progress() as progress:
        manifest = build(options.out, options.fold, options.max_installed, options.processes, progress)
    report(options.out, manifest)


if __name__ == "__main__":
    main()
