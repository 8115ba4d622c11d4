"""A student that comes as a model of its own is held against its teacher before anybody is asked, and again when it trains."""

import dataclasses

import pytest
from tests.support.artifacts import Recorder, context, dataset, sentences, tiny_teacher
from tests.support.lessons import go
from tests.support.small_students import STAGE

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill

LABELS = ("io", "text", "time")
CLASSES = {**STAGE, "losses": [{"kind": "logits", "temperature": 2.0, "alpha": 1.0}], "epochs": 1}
EMBEDDING = {**STAGE, "losses": [{"kind": "similarity"}, {"kind": "embedding"}], "epochs": 1}


def lesson(folder, labels=()):
    given = {"teacher": tiny_teacher(folder / "teacher", labels), "data": dataset(folder / "data", text=sentences(40, seed=1))}
    outputs = {"outputs": ["logits" if labels else "embedding"], "maxLength": 32, "layers": []}
    return given, go(TeacherOutputs(), outputs, given, folder / "outputs")[0]


def refused(config, given, outputs, folder):
    """Return what is said before the teacher is asked; when the student trains the same must be said."""
    told = []
    checked = Distill.config_type.model_validate(config)
    for call in (
        lambda: Distill().foresee(checked, given),
        lambda: Distill().run(checked, {**given, "outputs": outputs}, context(folder)),
    ):
        with pytest.raises((DataError, SpecError)) as caught:
            call()
        told.append(caught.value.problem)
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize(
    ("labels", "says"),
    [(("time", "text", "io"), "another order"), (("io", "text", "time", "rest"), "other classes"), ((), "other classes")],
)
def test_classes_that_are_not_the_teachers_are_refused(tmp_path, labels, says):
    given, outputs = lesson(tmp_path, LABELS)
    given["student"] = tiny_teacher(tmp_path / "student", labels, seed=1)
    problem = refused(CLASSES, given, outputs, tmp_path / "run")
    assert says in problem.message
    assert problem.field == "spec.distill.student.uri"
    assert problem.allowed == "3 classes: io, text, time"
    assert problem.found == (f"{len(labels)} classes: {', '.join(labels)}" if labels else "an embedding, no classes")


@pytest.mark.parametrize(
    ("labels", "named"), [(("LABEL_0", "LABEL_1", "LABEL_2"), True), (("LABEL_0", "LABEL_1"), False), (("a", "b", "c"), False)]
)
def test_a_student_whose_classes_have_no_names_is_told_how_to_name_them(tmp_path, labels, named):
    given, outputs = lesson(tmp_path, LABELS)
    given["student"] = tiny_teacher(tmp_path / "student", labels, seed=1)
    assert ("spec.source.labels" in refused(CLASSES, given, outputs, tmp_path / "run").fix) == named


def test_the_teachers_classes_are_learned(tmp_path):
    given, outputs = lesson(tmp_path, LABELS)
    given["student"] = tiny_teacher(tmp_path / "student", LABELS, seed=1)
    Distill().foresee(Distill.config_type.model_validate(CLASSES), given)
    _, facts = go(Distill(), CLASSES, {**given, "outputs": outputs}, tmp_path / "run")
    assert facts["steps"] > 0


@pytest.mark.parametrize(
    ("labels", "says", "found"),
    [
        (None, "needs labels", "no label column"),
        ([""] * 40, "needs labels", "no row has a label"),
        (["io", "cloud"] * 20, "does not know", "'cloud'"),
    ],
)
def test_labels_that_are_missing_or_unknown_are_told_before_anybody_is_asked(tmp_path, labels, says, found):
    given, outputs = lesson(tmp_path, LABELS)
    columns = {"text": sentences(40, seed=1)} | ({} if labels is None else {"label": labels})
    given["data"] = dataset(tmp_path / "labelled", **columns)
    given["student"] = tiny_teacher(tmp_path / "student", LABELS, seed=1)
    hard = {**CLASSES, "losses": [{"kind": "hard"}, *CLASSES["losses"]]}
    problem = refused(hard, given, outputs, tmp_path / "run")
    assert says in problem.message
    assert found in problem.found
    assert problem.field.endswith("data.columns.label")


def test_a_tokenizer_of_ones_own_beside_a_loss_of_tokens_is_told_before_anybody_is_asked(tmp_path):
    given, outputs = lesson(tmp_path, LABELS)
    given["student"] = tiny_teacher(tmp_path / "student", LABELS, seed=1)
    other = dataclasses.replace(Signature.read(given["student"].path), tokenizer_digest="sha256:other")
    other.write(given["student"].path)
    Distill().foresee(Distill.config_type.model_validate(CLASSES), given)
    losses = [*CLASSES["losses"], {"kind": "hidden-tokens", "layer": 3, "studentLayer": 3}]
    problem = refused({**CLASSES, "losses": losses}, given, outputs, tmp_path / "run")
    assert "one tokenizer" in problem.message
    assert problem.field == "spec.distill.student"


@pytest.mark.parametrize(("alpha", "labels", "told"), [(0.5, None, True), (1.0, None, False), (0.5, ["io", ""] * 20, False)])
def test_a_share_for_labels_that_no_row_has_is_told(tmp_path, alpha, labels, told):
    given, outputs = lesson(tmp_path, LABELS)
    given["data"] = dataset(tmp_path / "rows", text=sentences(40, seed=1), **({} if labels is None else {"label": labels}))
    given["student"] = tiny_teacher(tmp_path / "student", LABELS, seed=1)
    losses = [{"kind": "logits", "temperature": 2.0, "alpha": alpha}]
    progress = Recorder()
    go(Distill(), {**CLASSES, "losses": losses}, {**given, "outputs": outputs}, tmp_path / "run", progress)
    assert any("no row has a label" in note for note in progress.notes) == told


@pytest.mark.parametrize("columns", [("text",), ("query", "document")])
def test_a_recovery_that_leaves_no_step_is_told_before_anybody_is_asked(tmp_path, columns):
    """Twenty rows in batches of eight are three steps, twenty pairs five."""
    teacher = tiny_teacher(tmp_path / "teacher")
    data = dataset(tmp_path / "data", **{name: sentences(20, seed=number) for number, name in enumerate(columns)})
    given = {"teacher": teacher, "data": data, "student": tiny_teacher(tmp_path / "student", seed=1)}
    outputs = {"outputs": ["embedding"], "maxLength": 32, "layers": []}
    said = go(TeacherOutputs(), outputs, given, tmp_path / "outputs")[0]
    problem = refused({**EMBEDDING, "batchSize": 8, "prune": {"weights": 0.5, "recovery": 0.95}}, given, said, tmp_path / "run")
    assert problem.field == "spec.distill.stages[].prune.recovery"
    assert problem.found == f"95% of {3 if len(columns) == 1 else 5} steps"


def test_validation_rows_that_are_learned_from_are_refused(tmp_path):
    given, _ = lesson(tmp_path)
    given["student"] = tiny_teacher(tmp_path / "student", seed=1)
    given["validation"] = dataset(tmp_path / "validation", text=[*sentences(4, seed=9), sentences(40, seed=1)[3].upper()])
    with pytest.raises(DataError) as caught:
        Distill().foresee(Distill.config_type.model_validate(EMBEDDING), given)
    assert caught.value.problem.field == "spec.distill.validation"
    assert "row 5 is row 4 of spec.distill.data" in caught.value.problem.found


def narrow(folder):
    """An encoder that says it gives 16 numbers."""
    made = tiny_teacher(folder, seed=1)
    signature = Signature.read(folder)
    dataclasses.replace(signature, dimension=16).write(folder)
    return made


def test_embeddings_of_another_width_are_not_compared_number_by_number(tmp_path):
    given, outputs = lesson(tmp_path)
    given["student"] = narrow(tmp_path / "student")
    problem = refused(EMBEDDING, given, outputs, tmp_path / "run")
    assert (problem.found, problem.allowed) == ("16 numbers", "32 numbers")
    assert "'embedding'" in problem.message
    similar = Distill.config_type.model_validate({**EMBEDDING, "losses": [{"kind": "similarity"}]})
    Distill().foresee(similar, given)  # rows are compared among themselves
    given["validation"] = dataset(tmp_path / "validation", text=sentences(4, seed=9))
    with pytest.raises(SpecError, match="differ in width"):
        Distill().run(similar, {**given, "outputs": outputs}, context(tmp_path / "again"))
