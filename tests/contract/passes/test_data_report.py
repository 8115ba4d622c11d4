"""What the report says of rows, and a student that learns from prepared ones."""

import json

import numpy as np
from tests.support.artifacts import Recorder, dataset, sentences, tree_digest
from tests.support.lessons import LABELS, go
from tests.support.prepared_rows import LONG, augmenting, read

from stillhouse.passes.distill.augment.rows import Augment
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.evaluate.data_report import DataReport
from stillhouse.passes.sources.balance import Balance
from stillhouse.passes.sources.deduplicate import Deduplicate
from stillhouse.passes.sources.pool import PoolData


def test_the_report_says_what_is_there(judge, tmp_path):
    training = dataset(
        tmp_path / "training",
        text=[LONG, f"{LONG}.", "word " * 40, "a lock", "a zone", "a  zone"],
        label=["io", "io", "io", "time", "text", ""],
    )
    gate = dataset(tmp_path / "gate", text=["A LOCK", LONG, "new"], label=["io", "io", "text"])
    prepared = dataset(tmp_path / "prepared", text=["a", "b"], label=["io", "text"])
    progress = Recorder()
    made, facts = go(
        DataReport(),
        {"maxLength": 8, "servedLength": None, "threshold": 0.8},
        {"teacher": judge, "training": training, "gate": gate, "trained": prepared},
        tmp_path,
        progress,
    )
    assert facts == {"splits": {"training": 6, "gate": 3}, "leaking": 2}
    report = json.loads((made.path / "report.json").read_text())
    split = report["splits"]["training"]
    assert {name: split[name] for name in ("rows", "repeated", "nearlyRepeated", "conflicts", "labels", "unlabelled")} == {
        "rows": 6,
        "repeated": 1,
        "nearlyRepeated": 1,
        "conflicts": 0,
        "labels": {"io": 3, "text": 1, "time": 1},
        "unlabelled": 1,
    }
    tail = {"classes": 3, "largest": 3, "smallest": 1, "median": 1, "ratio": 3.0, "rare": 3, "half": 1}
    assert split["tail"] == tail
    assert split["tokens"]["limit"] == 8
    assert split["tokens"]["cutTexts"] == 3
    assert sum(split["tokens"]["histogram"]["texts"]) == 6
    assert split["prepared"]["rows"] == 2
    assert report["splits"]["gate"]["tokens"]["limit"] == 32
    assert report["leakage"] == [{"split": "gate", "other": "training", "rows": 3, "exact": 2, "near": 2}]
    assert "leakage: 2 of 3 rows of gate are nearly in training, 2 exactly" in progress.notes
    assert (made.path / "report.txt").read_text().splitlines() == progress.notes
    drawn = (made.path / "report.svg").read_text()
    assert drawn.count('class="bar"') == 3 + 30
    import xml.dom.minidom

    xml.dom.minidom.parseString(drawn)


def test_images_and_rows_without_labels_are_reported_too(image_teacher, tmp_path):
    config = {"maxLength": None, "servedLength": None, "threshold": 0.8}
    images = dataset(tmp_path / "images", image=[[0.0] * 48, [1.0] * 48])
    made, facts = go(DataReport(), config, {"teacher": image_teacher, "training": images, "validation": images}, tmp_path)
    assert facts["leaking"] == 2
    assert "tokens" not in json.loads((made.path / "report.json").read_text())["splits"]["training"]


def test_a_student_learns_from_prepared_rows_what_the_teacher_says_of_the_copies(judge, tmp_path):
    texts = sentences(30, seed=5)
    data = dataset(tmp_path / "data", text=texts, label=[LABELS[n % 3] if n < 9 else "io" for n in range(30)])
    pool = dataset(tmp_path / "pool", text=[*sentences(10, seed=6), texts[0]])
    pooled, _ = go(PoolData(), {}, {"data": data, "unlabelled": pool}, tmp_path / "1")
    distinct, _ = go(Deduplicate(), {"threshold": 0.8}, {"data": pooled}, tmp_path / "2")
    balanced, _ = go(Balance(), {"to": 0.5, "most": 4, "seed": 1}, {"data": distinct}, tmp_path / "3")
    made, facts = go(Augment(), augmenting("mask", "delete", chance=0.5), {"data": balanced, "teacher": judge}, tmp_path / "4")
    inputs = {"teacher": judge, "data": made}
    asked = {"outputs": ["logits"], "maxLength": 32, "layers": [], "shardRows": 64}
    outputs, _ = go(TeacherOutputs(), asked, inputs, tmp_path / "5")
    told = read_outputs(outputs.path)[0]["logits"]
    assert len(told) == facts["rows"]
    # A copy's outputs are of the copy: those of the row that it is of are others.
    own, _ = go(TeacherOutputs(), asked, {"teacher": judge, "data": balanced}, tmp_path / "own")
    before = read_outputs(own.path)[0]["logits"]
    count = len(before)
    assert np.allclose(told[:count], before, atol=1e-4)
    assert not any(np.allclose(told[count + row], before[row], atol=1e-4) for row in range(min(5, facts["copies"])))
    shape = {"hiddenLayers": 1, "maxLength": 32, "seed": 3, "init": "layers"}
    student, _ = go(InitStudent(), shape, inputs, tmp_path / "6")
    stage = {
        "stage": "soft",
        "losses": [{"kind": "logits", "weight": 1, "temperature": 2, "alpha": 0.7}],
        "epochs": 2,
        "batchSize": 16,
        "learningRate": 0.01,
        "seed": 1,
    }
    trained, learned = go(Distill(), stage, {**inputs, "student": student, "outputs": outputs}, tmp_path / "7")
    assert learned["rows"] == facts["rows"]
    assert learned["labelled_rows"] == sum(label != "" for label in read(made)["label"])
    assert tree_digest(trained.path) != tree_digest(student.path)
