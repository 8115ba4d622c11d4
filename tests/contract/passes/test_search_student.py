"""The search for a student's shape on a BERT of 3 layers × 32: what is tried, what is taken, and going on after a stop."""

import json
import re
from xml.etree import ElementTree

import pytest
from tests.support.artifacts import Recorder, artifact, context, dataset, sentences, tiny_teacher
from tests.support.int8 import BITS
from tests.support.lessons import OUTPUTS, go

from stillhouse.errors import SourceError, SpecError
from stillhouse.passes.compress.dynamic import QuantizeDynamic
from stillhouse.passes.distill.search.search import SearchConfig, SearchStudent
from stillhouse.passes.distill.search.shapes import Limits, Tried, front
from stillhouse.passes.distill.search.study import Study
from stillhouse.passes.distill.search.trying import Trying
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill

SHAPE = {"hiddenSize": 16, "attentionHeads": 2, "intermediateSize": 32, "maxLength": 32, "seed": 3}
STAGE = {
    "stage": "soft", "losses": [{"kind": "embedding", "weight": 1}], "epochs": 1, "batchSize": 8, "learningRate": 0.01,
    "maxLength": 32, "checkpointSteps": 2, "seed": 5,
}  # fmt: skip
SEARCH = {
    "space": {"hiddenLayers": [1, 2], "vocabularySize": [256, 300]}, "trials": 2, "patience": 3, "tolerance": 0.01,
    "student": SHAPE, "stage": STAGE, "quantize": {"perChannel": True, "exclude": 0, **BITS}, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    teacher = tiny_teacher(folder / "teacher")
    data = dataset(folder / "data", text=sentences(40, seed=1))
    outputs, _ = go(TeacherOutputs(), OUTPUTS, {"teacher": teacher, "data": data}, folder / "outputs")
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


def shapes_of(journal, stops=()):
    """Every shape in the order in which it was tried; at the numbers in `stops` the process dies before it is measured."""
    found, space, opened = [], {"hiddenLayers": [1, 2, 3, 4], "hiddenSize": [16, 32, 64]}, Study
    study = opened(journal, space, Limits(), 3)
    while (shape := study.next()) is not None:
        if len(found) in stops:
            stops = tuple(each for each in stops if each != len(found))
            study = opened(journal, space, Limits(), 3)
            continue
        found.append(shape)
        quality = 1 / (1 + abs(shape["hiddenSize"] - 32) + shape["hiddenLayers"])
        study.tell(Tried(shape, quality, 0.001 * shape["hiddenLayers"], 100, 1, 1.0))
    return found


def test_a_search_that_was_stopped_tries_what_it_would_have_tried(tmp_path):
    assert shapes_of(tmp_path / "stopped", stops=(3, 9)) == shapes_of(tmp_path / "not")


def test_a_journal_whose_last_line_is_torn_is_gone_on_with(tmp_path):
    journal = tmp_path / "journal"
    space = {"hiddenLayers": [1, 2, 3]}
    study = Study(journal, space, Limits(), 3)
    for _ in range(2):
        study.tell(Tried(study.next(), 0.5, 0.1, 100, 1, 1.0))
    whole = journal.read_bytes()
    for torn in (whole[:-7], whole[:40], b"{", whole + b'{"op_code"'):
        journal.write_bytes(torn)
        again = Study(journal, space, Limits(), 3)
        assert len(again.tried) <= 2
        assert again.next() is not None
    assert len(Study(journal, space, Limits(), 3).tried) == 2, "what follows what is torn alone is lost"


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
    assert not [each for each in progress.notes if "epoch" in each], "each shape has one line"
    lines = (ctx.out / "search.txt").read_text().splitlines()
    assert progress.notes[-len(lines) - 1 : -1] == lines, "the table is printed as it is kept"
    assert [line for line in lines if line.endswith("  taken")] == [lines[1 + told["front"].index(told["taken"])]]
    assert len(lines) == len(told["front"]) + 2
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


TOKENS = {"kind": "hidden-tokens", "weight": 1}


@pytest.mark.parametrize(
    ("space", "student", "stage", "field", "found", "allowed"),
    [
        ({"hiddenLayers": [2, 4]}, {"init": "svd"}, {}, "search.hiddenLayers", "4", "1 to 3"),
        ({"hiddenSize": [16, 64]}, {"init": "svd", "hiddenSize": None}, {}, "search.hiddenSize", "64", "at most 32"),
        (
            {"attentionHeads": [2, 3]},
            {"hiddenSize": None, "attentionHeads": None},
            {},
            "search.attentionHeads",
            "3",
            "divisors of 32",
        ),
        ({"vocabularySize": [20, 300]}, {}, {}, "search.vocabulary", "20", "always stay"),
        ({"vocabularySize": [20]}, {}, {"losses": [TOKENS]}, "search.vocabulary", "20", "all of them"),
        ({"hiddenLayers": [1, 2]}, {}, {"prune": {"heads": 0.75}}, "stages[].prune.heads", None, "at most 50%"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_trained(
    inputs, tmp_path, monkeypatch, space, student, stage, field, found, allowed
):
    tried = []
    monkeypatch.setattr(Trying, "__call__", lambda self, shape, metric: tried.append(shape))
    with pytest.raises(SpecError) as caught:
        search(inputs, tmp_path, space=space, student={**SHAPE, **student}, stage={**STAGE, **stage})
    assert caught.value.problem.field == f"spec.distill.{field}"
    assert found is None or caught.value.problem.found == found
    assert allowed in caught.value.problem.allowed
    assert not tried


def made_up(monkeypatch, figures, stop_at=None):
    """Let trials show these qualities, latencies and sizes in turn, instead of a training; `stop_at`: the one that is stopped."""
    shapes = []

    def trial(self, shape, metric):
        if len(shapes) == stop_at:
            raise KeyboardInterrupt
        quality, latency, size = figures[len(shapes)]
        shapes.append(dict(shape))
        metric("cosine")
        return Tried(dict(shape), quality, latency, size, 1, 1.0)

    monkeypatch.setattr(Trying, "__call__", trial)


LAYERS = {"hiddenLayers": list(range(1, 11))}
POOR = (0.1, 0.9, 100)


def test_patience_looks_within_the_limits(inputs, tmp_path, monkeypatch):
    """A shape beyond the limits that beats all within them hides nothing of what is found there."""
    better = [(0.5, 0.009, 100), (0.6, 0.008, 100), (0.7, 0.007, 100)]
    made_up(monkeypatch, [(0.99, 0.001, 9000), *better, POOR, POOR, POOR])
    facts, ctx = search(inputs, tmp_path, trials=10, patience=2, space=LAYERS, size=500.0, latency=0.5)
    assert facts.tried == 6
    assert (facts.taken["quality"], len(facts.front)) == (0.7, 1)
    told = json.loads((ctx.out / "search.json").read_text())
    assert told["limits"] == {"size": 500.0, "latency": 0.5}
    assert [each["over"] for each in told["tried"]] == pytest.approx([17, 0, 0, 0, 0.8, 0.8])


def test_patience_that_ends_before_the_limits_are_kept_is_told(inputs, tmp_path, monkeypatch):
    made_up(monkeypatch, [(0.9, 0.1, 100), (0.8, 0.2, 100), (0.8, 0.3, 100)])
    with pytest.raises(SpecError, match="no shape") as refused:
        search(inputs, tmp_path, trials=10, patience=2, space=LAYERS, latency=0.05)
    problem = refused.value.problem
    assert problem.allowed == "maxLatencyP50 50 ms"
    assert problem.fix.startswith("write maxLatencyP50: 110ms, which it keeps, or search among smaller shapes")
    assert problem.fix.endswith("or raise patience: 2 in a row came no nearer")


def test_a_stop_forgets_neither_patience_nor_what_quality_is(inputs, tmp_path, monkeypatch):
    figures = [(0.9, 0.001, 100), POOR, POOR, POOR, POOR, POOR]
    options = {"trials": 10, "patience": 3, "space": LAYERS}
    made_up(monkeypatch, figures)
    whole, _ = search(inputs, tmp_path / "whole", **options)
    made_up(monkeypatch, figures, stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        search(inputs, tmp_path / "stopped", **options)
    made_up(monkeypatch, figures[3:])
    again, _ = search(inputs, tmp_path / "stopped", **options)
    assert (again.tried, whole.tried) == (4, 4)
    made_up(monkeypatch, [])
    assert search(inputs, tmp_path / "stopped", **options)[0] == again, "nothing is left to try"


def test_limits_that_nothing_keeps_are_told_with_the_nearest(inputs, tmp_path):
    with pytest.raises(SpecError) as refused:
        search(inputs, tmp_path, trials=1, size=1000.0, latency=1e-7)
    problem = refused.value.problem
    assert problem.field == "spec.distill.search"
    assert "the nearest of 1: " in problem.found
    assert problem.allowed == "maxSize 1000 B, maxLatencyP50 0.0001 ms"
    raised = r"write maxSize: [0-9]+Ki, maxLatencyP50: [0-9.]+ms, which it keeps, or search among smaller shapes \([^)]*\)"
    assert re.fullmatch(raised, problem.fix), "and nothing of patience: all that may be tried were"


def trainings(monkeypatch):
    """Collect what is trained; it is trained all the same."""
    found, real = [], Distill.run

    def run(self, config, inputs, ctx):
        found.append(inputs["student"].path)
        return real(self, config, inputs, ctx)

    monkeypatch.setattr(Distill, "run", run)
    return found


def test_what_misses_the_limits_is_not_trained(inputs, tmp_path, monkeypatch):
    student = {**SHAPE, "init": "svd"}  # weights of chance may be such that INT8 has nothing to do with them: see below
    _, ctx = search(inputs, tmp_path / "free", student=student)
    free = json.loads((ctx.out / "search.json").read_text())["tried"]
    small, large = sorted(free, key=lambda each: each["size"])
    trained, progress = trainings(monkeypatch), Recorder()
    facts, ctx = search(inputs, tmp_path / "limited", progress, student=student, size=float(small["size"]))
    told = {each["size"]: each for each in json.loads((ctx.out / "search.json").read_text())["tried"]}
    assert (facts.tried, len(trained)) == (2, 1)
    kept, beyond = (told[size] for size in sorted(told))
    assert (kept["size"], kept["quality"]) == (small["size"], small["quality"])
    assert beyond["quality"] is None
    # Of a network this small the layers' zeros and ones, which torch writes once where they are equal, are a part that shows.
    assert beyond["size"] == pytest.approx(large["size"], rel=0.1)
    assert [each for each in progress.notes if "beyond the limits, not trained" in each]
    picture = (ctx.out / "search.svg").read_text()
    assert picture.count("<circle") == 1
    assert "not trained: 1" in picture

    again = Study(ctx.scratch / "journal", SEARCH["space"], Limits(size=float(small["size"])), 3)
    assert [each.quality for each in again.tried] == [each["quality"] for each in told.values()], "a journal keeps it"


def test_a_shape_that_no_check_lets_pass_before_its_training_is_measured_after_it(inputs, tmp_path, monkeypatch):
    """Weights of chance may give logits about 0, whose INT8 has nothing to do with them."""
    real, trained = QuantizeDynamic.run, trainings(monkeypatch)

    def strict(self, config, given, ctx):
        if not trained:
            raise SourceError("the INT8 model gives numbers that are not finite")
        return real(self, config, given, ctx)

    monkeypatch.setattr(QuantizeDynamic, "run", strict)
    facts, _ = search(inputs, tmp_path, size=1e9, trials=1)
    assert (facts.tried, len(trained)) == (1, 1)


def test_a_short_training_without_a_step_to_prune_in_is_told_before_anything_is_made(inputs):
    config = SearchConfig.model_validate({**SEARCH, "stage": {**STAGE, "batchSize": 40, "prune": {"heads": 0.5}}})
    with pytest.raises(SpecError, match="leaves no step") as caught:
        SearchStudent().foresee(config, inputs)
    assert caught.value.problem.fix == "raise spec.distill.search.epochs, or lower recovery"


def test_what_a_training_makes_smaller_is_measured_after_it(inputs, tmp_path, monkeypatch):
    trained = trainings(monkeypatch)
    with pytest.raises(SpecError, match="no shape"):
        search(inputs, tmp_path, size=1000.0, stage={**STAGE, "prune": {"heads": 0.5}}, space={"hiddenLayers": [2]})
    assert len(trained) == 1


def test_widths_and_heads_are_tried_as_they_are_asked_for(inputs, tmp_path, monkeypatch):
    made = []
    real = InitStudent.run
    monkeypatch.setattr(InitStudent, "run", lambda *given: made.append(real(*given)) or made[-1])
    student = {"init": "svd", "hiddenLayers": 1, "intermediateSize": 32, "maxLength": 32, "seed": 3}
    facts, ctx = search(inputs, tmp_path, student=student, space={"hiddenSize": [16, 24], "attentionHeads": [2, 4]}, latency=60.0)
    tried = json.loads((ctx.out / "search.json").read_text())["tried"]
    shapes = [(each["shape"]["hiddenSize"], each["shape"]["attentionHeads"]) for each in tried]
    assert shapes == [(each.hidden_size, each.attention_heads) for each in made]
    narrow, wide = sorted(tried, key=lambda each: each["shape"]["hiddenSize"])
    assert {width for width, _ in shapes} == {16, 24}
    assert {heads for _, heads in shapes} == {2, 4}
    assert narrow["size"] < wide["size"]
    assert narrow["macs"] < wide["macs"]
    assert (facts.shape["hiddenSize"], facts.shape["attentionHeads"]) in shapes


def test_the_teacher_is_asked_about_the_sample_once_for_all_shapes(inputs, tmp_path, monkeypatch):
    made, progress = [], Recorder()
    real = InitStudent.run
    monkeypatch.setattr(InitStudent, "run", lambda *given: made.append(real(*given)) or made[-1])
    facts, ctx = search(inputs, tmp_path / "search", progress, trials=3)
    asking = [(done, total) for done, total, _, message in progress.updates if message == "asking the teacher about a sample"]
    asked = [done for done, total in asking if done == total]
    assert (facts.tried, len(made), len(asked)) == (3, 3, 1)
    last = json.loads((ctx.out / "search.json").read_text())["tried"][-1]["shape"]
    config = InitStudent.config_type.model_validate({**SHAPE, **last})
    alone = real(InitStudent(), config, inputs, context(tmp_path / "alone"))
    assert alone == made[-1], "and it is fitted as a student that is made alone"


def test_a_space_that_is_used_up_ends_the_search(inputs, tmp_path, monkeypatch):
    made_up(monkeypatch, [POOR, POOR])
    facts, _ = search(inputs, tmp_path, trials=100, patience=100, space={"hiddenLayers": [1, 2]})
    assert facts.tried == 2


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
