"""What a stage can be told: to hold layers still, to end early with the best epoch, to go layer by layer; when it must stop."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.support.artifacts import Recorder, context, dataset, sentences, tiny_teacher
from tests.support.lessons import OUTPUTS, SHAPE, STAGE, go
from tests.support.plans import plan_of

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.distill import checkpoint, train
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("stages")
    given = {"teacher": tiny_teacher(root / "teacher"), "data": dataset(root / "data", text=sentences(50, seed=1))}
    config = {**OUTPUTS, "outputs": ["embedding", "hidden"], "layers": [1, 3]}
    outputs = go(TeacherOutputs(), config, given, root / "outputs")[0]
    student = go(InitStudent(), {**SHAPE, "init": "svd"}, given, root / "student")[0]
    return {**given, "outputs": outputs, "student": student, "validation": dataset(root / "held", text=sentences(50, seed=2))}


def moved(inputs, made):
    before, after = load_file(inputs["student"].path / WEIGHTS), load_file(made.path / WEIGHTS)
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_what_is_frozen_stays_and_the_rest_learns(inputs, tmp_path):
    config = {**STAGE, "epochs": 1, "freeze": {"embeddings": True, "layers": 1}}
    changed = moved(inputs, go(Distill(), config, inputs, tmp_path / "a")[0])
    assert changed
    assert not any(name.startswith(("embeddings.", "encoder.layer.0.")) for name in changed)
    assert any(name.startswith("encoder.layer.1.") for name in changed)
    everything = moved(inputs, go(Distill(), {**config, "freeze": {"layers": 1}}, inputs, tmp_path / "b")[0])
    assert {name for name in everything if name.startswith("embeddings.")}


def test_a_residual_student_can_be_frozen_too(inputs, tmp_path):
    shape = {**SHAPE, "architecture": "residual", "init": "static"}
    given = {name: inputs[name] for name in ("teacher", "data", "outputs")}
    student = go(InitStudent(), shape, given, tmp_path / "student")[0]
    config = {**STAGE, "epochs": 2, "freeze": {"embeddings": True, "layers": 1}}
    other = {**inputs, "student": student}
    changed = moved(other, go(Distill(), config, other, tmp_path / "a")[0])
    assert any(name.startswith("layers.1.") for name in changed)
    assert not any(name.startswith(("tokens.", "positions.", "layers.0.")) for name in changed)


def test_more_layers_than_there_are_cannot_be_frozen(inputs, tmp_path):
    with pytest.raises(SpecError) as caught:
        go(Distill(), {**STAGE, "freeze": {"layers": 3}}, inputs, tmp_path)
    problem = caught.value.problem
    assert (problem.field, problem.found, problem.allowed) == ("spec.distill.stages[].freeze.layers", "3", "up to 2")


class Falling:
    """A validation by a list: best in the third epoch."""

    metric, rows = "cosine", 12

    def __init__(self, *_):
        self.figures = iter([0.5, 0.6, 0.9, 0.7, 0.6, 0.5, 0.4])

    def __call__(self, network):
        return next(self.figures)


def test_a_stage_ends_early_with_the_best_epoch(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "Validation", Falling)
    recorder = Recorder()
    config = {**STAGE, "warmup": 0, "epochs": 7, "earlyStopping": {"patience": 2}}
    made, facts = go(Distill(), config, inputs, tmp_path / "early", recorder)
    assert facts["validation"] == [0.5, 0.6, 0.9, 0.7, 0.6]
    assert (facts["best_epoch"], facts["steps"]) == (3, 5 * 7)
    assert facts["curve"][-1]["step"] == 5 * 7, "the curve goes to the end"
    told = [note for note in recorder.notes if "epoch" in note]
    assert told[2] == "epoch 3 of 7: cosine 0.900 on 12 validation rows"
    assert [note[:7] for note in told[:-1]] == [f"epoch {epoch}" for epoch in range(1, 6)]
    assert told[-1] == "stopped after epoch 5 of 7: no gain; epoch 3 is kept"
    # What the third epoch left: the same training with a halt there.
    monkeypatch.setattr(train, "Validation", lambda *_: _halting(3))
    with pytest.raises(KeyboardInterrupt):
        go(Distill(), {**config, "earlyStopping": None}, inputs, tmp_path / "halt")
    (kept,) = (tmp_path / "halt" / "scratch").glob("checkpoint-*")
    tensors = load_file(kept / "tensors.safetensors")
    best = load_file(made.path / WEIGHTS)
    assert all(torch.equal(tensors[f"student/body.{name}"], value) for name, value in best.items() if "projection" not in name)


def _halting(epoch):
    class Halting(Falling):
        calls = 0

        def __call__(self, network):
            self.calls += 1
            if self.calls == epoch:
                raise KeyboardInterrupt
            return 0.5

    return Halting()


@pytest.mark.parametrize(("kind", "rows", "learns"), [
    ("relational-angle", 2, False), ("relational-distance", 2, False), ("similarity", 2, False), ("relational-distance", 3, True),
])  # fmt: skip
def test_a_loss_that_was_always_0_is_told(inputs, tmp_path, kind, rows, learns):
    recorder = Recorder()
    losses = [{"kind": kind, "temperature": 0.05}]
    given = {name: each for name, each in inputs.items() if name != "validation"}
    go(Distill(), {**STAGE, "losses": losses, "batchSize": rows, "epochs": 1}, given, tmp_path / "out", recorder)
    assert any("nothing was learned" in note for note in recorder.notes) != learns


def test_layer_by_layer_trains_the_lower_layers_first(inputs, tmp_path):
    losses = [{"kind": "embedding"}, {"kind": "hidden", "layer": 3}, {"kind": "hidden", "layer": 1}]
    config = {**STAGE, "losses": losses, "epochs": 6, "progressive": "alone"}
    _, facts = go(Distill(), config, inputs, tmp_path)
    curve = facts["curve"]
    first, last = curve[: len(curve) // 3], curve[-len(curve) // 3 :]
    # In the first third of the steps the objective is the lowest layer's term, in the last the embedding's.
    assert all(point["loss"] == pytest.approx(point["terms"]["hidden-2"], abs=2e-6) for point in first[:-1])
    assert all(point["loss"] == pytest.approx(point["terms"]["embedding"], abs=2e-6) for point in last[1:])


def test_a_student_that_begins_broken_is_not_the_learning_rates_fault(inputs, tmp_path, monkeypatch):
    from stillhouse.passes.distill.losses.embedding import EmbeddingLoss

    plain = EmbeddingLoss.forward
    monkeypatch.setattr(EmbeddingLoss, "forward", lambda *given: plain(*given) * float("nan"))
    with pytest.raises(DataError, match="before anything is learned") as caught:
        go(Distill(), {**STAGE, "losses": [{"kind": "embedding"}]}, inputs, tmp_path)
    assert (caught.value.problem.field, caught.value.problem.found) == ("spec.distill.stages[].losses", "embedding nan")


@pytest.mark.parametrize("more", [{}, {"prune": {"weights": 0.5}}, {"prune": {"heads": 0.5, "neurons": 0.5}}], ids=str)
def test_a_run_that_goes_astray_says_its_step_and_keeps_the_last_good_one(inputs, tmp_path, monkeypatch, more):
    from stillhouse.passes.distill.losses.embedding import EmbeddingLoss

    plain, calls = EmbeddingLoss.forward, []

    def spoiled(self, student, targets):
        calls.append(None)
        return plain(self, student, targets) * (float("inf") if len(calls) == 6 else 1.0)

    good = {**STAGE, "checkpointSteps": 100, "losses": [{"kind": "embedding"}], **more}
    ctx = context(tmp_path / "astray")
    monkeypatch.setattr(EmbeddingLoss, "forward", spoiled)
    with pytest.raises(DataError, match="step 6 of 21") as caught:
        Distill().run(Distill.config_type.model_validate(good), inputs, ctx)
    assert caught.value.problem.found == "embedding inf"
    (kept,) = ctx.scratch.glob("checkpoint-*")
    assert kept.name == "checkpoint-5"
    assert all(np.isfinite(tensor.float().numpy()).all() for tensor in load_file(kept / "tensors.safetensors").values())
    monkeypatch.undo()
    _, facts = go(Distill(), good, inputs, tmp_path / "astray")
    assert (facts["resumed"], facts["steps"]) == (1, 21)


def test_a_last_step_that_goes_astray_is_told_as_any_other(inputs, tmp_path):
    """Nothing comes after it: no objective that would be no number."""
    wild = {**STAGE, "batchSize": 64, "epochs": 1, "learningRate": 1e30, "warmup": 0.0, "losses": [{"kind": "embedding"}]}
    with pytest.raises(DataError, match="step 1 of 1") as caught:
        Distill().run(Distill.config_type.model_validate(wild), inputs, context(tmp_path / "wild"))
    assert caught.value.problem.field == "spec.distill.stages[].learningRate"
    assert caught.value.problem.found.startswith("an output of ")


def test_a_gradient_that_is_no_number_does_not_reach_the_weights(inputs, tmp_path, monkeypatch):
    from stillhouse.passes.distill.losses.embedding import EmbeddingLoss

    plain = EmbeddingLoss.forward

    class Rotten(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("nan")

    monkeypatch.setattr(EmbeddingLoss, "forward", lambda self, s, t: Rotten.apply(plain(self, s, t)))
    written = []
    monkeypatch.setattr(checkpoint, "write", lambda scratch, step, modules, *rest: written.append((step, modules["student"])))
    with pytest.raises(DataError, match="step 1 of 21") as caught:
        go(Distill(), {**STAGE, "losses": [{"kind": "embedding"}]}, inputs, tmp_path)
    assert "gradient" in caught.value.problem.found
    ((step, student),) = written
    assert step == 0
    assert all(torch.isfinite(parameter).all() for parameter in student.parameters())


def test_the_passes_take_what_is_planned():
    loss = {
        "kind": "logits",
        "labelSmoothing": "0.1",
        "classWeights": {"byLabel": {"a": "2"}},
        "weightSchedule": {"to": "0.1", "shape": "cosine"},
        "temperatureSchedule": {"to": "1"},
    }
    layers = [{"teacher": 3, "student": 1}, {"teacher": 6}]
    kinds = ("hidden", "hidden-tokens", "attention-transfer", "attention-relation", "value-relation")
    stage = {
        "losses": [loss, {"kind": "hard", "classWeights": {"balanced": True}}, {"kind": "pooled"}]
        + [{"kind": kind, "layers": layers} for kind in kinds],
        "freeze": {"embeddings": True, "layers": 1},
        "progressive": "stacked",
        "earlyStopping": {"patience": 2, "minGain": "0.001"},
        "prune": {"heads": "50%", "neurons": "75%", "recovery": "25%"},
    }
    edits = {"spec.distill.stages": [stage], "spec.distill.topLogits": 2, "spec.distill.validation": {"uri": "data:v"}}
    plan = plan_of("class", edits=edits)
    config = Distill.config_type.model_validate(plan.step("train/stage-1").config)
    assert len(config.losses) == 3 + 2 * len(kinds)
    assert config.losses[0].class_weights == {"a": 2.0}
    assert (config.freeze.layers, config.progressive, config.early_stopping.min_gain) == (1, "stacked", 0.001)
    assert (config.prune.shares, config.prune.by, config.prune.recovery) == ({"heads": 0.5, "neurons": 0.75}, "taylor", 0.25)
    outputs = TeacherOutputs.config_type.model_validate(plan.step("train/teacher-outputs").config)
    assert (outputs.outputs, outputs.top_logits, outputs.layers) == (("features", "hidden", "logits"), 2, (3, 6))
