"""`data-report`: what the rows hold that are learned from and judged by, before anything is learned from them."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydantic import Field

from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.distill.encoded import encode_texts
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.evaluate.data_drawing import svg, table
from stillhouse.passes.sources.alike import keep_distinct, likeness, near_any
from stillhouse.passes.sources.columns import ARRAYS, SHOWN, array_role
from stillhouse.passes.sources.derived import read_table, shown_texts
from stillhouse.passes.sources.leaks import normalised
from stillhouse.passes.sources.neighbours import Tick

__all__ = ["REPORT_FILE", "DataReport", "DataReportConfig", "DataReportFacts", "label_counts", "tail_of"]

REPORT_FILE: Final = "report.json"
_SPLITS: Final = ("training", "validation", "calibration", "gate", "threshold", "cascadeCalibration", "test")
"""In the order in which they are compared: what judges later is held against all before it."""
_CUT_AT: Final = ("training", "validation")
"""Read at the length of the training; the others at that of the server."""
_RARE: Final = 10
_QUANTILES: Final = (0, 5, 25, 50, 75, 95, 100)


class DataReportConfig(CamelConfig):
    """`max_length`, `served_length`: longest text in tokens while training and served, None: the model's own limit.

    `threshold`: Jaccard similarity above which two texts are nearly the same.
    """

    max_length: int | None = Field(default=None, ge=1)
    served_length: int | None = Field(default=None, ge=1)
    threshold: float = Field(gt=0, le=1)


@dataclass(frozen=True, slots=True)
class DataReportFacts:
    """`splits`: name → rows; `leaking`: rows that another split holds too, or nearly. The rest is in the file."""

    splits: dict[str, int]
    leaking: int


class DataReport(Pass[DataReportConfig, DataReportFacts]):
    """Counts by label and their tail, lengths against the limit, repetitions, leakage: `report.json`, `.txt` and `.svg`."""

    name = "data-report"
    version = 1
    kind = "measurement"
    config_type = DataReportConfig

    def run(self, config: DataReportConfig, inputs: Mapping[str, Artifact], ctx: Context) -> DataReportFacts:
        """Read every split once; nothing is refused for what it holds.

        Raises:
            DataError: rows that cannot be read.
        """

        def tick(message: str) -> None:
            ctx.progress.update(0, None, "", message)

        teacher = inputs["teacher"].path
        splits: dict[str, dict[str, Any]] = {}
        threshold = config.threshold
        columns: dict[str, list[list[str]]] = {}
        for name in _SPLITS:
            if name in inputs:
                rows = read_table(inputs[name])
                limit = config.max_length if name in _CUT_AT else config.served_length
                threshold = likeness(rows.column_names, config.threshold)
                splits[name] = _split(rows, threshold, tick)
                splits[name] |= _lengths(Rows.of(inputs, name), teacher, limit)
                columns[name] = _columns(rows)
        if "trained" in inputs:
            rows = read_table(inputs["trained"])
            splits["training"]["prepared"] = {"rows": rows.num_rows, **label_counts(rows)}
        leakage = _leakage(columns, threshold, tick)
        found = {"version": 1, "threshold": threshold, "splits": splits, "leakage": leakage}
        (ctx.out / REPORT_FILE).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (ctx.out / "report.txt").write_text("\n".join(table(found)) + "\n", encoding="utf-8")
        (ctx.out / "report.svg").write_text(svg(found), encoding="utf-8")
        for line in table(found):
            ctx.progress.note(line)
        leaking = sum(int(each["near"]) for each in leakage)
        return DataReportFacts({name: int(split["rows"]) for name, split in splits.items()}, leaking)


def label_counts(rows: Any) -> dict[str, Any]:
    """Return `labels` (label → rows, most first) and `unlabelled` of a table with a column of labels, else nothing."""
    if "label" not in rows.column_names:
        return {}
    counts = Counter(rows.column("label").to_pylist())
    unlabelled = counts.pop("", 0)
    labels = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return {"labels": labels, "unlabelled": unlabelled, **({"tail": tail_of(labels.values())} if labels else {})}


def tail_of(counts: Any) -> dict[str, Any]:
    """Say how uneven classes are.

    `ratio`: the largest class over the smallest; `rare`: classes of fewer than ten rows; `half`: how many of the largest classes
    hold half of all rows.
    """
    most = sorted(counts, reverse=True)
    total, sum_, half = sum(most), 0, 0
    while 2 * sum_ < total:
        sum_ += most[half]
        half += 1
    return {
        "classes": len(most),
        "largest": most[0],
        "smallest": most[-1],
        "median": statistics.median(most),
        "ratio": round(most[0] / most[-1], 2),
        "rare": sum(count < _RARE for count in most),
        "half": half,
    }


def _split(rows: Any, threshold: float, tick: Tick) -> dict[str, Any]:
    labels = rows.column("label").to_pylist() if "label" in rows.column_names else None
    kept = keep_distinct(shown_texts(rows), labels, threshold, tick)
    found = {"rows": rows.num_rows, "repeated": kept.exact, "nearlyRepeated": kept.near, "conflicts": kept.conflicts}
    return found | label_counts(rows)


def _lengths(rows: Rows, teacher: Any, limit: int | None) -> dict[str, Any]:
    """Return `tokens`: what the teacher's tokenizer makes of the texts, and what lies behind the limit."""
    signature = Signature.read(teacher)
    roles = [role for role in SHOWN if role in rows.columns and role not in ARRAYS]
    if not signature.takes_texts or not roles:
        return {}
    texts = [text for role in roles for text in rows.texts(role)]
    encoded = encode_texts(texts, teacher, signature, limit)
    whole = encoded.lengths + encoded.cut
    values = np.percentile(whole, _QUANTILES, method="nearest").astype(int).tolist()
    edges = np.linspace(0, max(1, int(values[-2] * 1.25)), 31)
    return {
        "tokens": {
            "limit": min((each for each in (limit, signature.max_length) if each), default=0),
            "quantiles": {f"{share}%": value for share, value in zip(_QUANTILES, values, strict=True)},
            "cutTexts": int((encoded.cut > 0).sum()),
            "texts": len(texts),
            "cutShare": round(float(encoded.cut.sum() / max(1, whole.sum())), 4),
            "histogram": {
                "edges": [round(float(edge), 2) for edge in edges],
                "texts": np.histogram(np.minimum(whole, edges[-1]), edges)[0].tolist(),
            },
        }
    }


def _columns(rows: Any) -> list[list[str]]:
    if array_role(rows.column_names) is not None:
        return [shown_texts(rows)]
    return [[normalised(text) for text in rows.column(role).to_pylist()] for role in SHOWN if role in rows.column_names]


def _leakage(columns: Mapping[str, Sequence[Sequence[str]]], threshold: float, tick: Tick) -> list[dict[str, Any]]:
    """Compare each split with those before it: rows of `split` that `other` holds too (`exact`), or at least nearly (`near`)."""
    found = []
    names = list(columns)
    for at, name in enumerate(names):
        for other in names[:at]:
            tick(f"comparing {name} with {other}")
            rows = len(columns[name][0])
            exact, near = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
            for mine in columns[name]:
                for theirs in columns[other]:
                    exact |= near_any(mine, theirs, 1.0, tick)
                    near |= near_any(mine, theirs, threshold, tick)
            found.append({"split": name, "other": other, "rows": rows, "exact": int(exact.sum()), "near": int(near.sum())})
    return found
