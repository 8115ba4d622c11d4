"""Models as artifacts: saved and loaded without a change, and what is refused."""

import re

import pytest
import torch
from safetensors.torch import load_file
from tests.support.artifacts import tiny_teacher, tree_digest

from stillhouse.errors import SourceError
from stillhouse.passes.models.artifact import load, save


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
