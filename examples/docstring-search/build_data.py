#!/usr/bin/env python3
"""Build the texts of `docstring-search`: every machine has them, in its standard library and its installed packages.

The task: given a docstring's summary, find its body. Files (Parquet):

| file | columns | where from |
|---|---|---|
| `unlabelled` | `text`, `group` (of one docstring) | summaries and bodies; nothing like what is in one of the four files below |
| `validation` | `query`, `document`, `name`, `package` | standard library and installed packages |
| `gate` | the same | the standard library alone: the same on every machine with this Python version |
| `threshold` | the same | standard library and installed packages |
| `test` | the same | standard library and installed packages: the library alone has too few pairs for narrow intervals |
| `corpus` | `name`, `text` | all public functions and classes of the standard library: what the index is built from |

Example:
    python examples/docstring-search/build_data.py --max-unlabelled 12000
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _shared.compiled import compiled_docstrings
from _shared.dataset import Columns, is_current, report, token_histogram, write
from _shared.docstrings import Docstring, extract_all
from _shared.packages import installed_files, installed_versions, python_version, standard_library_files
from _shared.pairs import LIMIT, Cut, Pair, columns, cut, grouped, pairs_of, unalike, units_of
from _shared.progress import Progress
from _shared.splits import deal, in_hash_order
from _shared.text import normalise, shorten, usable

VERSION = 2
SEED = 20261122
LIBRARY_SHARES = {"gate": 0.4, "validation": 0.15, "threshold": 0.1, "test": 0.35}
INSTALLED_ROWS = {"test": 5_000, "validation": 1_000, "threshold": 250}
PER_PACKAGE = 500
"""Held-out pairs that one package may give: the largest three hold half of all text."""
LEAST_TEXT = 16


def held_out_pairs(library: Sequence[Pair], installed: Sequence[Pair], progress: Progress) -> dict[str, list[Pair]]:
    """Choose the four evaluation splits, disjoint, with no two nearly equal queries or documents among them."""
    chosen: list[Pair] = []
    per_package = Counter[str]()
    wanted = sum(INSTALLED_ROWS.values())
    for pair in in_hash_order(installed, lambda pair: pair.key, SEED):
        if per_package[pair.package] < PER_PACKAGE and len(chosen) < 1.3 * wanted:  # some fall out as near-duplicates
            per_package[pair.package] += 1
            chosen.append(pair)
    packages = sorted({pair.package for pair in library})
    library_names = {pair.name for pair in library}
    kept = unalike([*library, *chosen], SEED, progress, first=packages)
    splits = deal(in_hash_order([p for p in kept if p.name in library_names], lambda p: p.key, SEED + 1), LIBRARY_SHARES)
    others = [pair for pair in kept if pair.name not in library_names]
    if others:  # fewer packages than usual: every split gets its share of what there is
        scale = min(1.0, len(others) / wanted)
        shares = {name: scale * rows / len(others) for name, rows in INSTALLED_ROWS.items()}
        for name, part in deal(others, shares).items():
            splits[name] = in_hash_order([*splits[name], *part], lambda pair: pair.key, SEED + 2)
    return splits


def training_rows(
    pairs: Sequence[Pair], cuts: Sequence[Cut], splits: dict[str, list[Pair]], limit: int | None, progress: Progress
) -> dict[str, list[Any]]:
    """Columns `text` and `group` of what a student learns from, in hash order: nothing that is like a held-out text."""
    held_out = [text for part in splits.values() for pair in part for text in (pair.query, pair.document)]
    # Another seed than the splits': by theirs, the first pairs are just the ones that were held out.
    units = in_hash_order(units_of(pairs, cuts, LEAST_TEXT, progress), "\n".join, SEED + 3)
    progress.step(f"{sum(map(len, units))} distinct texts")
    return grouped(units, held_out, limit, progress)


def corpus(docstrings: Sequence[Docstring]) -> Columns:
    """Public functions and classes with their docstring, sorted by name; several with one text stand under the shortest name."""
    names: dict[str, str] = {}
    for docstring in sorted(docstrings, key=lambda found: (len(found.name), found.name)):
        text = shorten(normalise(docstring.text), LIMIT)
        public = not any(part.startswith("_") for part in docstring.name.split("."))
        if public and docstring.kind != "module" and usable(text, LEAST_TEXT):
            names.setdefault(text, docstring.name)
    rows = sorted((name, text) for text, name in names.items())
    return {"name": [name for name, _ in rows], "text": [text for _, text in rows]}


def build(folder: Path, limit: int | None, processes: int, progress: Progress) -> dict[str, Any] | None:
    """Write the data set; `None` where it is there already."""
    versions = installed_versions()
    inputs = {"builder": VERSION, "seed": SEED, "maxUnlabelled": limit, "python": python_version(), "packages": versions}
    if is_current(folder, inputs):
        return None
    progress.step(f"reading the standard library of Python {inputs['python']}")
    library = extract_all(standard_library_files(), progress, processes)
    files = installed_files()
    progress.step(f"{len(library)} docstrings; now {len(files)} files of {len(versions)} installed packages")
    installed = extract_all(files, progress, processes)
    progress.step(f"{len(installed)} docstrings; cutting all into summaries and bodies")
    cuts = cut([*library, *installed], progress)
    progress.step("pairing summaries and bodies")
    pairs = pairs_of(cuts)
    names = {docstring.name for docstring in library}
    splits = held_out_pairs([p for p in pairs if p.name in names], [p for p in pairs if p.name not in names], progress)
    progress.step("held out: " + ", ".join(f"{name} {len(part)}" for name, part in splits.items()))
    training = training_rows(pairs, cuts, splits, limit, progress)
    texts = training["text"]
    tables: dict[str, Columns] = {"unlabelled": training}
    tables |= {name: columns(part) for name, part in sorted(splits.items())}
    tables["corpus"] = corpus([*library, *compiled_docstrings()])
    progress.step(f"{len(texts)} unlabelled texts; counting tokens")
    lengths = {"unlabelled.text": token_histogram(texts)}
    for column in ("query", "document"):
        lengths[f"validation.{column}"] = token_histogram(list(tables["validation"][column]))
    facts = {"tokenLengths": lengths, "testPackages": dict(Counter(pair.package for pair in splits["test"]).most_common(20))}
    return write(folder, tables, inputs, facts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "data", metavar="DIR")
    parser.add_argument("--max-unlabelled", type=int, metavar="N", help="keep N unlabelled texts; all by default")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="parsing processes (2)")
    options = parser.parse_args(arguments)
    if options.max_unlabelled is not None and options.max_unlabelled < 1:
        parser.error(f"--max-unlabelled: {options.max_unlabelled} is no number of texts; give 1 or more, or leave it out")
    with Progress() as progress:
        manifest = build(options.out, options.max_unlabelled, options.processes, progress)
    report(options.out, manifest)


if __name__ == "__main__":
    main()
