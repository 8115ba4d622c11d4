"""The residual student keeps the passes' contract: made from a teacher, trained, interrupted, exported, quantized."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tests.support.artifacts import Recorder, artifact, dataset, sentences, tiny_teacher, tree_digest
from tests.support.int8 import BITS
from tests.support.lessons import go
from tests.support.residual_students import SHAPE, STAGE, closeness, taught, tokens_of

from stillhouse.errors import DataError, SourceError, SpecError
from stillhouse.passes.compress.dynamic import QuantizeDynamic
from stillhouse.passes.compress.quantize import quantizable
from stillhouse.passes.distill import loop
from stillhouse.passes.distill.bag import MOST_ROWS, RARE, weighted
from stillhouse.passes.distill.encoded import read_inputs
from stillhouse.passes.distill.residual import _WITHOUT_OUTPUTS
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.export.onnx import ExportOnnx
from stillhouse.passes.models.architecture import Architecture
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.residual import ResidualEncoder
from stillhouse.passes.models.shapes import ResidualShape
from stillhouse.planning.estimate import FIT_ROWS, FIT_ROWS_ASKED


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """All of that, and the student before training."""
    found = taught(tmp_path_factory)
    found["student"] = go(InitStudent(), SHAPE, found, tmp_path_factory.mktemp("student"))[0]
    return found


def test_it_starts_as_a_bag_of_words_that_is_fitted_to_the_teacher(inputs, tmp_path):
    made, facts = go(InitStudent(), SHAPE, inputs, tmp_path / "a")
    assert made.digest == inputs["student"].digest  # the same bytes again
    assert (facts["architecture"], facts["init"], facts["rarity"]) == ("residual", "static", RARE)
    assert (facts["hidden_layers"], facts["hidden_size"], facts["attention_heads"]) == (2, 16, 2)
    network = load(made.path)
    signature = network.signature
    assert (signature.inputs, signature.dimension, signature.max_length) == (("input_ids", "attention_mask"), 32, 32)
    ids = torch.tensor([[2, 40, 41, 42, 3], [2, 42, 40, 41, 3]])
    found = network(ids, torch.ones_like(ids))
    assert torch.allclose(found[0], found[1], atol=1e-6)  # order says nothing yet
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-6)
    assert closeness(made, inputs, tmp_path / "near") > 0.8
    assert facts["init_cosine"] > 0.7
    # Without the teacher's outputs at hand it asks the teacher itself: the same but for their rounding.
    alone, other = go(InitStudent(), SHAPE, {key: inputs[key] for key in ("teacher", "data")}, tmp_path / "b")
    assert other["init_cosine"] == pytest.approx(facts["init_cosine"], abs=0.01)
    assert closeness(alone, inputs, tmp_path / "alone") > 0.8


def test_a_tokenizer_that_pads_every_text_gives_the_same_student(inputs, tmp_path):
    """MiniLM's does, to 128 tokens: the teacher was asked about each token amid 126 of padding."""
    folder = tmp_path / "padded"
    shutil.copytree(inputs["teacher"].path, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["padding"] = {
        "strategy": {"Fixed": 40}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    (folder / "tokenizer.json").chmod(0o644)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    padded = {**inputs, "teacher": artifact(folder, "torch-model")}
    made, _ = go(InitStudent(), SHAPE, padded, tmp_path / "run")
    theirs, mine = (load_file(one.path / "model.safetensors") for one in (inputs["student"], made))
    assert all(torch.equal(theirs[name], mine[name]) for name in theirs)


def test_padding_changes_nothing_and_both_kinds_of_attention_agree(inputs, tmp_path):
    trained, _ = go(Distill(), {**STAGE, "epochs": 1}, inputs, tmp_path)
    ids = torch.tensor([[2, 40, 41, 42, 43, 44, 3], [2, 43, 44, 3, 0, 0, 0]])
    mask = (ids > 0).long()
    networks = [load(trained.path, attention) for attention in ("sdpa", "eager")]
    found = [network(ids, mask) for network in networks]
    assert torch.allclose(found[0], found[1], atol=1e-6)
    for network in networks:
        assert torch.allclose(found[0][1], network(ids[1:, :4], mask[1:, :4])[0], atol=1e-6)
        other = ids.clone()
        other[1, 4:] = 45  # whatever stands behind the mask
        assert torch.allclose(found[0], network(other, mask), atol=1e-6)
    states = networks[0].run(ids, mask, hidden=True)
    assert torch.equal(states.output, networks[0](ids, mask))
    assert [tuple(state.shape) for state in states.hidden] == [(2, 16)] * 3


def test_training_brings_it_nearer_and_word_order_in(inputs, tmp_path):
    before = closeness(inputs["student"], inputs, tmp_path / "before")
    stage = {**STAGE, "losses": [{"kind": "embedding"}], "epochs": 10}
    trained, facts = go(Distill(), stage, {**inputs, "validation": inputs["data"]}, tmp_path / "run")
    assert facts["steps"] == 10 * 13
    assert facts["validation"][-1] > facts["validation"][0]
    assert closeness(trained, inputs, tmp_path / "after") > before + 0.01
    ids = torch.tensor([[2, 40, 41, 42, 3], [2, 42, 40, 41, 3]])
    found = load(trained.path)(ids, torch.ones_like(ids))
    assert not torch.allclose(found[0], found[1], atol=1e-5)
    # What tokens count for stays: the vectors are what is trained.
    first, last = (load(one.path).body.token_weights.weight for one in (inputs["student"], trained))
    assert torch.equal(first, last)


def test_an_interrupted_run_ends_with_the_same_bytes(inputs, tmp_path, monkeypatch):
    whole, expected = go(Distill(), STAGE, inputs, tmp_path / "whole")

    class Stopping(Recorder):
        def update(self, done, total=None, unit="", message=""):
            if unit == "steps" and done >= 17:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_REPORT_SECONDS", -1.0)  # every step reports
        with pytest.raises(KeyboardInterrupt):
            go(Distill(), STAGE, inputs, tmp_path / "cut", Stopping())
    resumed, facts = go(Distill(), STAGE, inputs, tmp_path / "cut")
    assert facts["resumed"] == 1
    assert resumed.digest == whole.digest
    assert facts["curve"] == expected["curve"]


def test_a_trimmed_vocabulary_has_vectors_of_its_own_tokens_only(inputs, tmp_path):
    made, facts = go(InitStudent(), {**SHAPE, "vocabularySize": 76}, inputs, tmp_path)
    assert facts["vocabulary_after"] == 76 < facts["vocabulary_before"]
    assert facts["unknown_after"] == 0.0
    network = load(made.path)
    assert network.body.tokens.weight.shape == (76, 32)
    assert network.architecture.residual == ResidualShape(
        vocabulary=76, dimension=32, hidden_size=16, layers=2, heads=2, intermediate_size=32, max_length=32
    )
    # Special tokens say nothing.
    assert network.body.token_weights.weight[[0, 1, 2, 3]].abs().max() == 0
    assert facts["init_cosine"] > 0.6


def test_saving_and_loading_changes_nothing_and_foreign_weights_are_refused(inputs, tmp_path):
    network = load(inputs["student"].path)
    save(network, tmp_path, tokenizer=inputs["student"].path / "tokenizer.json")
    assert tree_digest(tmp_path) == inputs["student"].digest
    assert not (tmp_path / "config.json").exists()
    tensors = load_file(tmp_path / "model.safetensors")
    for spoil in (lambda t: t.pop("project.bias"), lambda t: t.update(more=torch.zeros(1))):
        other = dict(tensors)
        spoil(other)
        save_file(other, tmp_path / "model.safetensors")
        with pytest.raises(SourceError, match="not those of the network"):
            load(tmp_path)


def test_an_architecture_without_its_sizes_is_refused():
    sizes = {"vocabulary": 9, "dimension": 4, "hidden_size": 6, "layers": 1, "heads": 2, "intermediate_size": 8, "max_length": 5}
    assert ResidualEncoder(ResidualShape(**sizes)).shape.heads == 2
    for wrong in ({"kind": "residual-encoder"}, {"kind": "hf-encoder", "pooling": "mean", "residual": sizes}):
        with pytest.raises(ValidationError, match="residual"):
            Architecture.model_validate(wrong)
    with pytest.raises(ValidationError, match="multiple of heads"):
        ResidualShape(**{**sizes, "heads": 4})


def test_only_a_teacher_of_embeddings_has_such_a_student(inputs, tmp_path):
    judge = tiny_teacher(tmp_path / "judge", ("io", "text"))
    with pytest.raises(SpecError) as caught:
        go(InitStudent(), SHAPE, {"teacher": judge, "data": inputs["data"]}, tmp_path / "run")
    assert caught.value.problem.field == "spec.distill.student.architecture"
    with pytest.raises(SpecError) as caught:
        go(InitStudent(), {**SHAPE, "attentionHeads": 3}, inputs, tmp_path / "heads")
    assert caught.value.problem.field == "spec.distill.student.attentionHeads"


def test_outputs_of_other_rows_are_refused(inputs, tmp_path):
    other = dataset(tmp_path / "other", text=sentences(30, seed=2))
    with pytest.raises(DataError, match="belong to other rows"):
        go(InitStudent(), SHAPE, {**inputs, "data": other}, tmp_path / "run")


def test_rare_tokens_weigh_more_and_special_ones_nothing():
    vectors = torch.nn.functional.normalize(torch.randn(60, 12, generator=torch.Generator().manual_seed(1)), dim=1)
    counts = np.array([10_000] * 3 + [0] + [1] * 56)
    silent = torch.zeros(60, dtype=torch.bool)
    silent[0] = True
    bag = weighted(vectors, counts, silent)
    assert bag.tokens[1:].pow(2).mean().item() == pytest.approx(1.0, rel=0.05)
    assert bag.weights[0] == 0.0
    assert (bag.weights[1:3] < 0.01 * bag.weights[3]).all()
    probability = 2 / (counts.sum() + 60)
    scale = bag.weights[3] * (RARE + 1 / (counts.sum() + 60)) / RARE
    assert bag.weights[10].item() == pytest.approx(float(scale) * RARE / (RARE + probability), rel=1e-5)


def test_it_is_exported_as_it_is_and_quantized_close_to_it(inputs, tmp_path):
    trained, _ = go(Distill(), STAGE, inputs, tmp_path / "trained")
    model, facts = go(ExportOnnx(), {"opset": 17, "samples": 16, "threads": 1}, {"model": trained}, tmp_path / "onnx")
    # Both exporters follow it, and every graph equals the network.
    assert not facts["refused"]
    assert {"legacy", "legacy-plain", "dynamo"} <= set(facts["latency_ms"])
    assert facts["max_abs_error"] < 1e-4
    # The vectors' table is quantized, the tokens' weights are not: they lie far apart, and a table has one scale.
    assert [one.weights for one in quantizable(onnx.load(model.path / "model.onnx")) if one.type == "Gather"] == [
        32 * tokens_of(model)
    ]
    config = {"perChannel": True, "exclude": 0, **BITS}
    small, _ = go(QuantizeDynamic(), config, {"model": model}, tmp_path / "int8")
    sessions = [ort.InferenceSession(one.path / "model.onnx") for one in (model, small)]
    generator = np.random.Generator(np.random.PCG64(4))
    for batch, length in ((1, 3), (5, 9), (2, 32)):
        ids = generator.integers(5, tokens_of(model), (batch, length))
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        exact, near = (session.run(None, feed)[0] for session in sessions)
        wanted = load(trained.path)(torch.from_numpy(ids), torch.from_numpy(feed["attention_mask"])).detach()
        assert np.allclose(exact, wanted, atol=1e-4)
        assert (exact * near).sum(1).min() > 0.99


def test_the_plans_estimate_knows_how_many_rows_are_fitted() -> None:
    """Planning imports no pass, so it has these numbers a second time."""
    assert (FIT_ROWS, FIT_ROWS_ASKED) == (MOST_ROWS, _WITHOUT_OUTPUTS)


CONTRASTIVE = {
    **STAGE,
    "losses": [{"kind": "embedding", "weight": 1}, {"kind": "contrastive", "weight": 1}],
    "epochs": 6,
    "learningRate": 0.003,
    "embeddingLearningRate": 0.05,
}


@pytest.fixture(scope="module")
def grouped(inputs, tmp_path_factory):
    """The same texts, every one with another as its partner, but for the last ten."""
    groups = [str(row % 95) if row < 190 else "" for row in range(200)]
    return {**inputs, "data": dataset(tmp_path_factory.mktemp("grouped"), text=sentences(200, seed=1), group=groups)}


def read(data, model):
    return read_inputs(Rows(data.path), model.path, load(model.path).signature, 32)


def nearness(model, data):
    """How much nearer partners are to each other than to the others, by the mean cosine."""
    with torch.inference_mode():
        made = load(model.path)(*(torch.from_numpy(array) for array in read(data, model).batch(range(190))))
    together = (made[:95] * made[95:]).sum(1).mean()
    return float(together - (made[:95] @ made[95:].T).mean())


def test_a_contrastive_stage_brings_partners_together(grouped, tmp_path):
    trained, facts = go(Distill(), CONTRASTIVE, grouped, tmp_path)
    without = {**CONTRASTIVE, "losses": CONTRASTIVE["losses"][:1]}
    control, _ = go(Distill(), without, grouped, tmp_path / "control")
    assert nearness(trained, grouped["data"]) > nearness(control, grouped["data"]) + 0.05
    assert facts["losses"].keys() == {"embedding", "contrastive"}
    again, _ = go(Distill(), CONTRASTIVE, grouped, tmp_path / "again")
    assert again.digest == trained.digest


def test_a_contrastive_stage_goes_on_after_an_interruption_with_the_same_bytes(grouped, tmp_path):
    whole, _ = go(Distill(), CONTRASTIVE, grouped, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(Distill(), CONTRASTIVE, grouped, tmp_path / "cut", Recorder(stop_at=30, unit="steps"))
    again, facts = go(Distill(), CONTRASTIVE, grouped, tmp_path / "cut")
    assert facts["resumed"] == 1
    assert again.digest == whole.digest


def test_token_vectors_have_a_rate_of_their_own(grouped, tmp_path):
    """With next to no rate for the rest, only they move; and decay does not wear away a token that no text has."""
    config = {**CONTRASTIVE, "learningRate": 1e-12, "weightDecay": 0.5, "epochs": 1}
    trained, _ = go(Distill(), config, grouped, tmp_path)
    before, after = load(grouped["student"].path), load(trained.path)
    assert not torch.equal(before.token_vectors, after.token_vectors)
    used = set(read(grouped["data"], trained).ids.tolist())
    unused = [row for row in range(len(after.token_vectors)) if row not in used]
    assert unused
    assert torch.equal(before.token_vectors[unused], after.token_vectors[unused])
    assert torch.allclose(before.body.narrow.weight, after.body.narrow.weight, atol=1e-6)


def test_contrastive_without_groups_is_refused(inputs, tmp_path):
    with pytest.raises(DataError) as refused:
        go(Distill(), CONTRASTIVE, inputs, tmp_path)
    assert refused.value.problem.field == "spec.distill.data.columns.group"
