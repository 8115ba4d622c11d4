"""Several teachers as one, a classifier out of an encoder, an assistant between: on a BERT of 3 layers × 32."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.support.artifacts import Recorder, dataset, sentences, tiny_teacher
from tests.support.lessons import OUTPUTS, SHAPE, STAGE, go

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.distill.combine import CombineOutputs
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.distill.tuning import FineTune
from stillhouse.passes.evaluate.disjoint import check_disjoint
from stillhouse.passes.models.artifact import load

LABELS, OTHERWISE = ("io", "text", "time"), ("time", "io", "text")
LOGITS = {**OUTPUTS, "outputs": ["logits"]}
TUNE = {
    "epochs": 2,
    "batchSize": 8,
    "learningRate": 0.001,
    "headLearningRate": 0.01,
    "warmup": 0.1,
    "weightDecay": 0.01,
    "maxLength": 32,
    "checkpointSteps": 4,
    "seed": 5,
}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Two classifiers whose outputs are in other orders, what they say of 40 rows, and validation rows that the first knows."""
    root = tmp_path_factory.mktemp("teachers")
    first, second = tiny_teacher(root / "a", LABELS, seed=1), tiny_teacher(root / "b", OTHERWISE, seed=2)
    data = dataset(root / "data", text=sentences(40, seed=1))
    inputs = {"teacher": first, "model-0": first, "model-1": second}
    texts = sentences(30, seed=2)
    unlabelled = dataset(root / "unlabelled", text=texts)
    for number, model in enumerate((first, second)):
        inputs[f"outputs-{number}"] = go(TeacherOutputs(), LOGITS, {"teacher": model, "data": data}, root / f"o{number}")[0]
        judged = go(TeacherOutputs(), LOGITS, {"teacher": model, "data": unlabelled}, root / f"v{number}")[0]
        inputs[f"judged-{number}"] = judged
    said = read_outputs(inputs["judged-0"].path)[0]["logits"].argmax(1).tolist()
    inputs["validation"] = dataset(root / "validation", text=texts, label=[LABELS[each] for each in said])
    return {**inputs, "data": data}


def combined(given, folder, **config):
    made, facts = go(CombineOutputs(), {"output": "logits", "weights": {"0": 1, "1": 1}, **config}, given, folder)
    return read_outputs(made.path), made, facts


def test_probabilities_are_mixed_label_by_label_by_name(given, tmp_path):
    (tensors, description), _, facts = combined(given, tmp_path, weights={"0": 3, "1": 1})
    ours, theirs = (read_outputs(given[f"outputs-{number}"].path)[0]["logits"].softmax(1) for number in (0, 1))
    theirs = theirs[:, [OTHERWISE.index(label) for label in LABELS]]
    torch.testing.assert_close(tensors["logits"].softmax(1), 0.75 * ours + 0.25 * theirs, rtol=1e-4, atol=1e-6)
    assert description["labels"] == list(LABELS)
    assert (facts["weights"], facts["rows"], facts["shards"]) == ({"0": 0.75, "1": 0.25}, 40, 3)
    assert facts["agreement"] == pytest.approx(float((ours.argmax(1) == theirs.argmax(1)).float().mean()), abs=1e-6)


def test_weights_are_fitted_to_the_validations_labels(given, tmp_path):
    recorder = Recorder()
    config = {"output": "logits", "weights": {"0": 1, "1": 1}, "weighting": "learned"}
    _, facts = go(CombineOutputs(), config, given, tmp_path, recorder)
    assert facts["labelled"] == 30
    assert facts["accuracy"]["0"] == 1.0 > facts["accuracy"]["1"]
    assert facts["weights"]["0"] > facts["weights"]["1"]
    assert any("30 labels, which are few" in note for note in recorder.notes)
    with pytest.raises(DataError, match="the validation has none"):
        go(CombineOutputs(), config, {**given, "validation": given["data"]}, tmp_path / "none")


def test_a_student_learns_from_the_mixture_as_from_one(given, tmp_path):
    _, made, _ = combined(given, tmp_path / "mixed", weighting="confidence", topLogits=2)
    inputs = {"teacher": given["teacher"], "data": given["data"], "outputs": made}
    inputs["student"] = go(InitStudent(), {**SHAPE, "init": "svd"}, inputs, tmp_path / "student")[0]
    _, facts = go(Distill(), {**STAGE, "losses": [{"kind": "logits", "alpha": 1}]}, inputs, tmp_path / "run")
    assert facts["curve"][-1]["loss"] < facts["curve"][0]["loss"]


def test_other_labels_are_refused_before_anybody_is_asked(given, tmp_path):
    stranger = tiny_teacher(tmp_path / "c", ("io", "text", "place"))
    config = CombineOutputs.config_type.model_validate({"output": "logits", "weights": {"0": 1, "1": 1}})
    for inputs in ({**given, "model-1": stranger}, {"model-0": given["teacher"], "model-1": stranger}):
        with pytest.raises(SpecError) as caught:
            CombineOutputs().foresee(config, inputs)
        problem = caught.value.problem
        assert problem.field == "spec.distill.teachers[1].labels"
        assert "io, text, place (only its: place; only the source's: time)" in problem.found
        assert problem.allowed.endswith("io, text, time")
    CombineOutputs().foresee(config, given)


def test_embeddings_of_two_widths_teach_their_mean_similarities(tmp_path):
    data = dataset(tmp_path / "data", text=sentences(40, seed=1))
    teacher = tiny_teacher(tmp_path / "a")
    narrow = go(InitStudent(), {**SHAPE, "init": "svd"}, {"teacher": teacher, "data": data}, tmp_path / "n")[0]
    inputs = {"teacher": teacher, "data": data}
    for number, model in enumerate((teacher, narrow)):
        inputs[f"outputs-{number}"] = go(TeacherOutputs(), OUTPUTS, {"teacher": model, "data": data}, tmp_path / f"o{number}")[0]
    made, facts = go(CombineOutputs(), {"output": "embedding", "weights": {"0": 1, "1": 1}}, inputs, tmp_path / "both")
    assert (facts["dimension"], facts["agreement"]) == (64, None)
    raw = go(InitStudent(), {**SHAPE, "init": "random"}, {"teacher": teacher, "data": data}, tmp_path / "r")[0]
    losses = [{"kind": "similarity", "distance": "mse"}, {"kind": "relational-distance"}]
    config = {**STAGE, "losses": losses, "epochs": 8, "learningRate": 0.003}
    curve = go(Distill(), config, {**inputs, "outputs": made, "student": raw}, tmp_path / "run")[1]["curve"]
    assert sum(point["loss"] for point in curve[-8:]) < 0.7 * sum(point["loss"] for point in curve[:8])


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Texts of one word's kind or another's: easily told apart."""
    root = tmp_path_factory.mktemp("rows")
    texts = sentences(60, seed=3)
    labels = ["10" if number % 2 else "9" for number in range(60)]
    texts = [
        " ".join([*["socket" if label == "10" else "pattern"] * 3, *text.split()[:3]])
        for text, label in zip(texts, labels, strict=True)
    ]
    train = dataset(root / "train", text=texts[:48], label=[*labels[:44], *[""] * 4])
    return {
        "encoder": tiny_teacher(root / "encoder"),
        "data": train,
        "validation": dataset(root / "v", text=texts[48:], label=labels[48:]),
    }


def test_an_encoder_becomes_a_classifier(rows, tmp_path):
    recorder = Recorder()
    made, facts = go(FineTune(), {**TUNE, "epochs": 8, "earlyStopping": {"patience": 8}}, rows, tmp_path, recorder)
    assert facts["labels"] == ["9", "10"], "numbers in the order of numbers"
    assert (facts["rows"], facts["unlabelled"]) == (44, 4)
    assert max(facts["validation"]) == facts["validation"][facts["best_epoch"] - 1] > 0.8
    best = facts["best_epoch"]
    assert f"epoch {best} of 8: accuracy {max(facts['validation']):.3f} on 12 validation rows" in recorder.notes
    assert recorder.notes[-1] == f"epoch {best} is kept"
    network = load(made.path)
    assert (network.signature.task, network.signature.labels) == ("text-classification", ("9", "10"))
    # It is a teacher like any: what it is asked has its labels.
    outputs, _ = go(TeacherOutputs(), LOGITS, {"teacher": made, "data": rows["validation"]}, tmp_path / "said")
    assert read_outputs(outputs.path)[1]["labels"] == ["9", "10"]


def test_a_tuning_that_was_interrupted_gives_the_same_bytes(rows, tmp_path):
    given = {role: rows[role] for role in ("encoder", "data")}
    whole, _ = go(FineTune(), TUNE, given, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(FineTune(), TUNE, given, tmp_path / "broken", Recorder(stop_at=12))
    again, facts = go(FineTune(), TUNE, given, tmp_path / "broken")
    assert facts["resumed"] == 1
    assert again.digest == whole.digest


def test_what_is_frozen_stays_and_smoothed_balanced_labels_are_taken(rows, tmp_path):
    config = {**TUNE, "epochs": 1, "freeze": {"embeddings": True, "layers": 2}, "labelSmoothing": 0.1, "balanced": True}
    made, _ = go(FineTune(), {**config, "labels": ["10", "9"]}, rows, tmp_path)
    before, after = (load_file(each.path / "model.safetensors") for each in (rows["encoder"], made))
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("encoder.layer.2.") for name in moved)
    assert load(made.path).signature.labels == ("10", "9")


@pytest.mark.parametrize(
    ("labels", "match"), [(None, "at least two labels"), (["a"] * 6, "at least two labels"), ([""] * 6, "at least two labels")]
)
def test_rows_that_teach_no_classes_are_refused(rows, tmp_path, labels, match):
    data = dataset(tmp_path / "data", text=sentences(6), **({} if labels is None else {"label": labels}))
    with pytest.raises(DataError, match=match) as caught:
        go(FineTune(), TUNE, {"encoder": rows["encoder"], "data": data}, tmp_path / "run")
    assert caught.value.problem.field == "data.columns.label"


def test_rows_that_judge_are_not_rows_that_the_teacher_was_tuned_on(rows, tmp_path):
    held = dataset(tmp_path / "held", text=[*sentences(3, seed=9), "Socket  socket socket"])
    learned = dataset(tmp_path / "learned", text=["socket socket socket", "another"])
    with pytest.raises(DataError, match="leaks") as caught:
        check_disjoint({"data": held, "tuning": learned})
    assert caught.value.problem.field == "spec.gate.data"
    assert "spec.source.fineTune.data" in caught.value.problem.fix
    check_disjoint({"data": rows["validation"], "tuning": learned})
    with pytest.raises(DataError, match=r"are also in spec.distill.data and spec.source.fineTune.data") as both:
        check_disjoint({"data": held, "training": learned, "tuning": learned})
    assert "deduplicate" not in both.value.problem.fix, "it would leave the rows in the second"
