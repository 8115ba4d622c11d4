"""The search for a student's shape on a BERT of 3 layers × 32: what is tried, what is taken, and going on after a stop."""

import dataclasses
import json
import re
from xml.etree import ElementTree

import pytest
from tests.support.artifacts import Recorder, artifact, context, dataset, sentences, tiny_teacher

from stillhouse.errors import SpecError
from stillhouse.passes.distill.search.search import SearchConfig, SearchStudent
from stillhouse.passes.distill.search.shapes import Limits, Tried, choose, front, nearest, words
from stillhouse.passes.distill.search.study import Study
from stillhouse.passes.distill.search.trying import Trying
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs

SHAPE = {"hiddenSize": 16, "attentionHeads": 2, "intermediateSize": 32, "maxLength": 32, "seed": 3}
STAGE = {
    "stage": "soft", "losses": [{"kind": "embedding", "weight": 1}], "epochs": 1, "batchSize": 8, "learningRate": 0.01,
    "maxLength": 32, "checkpointSteps": 2, "seed": 5,
}  # fmt: skip
SEARCH = {
    "space": {"hiddenLayers": [1, 2], "vocabularySize": [256, 300]}, "trials": 2, "patience": 3, "tolerance": 0.01,
    "student": SHAPE, "stage": STAGE, "quantize": {"perChannel": True, "reduceRange": False, "exclude": 0}, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    teacher = tiny_teacher(folder / "teacher")
    data = dataset(folder / "data", text=sentences(40, seed=1))
    ctx = context(folder / "outputs")
    one = TeacherOutputs()
    config = {"outputs": ["embedding"], "maxLength": 32, "layers": [], "shardRows": 16}
    facts = one.run(one.config_type.model_validate(config), {"teacher": teacher, "data": data}, ctx)
    outputs = artifact(ctx.out, one.kind, json.loads(json.dumps(dataclasses.asdict(facts))))
    return {
        "teacher": teacher,
        "data": data,
        "outputs": outputs,
        "validation": dataset(folder / "val", text=sentences(20, seed=2)),
    }


def search(inputs, folder, progress=None, **changes):
    ctx = context(folder, progress)
    facts = SearchStudent().run(SearchConfig.model_validate({**SEARCH, **changes}), inputs, ctx)
    return facts, ctx


def test_a_shape_is_taken_and_the_student_is_made_of_it(inputs, tmp_path):
    progress = Recorder()
    facts, ctx = search(inputs, tmp_path / "search", progress)
    told = json.loads((ctx.out / "search.json").read_text())
    assert (facts.tried, facts.metric) == (2, "cosine")
    assert len({json.dumps(each["shape"]) for each in told["tried"]}) == 2, "no shape twice"
    assert told["taken"]["shape"] == dict(facts.shape)
    assert all(0 < each["quality"] <= 1 and each["latency"] > 0 and each["size"] > 0 for each in told["tried"])
    assert told["front"] == [each.to_json() for each in front([_tried(each) for each in told["tried"]])]
    circles = [each.get("class") for each in ElementTree.parse(ctx.out / "search.svg").iter() if each.tag.endswith("circle")]
    assert (len(circles), circles.count("taken")) == (2, 1)
    assert [each for each in progress.notes if each.startswith("2 of 2: ")]
    assert not [path for path in ctx.scratch.iterdir() if path.name.startswith("shape-")], "what was measured is cleared away"

    made = context(tmp_path / "student")
    found = artifact(ctx.out, "search", {})
    config = InitStudent.config_type.model_validate(SHAPE)
    student = InitStudent().run(config, {**inputs, "search": found}, made)
    assert student.hidden_layers == facts.shape["hiddenLayers"]


def _tried(data):
    return Tried.from_json({key: value for key, value in data.items() if key != "over"})


def test_a_search_that_was_stopped_goes_on_and_finds_the_same(inputs, tmp_path, monkeypatch):
    whole, _ = search(inputs, tmp_path / "whole")
    shapes = [each["shape"] for each in json.loads((tmp_path / "whole" / "out" / "search.json").read_text())["tried"]]

    trained = []
    real = Trying.__call__

    def stopped(self, shape, metric):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(dict(shape))
        return real(self, shape, metric)

    monkeypatch.setattr(Trying, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        search(inputs, tmp_path / "stopped")
    monkeypatch.setattr(Trying, "__call__", lambda self, shape, metric: trained.append(dict(shape)) or real(self, shape, metric))
    again, _ = search(inputs, tmp_path / "stopped")
    assert trained == shapes, "each shape once, in the same order"
    assert again.tried == whole.tried


def test_limits_that_nothing_keeps_are_told_with_the_nearest(inputs, tmp_path):
    with pytest.raises(SpecError) as refused:
        search(inputs, tmp_path, trials=1, size=1000.0)
    problem = refused.value.problem
    assert problem.field == "spec.distill.search"
    assert "the nearest of 1: " in problem.found
    assert problem.allowed == "maxSize 1000 B"
    assert re.match(r"write maxSize: [0-9]+Ki, which it keeps, or search among smaller shapes", problem.fix)


def test_a_space_that_is_used_up_ends_the_search(inputs, tmp_path):
    facts, _ = search(inputs, tmp_path, trials=100, patience=100, space={"hiddenLayers": [1, 2]})
    assert facts.tried == 2


def tried(latency, quality, size=100):
    return Tried({"hiddenLayers": 1}, quality, latency, size, 1, 1.0)


def test_the_fastest_within_the_tolerance_is_taken_of_those_that_keep_the_limits():
    best, near, poor, large = tried(2, 0.90), tried(1, 0.895), tried(0.5, 0.7), tried(0.4, 0.95, size=1000)
    among = [best, near, poor, large]
    assert choose(among, Limits(size=500), 0.01) is near
    assert choose(among, Limits(size=500), 0.0) is best
    assert choose(among, Limits(), 0.0) is large
    assert choose(among, Limits(size=1), 0.5) is None
    assert nearest(among, Limits(size=50)) is best
    assert front(among) == [large]
    assert front([best, near, poor]) == [poor, near, best]
    assert choose([tried(1, float("nan"))], Limits(), 0.1) is None
    assert words(near, "mrr@10") == "layers 1: mrr@10 0.8950, 1000.00 ms a text, 100 B"


def test_a_study_learns_where_the_limits_are(tmp_path):
    """Shapes above a limit are tried less once that is known: half of what chance would try, over thirty trials."""
    space = {"hiddenLayers": list(range(1, 41))}
    study = Study(tmp_path / "journal", space, Limits(size=1000), 1)
    for _ in range(30):
        layers = study.next()["hiddenLayers"]
        study.tell(Tried({"hiddenLayers": layers}, layers / 40, float(layers), layers * 100, 1, 1.0))
    later = [each.shape["hiddenLayers"] for each in study.tried[10:]]
    assert len({each.shape["hiddenLayers"] for each in study.tried}) == 30
    assert sum(layers > 10 for layers in later[:10]) < 7.5
