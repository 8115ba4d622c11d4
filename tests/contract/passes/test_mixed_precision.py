"""A student trained with its products in bfloat16: nearly what float32 makes of it, its weights float32, and resumed alike."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.support.artifacts import Recorder, dataset, sentences, tiny_teacher
from tests.support.lessons import OUTPUTS, SHAPE, STAGE, go
from torch import nn

from stillhouse.passes.distill import loop
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.models import precision
from stillhouse.passes.models.precision import mixed

WEIGHTS = "model.safetensors"
CPU = torch.device("cpu")
BF16 = {"mixedPrecision": "bf16"}
STUDENTS = {
    "encoder": {**SHAPE, "init": "svd"},
    "residual": {**SHAPE, "architecture": "residual", "init": "static"},
    "cnn": {**SHAPE, "architecture": "cnn", "init": "svd", "hiddenSize": 16, "attentionHeads": None, "intermediateSize": None},
}


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    root = tmp_path_factory.mktemp("mixed")
    given = {"teacher": tiny_teacher(root / "teacher"), "data": dataset(root / "data", text=sentences(50, seed=1))}
    return {**given, "outputs": go(TeacherOutputs(), OUTPUTS, given, root / "outputs")[0]}


def thirds(curve):
    """The mean loss of a training's first and of its last third: that of one batch tells more of its rows than of learning."""
    losses = [each["loss"] for each in curve]
    return np.mean(losses[: len(losses) // 3]), np.mean(losses[-(len(losses) // 3) :])


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_student_learns_in_bfloat16_nearly_what_it_learns_in_float32(lesson, tmp_path, kind):
    student = go(InitStudent(), STUDENTS[kind], lesson, tmp_path / "student")[0]
    given, config = {**lesson, "student": student}, {**STAGE, "epochs": 3, "losses": [{"kind": "embedding"}]}
    wide, facts = go(Distill(), config, given, tmp_path / "wide")
    made, told = go(Distill(), config | BF16, given, tmp_path / "mixed")
    before, plain, found = (load_file(each.path / WEIGHTS) for each in (student, wide, made))
    assert {tensor.dtype for tensor in found.values()} == {tensor.dtype for tensor in plain.values()}
    assert any(not torch.equal(plain[name], found[name]) for name in plain), "bfloat16 left no trace"
    gains = [float(np.subtract(*thirds(each["curve"]))) for each in (told, facts)]
    assert gains[0] > 0.8 * gains[1] > 0
    learned, theirs = (np.concatenate([(each[name] - before[name]).flatten() for name in plain]) for each in (found, plain))
    assert learned @ theirs / np.linalg.norm(learned) / np.linalg.norm(theirs) > 0.7, "AdamW takes even steps in noise too"


def test_a_run_in_bfloat16_that_was_stopped_makes_the_same_bytes(lesson, tmp_path, monkeypatch):
    student = go(InitStudent(), STUDENTS["residual"], lesson, tmp_path / "student")[0]
    given, config = {**lesson, "student": student}, {**STAGE, "epochs": 3, "checkpointSteps": 2, **BF16}
    whole, _ = go(Distill(), config, given, tmp_path / "whole")
    write, written = loop.checkpoint.write, []

    def stopping(*given):
        write(*given)
        written.append(None)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.checkpoint, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        go(Distill(), config, given, tmp_path / "cut")
    monkeypatch.setattr(loop.checkpoint, "write", write)
    made, facts = go(Distill(), config, given, tmp_path / "cut")
    assert facts["resumed"] == 1
    assert (made.path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()


def test_a_processor_without_bfloat16_is_told_of(lesson, tmp_path, monkeypatch):
    student = go(InitStudent(), STUDENTS["cnn"], lesson, tmp_path / "student")[0]
    monkeypatch.setattr(loop, "bfloat16_in_hardware", lambda device: False)
    for name, more, told in (("plain", {}, 0), ("mixed", BF16, 1), ("auto", {"mixedPrecision": "auto"}, 0)):
        recorder = Recorder()
        go(Distill(), {**STAGE, "epochs": 1, **more}, {**lesson, "student": student}, tmp_path / name, recorder)
        assert sum("bfloat16" in note for note in recorder.notes) == told


def test_auto_is_bfloat16_where_the_processor_has_it_and_else_float32(lesson, tmp_path, monkeypatch):
    student = go(InitStudent(), STUDENTS["cnn"], lesson, tmp_path / "student")[0]
    made = {}
    for there in (True, False):
        monkeypatch.setattr(precision, "bfloat16_in_hardware", lambda device, there=there: there)
        config = {**STAGE, "epochs": 1, "mixedPrecision": "auto"}
        artifact, facts = go(Distill(), config, {**lesson, "student": student}, tmp_path / f"auto-{there}")
        made[there] = (artifact.path / WEIGHTS).read_bytes(), facts["arithmetic"]
    for there, more, name in ((True, BF16, "bfloat16"), (False, {}, "float32")):
        config = {**STAGE, "epochs": 1, **more}
        artifact, facts = go(Distill(), config, {**lesson, "student": student}, tmp_path / f"said-{there}")
        assert made[there] == ((artifact.path / WEIGHTS).read_bytes(), name)
        assert facts["arithmetic"] == name


def test_attention_on_a_cpu_is_reckoned_in_float32_and_all_products_around_it_in_bfloat16():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 6, 8)
    rough = [each.bfloat16() for each in (query, key, value)]
    with mixed(CPU, bfloat16=True):
        assert (query @ key.transpose(-1, -2)).dtype == torch.bfloat16
        found = nn.functional.scaled_dot_product_attention(*rough)
    wide = nn.functional.scaled_dot_product_attention(*(each.float() for each in rough))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wide.bfloat16())
    with mixed(CPU, bfloat16=False):
        assert (query @ key.transpose(-1, -2)).dtype == torch.float32


LOOKING = [
    {"kind": "embedding"},
    {"kind": "hidden", "layer": 3},
    {"kind": "hidden-tokens", "layer": 3, "studentLayer": 2},
    {"kind": "attention-transfer", "layer": 3, "studentLayer": 2},
    {"kind": "value-relation", "layer": 3, "studentLayer": 2},
]


@pytest.mark.parametrize(
    "more",
    [{"losses": LOOKING}, {"prune": {"weights": 0.5}}, {"prune": {"heads": 0.5, "neurons": 0.5}}],
    ids=["losses that look inside", "weights", "heads and neurons"],
)
def test_whatever_looks_into_a_student_or_takes_from_it_does_so_in_bfloat16_too(lesson, tmp_path, more):
    config = {**OUTPUTS, "outputs": ["embedding", "hidden"], "layers": [3]}
    outputs = go(TeacherOutputs(), config, lesson, tmp_path / "outputs")[0]
    student = go(InitStudent(), STUDENTS["encoder"], lesson, tmp_path / "student")[0]
    stage = {**STAGE, "epochs": 6, "losses": [{"kind": "embedding"}], **more}
    made, facts = go(Distill(), stage | BF16, {**lesson, "outputs": outputs, "student": student}, tmp_path / "mixed")
    assert facts["curve"][-1]["loss"] < facts["curve"][0]["loss"] or "prune" in more
    assert all(np.isfinite(list(point["terms"].values())).all() for point in facts["curve"])
    assert {tensor.dtype for tensor in load_file(made.path / WEIGHTS).values()} == {torch.float32}
    assert bool(facts["pruned"]) == ("prune" in more)
