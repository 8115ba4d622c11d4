"""`make bench-distill`: how much of its teacher a student keeps, beside the simple rival.

Search (docstring-search): MRR@10 on the pairs of the split, each document of it a candidate; teacher MiniLM unchanged, BM25,
and the student in FP32 and INT8. Ratios carry the 95 % interval of a paired bootstrap over queries. Figures of the split
`test` are for releases; tune on `validation`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from bench.harness.errors import BenchError
from bench.harness.machine import machine
from bench.harness.paths import RESULTS
from bench.harness.results import table
from bench.ours import EXAMPLES, MODELS, build
from bench.rivals import bm25_ranks
from stillhouse.clients.store.local import LocalStore
from stillhouse.inference.engine import Engine
from stillhouse.passes.evaluate.intervals import Interval, bootstrap
from stillhouse.passes.ranking import ranks, reciprocal
from stillhouse.settings import load_settings

SEARCH = EXAMPLES / "docstring-search"
BATCH = 64
Scores = npt.NDArray[np.float64]


def embed(folder: Path, texts: list[str], label: str) -> npt.NDArray[np.float32]:
    """Embed texts with an `onnx-model`, two threads; float32 [texts, dimension]."""
    engine = Engine(folder, 2)
    parts = []
    for start in range(0, len(texts), BATCH):
        parts.append(engine.embed(texts[start : start + BATCH]))
        if start // BATCH % 40 == 0:
            print(f"  {label}: {start}/{len(texts)}", file=sys.stderr, flush=True)
    return np.concatenate(parts)


def artifact(step: str, name: str) -> Path | None:
    """Give the artifact folder of a step of the model's last plan; None when that step has not run."""
    store = LocalStore(load_settings().home)
    for entry in store.state(name).get("steps", []):
        receipt = store.receipt(entry["key"]) if entry["id"] == step else None
        if receipt is not None:
            return store.objects.path(receipt.artifact)
    return None


def ratio(mine: Scores, theirs: Scores) -> Interval:
    """Give the ratio of two means over the same queries, with its interval."""
    return bootstrap(lambda rows: float(mine[rows].mean() / theirs[rows].mean()), len(mine))


def search(file: Path, split: str) -> tuple[dict[str, Interval], dict[str, Interval], dict[str, Any]]:
    """Give (MRR@10 by row of the table, ratios, settings).

    Raises:
        BenchError: a model does not build.
    """
    pairs = pq.read_table(SEARCH / "data" / f"{split}.parquet")
    queries, documents = pairs["query"].to_pylist(), pairs["document"].to_pylist()
    teacher, _, _ = build(MODELS / "minilm-fp32.yaml")
    build(file)
    name = file_name(file)
    folders = {
        "teacher": teacher,
        "student FP32": artifact("compress/fp32", name),
        "student INT8": artifact("compress/int8", name),
    }
    scores: dict[str, Scores] = {"BM25": reciprocal(bm25_ranks(queries, documents), 10)}
    for label, folder in folders.items():
        if folder is None:
            raise BenchError(f"{label}: its step has no receipt")
        both = embed(folder, [*queries, *documents], label)
        scores[label] = reciprocal(ranks(both[: len(queries)], both[len(queries) :]), 10)
    rows = {label: bootstrap(lambda at, s=values: float(s[at].mean()), len(values)) for label, values in scores.items()}  # type: ignore[misc]
    ratios = {
        "mrr_vs_teacher": ratio(scores["student INT8"], scores["teacher"]),
        "mrr_vs_bm25": ratio(scores["student INT8"], scores["BM25"]),
        "int8_vs_fp32": ratio(scores["student INT8"], scores["student FP32"]),
        "teacher_vs_bm25": ratio(scores["teacher"], scores["BM25"]),
    }
    return rows, ratios, {"file": file.name, "split": split, "pairs": len(queries), **costs(name, teacher)}


def file_name(file: Path) -> str:
    """Give the model's name of a resource."""
    from stillhouse.api.load import load_file

    return load_file(file).metadata.name


def costs(name: str, teacher: Path) -> dict[str, Any]:
    """Give multiply-accumulates at the exporter's sample length, parameters and sizes, from the receipts."""
    store = LocalStore(load_settings().home)
    found: dict[str, Any] = {"teacherBytes": (teacher / "model.onnx").stat().st_size}
    for model in (name, "minilm-fp32"):
        for entry in store.state(model).get("steps", []):
            receipt = store.receipt(entry["key"]) if entry["id"] in ("compress/fp32", "compress/int8") else None
            if receipt is not None:
                facts = {k: v for k, v in receipt.facts.items() if "mac" in k.lower() or "parameter" in k.lower()}
                found[f"{model}:{entry['id']}"] = {"size": receipt.size, **facts}
    return found


def main() -> int:
    """Parse the command line, measure, print, write `bench/results/distill.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=SEARCH / "full.yaml", help="the resource that makes the student")
    parser.add_argument("--split", choices=["validation", "test"], default="test")
    parser.add_argument("--name", default="distill", help="of the result file")
    options = parser.parse_args()
    try:
        rows, ratios, settings = search(options.file, options.split)
    except BenchError as error:
        print(f"bench-distill: {error}", file=sys.stderr)
        return 1
    shown = [
        [label, f"{value.estimate:.4f}", f"[{value.low:.4f}, {value.high:.4f}]", str(value.n)] for label, value in rows.items()
    ]
    print(table(["MRR@10", "estimate", "95 %", "queries"], shown))
    shown = [[label, f"{value.estimate:.4f}", f"[{value.low:.4f}, {value.high:.4f}]"] for label, value in ratios.items()]
    print("\n" + table(["ratio", "estimate", "95 %"], shown))
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{options.name}.json"
    result = {
        "schema": 1,
        "name": options.name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m bench.distill "
        + " ".join(f"--{k} {v.name if isinstance(v, Path) else v}" for k, v in vars(options).items()),
        "machine": machine(),
        "settings": settings,
        "figures": {label: asdict(value) for label, value in rows.items()},
        "ratios": {label: round(value.estimate, 4) for label, value in ratios.items()},
        "ratio_ranges": {label: [round(value.low, 4), round(value.high, 4)] for label, value in ratios.items()},
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
