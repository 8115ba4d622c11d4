"""`docstring-topics-few` in figures: a student taught with 5 or 10 labels a class, beside what else those labels can buy.

Rows: TF-IDF with a linear SVM on the few labels; the teacher (MiniLM and a head on the few labels); the student on the teacher's
soft targets over the unlabelled text; the same student on hard labels alone (the best of eight configurations by the validation
rows); the same student on the teacher's hard pseudo-labels over the same text; a bag of words on those pseudo-labels; and the
ceiling of agreement (the teacher's head refitted on 90 % of its labels, five draws). All three trainings begin with the same
student, whose head was fitted to the teacher's logits: the control without a teacher has that much of it (row "its start").

`few_vs_tfidf` and `few_vs_hard` are ratios of accuracies with the 95 % interval of a paired bootstrap over items and draws
(folds × seeds). Student and training are the example's own resource, and everything goes through the passes and the store of
`still build`, so that a run which was stopped goes on where it was. Figures of the split `test` are for releases; tune on
`validation`.

The bounded form, which is the default, tests one fold (a fifth of the texts) with one seed and fits into 25 minutes of two busy
cores. The full form pools all five folds (every text is tested once) over three seeds and takes fifteen times as long.

`--student` takes one of another kind in the place of the example's two layers, with as many configurations of its control.

Example:
    python -m bench.few --split test                                           # bounded
    python -m bench.few --split test --folds 0 1 2 3 4 --seeds 7 8 9           # full
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from bench.few_figures import summary
from bench.few_rivals import agreement_ceiling, ask_teacher, bag_of_words
from bench.few_students import OWN, STUDENTS, FewStudent
from bench.harness.machine import machine
from bench.harness.parallel import over
from bench.harness.paths import RESULTS, cache_folder
from bench.harness.results import table
from bench.ours import EXAMPLES, carry_out
from bench.rivals import linear_svc
from stillhouse.entrypoints.local.display import showing
from stillhouse.entrypoints.local.workspace import Workspace, open_file
from stillhouse.passes.base import SilentProgress
from stillhouse.passes.distill.encoded import encode_texts
from stillhouse.passes.distill.teacher import read_outputs
from stillhouse.passes.distill.validation import outputs_of
from stillhouse.passes.evaluate.intervals import Interval
from stillhouse.passes.models.artifact import load
from stillhouse.passes.runner import Listener
from stillhouse.planning.plan import Plan, StepDraft, seal

TOPICS = EXAMPLES / "docstring-topics-few"
Labels = npt.NDArray[np.str_]


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


def chosen_rows() -> int:
    """Give the rows of the example's resource, which were chosen on validation."""
    return int(yaml.safe_load((TOPICS / "distilledmodel.yaml").read_text("utf-8"))["spec"]["distill"]["data"]["maxRows"])


def noisy(labels: Sequence[str], share: float) -> list[str]:
    """Give this share of the labels another class, by lot; the same rows for the same labels."""
    rng = np.random.default_rng(20261127)
    classes = sorted(set(labels))
    wrong = set(rng.permutation(len(labels))[: round(share * len(labels))].tolist())

    def other(label: str) -> str:
        return classes[(classes.index(label) + 1 + int(rng.integers(len(classes) - 1))) % len(classes)]

    return [other(label) if row in wrong else label for row, label in enumerate(labels)]


def prepare(fold: int, shots: int, rows: int, noise: float = 0.0) -> Draw:
    """Build the fold's data and teacher where they are missing; `noise` is the share of the few labels that are wrong.

    Raises:
        subprocess.CalledProcessError: a builder failed; what it said is on standard error.
    """
    builders = sorted([*TOPICS.glob("*.py"), *(EXAMPLES / "_shared").glob("*.py")])
    version = hashlib.sha256(b"".join(path.read_bytes() for path in builders)).hexdigest()[:8]
    folder = cache_folder() / "few" / version / (f"fold-{fold}-{rows}" + (f"-noise-{noise:g}-{shots}" if noise else ""))
    data, teacher = folder / "data", folder / f"teacher-{shots}"
    made = data / f"training-{shots}.parquet"
    if not made.is_file() or not (teacher / "1_Pooling" / "config.json").is_file():
        if noise:
            shutil.rmtree(data, ignore_errors=True)
        common = ["--fold", str(fold), "--max-installed", str(rows), "--out", str(data)]
        subprocess.run([sys.executable, str(TOPICS / "build_data.py"), *common], check=True, stdout=sys.stderr)
        if noise:  # a run that was stopped between here and the teacher left the folder behind: it was removed above
            import pyarrow as pa
            import pyarrow.parquet as pq

            few = pq.read_table(data / f"train-{shots}.parquet").to_pydict()
            pq.write_table(pa.table({**few, "label": noisy(few["label"], noise)}), data / f"train-{shots}.parquet")
        words = ["--shots", str(shots), "--data", str(data), "--out", str(teacher)]
        subprocess.run([sys.executable, str(TOPICS / "make_teacher.py"), *words], check=True, stdout=sys.stderr)
        (data / "training" / "training.parquet").replace(made)
    return Draw(fold, shots, rows, folder)


def workspace(draw: Draw, seed: int, options: argparse.Namespace, other: str = "") -> Workspace:
    """Open the example's own resource with the wanted student; as `opened`."""
    student = STUDENTS[options.student]
    if options.epochs is not None:
        student = dataclasses.replace(student, stage={**student.stage, "epochs": options.epochs})
    return opened(draw, seed, student, other)


def resource(draw: Draw, seed: int, shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return the example's own resource with this draw's files, a seed and a student (empty: its own), without validation."""
    document: dict[str, Any] = yaml.safe_load((TOPICS / "distilledmodel.yaml").read_text("utf-8"))
    spec, distill = document["spec"], document["spec"]["distill"]
    spec["source"]["uri"] = f"file://{draw.folder}/teacher-{draw.shots}"
    distill["data"] = {"uri": f"file://{draw.folder}/data/training-{draw.shots}.parquet", "maxRows": draw.rows}
    distill["seed"], distill["student"] = seed, dict(shape) or distill["student"]
    del distill["validation"]
    return document


def opened(draw: Draw, seed: int, student: FewStudent, other: str = "") -> Workspace:
    """Open the example's own resource with this draw's files, one stage of soft targets, a student, and no gate.

    `other` names a further file of the fold; its step is `resolve/validation`.
    """
    document = resource(draw, seed, student.shape)
    spec, distill = document["spec"], document["spec"]["distill"]
    distill["stages"] = [{**distill["stages"][0], **student.stage, "name": "soft"}]
    del spec["gate"]
    if other:
        distill["validation"] = {"uri": f"file://{draw.folder}/data/{other}.parquet"}
    path = draw.folder / "few.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return open_file(path)


def run(work: Workspace, plan: Plan, target: str, listener: Listener) -> Path:
    """Carry out what the step `target` needs and give its artifact's folder."""
    return carry_out(work, target, listener, plan).path


def on_hard_labels(
    draw: Draw, other: str, config: Mapping[str, Any], seed: int, options: argparse.Namespace, listener: Listener
) -> Path:
    """Train the student from the same start on the labels of another file alone; gives its artifact's folder."""
    work = workspace(draw, seed, options, other)
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


def pseudo_labelled(draw: Draw, labels: Sequence[str], outputs: Path) -> str:
    """Write the rows that the student reads with the teacher's most probable label where none is known; gives the file's name.

    Args:
        draw: whose rows.
        labels: the teacher's, in the order of its outputs.
        outputs: what it said of these rows when the student was taught.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = f"training-pseudo-{draw.shots}"
    guesses = np.array(labels)[read_outputs(outputs)[0]["logits"].argmax(1).numpy()]
    rows = {column: values[: len(guesses)] for column, values in draw.table(f"training-{draw.shots}").items()}
    known = [label or str(guess) for label, guess in zip(rows["label"], guesses, strict=True)]
    pq.write_table(pa.table({"text": rows["text"], "label": known}), draw.folder / "data" / f"{name}.parquet")
    return name


def of_draw(options: argparse.Namespace, asked: tuple[int, int]) -> dict[str, Any]:
    """Measure one draw; `asked`: its labels a class, its fold."""
    shots, fold = asked
    return measure(prepare(fold, shots, options.rows, options.noise), options)


def measure(draw: Draw, options: argparse.Namespace) -> dict[str, Any]:
    """Train and ask everything of one draw.

    Returns:
        `truth` [items]; `answers`: row of the table → labels [seeds, items]; `chosen`: the control's configuration and its
        validation accuracy, `scored` that of all its configurations; `ceiling`.
    """
    seeds: list[int] = options.seeds
    asked, validation, few = draw.table(options.split), draw.table("validation"), draw.table(f"train-{draw.shots}")
    texts, known = asked["text"], np.array(validation["label"])
    answers: dict[str, Labels] = {}
    with showing() as listener:
        works = {seed: workspace(draw, seed, options) for seed in seeds}
        first = works[seeds[0]]
        teacher = run(first, first.plan, "resolve/source", listener)
        students = [run(work, work.plan, "train/soft", listener) for work in works.values()]
        answers["student"] = np.stack([predict(student, texts) for student in students])
        starts = [run(work, work.plan, "train/student", listener) for work in works.values()]
        answers["its start"] = np.stack([predict(start, texts) for start in starts])

        def taught(other: str, config: Mapping[str, Any], seed: int) -> Path:
            return on_hard_labels(draw, other, config, seed, options, listener)

        scored: list[tuple[float, Mapping[str, Any]]] = []
        for config in (STUDENTS[options.student].configurations[number] for number in options.configurations):
            found = predict(taught(f"train-{draw.shots}", config, seeds[0]), validation["text"])
            scored.append((float((found == known).mean()), config))
            listener.note(f"hard labels, {config}: {scored[-1][0]:.4f} of the validation rows right")
        chosen = max(scored, key=lambda pair: pair[0])
        hard = [predict(taught(f"train-{draw.shots}", chosen[1], seed), texts) for seed in seeds]
        answers["hard labels alone"] = np.stack(hard)
        labels = load(teacher).signature.labels
        pseudo = pseudo_labelled(draw, labels, run(first, first.plan, "train/teacher-outputs", listener))
        if options.pseudo:
            answers["hard pseudo-labels"] = np.stack([predict(taught(pseudo, {}, seed), texts) for seed in seeds])
    said = ask_teacher(teacher, texts, "asking the teacher")
    ceiling = agreement_ceiling(ask_teacher(teacher, few["text"], "asking the teacher"), few["label"], said)
    guessed = draw.table(pseudo)
    once = {
        "teacher": said.labels,
        "TF-IDF + LinearSVC": linear_svc(few["text"], few["label"], texts),
        "bag of words, pseudo-labels": bag_of_words(guessed["text"], guessed["label"], texts),
    }
    answers |= {name: np.stack([np.array(found)] * len(seeds)) for name, found in once.items()}
    return {"truth": np.array(asked["label"]), "answers": answers, "ceiling": ceiling, "chosen": chosen, "scored": scored}


def main() -> int:
    """Parse the command line, measure, print, write `bench/results/NAME.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=[0], choices=range(5), help="which fifths are tested (0)")
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10], choices=(5, 10), help="labels a class (5 10)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="of the student's training (7)")
    parser.add_argument("--student", choices=list(STUDENTS), default=OWN, help="the example's own, or of another kind (layers)")
    rows = chosen_rows()
    parser.add_argument("--rows", type=int, default=rows, help=f"training texts that are read, the few labelled first ({rows})")
    parser.add_argument("--epochs", type=int, help="over those rows (the student's)")
    every = list(range(len(STUDENTS[OWN].configurations)))
    words = "which of the eight configurations of the control on hard labels are tried (0 to 7; all)"
    parser.add_argument("--configurations", type=int, nargs="+", default=every, choices=every, help=words)
    parser.add_argument("--no-pseudo", dest="pseudo", action="store_false", help="leave out the training on hard pseudo-labels")
    parser.add_argument("--noise", type=float, default=0.0, help="share of the few labels that are wrong, by lot (0)")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--processes", type=int, default=1, help="folds that are measured at once (1)")
    parser.add_argument("--name", default="few", help="of the result file")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    ratios: dict[str, Interval] = {}
    for shots in options.shots:
        asked = [(shots, fold) for fold in options.folds]
        made = summary(shots, over(functools.partial(of_draw, options), asked, options.processes))
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
