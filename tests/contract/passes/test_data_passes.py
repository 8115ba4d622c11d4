"""What is done with the training rows before they are learned from keeps the passes' contract; and it all runs in one chain."""

import dataclasses
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.support.artifacts import WORDS, Recorder, artifact, context, dataset, sentences, tiny_teacher, tree_digest

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.signature import ImageSpec, Signature
from stillhouse.passes.distill.augment import rows as augment_rows
from stillhouse.passes.distill.augment.rows import Augment
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.evaluate.data_report import DataReport
from stillhouse.passes.sources.balance import Balance
from stillhouse.passes.sources.deduplicate import Deduplicate
from stillhouse.passes.sources.pool import PoolData
from stillhouse.planning.manifest import PASSES

LABELS = ("io", "text", "time")
TEXT_KINDS = ("synonym", "mask", "swap", "delete")
IMAGE_KINDS = ("flip", "crop", "rotate", "noise")


def go(one, config, inputs, folder, progress=None):
    """Run a pass; its output as an artifact, its facts as JSON data."""
    ctx = context(folder, progress)
    facts = one.run(one.config_type.model_validate(config), inputs, ctx)
    data = json.loads(json.dumps(dataclasses.asdict(facts), allow_nan=False))
    return artifact(ctx.out, one.kind, data), data


def read(made):
    return pq.read_table(made.path / "data.parquet").to_pydict()


def augmenting(*kinds, copies=1, labels="teacher", chance=1.0, amount=0.3, seed=7):
    return {
        "copies": copies,
        "labels": labels,
        "seed": seed,
        "operations": [{"kind": kind, "amount": amount, "chance": chance} for kind in kinds],
    }


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny_teacher(tmp_path_factory.mktemp("classifier"), LABELS)


@pytest.fixture(scope="module")
def image_teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    signature = Signature(
        task="image-classification",
        inputs=("pixel_values",),
        output="logits",
        dimension=2,
        labels=("a", "b"),
        image=ImageSpec(height=4, width=6, channels=2, mean=(0.0, 0.0), std=(1.0, 1.0)),
    )
    signature.write(folder)
    return artifact(folder, "torch-model")


@pytest.mark.parametrize("one", [PoolData, Deduplicate, Balance, Augment, DataReport])
def test_the_class_is_what_the_manifest_says(one):
    entry = PASSES[one.name]
    assert (entry.version, entry.makes) == (one.version, one.kind)
    assert entry.target == f"{one.__module__}:{one.__name__}"


# --- the pool ------------------------------------------------------------------------------------------------------------


def test_the_pools_rows_stand_behind_the_data_without_their_labels(tmp_path):
    data = dataset(tmp_path / "data", text=["a file", "a date"], label=["io", "time"])
    pool = dataset(tmp_path / "pool", text=["a list", "a lock"], label=["text", "io"])
    made, facts = go(PoolData(), {}, {"data": data, "unlabelled": pool}, tmp_path)
    assert read(made) == {"text": ["a file", "a date", "a list", "a lock"], "label": ["io", "time", "", ""]}
    assert (facts["rows"], facts["pooled"]) == (4, 2)


def test_rows_of_which_no_weight_is_known_weigh_what_the_others_weigh_on_average(tmp_path):
    weighed = dataset(tmp_path / "data", text=["a file", "a date"], weight=[3.0, 1.0])
    plain = dataset(tmp_path / "plain", text=["a list"])
    own = dataset(tmp_path / "own", text=["a lock"], weight=[0.5])
    for name, data, pool, expected in (
        ("1", weighed, plain, [3.0, 1.0, 2.0]),
        ("2", plain, weighed, [2.0, 3.0, 1.0]),
        ("3", weighed, own, [3.0, 1.0, 0.5]),
    ):
        assert read(go(PoolData(), {}, {"data": data, "unlabelled": pool}, tmp_path / name)[0])["weight"] == expected


def test_a_pool_of_another_form_is_refused(tmp_path):
    data = dataset(tmp_path / "data", query=["a"], document=["b"])
    with pytest.raises(DataError) as refused:
        go(PoolData(), {}, {"data": data, "unlabelled": dataset(tmp_path / "pool", text=["c"])}, tmp_path)
    assert refused.value.problem.field == "spec.distill.unlabelled.columns"
    one, other = (dataset(tmp_path / name, image=[[0.0] * n]) for name, n in (("one", 4), ("other", 9)))
    with pytest.raises(DataError, match="something else"):
        go(PoolData(), {}, {"data": one, "unlabelled": other}, tmp_path)


# --- repetitions ---------------------------------------------------------------------------------------------------------

LONG = "return the current working directory of a file that was opened by another thread"


def test_one_of_nearly_equal_rows_is_kept_and_one_with_a_label_rather_than_one_without(tmp_path):
    data = dataset(
        tmp_path / "data",
        text=[LONG, f"{LONG}.", LONG.upper(), "something else", "something  else"],
        label=["", "io", "", "time", "text"],
    )
    made, facts = go(Deduplicate(), {"threshold": 0.8}, {"data": data}, tmp_path)
    # Two labels of one text are two rows; which of them is right is not ours to say.
    assert read(made) == {"text": [f"{LONG}.", "something else", "something  else"], "label": ["io", "time", "text"]}
    assert {name: facts[name] for name in ("read", "rows", "exact", "near", "conflicts")} == {
        "read": 5,
        "rows": 3,
        "exact": 1,
        "near": 1,
        "conflicts": 1,
    }
    made, facts = go(Deduplicate(), {"threshold": 1.0}, {"data": data}, tmp_path / "exact")
    assert (facts["rows"], facts["exact"], facts["near"]) == (4, 1, 0)


def test_no_row_is_left_out_but_for_one_that_is_kept(tmp_path):
    """Each text is near the one before it, the last far from the first: a chain is no reason to leave out its end."""
    words = LONG.split()
    chain = [" ".join(words[:at] + ["xyz"] * min(1, at) + words[at:]) for at in range(3)]
    chain += [" ".join([*words[at:], *(f"new{n}" for n in range(at))]) for at in range(1, len(words))]
    data = dataset(tmp_path / "data", text=chain)
    made, _ = go(Deduplicate(), {"threshold": 0.6}, {"data": data}, tmp_path)
    kept = read(made)["text"]

    def shingles(text):
        raw = text.lower().encode()
        return {raw[at : at + 5] for at in range(len(raw) - 4)}

    def alike(a, b):
        return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))

    assert 1 < len(kept) < len(chain)
    assert all(any(alike(text, other) > 0.6 for other in kept) for text in chain if text not in kept)
    assert all(alike(a, b) <= 0.6 for a in kept for b in kept if a != b)


def test_rows_that_are_held_out_are_not_learned_from(tmp_path):
    data = dataset(tmp_path / "data", query=[LONG, "one of its own", "two"], document=["first", "second", "a gate's row"])
    gate = dataset(tmp_path / "gate", query=["of the gate"], document=["A  gate's row"])
    validation = dataset(tmp_path / "validation", text=[f"{LONG}!"])
    inputs = {"data": data, "gate": gate, "validation": validation}
    made, facts = go(Deduplicate(), {"threshold": 0.8}, inputs, tmp_path)
    assert read(made)["query"] == ["one of its own"]
    assert facts["held_out"] == {"gate": 1, "validation": 1}
    with pytest.raises(DataError, match="no row is left"):
        go(Deduplicate(), {"threshold": 0.8}, {"data": data, "gate": data}, tmp_path / "none")


def test_a_text_that_speaks_of_an_image_is_a_text(tmp_path):
    data = dataset(tmp_path / "data", text=[f"image {LONG}", f"image {LONG}!", "image"])
    made, facts = go(
        Deduplicate(), {"threshold": 0.8}, {"data": data, "gate": dataset(tmp_path / "g", text=["images"])}, tmp_path
    )
    assert (read(made)["text"], facts["near"]) == ([f"image {LONG}", "image"], 1)


def test_equal_images_are_kept_once(tmp_path):
    images = [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    data = dataset(tmp_path / "data", image=images, label=["a", "b", "a"])
    made, facts = go(Deduplicate(), {"threshold": 0.8}, {"data": data}, tmp_path)
    assert read(made) == {"image": images[:2], "label": ["a", "b"]}
    assert facts["exact"] == 1


def test_equal_rows_of_numbers_are_kept_once_and_pooled_with_their_like(tmp_path):
    rows = [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    data = dataset(tmp_path / "data", features=rows, label=["a", "b", "a"])
    made, _ = go(Deduplicate(), {"threshold": 0.8}, {"data": data}, tmp_path / "once")
    assert read(made) == {"features": rows[:2], "label": ["a", "b"]}
    pool = dataset(tmp_path / "pool", features=[[0.5, 0.5]])
    made, _ = go(PoolData(), {}, {"data": data, "unlabelled": pool}, tmp_path / "pooled")
    assert read(made) == {"features": [*rows, [0.5, 0.5]], "label": ["a", "b", "a", ""]}
    wide = dataset(tmp_path / "wide", features=[[0.5, 0.5, 0.5]])
    with pytest.raises(DataError, match="something else"):
        go(PoolData(), {}, {"data": data, "unlabelled": wide}, tmp_path / "refused")


# --- balance -------------------------------------------------------------------------------------------------------------


def test_rare_classes_are_repeated_evenly_and_rows_without_a_label_are_not(tmp_path):
    labels = ["io"] * 10 + ["text"] * 4 + ["time"] + ["", ""]
    data = dataset(tmp_path / "data", text=[f"row {n}" for n in range(len(labels))], label=labels)
    config = {"to": 0.9, "most": 5, "seed": 3}
    made, facts = go(Balance(), config, {"data": data}, tmp_path)
    found = read(made)
    assert found["text"][: len(labels)] == [f"row {n}" for n in range(len(labels))]
    assert {label: found["label"].count(label) for label in ("io", "text", "time", "")} == {"io": 10, "text": 9, "time": 5, "": 2}
    times = [found["text"].count(f"row {n}") for n in range(10, 14)]
    assert sorted(times) == [2, 2, 2, 3]
    assert (facts["before"], facts["after"]) == ({"time": 1, "text": 4, "io": 10}, {"time": 5, "text": 9, "io": 10})
    again, _ = go(Balance(), config, {"data": data}, tmp_path / "again")
    assert again.digest == made.digest
    other, _ = go(Balance(), config | {"seed": 4}, {"data": data}, tmp_path / "other")
    assert other.digest != made.digest


def test_balance_needs_labels(tmp_path):
    with pytest.raises(DataError, match="balance needs labels"):
        go(Balance(), {"to": 1.0, "most": 5, "seed": 3}, {"data": dataset(tmp_path / "data", text=["a"])}, tmp_path)


# --- changed copies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_changed_text_is_mostly_the_same(teacher, tmp_path, kind):
    texts = sentences(40, seed=3)
    data = dataset(tmp_path / "data", text=texts, label=["io"] * 40)
    made, facts = go(Augment(), augmenting(kind), {"data": data, "teacher": teacher}, tmp_path)
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


def test_synonyms_are_neighbours_among_the_teachers_token_vectors_and_keep_their_capitals(teacher, tmp_path):
    import torch

    from stillhouse.passes.distill.augment.synonyms import neighbours_of
    from stillhouse.passes.models.artifact import load

    network = load(teacher.path)
    vocab = json.loads((teacher.path / "tokenizer.json").read_text())["model"]["vocab"]
    table = network.token_vectors.detach() - network.token_vectors.detach().mean(0)
    words = [word for word in WORDS if len(word) > 2]
    vectors = torch.nn.functional.normalize(table[[vocab[word] for word in words]], dim=1)
    closeness = vectors @ vectors.T
    expected = {
        word: {other for at, other in enumerate(words) if other != word and closeness[row, at] >= 0.5}
        for row, word in enumerate(words)
    }
    found = neighbours_of(teacher.path, [" ".join(words)] * 2, Recorder())
    assert {word: set(near) for word, near in found.items()} == {word: near for word, near in expected.items() if near}
    assert found
    word, near = next(iter(found.items()))
    data = dataset(tmp_path / "data", text=[f"({word.capitalize()})", word.upper(), *([" ".join(words)] * 2)])
    made, _ = go(Augment(), augmenting("synonym", amount=0.01), {"data": data, "teacher": teacher}, tmp_path)
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


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(augment_rows, "_PART", 16)
    data = dataset(tmp_path / "data", text=sentences(40, seed=4))
    config = augmenting(*TEXT_KINDS, copies=2, chance=0.4)
    inputs = {"data": data, "teacher": teacher}
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


def test_what_cannot_be_done_to_these_rows_is_refused(teacher, image_teacher, tmp_path):
    data = dataset(tmp_path / "data", text=["a file"])
    with pytest.raises(SpecError, match="flip is no operation on texts"):
        go(Augment(), augmenting("flip"), {"data": data, "teacher": teacher}, tmp_path)
    images = dataset(tmp_path / "images", image=[[0.0] * 9])
    with pytest.raises(DataError, match="another size"):
        go(Augment(), augmenting("flip"), {"data": images, "teacher": image_teacher}, tmp_path)
    bare = tmp_path / "bare"
    bare.mkdir()
    tokenizer = json.loads((teacher.path / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [each for each in tokenizer["added_tokens"] if each["content"] != "[MASK]"]
    (bare / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SpecError, match="has no mask"):
        go(Augment(), augmenting("mask"), {"data": data, "teacher": artifact(bare, "torch-model")}, tmp_path)


# --- the report ----------------------------------------------------------------------------------------------------------


def test_the_report_says_what_is_there(teacher, tmp_path):
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
        {"teacher": teacher, "training": training, "gate": gate, "trained": prepared},
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


# --- and all of it -------------------------------------------------------------------------------------------------------


def test_a_student_learns_from_prepared_rows_what_the_teacher_says_of_the_copies(teacher, tmp_path):
    texts = sentences(30, seed=5)
    data = dataset(tmp_path / "data", text=texts, label=[LABELS[n % 3] if n < 9 else "io" for n in range(30)])
    pool = dataset(tmp_path / "pool", text=[*sentences(10, seed=6), texts[0]])
    pooled, _ = go(PoolData(), {}, {"data": data, "unlabelled": pool}, tmp_path / "1")
    distinct, _ = go(Deduplicate(), {"threshold": 0.8}, {"data": pooled}, tmp_path / "2")
    balanced, _ = go(Balance(), {"to": 0.5, "most": 4, "seed": 1}, {"data": distinct}, tmp_path / "3")
    made, facts = go(Augment(), augmenting("mask", "delete", chance=0.5), {"data": balanced, "teacher": teacher}, tmp_path / "4")
    inputs = {"teacher": teacher, "data": made}
    asked = {"outputs": ["logits"], "maxLength": 32, "layers": [], "shardRows": 64}
    outputs, _ = go(TeacherOutputs(), asked, inputs, tmp_path / "5")
    told = read_outputs(outputs.path)[0]["logits"]
    assert len(told) == facts["rows"]
    # A copy's outputs are of the copy: those of the row that it is of are others.
    own, _ = go(TeacherOutputs(), asked, {"teacher": teacher, "data": balanced}, tmp_path / "own")
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
