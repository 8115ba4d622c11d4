"""`make pictures`: what the benchmarks found, as the pictures of the docs. Reads `bench/results`, measures nothing.

Every picture is drawn from the figures that stand in a result file and from nothing else; a test holds them together.

Example:
    python -m bench.pictures
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.harness.drawing import Mark, Panel, Row, Value, panels
from bench.harness.paths import RESULTS

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
_OURS = ("int8-static", "int8", "int8-mixed", "mixed", "mixed-0.5%", "int4", "fp16", "bf16")
_SIDES = {  # the names of `bench.end_to_end` in the picture's order
    "minilm-int8": "MiniLM, INT8",
    "attention": "bag + two transformer layers",
    "mlp": "bag of tokens and pairs",
    "cnn": "convolutions alone",
    "residual": "bag + convolutions",
    "control": "the same, pairs alone",
}
_FEW = {  # the rows of `bench.few`
    "teacher": "teacher",
    "student": "student",
    "hard pseudo-labels": "student, hard pseudo-labels",
    "bag of words, pseudo-labels": "bag of words, pseudo-labels",
    "TF-IDF + LinearSVC": "TF-IDF, linear SVM",
    "hard labels alone": "student, hard labels alone",
}


def result(name: str) -> dict[str, Any]:
    """Return a result file's contents."""
    loaded: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def figure(found: Mapping[str, Any], name: str) -> Value | None:
    """Return a ratio with its interval, or None where the result has none of this name."""
    if name not in found["ratios"]:
        return None
    low, high = found["ratio_ranges"][name]
    return Value(found["ratios"][name], low, high)


def precisions(found: Mapping[str, Any]) -> str:
    """Return the picture of `bench-compress`: size, points lost, speed of every candidate and of the rivals'."""
    chosen = found["settings"]["chosen"]
    names = [name.partition(":")[2] for name in found["ratios"] if name.startswith("size_vs_fp32:")]
    order = [name for name in _OURS if name in names] + [name for name in names if name not in _OURS]
    rows = [
        Row(
            name,
            _mark(name == chosen, name in _OURS),
            tuple(figure(found, f"{kind}:{name}") for kind in ("size_vs_fp32", "points_lost", "speedup")),
        )
        for name in order
    ]
    columns = [
        Panel("size, of FP32's", "{:.0%}".format, line=0.25),
        Panel("points of MRR lost (edge: 5 and more)", "{:.1f}".format, line=0, most=5),
        Panel("times as fast as FP32", "{:.2f}".format, line=1),
    ]
    return panels(
        "Precisions of MiniLM",
        "blue: ours, green: chosen by goal balanced, grey: other tools' defaults; dashes: a quarter of FP32, no loss, as fast",
        columns,
        rows,
    )


def end_to_end(found: Mapping[str, Any]) -> str:
    """Return the picture of `bench-end-to-end`: what students keep of the teacher's MRR, and how fast they are."""
    rows = []
    for name, words in _SIDES.items():
        values = figure(found, f"{name}_kept"), figure(found, f"{name}_vs_fastapi")
        if any(values):
            rows.append(Row(words, _mark(name == "residual", name != "minilm-int8"), values))
    columns = [
        Panel("share of the teacher's MRR@10", "{:.3f}".format, line=1),
        Panel("times FastAPI's answers a core-second", "{:.0f}".format, line=15, logarithmic=True),
    ]
    return panels(
        "docstring-search: students beside MiniLM",
        "green: the example's student; dashes: as good as the teacher; 15 times FastAPI, the goal",
        columns,
        rows,
    )


def few_labels(*runs: tuple[str, Mapping[str, Any]]) -> str:
    """Return the picture of `bench.few`: accuracy of student, teacher and rivals; a panel for each of the runs, named."""
    columns, values = [], []
    for title, found in runs:
        (shots,) = found["figures"].values()
        rows = shots["rows"]
        columns.append(Panel(title, "{:.1%}".format))
        values.append(
            [Value(rows[name]["estimate"], rows[name]["low"], rows[name]["high"]) if name in rows else None for name in _FEW]
        )
    marks: dict[str, Mark] = {"student": "taken", "teacher": "ours"}
    rows_drawn = [
        Row(words, marks.get(name, "other"), tuple(column[place] for column in values))
        for place, (name, words) in enumerate(_FEW.items())
    ]
    below = "accuracy, each of 5,001 texts tested once, 95 %; green: our student, blue: its teacher"
    return panels("docstring-topics-few: a few labels a class", below, columns, rows_drawn)


def losses(found: Mapping[str, Any], title: str, below: str, columns: Mapping[str, Panel], first: str) -> str:
    """Return the picture of `bench-losses`: a row for each set, a panel for each kind of figure; `first` is compared with."""
    rows = [
        Row(name, _mark(name == first, True), tuple(figure(found, f"{kind}:{name}") for kind in columns))
        for name in found["settings"]["sets"]
    ]
    return panels(title, below, list(columns.values()), rows)


_CLASSES = {
    "accuracy": Panel("accuracy", "{:.1%}".format),
    "agreement": Panel("answered as the teacher answers", "{:.1%}".format),
    "points_lost": Panel("points of accuracy below `logits`", "{:.1f}".format, line=0),
}
_EMBEDDINGS = {
    "kept": Panel("share of the teacher's MRR@10", "{:.3f}".format, line=1),
    "cosine": Panel("cosine to the teacher", "{:.3f}".format),
}


def _mark(taken: bool, ours: bool) -> Mark:
    return "taken" if taken else "ours" if ours else "other"


PICTURES: dict[str, Callable[[], str]] = {
    "precisions.svg": lambda: precisions(result("compress")),
    "students.svg": lambda: end_to_end(result("end_to_end")),
    "losses-classes.svg": lambda: losses(
        result("losses"),
        "docstring-topics-few, ten labels a class: what losses teach",
        "two layers 128 wide, five epochs of 3,000 texts; 5,001 test texts, one seed, 95 %; green: the example's",
        _CLASSES,
        "logits",
    ),
    "losses-embeddings.svg": lambda: losses(
        result("losses_search"),
        "docstring-search: what losses teach the quickstart's student",
        "INT8; 5,874 pairs of the test split, one seed, 95 %; green: the example's; dashes: as good as the teacher",
        _EMBEDDINGS,
        "embedding + contrastive",
    ),
    "few-labels.svg": lambda: few_labels(("5 labels", result("few-mlp"))),
}


def main() -> int:
    """Draw them all."""
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw(), encoding="utf-8")
        print(FOLDER / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
