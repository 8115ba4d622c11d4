"""Training rows are pooled, freed of repetitions and balanced before they are learned from; the passes keep their contract."""

import pytest
from tests.support.artifacts import dataset
from tests.support.lessons import go
from tests.support.prepared_rows import LONG, read

from stillhouse.errors import DataError
from stillhouse.passes.distill.augment.rows import Augment
from stillhouse.passes.evaluate.data_report import DataReport
from stillhouse.passes.sources.balance import Balance
from stillhouse.passes.sources.deduplicate import Deduplicate
from stillhouse.passes.sources.pool import PoolData
from stillhouse.planning.manifest import PASSES


@pytest.mark.parametrize("one", [PoolData, Deduplicate, Balance, Augment, DataReport])
def test_the_class_is_what_the_manifest_says(one):
    entry = PASSES[one.name]
    assert (entry.version, entry.makes) == (one.version, one.kind)
    assert entry.target == f"{one.__module__}:{one.__name__}"


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
