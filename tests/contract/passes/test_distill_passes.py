"""Teacher's outputs, student, training and reference keep the passes' contract, on a BERT of 3 layers × 32."""

import dataclasses
import json
import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.support.artifacts import Recorder, artifact, context, dataset, sentences, tiny_teacher, tree_digest

from stillhouse.errors import DataError, SourceError, SpecError
from stillhouse.inference.signature import ImageSpec, Signature
from stillhouse.passes.distill.fit import ridge
from stillhouse.passes.distill.static import reduce
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.evaluate.reference import TeacherReference
from stillhouse.passes.models import factory
from stillhouse.passes.models.architecture import Architecture, FactoryCall
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.precision import reading_precision_name
from stillhouse.planning.fields import as_written
from stillhouse.planning.manifest import PASSES
from stillhouse.planning.plan import Step

LABELS = ("io", "text", "time")
SHAPE = {"hiddenLayers": 2, "hiddenSize": 16, "attentionHeads": 2, "intermediateSize": 32, "maxLength": 32, "seed": 3}
OUTPUTS = {"outputs": ["embedding"], "maxLength": 32, "layers": [], "shardRows": 16}
STAGE = {
    "stage": "soft",
    "losses": [{"kind": "embedding", "weight": 1}, {"kind": "similarity", "weight": 0.5}],
    "epochs": 3,
    "batchSize": 8,
    "learningRate": 0.01,
    "warmup": 0.1,
    "weightDecay": 0.01,
    "maxLength": 32,
    "checkpointSteps": 4,
    "seed": 5,
}


def go(one, config, inputs, folder, progress=None):
    """Run a pass; its output as an artifact, its facts as JSON data."""
    ctx = context(folder, progress)
    facts = one.run(one.config_type.model_validate(config), inputs, ctx)
    data = json.loads(json.dumps(dataclasses.asdict(facts), allow_nan=False))
    return artifact(ctx.out, one.kind, data), data


@pytest.fixture(scope="module")
def texts():
    return sentences(50, seed=1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return tiny_teacher(tmp_path_factory.mktemp("classifier"), LABELS)


@pytest.fixture(scope="module")
def data(tmp_path_factory, texts):
    return dataset(tmp_path_factory.mktemp("data"), text=texts)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, teacher, data):
    return go(TeacherOutputs(), OUTPUTS, {"teacher": teacher, "data": data}, tmp_path_factory.mktemp("outputs"))[0]


@pytest.fixture(scope="module")
def student(tmp_path_factory, teacher, data):
    return go(InitStudent(), SHAPE, {"teacher": teacher, "data": data}, tmp_path_factory.mktemp("student"))[0]


@pytest.mark.parametrize("one", [TeacherOutputs, InitStudent, Distill, TeacherReference])
def test_the_class_is_what_the_manifest_says(one):
    entry = PASSES[one.name]
    assert (entry.version, entry.makes) == (one.version, one.kind)
    assert entry.target == f"{one.__module__}:{one.__name__}"


# --- models -------------------------------------------------------------------------------------------------------


def test_saving_and_loading_changes_nothing(teacher, tmp_path):
    network = load(teacher.path)
    save(network, tmp_path, tokenizer=teacher.path / "tokenizer.json")
    assert tree_digest(tmp_path) == teacher.digest


def test_both_kinds_of_attention_give_the_same_numbers_and_padding_none_at_all(teacher):
    ids = torch.tensor([[2, 40, 41, 42, 3], [2, 43, 3, 0, 0]])
    mask = (ids > 0).long()
    found = [load(teacher.path, attention)(ids, mask, torch.zeros_like(ids)) for attention in ("sdpa", "eager")]
    assert torch.allclose(found[0], found[1], atol=1e-6)
    alone = load(teacher.path)(ids[1:, :3], mask[1:, :3], torch.zeros(1, 3, dtype=torch.int64))
    assert torch.allclose(found[0][1], alone[0], atol=1e-6)
    assert torch.allclose(found[0].norm(dim=1), torch.ones(2), atol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not readable"),
        (lambda path: path.write_bytes(b"\x80\x04]"), "not readable"),
        (lambda path: path.unlink(), "not readable"),
    ],
)
def test_damaged_weights_are_refused(tmp_path, spoil, message):
    spoil(tiny_teacher(tmp_path).path / "model.safetensors")
    with pytest.raises(SourceError, match=message):
        load(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path, teacher):
    from safetensors.torch import save_file

    tensors = load_file(tiny_teacher(tmp_path).path / "model.safetensors")
    for change, message in (
        (lambda t: t.pop("encoder.layer.1.output.dense.weight"), "missing"),
        (lambda t: t.update({"encoder.layer.9.output.dense.weight": torch.zeros(2)}), "no place"),
        (lambda t: t.update({"encoder.layer.1.output.dense.weight": torch.zeros(2, 2)}), r"\[2, 2\]"),
    ):
        spoiled = dict(tensors)
        change(spoiled)
        save_file(spoiled, tmp_path / "model.safetensors")
        with pytest.raises(SourceError) as caught:
            load(tmp_path)
        assert re.search(message, caught.value.problem.found)


def test_older_names_and_a_prefix_are_understood(tmp_path, teacher):
    from safetensors.torch import save_file

    tiny_teacher(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    renamed = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    renamed["cls.predictions.bias"] = torch.zeros(3)
    save_file(renamed, tmp_path / "model.safetensors")
    ids = torch.tensor([[2, 40, 41, 3]])
    given = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    assert torch.equal(load(tmp_path)(*given), load(teacher.path)(*given))


# --- teacher-outputs ----------------------------------------------------------------------------------------------


def test_outputs_are_the_teachers_in_the_datas_order(teacher, data, texts, outputs):
    from tokenizers import Tokenizer

    tensors, description = read_outputs(outputs.path)
    assert tensors["embedding"].shape == (50, 32)
    assert description["shards"] == 4
    network = load(teacher.path)
    tokenizer = Tokenizer.from_file(str(teacher.path / "tokenizer.json"))
    for row in (0, 17, 49):
        ids = torch.tensor([[*tokenizer.encode(texts[row]).ids[:31], 3]])
        if len(tokenizer.encode(texts[row]).ids) <= 32:
            ids = torch.tensor([tokenizer.encode(texts[row]).ids])
        alone = network(ids, torch.ones_like(ids), torch.zeros_like(ids))[0]
        near = torch.nn.functional.cosine_similarity(tensors["embedding"].float(), alone.unsqueeze(0), dim=1)
        assert near.argmax().item() == row
        assert near[row] > 0.999  # bfloat16 where the processor has it, float16 in the file


def test_outputs_count_what_was_cut(teacher, data, texts, tmp_path):
    whole = [len(text.split()) + 2 for text in texts]  # each of its words is one token
    _, facts = go(TeacherOutputs(), {**OUTPUTS, "maxLength": 10}, {"teacher": teacher, "data": data}, tmp_path)
    assert facts["rows"] == 50
    assert facts["truncated_rows"] == sum(length > 10 for length in whole)
    assert facts["truncated_tokens"] == sum(max(0, length - 10) for length in whole)
    assert facts["precision"] == reading_precision_name(load(teacher.path)), "no key holds it: it must be on record"
    assert facts["tokens"] == sum(min(10, length) for length in whole)


def test_outputs_go_on_after_an_interruption_with_the_same_bytes(teacher, data, texts, outputs, tmp_path):
    two_shards = sum(min(32, len(text.split()) + 2) for text in texts[:32])
    inputs = {"teacher": teacher, "data": data}
    with pytest.raises(KeyboardInterrupt):
        go(TeacherOutputs(), OUTPUTS, inputs, tmp_path, Recorder(stop_at=two_shards + 1, unit="tokens"))
    ready = sorted(path.name for path in (tmp_path / "scratch").glob("*.safetensors"))
    assert ready == ["outputs-00000.safetensors", "outputs-00001.safetensors"]
    stamps = [(tmp_path / "scratch" / name).stat().st_mtime_ns for name in ready]
    (tmp_path / "scratch" / "outputs-00002.safetensors").write_bytes(b"torn")
    again, _ = go(TeacherOutputs(), OUTPUTS, inputs, tmp_path)
    assert again.digest == outputs.digest
    assert [(tmp_path / "scratch" / name).stat().st_mtime_ns for name in ready] == stamps


def test_outputs_report_progress_to_the_end(teacher, data, texts, tmp_path):
    recorder = Recorder()
    go(TeacherOutputs(), OUTPUTS, {"teacher": teacher, "data": data}, tmp_path, recorder)
    told = [(done, total, unit) for done, total, unit, message in recorder.updates if message == "asking the teacher"]
    tokens = sum(min(32, len(text.split()) + 2) for text in texts)
    assert told[-1] == (tokens, tokens, "tokens")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_logits_and_hidden_states(judge, data, tmp_path):
    config = {"outputs": ["logits", "hidden"], "maxLength": 32, "layers": [1, 3], "shardRows": 64}
    made, _ = go(TeacherOutputs(), config, {"teacher": judge, "data": data}, tmp_path)
    tensors, _ = read_outputs(made.path)
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == {
        "logits": [50, 3],
        "hidden-1": [50, 32],
        "hidden-3": [50, 32],
    }


def test_the_last_layer_is_the_one_that_is_meant_where_none_is_named(judge, data, tmp_path):
    config = {"outputs": ["logits", "hidden"], "maxLength": 32, "layers": [-1, 3], "shardRows": 64}
    made, _ = go(TeacherOutputs(), config, {"teacher": judge, "data": data}, tmp_path)
    tensors, description = read_outputs(made.path)
    assert set(tensors) == {"logits", "hidden-3"}
    assert (description["layers"], description["teacher_layers"]) == ([3], 3)


@pytest.mark.parametrize("change", [{"outputs": ["logits"]}, {"outputs": ["hidden"], "layers": [4]}])
def test_what_the_teacher_does_not_have_is_refused(teacher, data, tmp_path, change):
    with pytest.raises(SpecError):
        go(TeacherOutputs(), {**OUTPUTS, **change}, {"teacher": teacher, "data": data}, tmp_path)


def test_rows_that_are_no_texts_are_refused(teacher, tmp_path):
    bad = dataset(tmp_path / "data", text=["fine", None])
    with pytest.raises(DataError) as caught:
        go(TeacherOutputs(), OUTPUTS, {"teacher": teacher, "data": bad}, tmp_path / "run")
    assert caught.value.problem.field == "data.columns.text"


# --- student ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["static", "svd", "random"])
def test_a_narrower_student_speaks_the_teachers_space(teacher, data, tmp_path, init):
    made, facts = go(InitStudent(), {**SHAPE, "init": init}, {"teacher": teacher, "data": data}, tmp_path / "a")
    again, _ = go(InitStudent(), {**SHAPE, "init": init}, {"teacher": teacher, "data": data}, tmp_path / "b")
    assert made.digest == again.digest
    network = load(made.path)
    assert network.signature.dimension == 32
    assert (facts["init"], facts["hidden_size"], facts["hidden_layers"]) == (init, 16, 2)
    ids = torch.tensor([[2, 40, 41, 3]])
    found = network(ids, torch.ones_like(ids), torch.zeros_like(ids))
    assert found.shape == (1, 32)
    assert found.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert facts["parameters"] - facts["parameters_without_embeddings"] == 16 * (facts["vocabulary_after"] + 64 + 2)


def test_another_seed_gives_other_weights(teacher, data, tmp_path, student):
    other, facts = go(InitStudent(), {**SHAPE, "seed": 4}, {"teacher": teacher, "data": data}, tmp_path)
    assert other.digest != student.digest
    assert facts["seed"] == 4


def test_choosing_every_layer_at_full_width_gives_the_teacher_back(teacher, data, tmp_path):
    config = {"hiddenLayers": 3, "init": "layers", "maxLength": 32}
    made, facts = go(InitStudent(), config, {"teacher": teacher, "data": data}, tmp_path)
    assert facts["layers"] == [0, 1, 2]
    ids = torch.tensor([[2, 40, 41, 42, 3]])
    given = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    assert torch.allclose(load(made.path)(*given), load(teacher.path)(*given), atol=1e-6)


def test_svd_of_embeddings_that_are_narrow_already_keeps_all_of_them(tmp_path, data):
    from safetensors.torch import save_file

    folder = tmp_path / "teacher"
    tiny_teacher(folder)
    tensors = load_file(folder / "model.safetensors")
    words = tensors["embeddings.word_embeddings.weight"]
    left, values, right = torch.linalg.svd(words, full_matrices=False)
    narrow = (left[:, :16] * values[:16]) @ right[:16]
    save_file({**tensors, "embeddings.word_embeddings.weight": narrow}, folder / "model.safetensors")
    narrow_teacher = artifact(folder, "torch-model")
    made, facts = go(InitStudent(), {**SHAPE, "init": "svd"}, {"teacher": narrow_teacher, "data": data}, tmp_path / "run")
    assert facts["init_kept"] == pytest.approx(1.0, abs=1e-5)
    small = load_file(made.path / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert torch.allclose(small @ small.T, narrow @ narrow.T, atol=1e-3)  # a rotation: all angles and lengths stay


def test_a_student_starts_nearer_to_the_teacher_than_at_random(teacher, data, tmp_path):
    wanted = read_outputs(go(TeacherOutputs(), OUTPUTS, {"teacher": teacher, "data": data}, tmp_path / "o")[0].path)[0][
        "embedding"
    ]
    near = {}
    for init in ("static", "svd", "random"):
        made, _ = go(InitStudent(), {**SHAPE, "init": init}, {"teacher": teacher, "data": data}, tmp_path / init)
        reference, _ = go(TeacherReference(), {"maxLength": 32}, {"teacher": made, "data": data}, tmp_path / init / "r")
        found = load_file(reference.path / "outputs.safetensors")["text"]
        near[init] = torch.nn.functional.cosine_similarity(found, wanted.float(), dim=1).mean().item()
    assert near["static"] > 0.5 > near["random"]
    assert near["svd"] > 0.5


def test_static_tokens_pass_layer_normalisation_unchanged_and_rare_ones_weigh_more():
    generator = torch.Generator().manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(60, 12, generator=generator), dim=1)
    counts = torch.tensor([10_000] * 3 + [1] * 57)
    silent = torch.zeros(60, dtype=torch.bool)
    silent[0] = True
    made = reduce(vectors, counts, silent, 16, seed=3)
    assert torch.allclose(torch.nn.functional.layer_norm(made.tokens, (16,)), made.tokens, atol=1e-4)
    # What a token says is what sets it apart from the silent one.
    said = (made.tokens - made.tokens[0]).norm(dim=1)
    assert said[0] == 0.0
    assert said[1:3].max() < 0.1 * said[3:].min()
    # Rare tokens say the same of one another as the teacher's vectors do: 12 dimensions fit into 16 without a loss.
    assert made.kept == pytest.approx(1.0, abs=1e-6)


def test_ridge_finds_a_linear_map_and_does_not_follow_noise():
    generator = torch.Generator().manual_seed(2)
    states, truth = torch.randn(400, 8, generator=generator), torch.randn(5, 8, generator=generator)
    weight, bias, closeness = ridge(states, states @ truth.T + 2.0)
    assert torch.allclose(weight, truth, atol=1e-3)
    assert torch.allclose(bias, torch.full((5,), 2.0), atol=1e-3)
    assert closeness > 0.999
    noise, _, closeness = ridge(torch.randn(12, 40, generator=generator), torch.randn(12, 5, generator=generator))
    assert torch.isfinite(noise).all()
    assert closeness < 0.9


def test_a_trimmed_vocabulary_reads_every_text(teacher, data, texts, tmp_path):
    config = {**SHAPE, "init": "static", "vocabularySize": 76}
    made, facts = go(InitStudent(), config, {"teacher": teacher, "data": data}, tmp_path)
    assert facts["vocabulary_after"] == 76 < facts["vocabulary_before"]
    assert facts["unknown_after"] == facts["unknown_before"] == 0.0
    assert facts["tokens_after"] > facts["tokens_before"]
    network = load(made.path)
    assert network.config.vocab_size == 76
    from stillhouse.digests import file_digest

    assert network.signature.tokenizer_digest == file_digest(made.path / "tokenizer.json")
    go(TeacherReference(), {"maxLength": 32, "threads": 1}, {"teacher": made, "data": data}, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"attentionHeads": 3}, "attentionHeads"),
        ({"init": "layers"}, "init"),
        ({"init": "svd", "hiddenLayers": 9}, "student"),
        ({"vocabularySize": 10}, "vocabulary"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_their_field(teacher, data, tmp_path, change, field):
    with pytest.raises(SpecError) as caught:
        go(InitStudent(), {**SHAPE, **change}, {"teacher": teacher, "data": data}, tmp_path)
    assert field in caught.value.problem.field
    assert caught.value.problem.allowed or caught.value.problem.fix


def test_a_vocabulary_that_is_too_small_is_told_before_the_teacher_is_asked(teacher, data, tmp_path):
    """By the tokenizer alone, in the words of the step itself; of a size that will do, and of none, nothing is said."""
    small = {**SHAPE, "vocabularySize": 10}
    with pytest.raises(SpecError) as foreseen:
        InitStudent().foresee(InitStudent.config_type.model_validate(small), {"teacher": teacher})
    with pytest.raises(SpecError) as found:
        go(InitStudent(), small, {"teacher": teacher, "data": data}, tmp_path)
    assert foreseen.value.problem == found.value.problem
    for change, given in (({"vocabularySize": 76}, {"teacher": teacher}), ({}, {"teacher": teacher}), (small, {"data": data})):
        InitStudent().foresee(InitStudent.config_type.model_validate({**SHAPE, **change}), given)


# --- distill ------------------------------------------------------------------------------------------------------


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


# --- reference ----------------------------------------------------------------------------------------------------


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


# --- images and factories -----------------------------------------------------------------------------------------

FACTORY = """
import torch

def make(width):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 3))

def wrong():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))

def nothing():
    return 3

class Winding(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = make(4)

    def forward(self, pixels):
        rows = [self.inner(pixels[at : at + 1]) * (1 + at) for at in range(len(pixels))]  # as often as there are rows
        return torch.cat(rows)

def winding():
    return Winding()
"""


@pytest.fixture
def painter(tmp_path, monkeypatch):
    """A teacher of images from a factory, and data for it."""
    (tmp_path / "networks.py").write_text(FACTORY)
    monkeypatch.setenv(factory.FACTORY_PATH_VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    call = FactoryCall(target="networks:make", arguments={"width": 32}, digest=factory.source_digest("networks:make"))
    torch.manual_seed(0)
    spec = ImageSpec(8, 8, 1, (0.5,), (0.25,))
    signature = Signature("image-classification", ("pixels",), "logits", 3, LABELS, image=spec)
    folder = tmp_path / "teacher"
    folder.mkdir()
    network = Network(factory.call(call), Architecture(kind="factory", factory=call), signature)
    network.eval()
    save(network, folder)
    draw = np.random.Generator(np.random.PCG64(1))
    images = draw.random((40, 64)).astype(np.float32).tolist()
    data = dataset(tmp_path / "data", image=images, label=[row % 3 for row in range(40)])
    return artifact(folder, "torch-model"), data, np.array(images, dtype=np.float32)


def test_images_go_from_a_factory_teacher_to_a_factory_student(painter, tmp_path):
    teacher, data, images = painter
    outputs, _ = go(
        TeacherOutputs(),
        {"outputs": ["logits"], "maxLength": 1, "shardRows": 16},
        {"teacher": teacher, "data": data},
        tmp_path / "o",
    )
    found = read_outputs(outputs.path)[0]["logits"]
    normalised = torch.from_numpy((images.reshape(40, 1, 8, 8) - 0.5) / 0.25)
    assert torch.allclose(found, load(teacher.path)(normalised), atol=0.02)
    shape = {"factory": {"target": "networks:make", "arguments": {"width": 8}}, "seed": 1}
    student, facts = go(InitStudent(), shape, {"teacher": teacher, "data": data}, tmp_path / "s")
    assert facts["init"] == "factory"
    losses = [{"kind": "logits"}]
    inputs = {"teacher": teacher, "student": student, "data": data, "outputs": outputs, "validation": data}
    made, facts = go(Distill(), {**STAGE, "losses": losses, "epochs": 10}, inputs, tmp_path / "d")
    assert facts["curve"][-1]["loss"] < facts["curve"][0]["loss"]
    assert facts["labelled_rows"] == 40
    reference, _ = go(TeacherReference(), {}, {"teacher": made, "data": data}, tmp_path / "r")
    assert load_file(reference.path / "outputs.safetensors")["logits"].shape == (40, 3)


@pytest.mark.parametrize(("target", "message"), [("networks:wrong", "another shape"), ("networks:nothing", "did not return")])
def test_factories_that_give_the_wrong_thing_are_refused_at_once(painter, tmp_path, target, message):
    teacher, data, _ = painter
    with pytest.raises(SpecError, match=message) as caught:
        go(InitStudent(), {"factory": {"target": target}}, {"teacher": teacher, "data": data}, tmp_path / "s")
    assert caught.value.problem.field == "spec.distill.student.factory.target"
    assert target in caught.value.problem.found


def test_a_factory_whose_network_cannot_be_exported_is_refused_before_it_is_trained(painter, tmp_path):
    teacher, data, _ = painter
    with pytest.raises(SourceError, match="cannot be exported") as caught:
        go(InitStudent(), {"factory": {"target": "networks:winding"}}, {"teacher": teacher, "data": data}, tmp_path / "s")
    problem = caught.value.problem
    assert (problem.field, problem.fix) == ("model.factory", "mend the network that the factory makes")
    step = Step("train/student", "train", "student", 4, {}, {"teacher": "resolve/source"}, "key")
    assert as_written(step, problem).field == "spec.distill.student.factory"


def test_an_assistant_is_never_exported(painter, tmp_path):
    teacher, data, _ = painter
    shape = {"factory": {"target": "networks:winding"}, "exported": False}
    _, facts = go(InitStudent(), shape, {"teacher": teacher, "data": data}, tmp_path / "s")
    assert facts["init"] == "factory"


def test_images_of_another_size_are_refused(painter, tmp_path):
    teacher, _, _ = painter
    data = dataset(tmp_path / "small", image=[[0.0] * 60] * 4)
    with pytest.raises(DataError) as caught:
        go(TeacherOutputs(), {"outputs": ["logits"], "maxLength": 1}, {"teacher": teacher, "data": data}, tmp_path / "o")
    assert caught.value.problem.field == "data.columns.image"
