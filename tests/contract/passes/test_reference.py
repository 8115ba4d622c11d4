"""What a teacher says of gate rows, for pairs, texts and labels."""

import json

import torch
from safetensors.torch import load_file
from tests.support.artifacts import dataset
from tests.support.lessons import go

from stillhouse.passes.evaluate.reference import TeacherReference


def test_reference_of_pairs_texts_and_labels(teacher, judge, texts, tmp_path):
    pairs = dataset(tmp_path / "pairs", query=texts[:20], document=texts[20:40])
    labelled = dataset(tmp_path / "labelled", text=texts, label=["io"] * 50)
    for name, model, data, shapes in (
        ("pairs", teacher, pairs, {"query": [20, 32], "document": [20, 32]}),
        ("texts", teacher, labelled, {"text": [50, 32]}),
        ("labels", judge, labelled, {"logits": [50, 3]}),
    ):
        config = {"maxLength": 32, "threads": 1}
        made, facts = go(TeacherReference(), config, {"teacher": model, "data": data}, tmp_path / name / "a")
        again, _ = go(TeacherReference(), config, {"teacher": model, "data": data}, tmp_path / name / "b")
        assert made.digest == again.digest
        tensors = load_file(made.path / "outputs.safetensors")
        assert {key: list(tensor.shape) for key, tensor in tensors.items()} == shapes
        assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
        said = json.loads((made.path / "measurement.json").read_text())
        assert said["outputs"] == shapes
        assert said["rows"] == facts["rows"]
