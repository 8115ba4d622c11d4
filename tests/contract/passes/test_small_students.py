"""Students that are no transformers keep the passes' contract: made, trained, exported, quantized, asked."""

import shutil

import numpy as np
import onnx
import pytest
import torch
from tests.support.artifacts import Recorder, artifact, dataset, sentences, tiny_teacher, vision_transformer
from tests.support.lessons import go
from tests.support.small_students import KINDS, STAGE

from stillhouse.api.distill import NOT_OF_SMALL
from stillhouse.errors import SpecError
from stillhouse.inference.buckets import BucketPolicy
from stillhouse.inference.engine import Engine
from stillhouse.passes.compress.dynamic import QuantizeDynamic
from stillhouse.passes.compress.quantize import quantizable
from stillhouse.passes.compress.sensitivity import Sensitivity
from stillhouse.passes.distill.prune.config import PruneConfig
from stillhouse.passes.distill.prune.units import find_units
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.export.onnx import ExportOnnx
from stillhouse.passes.models.artifact import load, save
from stillhouse.planning.students import small_macs

EXAMPLE = (torch.tensor([[2, 40, 41, 42, 3], [2, 43, 44, 3, 0]]), torch.tensor([[1] * 5, [1] * 4 + [0]]))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Teacher, texts, and what the teacher says of them."""
    found = {
        "teacher": tiny_teacher(tmp_path_factory.mktemp("teacher")),
        "data": dataset(tmp_path_factory.mktemp("data"), text=sentences(120, seed=1)),
    }
    outputs = {"outputs": ["embedding"], "maxLength": 32, "layers": []}
    found["outputs"] = go(TeacherOutputs(), outputs, found, tmp_path_factory.mktemp("outputs"))[0]
    return found


@pytest.fixture(scope="module", params=KINDS)
def made(request, inputs, tmp_path_factory):
    """A student of each kind: its configuration, before training, trained, and exported."""
    folder, config = tmp_path_factory.mktemp(request.param), {**KINDS[request.param], "maxLength": 32, "seed": 3}
    student, facts = go(InitStudent(), config, inputs, folder / "student")
    trained, training = go(Distill(), STAGE, {**inputs, "student": student}, folder / "trained")
    exported, graph = go(ExportOnnx(), {"samples": 8, "quick": True}, {"model": trained}, folder / "exported")
    return config, (student, facts), (trained, training), (exported, graph)


def test_it_begins_with_the_teachers_tokens_and_learns(made, inputs, tmp_path):
    config, (student, facts), (_, training), _ = made
    assert go(InitStudent(), config, inputs, tmp_path)[0].digest == student.digest
    assert (facts["architecture"], facts["init"], facts["hidden_size"]) == (config["architecture"], "svd", config["hiddenSize"])
    assert facts["init_cosine"] > 0.6  # the last layer is fitted to the teacher
    table = load(inputs["teacher"].path).body.get_input_embeddings().weight.detach()
    tokens = load(student.path).token_vectors.detach()
    # As wide as the teacher's: all directions are there, turned and of another length.
    wanted, found = (each @ each.T / each.pow(2).sum() for each in (table, tokens))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
    assert training["curve"][-1]["loss"] < training["curve"][0]["loss"]


def test_padding_and_what_stands_behind_it_change_nothing(made):
    network = load(made[2][0].path)
    ids = torch.tensor([[2, 40, 41, 42, 43, 44, 3], [2, 43, 44, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0, 0]])
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 2 + [0] * 5])
    with torch.no_grad():
        found = network(ids, mask)
        for row, length in enumerate((7, 4, 2)):
            alone = network(ids[row : row + 1, :length], mask[row : row + 1, :length])
            torch.testing.assert_close(found[row : row + 1], alone, rtol=0, atol=1e-6)
        torch.testing.assert_close(network(torch.where(mask > 0, ids, 45), mask), found, rtol=0, atol=1e-6)


def test_only_a_bag_does_not_hear_the_order(made):
    config, _, (trained, _), _ = made
    ids = torch.tensor([[2, 40, 41, 42, 43, 3], [2, 43, 41, 40, 42, 3]])
    found = load(trained.path)(ids, torch.ones_like(ids))
    deaf = config["architecture"] == "mlp" and "bigrams" not in config
    assert torch.allclose(found[0], found[1], atol=1e-6) == deaf


def test_the_graph_answers_as_the_network_whatever_stands_beside_a_text(made):
    _, _, (trained, _), (exported, facts) = made
    assert facts["max_abs_error"] < 1e-4
    texts = ["a file", "return the current working directory of a file", "read", *sentences(9, seed=5)]
    together = Engine(exported.path, buckets=BucketPolicy(overhead=1e9)).embed(texts)
    apart = np.concatenate([Engine(exported.path).embed([text]) for text in texts])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    network = load(trained.path)
    assert network.signature.inputs == ("input_ids", "attention_mask")


def test_planning_knows_what_it_multiplies(made):
    config, _, _, (_, facts) = made
    head = config["hiddenSize"] * 32
    if config["architecture"] == "mlp":  # its layers see one vector a text
        width, layers = 32, config.get("hiddenLayers", 1)
        assert facts["macs"]["32"] == width * 24 + (layers - 1) * 24 * 24 + head
        assert facts["macs"]["16"] == facts["macs"]["32"]
        return
    wanted = 32 * small_macs({**config, "embeddingSize": 32}, None) + head
    assert facts["macs"]["32"] == pytest.approx(wanted, rel=0.03)


def test_int8_is_near_and_holds_every_matrix(made, inputs, tmp_path):
    config, _, _, (exported, _) = made
    recurrent = config["architecture"] == "bilstm"
    small, facts = go(QuantizeDynamic(), {"recurrent": recurrent}, {"model": exported}, tmp_path / "int8")
    assert facts["mean_cosine_random"] > 0.98
    assert facts["operators"].get("com.microsoft:DynamicQuantizeLSTM", 0) == (4 if recurrent else 0)
    assert Engine(small.path).embed(["read a file"]).shape == (1, 32)
    if recurrent:
        graph = onnx.load(exported.path / "model.onnx")
        assert len(quantizable(graph, recurrent=True)) == len(quantizable(graph)) + 4
        both = {"model": exported, "data": inputs["data"]}
        _, found = go(Sensitivity(), {"samples": 8, "recurrent": True}, both, tmp_path / "sensitivity")
        assert {each["type"] for each in found["top"]} >= {"LSTM"}


def test_what_the_file_may_not_prune_is_not_there(made, inputs, tmp_path):
    config, (student, _), _, _ = made
    for part in NOT_OF_SMALL[config["architecture"]]:
        with pytest.raises(SpecError, match=r"no .* that could be taken out"):
            find_units(load(student.path), PruneConfig.model_validate({part: 0.5}), EXAMPLE)


def test_zeros_of_every_layer_are_counted(made, inputs, tmp_path):
    given = {**inputs, "student": made[1][0]}
    _, facts = go(Distill(), {**STAGE, "prune": {"weights": 0.5}}, given, tmp_path)
    found = facts["pruned"]
    total, left = found["kinds"]["weights"]
    assert left == pytest.approx(total / 2, abs=1)
    assert found["before"] - found["after"] == total - left


def test_a_model_of_zeros_is_made_narrower_and_exported(inputs, tmp_path):
    network = load(inputs["teacher"].path)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    (tmp_path / "zeros").mkdir()
    save(network, tmp_path / "zeros")
    shutil.copy(inputs["teacher"].path / "tokenizer.json", tmp_path / "zeros")
    given = {**inputs, "teacher": artifact(tmp_path / "zeros", "torch-model")}
    student, facts = go(InitStudent(), {"hiddenLayers": 1, "hiddenSize": 16, "init": "svd"}, given, tmp_path / "student")
    assert facts["hidden_size"] == 16
    _, facts = go(ExportOnnx(), {"samples": 4, "quick": True}, {"model": student}, tmp_path / "exported")
    assert facts["max_abs_error"] < 1e-4


@pytest.mark.parametrize("kind", ["cnn", "bilstm", "mlp"])
def test_a_classifier_learns_from_logits_and_pooled_features(kind, tmp_path):
    labels = ("one", "two", "three")
    found = {
        "teacher": tiny_teacher(tmp_path / "teacher", labels),
        "data": dataset(tmp_path / "data", text=sentences(60, seed=2)),
    }
    outputs = {"outputs": ["features", "logits"], "maxLength": 32, "layers": []}
    found["outputs"], _ = go(TeacherOutputs(), outputs, found, tmp_path / "outputs")
    found["student"], _ = go(InitStudent(), {"architecture": kind, "hiddenSize": 16, "seed": 1}, found, tmp_path / "student")
    losses = [{"kind": "logits", "temperature": 2.0, "alpha": 1.0}, {"kind": "pooled"}]
    trained, facts = go(Distill(), {**STAGE, "losses": losses}, found, tmp_path / "trained")
    assert facts["curve"][-1]["loss"] < facts["curve"][0]["loss"]
    network = load(trained.path)
    assert network.signature.labels == labels
    ids = torch.tensor([[2, 40, 41, 3]])
    assert network(ids, torch.ones_like(ids)).shape == (1, 3)
    # What has layers of another kind is told so before anything is trained.
    with pytest.raises(SpecError) as caught:
        go(Distill(), {**STAGE, "losses": [{"kind": "hidden-tokens", "layer": 1}]}, found, tmp_path / "refused")
    assert "pooled" in caught.value.problem.fix


def test_a_trimmed_vocabulary_and_token_vectors_that_the_teacher_has_not(inputs, tmp_path):
    trimmed = {"architecture": "cnn", "hiddenSize": 16, "kernelSizes": [3], "vocabularySize": 80}
    made, facts = go(InitStudent(), trimmed, inputs, tmp_path / "trimmed")
    assert facts["vocabulary_after"] == 80 == len(load(made.path).token_vectors)
    with pytest.raises(SpecError) as caught:
        go(InitStudent(), {"architecture": "mlp", "embeddingSize": 64}, inputs, tmp_path / "wide")
    assert caught.value.problem.field == "spec.distill.student.embeddingSize"
    random, facts = go(InitStudent(), {"architecture": "mlp", "embeddingSize": 64, "init": "random"}, inputs, tmp_path / "random")
    assert facts["init"] == "random"
    assert load(random.path).token_vectors.shape[1] == 64


def test_a_student_larger_than_its_teacher_is_told(inputs, tmp_path):
    notes = Recorder()
    go(InitStudent(), {"architecture": "bilstm", "hiddenSize": 512}, inputs, tmp_path / "large", notes)
    assert any("larger than its teacher" in note for note in notes.notes)
    quiet = Recorder()
    go(InitStudent(), {"architecture": "mlp", "hiddenSize": 8}, inputs, tmp_path / "small", quiet)
    assert not any("larger" in note for note in quiet.notes)


@pytest.mark.parametrize("kind", ["cnn", "separable", "to a pixel", "mlp"])
def test_images_have_students_by_configuration_too(tmp_path, kind):
    teacher = vision_transformer(tmp_path / "teacher", 16, 2)
    images = np.random.default_rng(3).random((24, 64)).astype(np.float32)
    found = {"teacher": teacher, "data": dataset(tmp_path / "data", image=images.tolist())}
    found["outputs"], _ = go(TeacherOutputs(), {"outputs": ["logits"]}, found, tmp_path / "outputs")
    config = {"architecture": "mlp", "hiddenLayers": 2, "hiddenSize": 16}
    if kind != "mlp":
        channels = [8, 12, 8, 8] if kind == "to a pixel" else [8, 12]
        config = {"architecture": "cnn", "channels": channels, "separable": kind == "separable"}
    found["student"], facts = go(InitStudent(), config, found, tmp_path / "student")
    assert facts["init"] == "random"
    losses = [{"kind": "logits", "temperature": 2.0, "alpha": 1.0}]
    alone = {"batchSize": 23} if kind == "to a pixel" else {}  # of 24 rows: the last batch has one number a channel
    trained, _ = go(Distill(), {**STAGE, "losses": losses, "epochs": 1, **alone}, found, tmp_path / "trained")
    exported, facts = go(ExportOnnx(), {"samples": 4, "quick": True}, {"model": trained}, tmp_path / "exported")
    answers = Engine(exported.path).predict_arrays(images.reshape(24, 1, 8, 8))
    np.testing.assert_allclose(answers.sum(1), 1.0, atol=1e-5)
    image = {"height": 8, "width": 8, "channels": 1}
    last = config.get("channels", [config.get("hiddenSize")])[-1]
    assert facts["macs"]["image"] == small_macs(config, image) + last * answers.shape[1]
