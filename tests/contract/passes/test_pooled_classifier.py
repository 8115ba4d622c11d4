"""A sentence encoder with a linear head on its pooled states: imported, asked, shrunk, saved and loaded."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.artifacts import artifact, context, dataset, sentences, tiny_teacher

from stillhouse.errors import SourceError
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.models.architecture import Architecture
from stillhouse.passes.models.artifact import load
from stillhouse.passes.sources.model import ImportModel

LABELS = ("file", "time", "text")


@pytest.fixture
def source(tmp_path):
    """A folder as a user has it: the encoder's files, the Sentence Transformers layout, the head among the weights."""
    encoder = tiny_teacher(tmp_path / "encoder").path
    folder = tmp_path / "source"
    (folder / "1_Pooling").mkdir(parents=True)
    shutil.copyfile(encoder / "tokenizer.json", folder / "tokenizer.json")
    config = json.loads((encoder / "config.json").read_text("utf-8"))
    config |= {"id2label": dict(enumerate(LABELS)), "label2id": {name: at for at, name in enumerate(LABELS)}}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}), "utf-8")
    torch.manual_seed(3)
    head = {"classifier.weight": 5 * torch.randn(len(LABELS), config["hidden_size"]), "classifier.bias": torch.randn(len(LABELS))}
    save_file({**load_file(encoder / "model.safetensors"), **head}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def imported(source, tmp_path):
    ctx = dataclasses.replace(context(tmp_path / "imported"), source=source)
    config = ImportModel.config_type.model_validate({"digest": digest(source), "task": "text-classification", "maxLength": 32})
    return ImportModel().run(config, {}, ctx), artifact(ctx.out, "torch-model")


def digest(folder):
    from stillhouse.clients.sources.digest import digest_of

    return digest_of(folder)


def test_logits_are_the_head_over_the_unit_mean_of_the_states(source, tmp_path):
    facts, made = imported(source, tmp_path)
    assert (facts.labels, facts.pooling, facts.normalized_at_source) == (LABELS, "mean", True)
    network = load(made.path)
    ids = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        states = network.body(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = torch.stack([states[0].mean(0), states[1, :3].mean(0)])
        unit = pooled / pooled.norm(dim=1, keepdim=True)
        head = load_file(source / "model.safetensors")
        wanted = unit @ head["classifier.weight"].T + head["classifier.bias"]
        torch.testing.assert_close(network(ids, mask), wanted, rtol=1e-5, atol=1e-5)


def test_a_missing_head_is_named(source, tmp_path):
    path = source / "model.safetensors"
    tensors = load_file(path)
    del tensors["classifier.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(SourceError) as caught:
        imported(source, tmp_path)
    assert "classifier.weight" in str(caught.value)


@pytest.mark.parametrize("init", ["static", "svd", "random"])
def test_a_smaller_student_has_a_head_of_its_own_width(source, tmp_path, init):
    _, teacher = imported(source, tmp_path)
    ctx = context(tmp_path / "student")
    inputs = {"teacher": teacher, "data": dataset(tmp_path / "data", text=sentences(60))}
    config = InitStudent.config_type.model_validate({"hiddenLayers": 1, "hiddenSize": 8, "attentionHeads": 2, "init": init})
    InitStudent().run(config, inputs, ctx)
    network = load(ctx.out)
    assert network.projection is not None
    assert tuple(network.projection.weight.shape) == (len(LABELS), 8)
    assert "classifier.weight" in load_file(ctx.out / "model.safetensors")
    assert network.signature.labels == LABELS


@pytest.mark.parametrize(
    "values", [{"kind": "hf-classifier", "pooling": "mean"}, {"kind": "hf-classifier", "projection": 3}, {"kind": "hf-encoder"}]
)
def test_a_head_without_pooling_or_size_is_no_architecture(values):
    with pytest.raises(ValueError, match=r"pooling|projection"):
        Architecture.model_validate(values)
