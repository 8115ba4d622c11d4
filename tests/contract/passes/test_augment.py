"""Changed copies of rows: texts and images keep their form, the same bytes again, and what cannot be done is refused."""

import json
import re

import numpy as np
import pytest
from tests.support.artifacts import WORDS, Recorder, artifact, dataset, sentences, tiny_teacher
from tests.support.lessons import go
from tests.support.prepared_rows import augmenting, read

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.distill.augment import rows as augment_rows
from stillhouse.passes.distill.augment.rows import Augment
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.train import Distill

TEXT_KINDS = ("synonym", "mask", "swap", "delete")


IMAGE_KINDS = ("flip", "crop", "rotate", "noise")


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_changed_text_is_mostly_the_same(judge, tmp_path, kind):
    texts = sentences(40, seed=3)
    data = dataset(tmp_path / "data", text=texts, label=["io"] * 40)
    made, facts = go(Augment(), augmenting(kind), {"data": data, "teacher": judge}, tmp_path)
    found = read(made)
    assert found["text"][:40] == texts
    copies = found["text"][40:]
    assert facts["copies"] == len(copies) == 40 - facts["unchanged"]
    assert found["label"] == ["io"] * 40 + [""] * len(copies)
    assert all(copy.strip() and copy not in texts for copy in copies)
    assert facts["unchanged"] < (35 if kind == "synonym" else 10)  # most words of a random network stand alone
    matched = 0
    for copy in copies:
        words = copy.split()
        if kind == "swap":
            matched += any(sorted(words) == sorted(text.split()) for text in texts)
        elif kind == "delete":
            matched += any(_one_run_less(words, text.split()) for text in texts)
        else:
            other = "[MASK]" if kind == "mask" else None
            matched += any(_exchanged(words, text.split(), other) for text in texts)
    assert matched == len(copies)


def _one_run_less(words, whole):
    gone = len(whole) - len(words)
    return 0 < gone <= max(1, round(0.3 * len(whole))) and any(
        words == whole[:at] + whole[at + gone :] for at in range(len(words) + 1)
    )


def _exchanged(words, whole, other):
    if len(words) != len(whole):
        return False
    new = [word for word, old in zip(words, whole, strict=True) if word != old]
    return 0 < len(new) <= max(1, round(0.3 * len(whole))) and all(word == other if other else word in WORDS for word in new)


def test_synonyms_are_neighbours_among_the_teachers_token_vectors_and_keep_their_capitals(judge, tmp_path):
    import torch

    from stillhouse.passes.distill.augment.synonyms import neighbours_of
    from stillhouse.passes.models.artifact import load

    network = load(judge.path)
    vocab = json.loads((judge.path / "tokenizer.json").read_text())["model"]["vocab"]
    table = network.token_vectors.detach() - network.token_vectors.detach().mean(0)
    words = [word for word in WORDS if len(word) > 2]
    vectors = torch.nn.functional.normalize(table[[vocab[word] for word in words]], dim=1)
    closeness = vectors @ vectors.T
    expected = {
        word: {other for at, other in enumerate(words) if other != word and closeness[row, at] >= 0.5}
        for row, word in enumerate(words)
    }
    found = neighbours_of(judge.path, [" ".join(words)] * 2, Recorder())
    assert {word: set(near) for word, near in found.items()} == {word: near for word, near in expected.items() if near}
    assert found
    word, near = next(iter(found.items()))
    data = dataset(tmp_path / "data", text=[f"({word.capitalize()})", word.upper(), *([" ".join(words)] * 2)])
    made, _ = go(Augment(), augmenting("synonym", amount=0.01), {"data": data, "teacher": judge}, tmp_path)
    copies = read(made)["text"][4:]
    assert re.fullmatch(r"\((\w+)\)", copies[0])[1] in {each.capitalize() for each in near}
    assert copies[1] in {each.upper() for each in near}


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_a_changed_image_has_its_shape_and_its_range(image_teacher, tmp_path, kind):
    pixels = np.random.Generator(np.random.PCG64(1)).random((12, 48)).astype(np.float32)
    data = dataset(tmp_path / "data", image=pixels.tolist(), label=["a", "b"] * 6)
    made, facts = go(
        Augment(), augmenting(kind, labels="keep", amount=0.2, copies=2), {"data": data, "teacher": image_teacher}, tmp_path
    )
    found = read(made)
    changed = np.asarray(found["image"][12:], np.float32)
    assert changed.shape == (facts["copies"], 48)
    assert facts["copies"] > 12
    assert changed.min() >= pixels.min()
    assert changed.max() <= pixels.max()
    if facts["copies"] == 24:
        assert found["label"][12:] == [label for label in ["a", "b"] * 6 for _ in range(2)]
    if kind == "flip":
        mirrored = pixels.reshape(12, 2, 4, 6)[:, :, :, ::-1].reshape(12, 48)
        assert np.array_equal(changed, np.repeat(mirrored, 2, axis=0))
    if kind == "rotate":
        assert abs(float(changed.mean()) - float(pixels.mean())) < 0.05


def test_turning_by_a_quarter_is_what_numpy_does():
    from stillhouse.passes.distill.augment.images import rotate

    class Quarter:
        def uniform(self, low, high):
            return high

    image = np.arange(50, dtype=np.float32).reshape(2, 5, 5)
    assert np.allclose(rotate(image, 0.25, Quarter()), np.rot90(image, -1, axes=(1, 2)), atol=1e-4)


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(judge, tmp_path, monkeypatch):
    monkeypatch.setattr(augment_rows, "_PART", 16)
    data = dataset(tmp_path / "data", text=sentences(40, seed=4))
    config = augmenting(*TEXT_KINDS, copies=2, chance=0.4)
    inputs = {"data": data, "teacher": judge}
    whole, _ = go(Augment(), config, inputs, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(Augment(), config, inputs, tmp_path / "cut", Recorder(stop_at=32, unit="rows"))
    there = sorted((tmp_path / "cut" / "scratch").glob("copies-*.parquet"))
    assert len(there) == 2
    first = there[0].stat().st_mtime_ns
    there[1].write_bytes(there[1].read_bytes()[:50])  # not whole: it is made again
    made, _ = go(Augment(), config, inputs, tmp_path / "cut")
    assert made.digest == whole.digest
    assert there[0].stat().st_mtime_ns == first
    other, _ = go(Augment(), config | {"seed": 8}, inputs, tmp_path / "other")
    assert other.digest != whole.digest


def nearness(model, data):
    """How much nearer rows of one group are to each other than to the others, by the mean cosine."""
    import torch

    from stillhouse.passes.distill.encoded import read_inputs
    from stillhouse.passes.distill.rows import Rows
    from stillhouse.passes.models.artifact import load

    rows, network = Rows(data.path), load(model.path)
    inputs = read_inputs(rows, model.path, network.signature, 32)
    with torch.inference_mode():
        made = network(*(torch.from_numpy(array) for array in inputs.batch(range(rows.count))))
    groups = torch.from_numpy(rows.groups())
    same, itself = groups[:, None] == groups[None, :], torch.eye(rows.count, dtype=torch.bool)
    cosines = made @ made.T
    return float(cosines[same & ~itself].mean() - cosines[~same].mean())


def test_a_copy_is_of_its_rows_group_and_contrastive_learns_from_that_alone(tmp_path):
    encoder, texts = tiny_teacher(tmp_path / "teacher"), sentences(24, seed=8)
    data = dataset(tmp_path / "data", text=texts, group=[f"row {number}" for number in range(24)])
    made, facts = go(Augment(), augmenting("delete", copies=2), {"data": data, "teacher": encoder}, tmp_path / "copied")
    found = read(made)
    assert found["group"][:24] == [f"row {number}" for number in range(24)]
    copies = list(zip(found["text"][24:], found["group"][24:], strict=True))
    assert len(copies) == facts["copies"] > 40
    assert all(_one_run_less(text.split(), texts[int(group.removeprefix("row "))].split()) for text, group in copies)
    shape = {"hiddenLayers": 1, "maxLength": 32, "seed": 3, "init": "layers"}
    student, _ = go(InitStudent(), shape, {"teacher": encoder, "data": made}, tmp_path / "student")
    losses = [{"kind": "contrastive"}]
    stage = {"stage": "alike", "losses": losses, "epochs": 4, "batchSize": 18, "learningRate": 0.003, "seed": 1}
    trained, _ = go(Distill(), stage, {"teacher": encoder, "student": student, "data": made}, tmp_path / "trained")
    assert nearness(trained, made) > nearness(student, made) + 0.05
    with pytest.raises(DataError, match="no two of the rows that are learned from are of one group") as refused:
        go(Distill(), stage, {"teacher": encoder, "student": student, "data": data}, tmp_path / "refused")
    assert refused.value.problem.field == "data.columns.group"
    assert refused.value.problem.found == "24 groups of one row each, column group"


def test_what_cannot_be_done_to_these_rows_is_refused(judge, image_teacher, tmp_path):
    data = dataset(tmp_path / "data", text=["a file"])
    with pytest.raises(SpecError, match="flip is no operation on texts"):
        go(Augment(), augmenting("flip"), {"data": data, "teacher": judge}, tmp_path)
    images = dataset(tmp_path / "images", image=[[0.0] * 9])
    with pytest.raises(DataError, match="another size"):
        go(Augment(), augmenting("flip"), {"data": images, "teacher": image_teacher}, tmp_path)
    bare = tmp_path / "bare"
    bare.mkdir()
    tokenizer = json.loads((judge.path / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [each for each in tokenizer["added_tokens"] if each["content"] != "[MASK]"]
    (bare / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SpecError, match="has no mask"):
        go(Augment(), augmenting("mask"), {"data": data, "teacher": artifact(bare, "torch-model")}, tmp_path)
