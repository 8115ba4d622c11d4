"""A transformer student is made from its teacher: narrower, by chance or by svd, with fewer tokens."""

import pytest
import torch
from safetensors.torch import load_file
from tests.support.artifacts import artifact, tiny_teacher
from tests.support.lessons import OUTPUTS, SHAPE, go

from stillhouse.errors import SpecError
from stillhouse.passes.distill.fit import ridge
from stillhouse.passes.distill.static import reduce
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.evaluate.reference import TeacherReference
from stillhouse.passes.models.artifact import load


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
