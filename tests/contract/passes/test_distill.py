"""Training keeps the passes' contract: nearer to the teacher, the same bytes again, also after an interruption."""

import pytest
from tests.support.artifacts import Recorder, dataset
from tests.support.lessons import LABELS, SHAPE, STAGE, go

from stillhouse.errors import DataError
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.evaluate.reference import TeacherReference
from stillhouse.passes.models.artifact import load
from stillhouse.planning.manifest import PASSES


@pytest.mark.parametrize("one", [TeacherOutputs, InitStudent, Distill, TeacherReference])
def test_the_class_is_what_the_manifest_says(one):
    entry = PASSES[one.name]
    assert (entry.version, entry.makes) == (one.version, one.kind)
    assert entry.target == f"{one.__module__}:{one.__name__}"


def test_training_brings_the_student_nearer_and_gives_the_same_bytes_again(teacher, student, data, outputs, tmp_path):
    inputs = {"teacher": teacher, "student": student, "data": data, "outputs": outputs, "validation": data}
    config = {**STAGE, "epochs": 8}
    made, facts = go(Distill(), config, inputs, tmp_path / "a")
    again, _ = go(Distill(), config, inputs, tmp_path / "b")
    assert made.digest == again.digest
    assert facts["steps"] == 8 * 7
    assert facts["curve"][-1]["loss"] < 0.7 * facts["curve"][0]["loss"]
    assert set(facts["losses"]) == {"embedding", "similarity"}
    assert facts["validation_metric"] == "cosine"
    assert len(facts["validation"]) == 8
    assert facts["validation"][-1] > facts["validation"][0]
    assert len(facts["curve"]) <= 50
    other, _ = go(Distill(), {**config, "seed": 6}, inputs, tmp_path / "c")
    assert other.digest != made.digest


def test_an_interrupted_run_ends_with_the_same_bytes(teacher, student, data, outputs, tmp_path):
    inputs = {"teacher": teacher, "student": student, "data": data, "outputs": outputs, "validation": data}
    whole, expected = go(Distill(), STAGE, inputs, tmp_path / "whole")
    for stop in (1, 7, 20):  # in the first epoch, at the end of an epoch, near the end
        with pytest.raises(KeyboardInterrupt):
            _stop_after(stop, inputs, tmp_path / str(stop))
        resumed, facts = go(Distill(), STAGE, inputs, tmp_path / str(stop))
        assert facts["resumed"] == 1
        assert resumed.digest == whole.digest
        assert (facts["curve"], facts["validation"]) == (expected["curve"], expected["validation"])


def _stop_after(step, inputs, folder):
    """Interrupt while the validation of some step runs or between two steps, whichever comes first."""
    from stillhouse.passes.distill import loop

    class Stopping(Recorder):
        def update(self, done, total=None, unit="", message=""):
            if unit == "steps" and done >= step:
                raise KeyboardInterrupt

    before = loop._REPORT_SECONDS
    loop._REPORT_SECONDS = -1.0  # every step reports
    try:
        go(Distill(), STAGE, inputs, folder, Stopping())
    finally:
        loop._REPORT_SECONDS = before


def test_interrupted_while_validating(teacher, student, data, outputs, tmp_path):
    inputs = {"teacher": teacher, "student": student, "data": data, "outputs": outputs, "validation": data}
    whole, expected = go(Distill(), STAGE, inputs, tmp_path / "whole")
    recorder = Recorder()

    class Stopping(Recorder):
        def update(self, done, total=None, unit="", message=""):
            if message == "validating":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(Distill(), STAGE, inputs, tmp_path / "cut", Stopping())
    resumed, facts = go(Distill(), STAGE, inputs, tmp_path / "cut", recorder)
    assert resumed.digest == whole.digest
    assert facts["validation"] == expected["validation"]
    assert any("going on from step 7" in note for note in recorder.notes)


def test_a_damaged_checkpoint_costs_time_and_nothing_else(teacher, student, data, outputs, tmp_path):
    inputs = {"teacher": teacher, "student": student, "data": data, "outputs": outputs}
    whole, _ = go(Distill(), STAGE, inputs, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _stop_after(9, inputs, tmp_path / "cut")
    (checkpoint,) = (tmp_path / "cut" / "scratch").glob("checkpoint-*")
    (checkpoint / "tensors.safetensors").write_bytes(b"torn")
    again, facts = go(Distill(), STAGE, inputs, tmp_path / "cut")
    assert again.digest == whole.digest
    assert facts["resumed"] == 0


def test_classification_in_two_stages(judge, texts, tmp_path):
    labels = [LABELS[("file" in text) + ("time" in text)] if row % 2 else None for row, text in enumerate(texts)]
    data = dataset(tmp_path / "data", text=texts, label=labels)
    config = {"outputs": ["logits", "hidden"], "maxLength": 32, "layers": [3], "shardRows": 64}
    outputs, _ = go(TeacherOutputs(), config, {"teacher": judge, "data": data}, tmp_path / "outputs")
    student, facts = go(InitStudent(), SHAPE, {"teacher": judge, "data": data}, tmp_path / "student")
    assert facts["init"] == "svd"
    inputs = {"teacher": judge, "student": student, "data": data, "outputs": outputs, "validation": data}
    losses = [{"kind": "logits", "temperature": 3, "alpha": 0.7}, {"kind": "hidden", "weight": 0.1, "layer": 3}]
    soft, facts = go(Distill(), {**STAGE, "losses": losses}, inputs, tmp_path / "soft")
    assert facts["labelled_rows"] == 25
    assert facts["validation_metric"] == "accuracy"
    assert load(soft.path).projection is None
    hard, after = go(
        Distill(), {**STAGE, "losses": [{"kind": "hard"}], "epochs": 30}, {**inputs, "student": soft}, tmp_path / "hard"
    )
    assert after["losses"]["hard"] < 0.7 * after["curve"][0]["loss"]
    assert load(hard.path).signature.labels == LABELS


def test_labels_that_nobody_knows_and_labels_that_are_not_there(judge, texts, tmp_path):
    config = {"outputs": ["logits"], "maxLength": 32, "shardRows": 64}
    for name, labels, message in (("unknown", ["io", "money"] * 25, "does not know"), ("none", [None] * 50, "needs labels")):
        data = dataset(tmp_path / name / "data", text=texts, label=labels)
        outputs, _ = go(TeacherOutputs(), config, {"teacher": judge, "data": data}, tmp_path / name / "outputs")
        student, _ = go(InitStudent(), SHAPE, {"teacher": judge, "data": data}, tmp_path / name / "student")
        inputs = {"teacher": judge, "student": student, "data": data, "outputs": outputs}
        with pytest.raises(DataError, match=message):
            go(Distill(), {**STAGE, "losses": [{"kind": "hard"}]}, inputs, tmp_path / name / "run")


def test_outputs_of_other_rows_are_refused(teacher, student, outputs, tmp_path):
    fewer = dataset(tmp_path / "data", text=["return the file"] * 3)
    inputs = {"teacher": teacher, "student": student, "data": fewer, "outputs": outputs}
    with pytest.raises(DataError, match="other rows"):
        go(Distill(), STAGE, inputs, tmp_path / "run")


def test_rows_of_weight_0_are_never_learned_from_and_an_interrupted_run_ends_the_same(teacher, student, outputs, texts, tmp_path):
    weights = [0.0 if row % 2 else 1.0 + row for row in range(len(texts))]
    data = dataset(tmp_path / "weighed", text=texts, weight=weights)
    inputs = {"teacher": teacher, "student": student, "data": data, "outputs": outputs}
    recorder = Recorder()
    made, facts = go(Distill(), STAGE, inputs, tmp_path / "whole", recorder)
    assert any("25 of 50 weigh more than 0" in note for note in recorder.notes)
    assert facts["rows"] == 50 and facts["steps"] == 3 * 7
    with pytest.raises(KeyboardInterrupt):
        go(Distill(), STAGE, inputs, tmp_path / "cut", Recorder(stop_at=5))
    assert go(Distill(), STAGE, inputs, tmp_path / "cut")[0].digest == made.digest
    other = ["never read" if row % 2 else text for row, text in enumerate(texts)]
    changed = {**inputs, "data": dataset(tmp_path / "changed", text=other, weight=weights)}
    assert go(Distill(), {**STAGE, "losses": STAGE["losses"][:1]}, changed, tmp_path / "x")[0].digest == (
        go(Distill(), {**STAGE, "losses": STAGE["losses"][:1]}, inputs, tmp_path / "y")[0].digest
    )


def test_a_rate_that_explodes_is_reported_as_such(teacher, student, data, outputs, tmp_path):
    inputs = {"teacher": teacher, "student": student, "data": data, "outputs": outputs}
    with pytest.raises(DataError) as caught:
        go(Distill(), {**STAGE, "learningRate": 1e30, "warmup": 0}, inputs, tmp_path)
    assert "learningRate" in caught.value.problem.field


def test_what_is_wrong_with_the_validation_data_is_looked_for_there(teacher, student, data, outputs, tmp_path):
    half = dataset(tmp_path / "half", query=["fine"])
    inputs = {"teacher": teacher, "student": student, "data": data, "outputs": outputs, "validation": half}
    with pytest.raises(DataError) as caught:
        go(Distill(), STAGE, inputs, tmp_path / "run")
    assert caught.value.problem.field == "validation.columns.document"
