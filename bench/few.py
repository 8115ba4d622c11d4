"""`docstring-topics-few` in figures: a student taught with 5 or 10 labels a class, beside what else those labels can buy.

Rows: TF-IDF with a linear SVM on the few labels; the teacher (MiniLM and a head on the few labels); the student on the teacher's
soft targets over the unlabelled text; the same student on hard labels alone (the best of eight configurations by the validation
rows); the same student on the teacher's hard pseudo-labels over the same text; a bag of words on those pseudo-labels; and the
ceiling of agreement (the teacher's head refitted on 90 % of its labels, five draws).

`few_vs_tfidf` and `few_vs_hard` are ratios of accuracies with the 95 % interval of a paired bootstrap over items and draws
(folds × seeds). Everything goes through the passes and the store of `still build`, so that a run which was stopped goes on where
it was. Figures of the split `test` are for releases; tune on `validation`.

Example:
    python -m bench.few --folds 0 --shots 5 10 --rows 6000 --epochs 3 --split validation
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from bench.few_rivals import agreement_ceiling, bag_of_words
from bench.harness.machine import machine
from bench.harness.paths import RESULTS, cache_folder
from bench.harness.results import table
from bench.ours import EXAMPLES
from bench.rivals import linear_svc
from stillhouse.entrypoints.local.building import runner
from stillhouse.entrypoints.local.display import showing
from stillhouse.entrypoints.local.workspace import Workspace, open_file
from stillhouse.passes.base import SilentProgress
from stillhouse.passes.distill.rows import encode_texts
from stillhouse.passes.distill.validation import outputs_of
from stillhouse.passes.evaluate.intervals import Interval
from stillhouse.passes.models.artifact import load
from stillhouse.passes.runner import Listener
from stillhouse.planning.plan import Plan, StepDraft, seal

TOPICS = EXAMPLES / "docstring-topics-few"
Labels = npt.NDArray[np.str_]
RATES = (0.0003, 0.001, 0.003, 0.006)
HARD = [{"epochs": epochs, "learningRate": rate, "batchSize": 32} for epochs in (15, 40) for rate in RATES]
"""The eight configurations of the control without a teacher."""
ROUNDS = 2000


@dataclass(frozen=True)
class Draw:
    """One fold and number of labels a class: where its files lie, and how much of the unlabelled text is read."""

    fold: int
    shots: int
    rows: int
    folder: Path

    def table(self, name: str) -> dict[str, list[Any]]:
        """Read a Parquet file of the fold by column."""
        import pyarrow.parquet as pq

        columns: dict[str, list[Any]] = pq.read_table(self.folder / "data" / f"{name}.parquet").to_pydict()
        return columns


def prepare(fold: int, shots: int, rows: int) -> Draw:
    """Build the fold's data and teacher where they are missing.

    Raises:
        subprocess.CalledProcessError: a builder failed; what it said is on standard error.
    """
    folder = cache_folder() / "few" / f"fold-{fold}"
    data, teacher = folder / "data", folder / f"teacher-{shots}"
    made = data / f"training-{shots}.parquet"
    if not made.is_file() or not (teacher / "1_Pooling" / "config.json").is_file():
        common = ["--fold", str(fold), "--max-installed", str(rows), "--out", str(data)]
        subprocess.run([sys.executable, str(TOPICS / "build_data.py"), *common], check=True, stdout=sys.stderr)
        words = ["--shots", str(shots), "--data", str(data), "--out", str(teacher)]
        subprocess.run([sys.executable, str(TOPICS / "make_teacher.py"), *words], check=True, stdout=sys.stderr)
        (data / "training" / "training.parquet").replace(made)
    return Draw(fold, shots, rows, folder)


def workspace(draw: Draw, seed: int, epochs: int, other: str = "") -> Workspace:
    """Open the example's own resource with this draw's files, one stage of soft targets, and no gate.

    `other` names a further file of the fold; its step is `resolve/validation`.
    """
    document = yaml.safe_load((TOPICS / "distilledmodel.yaml").read_text("utf-8"))
    spec, distill = document["spec"], document["spec"]["distill"]
    spec["source"]["uri"] = f"file://{draw.folder}/teacher-{draw.shots}"
    distill["data"] = {"uri": f"file://{draw.folder}/data/training-{draw.shots}.parquet", "maxRows": draw.rows}
    distill["stages"], distill["seed"] = [{**distill["stages"][0], "name": "soft", "epochs": epochs}], seed
    del distill["validation"], spec["gate"]
    if other:
        distill["validation"] = {"uri": f"file://{draw.folder}/data/{other}.parquet"}
    path = draw.folder / "few.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return open_file(path)


def run(work: Workspace, plan: Plan, target: str, listener: Listener) -> Path:
    """Carry out what the step `target` needs and give its artifact's folder."""
    worker = runner(work, listener)
    worker.run(dataclasses.replace(plan, targets=(target,)))
    return worker.artifact(plan.step(target)).path


def on_hard_labels(draw: Draw, other: str, config: Mapping[str, Any], seed: int, epochs: int, listener: Listener) -> Path:
    """Train the student from the same start on the labels of another file alone; gives its artifact's folder."""
    work = workspace(draw, seed, epochs, other)
    kept = [step for step in work.plan.steps if step.stage in {"resolve", "train"} and step.id != "train/soft"]
    drafts = [StepDraft(step.id, step.stage, step.pass_name, step.config, step.parents, step.uri) for step in kept]
    soft = work.plan.step("train/soft").config
    loss = {**soft["losses"][0], "kind": "hard"}
    parents = {"teacher": "resolve/source", "student": "train/student", "data": "resolve/validation"}
    hard = {**soft, "stage": "hard", "losses": [loss], **config}
    drafts.append(StepDraft("train/hard", "train", "distill", hard, parents))
    return run(work, dataclasses.replace(work.plan, steps=seal(drafts, work.env)), "train/hard", listener)


def predict(folder: Path, texts: list[str]) -> Labels:
    """Give the label that a torch-model artifact or a teacher's folder finds most probable."""
    network = load(folder)
    data = encode_texts(texts, folder, network.signature, None)
    logits = outputs_of(network, data, SilentProgress(), "asking").numpy()
    found: Labels = np.array(network.signature.labels)[logits.argmax(1)]
    return found


def pseudo_labelled(draw: Draw, teacher: Path) -> str:
    """Write the training rows with the teacher's most probable label where none is known; gives the file's name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = f"training-pseudo-{draw.shots}-{draw.rows}"
    path = draw.folder / "data" / f"{name}.parquet"
    if not path.is_file():
        rows = {column: values[: draw.rows] for column, values in draw.table(f"training-{draw.shots}").items()}
        found = predict(teacher, rows["text"])
        labels = [known or str(guess) for known, guess in zip(rows["label"], found, strict=True)]
        pq.write_table(pa.table({"text": rows["text"], "label": labels}), path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
    return name


def measure(draw: Draw, split: str, seeds: Sequence[int], epochs: int, configurations: int) -> dict[str, Any]:
    """Train and ask everything of one draw.

    Returns:
        `truth` [items]; `answers`: row of the table → labels [seeds, items]; `chosen`: the control's configuration; `ceiling`.
    """
    asked, validation, few = draw.table(split), draw.table("validation"), draw.table(f"train-{draw.shots}")
    texts, known = asked["text"], np.array(validation["label"])
    answers: dict[str, Labels] = {}
    with showing() as listener:
        works = {seed: workspace(draw, seed, epochs) for seed in seeds}
        teacher = run(works[seeds[0]], works[seeds[0]].plan, "resolve/source", listener)
        answers["teacher"] = np.stack([predict(teacher, texts)] * len(seeds))
        answers["student"] = np.stack([predict(run(work, work.plan, "train/soft", listener), texts) for work in works.values()])

        def taught(other: str, config: Mapping[str, Any], seed: int) -> Path:
            return on_hard_labels(draw, other, config, seed, epochs, listener)

        scored: list[tuple[float, Mapping[str, Any]]] = []
        for config in HARD[:configurations]:
            found = predict(taught(f"train-{draw.shots}", config, seeds[0]), validation["text"])
            scored.append((float((found == known).mean()), config))
        chosen = max(scored, key=lambda pair: pair[0])
        hard = [predict(taught(f"train-{draw.shots}", chosen[1], seed), texts) for seed in seeds]
        answers["hard labels alone"] = np.stack(hard)
        pseudo = pseudo_labelled(draw, teacher)
        answers["hard pseudo-labels"] = np.stack([predict(taught(pseudo, {}, seed), texts) for seed in seeds])
    once = {"TF-IDF + LinearSVC": linear_svc(few["text"], few["label"], texts)}
    guessed = draw.table(pseudo)
    once["bag of words, pseudo-labels"] = bag_of_words(guessed["text"], guessed["label"], texts)
    answers |= {name: np.stack([np.array(found)] * len(seeds)) for name, found in once.items()}
    ceiling = agreement_ceiling(teacher, few["text"], few["label"], texts)
    return {"truth": np.array(asked["label"]), "answers": answers, "ceiling": ceiling, "chosen": chosen, "scored": scored}


def interval(draws: Sequence[npt.NDArray[np.float64]], others: Sequence[npt.NDArray[np.float64]] | None = None) -> Interval:
    """Bootstrap the mean, or the ratio of two means, over items and seeds together, the folds pooled.

    Args:
        draws: for each fold float64 [seeds, items], 1 where right.
        others: the same of the other side: items and seeds are paired.
    """
    rng = np.random.default_rng(20261122)

    def mean(seeds: list[Any], items: list[Any], side: Sequence[npt.NDArray[np.float64]]) -> float:
        return float(np.concatenate([each[s][:, i].mean(0) for each, s, i in zip(side, seeds, items, strict=True)]).mean())

    def figure(seeds: list[Any], items: list[Any]) -> float:
        mine = mean(seeds, items, draws)
        return mine if others is None else mine / max(1e-9, mean(seeds, items, others))

    everything = [np.arange(each.shape[0]) for each in draws], [np.arange(each.shape[1]) for each in draws]
    values = []
    for _ in range(ROUNDS):
        seeds = [rng.integers(0, each.shape[0], each.shape[0]) for each in draws]
        values.append(figure(seeds, [rng.integers(0, each.shape[1], each.shape[1]) for each in draws]))
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(figure(*everything), float(low), float(high), sum(each.shape[1] for each in draws))


def summary(shots: int, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the rows and ratios of one number of labels a class, the folds pooled."""
    from sklearn.metrics import f1_score

    right = {
        name: [(fold["answers"][name] == fold["truth"]).astype(np.float64) for fold in found] for name in found[0]["answers"]
    }
    rows = {}
    for name, draws in right.items():
        same = [(fold["answers"][name] == fold["answers"]["teacher"]).mean() for fold in found]
        f1 = [f1_score(fold["truth"], answers, average="macro") for fold in found for answers in fold["answers"][name]]
        rows[name] = {**asdict(interval(draws)), "macroF1": float(np.mean(f1)), "agreement": float(np.mean(same))}
    ratios = {
        f"few_vs_tfidf@{shots}": interval(right["student"], right["TF-IDF + LinearSVC"]),
        f"few_vs_hard@{shots}": interval(right["student"], right["hard labels alone"]),
        f"few_vs_pseudo@{shots}": interval(right["student"], right["hard pseudo-labels"]),
        f"teacher_vs_tfidf@{shots}": interval(right["teacher"], right["TF-IDF + LinearSVC"]),
        f"student_vs_teacher@{shots}": interval(right["student"], right["teacher"]),
    }
    ceiling = float(np.mean([fold["ceiling"] for fold in found]))
    return {"rows": rows, "ratios": ratios, "ceiling": ceiling, "hard": [fold["scored"] for fold in found]}


def main() -> int:
    """Parse the command line, measure, print, write `bench/results/NAME.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=[0], choices=range(5), help="which fifths are tested (0)")
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10], choices=(5, 10), help="labels a class (5 10)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="of the student's training (7)")
    parser.add_argument("--rows", type=int, default=6000, help="training texts that are read, the few labelled ones first (6000)")
    parser.add_argument("--epochs", type=int, default=4, help="over those rows (4)")
    parser.add_argument("--configurations", type=int, default=len(HARD), help="of the control on hard labels, 8 at most (8)")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--name", default="few", help="of the result file")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    ratios: dict[str, Interval] = {}
    for shots in options.shots:
        found = []
        for fold in options.folds:
            draw = prepare(fold, shots, options.rows)
            found.append(measure(draw, options.split, options.seeds, options.epochs, options.configurations))
        made = summary(shots, found)
        ratios |= made.pop("ratios")
        figures[str(shots)] = made
        shown = []
        for name, row in made["rows"].items():
            bounds = f"[{row['low']:.4f}, {row['high']:.4f}]"
            shown.append([name, f"{row['estimate']:.4f}", bounds, f"{row['macroF1']:.4f}", f"{row['agreement']:.4f}"])
        print(f"\n{shots} labels a class; agreement's ceiling {made['ceiling']:.4f}")
        print(table(["", "accuracy", "95 %", "macro-F1", "agreement"], shown))
    shown = [[label, f"{value.estimate:.4f}", f"[{value.low:.4f}, {value.high:.4f}]"] for label, value in ratios.items()]
    print("\n" + table(["ratio", "estimate", "95 %"], shown))
    RESULTS.mkdir(parents=True, exist_ok=True)
    result = {
        "schema": 1,
        "name": options.name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m bench.few " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "settings": vars(options),
        "figures": figures,
        "ratios": {label: round(value.estimate, 4) for label, value in ratios.items()},
        "ratio_ranges": {label: [round(value.low, 4), round(value.high, 4)] for label, value in ratios.items()},
    }
    (RESULTS / f"{options.name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
