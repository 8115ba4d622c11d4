"""What every loss is held to, whatever it lowers. A loss that is new in the manifest is held to it without an edit here.

Each teaches for a few steps as in a stage: a student of 2 layers × 16 and its teacher of 3 × 32, texts of unlike lengths in one
batch, the step's own slices, targets and gradients. Its values belong in a test of its own (`test_distill_losses_reference.py`).
"""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tests.support.artifacts import dataset, sentences, tiny_teacher
from tests.support.lessons import LABELS, OUTPUTS, SHAPE, STAGE, go

from stillhouse.api.loss import CLASS_LOSSES
from stillhouse.errors import StillhouseError
from stillhouse.passes.base import Artifact
from stillhouse.passes.distill import step as stepping
from stillhouse.passes.distill.checkpoint import seed_everything
from stillhouse.passes.distill.encoded import read_inputs
from stillhouse.passes.distill.live import LiveTeacher
from stillhouse.passes.distill.losses import build_losses, needed_outputs, reads_along
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.distill.objective import Objective, Part
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.distill.step import Stepper, TrainingSet
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.distill.terms import sizes_of
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.models.artifact import load
from stillhouse.passes.models.network import Network, NetworkOutput
from stillhouse.planning.manifest import LOSSES

CONFIG: dict[str, dict[str, Any]] = {}
"""Fields that a loss cannot do without, by its kind; none has any so far."""
STEPS = 3
TEXTS = sentences(12, seed=1)
Given = Mapping[str, Artifact]


def task_of(kind: str) -> str:
    """Return whom a loss teaches here: sentence embeddings, or a classifier where it is of one or looks at its head."""
    return "class" if kind in CLASS_LOSSES or LOSSES[kind].reads == "features" else "text"


def class_of(kind: str) -> type[LossTerm]:
    module, _, name = LOSSES[kind].target.partition(":")
    return getattr(importlib.import_module(module), name)


def asked(given: Given, folder: Path, task: str) -> Artifact:
    """Return what the teacher says of the rows, all of which a loss of this task could read."""
    outputs = ["logits", "features"] if task == "class" else ["embedding", "hidden"]
    config = {**OUTPUTS, "outputs": outputs, "layers": [-1] if "hidden" in outputs else []}
    return go(TeacherOutputs(), config, given, folder)[0]


def written(folder: Path, task: str, texts: list[str] = TEXTS, **columns: Any) -> Artifact:
    labels = {"label": [LABELS[row % 3] for row in range(12)]} if task == "class" else {}
    return dataset(folder, text=texts, group=[str(row // 2) for row in range(12)], **labels, **columns)


@pytest.fixture(scope="module")
def schools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Artifact]]:
    made = {}
    for task in ("text", "class"):
        root = tmp_path_factory.mktemp(task)
        teacher = tiny_teacher(root / "teacher", LABELS if task == "class" else ())
        given = {"teacher": teacher, "data": written(root / "data", task)}
        given["student"] = go(InitStudent(), {**SHAPE, "init": "svd"}, given, root / "student")[0]
        made[task] = {**given, "outputs": asked(given, root / "outputs", task)}
    return made


@functools.cache
def loaded(folder: Path) -> Network:
    """Return a network that is to be copied before it learns: a hundred lessons would read it a hundred times."""
    return load(folder, role="student")


class Lesson:
    """A loss between a student and its teacher, all rows in one batch. The student drops nothing, so that steps can be compared.

    `said`: the term before each step; `given`: what it was reckoned from; `gradients`: of the first step, by the names of the
    student's parameters; `along`: the same of the term's own.
    """

    def __init__(self, kind: str, given: Given, shaken: float = 0.2) -> None:
        """Begin. `shaken`: the student's first weights, so that it is far from its teacher and no layer norm is a fresh one."""
        self.said: list[torch.Tensor] = []
        self.given: list[tuple[NetworkOutput, Targets]] = []
        self.gradients: dict[str, torch.Tensor | None] = {}
        self.along: dict[str, torch.Tensor | None] = {}
        losses = [LossConfig.model_validate({"kind": kind, **CONFIG.get(kind, {})})]
        folder = given["student"].path
        self.student = copy.deepcopy(loaded(folder))
        seed_everything(5)  # behind it: to read a network draws numbers
        with torch.no_grad():
            for parameter in self.student.parameters():
                parameter.add_(shaken * torch.randn_like(parameter))
        rows = Rows.of(given)
        data = read_inputs(rows, folder, self.student.signature, 32)
        outputs, description = read_outputs(given["outputs"].path)
        kept = {name: tensor for name, tensor in outputs.items() if name.partition("-")[0] in needed_outputs(losses)}
        labels = rows.labels(self.student.signature.labels) if task_of(kind) == "class" else None
        live = LiveTeacher(given["teacher"].path, rows, data, self.student, 32) if reads_along(losses) else None
        (self.term,) = build_losses(losses, sizes_of(self.student, kept, description["teacher_layers"], labels, live, data))
        self._kept = self.term.register_forward_hook(self._keep)
        accelerator = Accelerator()
        modules = {"student": self.student.to(accelerator.device), "term": self.term.to(accelerator.device)}
        parameters = [parameter for module in modules.values() for parameter in module.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=5e-4, weight_decay=0.0)
        optimizer.register_step_pre_hook(self._look)
        groups = rows.groups() if self.term.wants_groups else None
        training = TrainingSet(data, kept, labels, groups, len(description["labels"]), live)
        self._stepper = Stepper(accelerator, self.student, Objective([Part(kind, 1.0, self.term)]), training, optimizer, 5, STEPS)

    def step(self, number: int = 0, rows: int = len(TEXTS)) -> float:
        """Learn from the first rows; return what the term was before."""
        return self._stepper.step(number, np.arange(rows))[1]

    def close(self) -> None:
        self._kept.remove()
        self._stepper.close()

    def _keep(self, _term: Any, given: tuple[NetworkOutput, Targets], said: torch.Tensor) -> None:
        self.given.append(given)
        self.said.append(said)

    def _look(self, *_: Any) -> None:
        for module, found in ((self.student, self.gradients), (self.term, self.along)):
            for name, each in module.named_parameters():
                found.setdefault(name, None if each.grad is None else each.grad.clone())


def lesson_of(kind: str, schools: Mapping[str, Given]) -> Lesson:
    """Return the lesson of a loss with its steps done, or say what is to be added where it cannot be held."""
    where = f"{LOSSES[kind].target.partition(':')[0].replace('.', '/')}.py"
    lesson = None
    try:
        lesson = Lesson(kind, schools[task_of(kind)])
        for number in range(STEPS):
            lesson.step(number)
    except (StillhouseError, KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        pytest.fail(
            f"loss {kind} cannot be taught with its defaults and what its line in planning/manifest.py says that it reads"
            f" ({LOSSES[kind].reads}): {type(error).__name__}: {error}. Look at its line and at {where}; a field that it cannot"
            " do without goes into CONFIG of this file, a size that it joins into sizes_of of passes/distill/terms.py"
        )
    finally:
        if lesson is not None:
            lesson.close()
    return lesson


@pytest.fixture(scope="module", params=LOSSES)
def lesson(request: pytest.FixtureRequest, schools: Mapping[str, Given]) -> Lesson:
    return lesson_of(request.param, schools)


def test_its_class_asks_for_what_its_line_in_the_manifest_says(lesson: Lesson) -> None:
    kind, term = lesson.term.config.kind, type(lesson.term)
    reads = LOSSES[kind].reads
    assert term.wants_hidden == (reads == "hidden"), f"{term.__name__}.wants_hidden; planning/manifest.py: it reads {reads}"
    assert term.wants_features == (reads == "features"), f"{term.__name__}.wants_features; planning/manifest.py: it reads {reads}"
    assert bool(term.traces) == (reads == "tokens"), f"{term.__name__}.traces; planning/manifest.py: it reads {reads}"


def test_it_is_a_finite_number_of_float32(lesson: Lesson) -> None:
    for said in lesson.said:
        assert (said.shape, said.dtype) == (torch.Size([]), torch.float32)
        assert torch.isfinite(said)


def test_its_gradient_reaches_the_student_and_what_it_learns_along(lesson: Lesson) -> None:
    reached = [gradient for gradient in lesson.gradients.values() if gradient is not None]
    assert reached, "no parameter of the student's has a gradient: is something detached?"
    assert all(torch.isfinite(gradient).all() for gradient in reached)
    assert sum(float(gradient.abs().sum()) for gradient in reached) > 0, "the gradient is 0 everywhere"
    for name, gradient in lesson.along.items():
        assert gradient is not None and gradient.abs().sum() > 0, f"{name} of the term's own is not learned"


def test_it_gets_smaller_while_a_student_learns_by_it(lesson: Lesson) -> None:
    assert lesson.said[-1] < lesson.said[0], "steps against its gradient do not lower it: is a part of it detached?"


def taught_by_itself(kind: str, given: Given, shaken: float) -> float:
    """Return what a loss is for a student that is its teacher, or the teacher shaken; what is learned along changes nothing."""
    learner = Lesson(kind, {**given, "student": given["teacher"]}, shaken)
    for parameter in learner.term.parameters():
        torch.nn.init.eye_(parameter)
    found = learner.step()
    learner.close()
    return found


def test_it_is_smaller_for_whoever_says_what_it_asks_for(lesson: Lesson, schools: Mapping[str, Given]) -> None:
    """For the teacher itself; where no teacher is asked, for outputs by labels or groups. Steps alone tell no sign."""
    kind, term, targets = lesson.term.config.kind, lesson.term, lesson.given[0][1]
    if LOSSES[kind].reads is not None:
        good, bad = (taught_by_itself(kind, schools[task_of(kind)], shaken) for shaken in (0.0, 0.2))
    else:
        asked_for = targets.groups if term.wants_groups else targets.labels
        assert asked_for is not None, f"{kind} asks neither teacher nor labels nor groups: say here whose outputs are good by it"
        right = torch.nn.functional.one_hot(asked_for).float()
        wrong = right[len(right) // 2 - 1 :].repeat(2, 1)[: len(right)]  # rows of others
        with torch.no_grad():
            good, bad = (float(term(NetworkOutput(each), targets)) for each in (right, wrong))
    assert good < bad, "is its sign right?"


def test_the_same_lesson_gives_the_same_digits(lesson: Lesson, schools: Mapping[str, Given]) -> None:
    again = lesson_of(lesson.term.config.kind, schools)
    assert [said.item() for said in again.said] == [said.item() for said in lesson.said]


def test_what_is_padded_to_its_rows_counts_for_nothing(
    lesson: Lesson, schools: Mapping[str, Given], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row alone has no padding. A teacher that reads along does so in bfloat16 where the processor has it: digits differ."""
    monkeypatch.setattr(stepping, "_SLICE_TOKENS", 1)
    kind = lesson.term.config.kind
    alone = Lesson(kind, schools[task_of(kind)])
    found = alone.step()
    alone.close()
    tolerance = 2e-2 if lesson.term.traces else 1e-4
    assert found == pytest.approx(lesson.said[0].item(), rel=tolerance)


@pytest.mark.parametrize("lesson", [kind for kind, entry in LOSSES.items() if entry.reads == "tokens"], indirect=True)
def test_what_stands_in_padded_positions_counts_for_nothing(lesson: Lesson) -> None:
    output, targets = lesson.given[0]
    assert output.mask is not None and (output.mask == 0).any()

    def spoiled(traces: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        padded = (output.mask == 0).unsqueeze(2)
        return {name: value.detach().masked_fill(padded, 1e3) for name, value in traces.items()}

    with torch.no_grad():
        expected = lesson.term(output, targets)
        found = lesson.term(
            NetworkOutput(output.output, output.hidden, spoiled(output.traces), output.mask),
            Targets(spoiled(targets.teacher), targets.labels, targets.keys, targets.groups),
        )
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_batch_of_one_row_has_a_value_and_a_gradient(lesson: Lesson, schools: Mapping[str, Given]) -> None:
    """The last batch of an epoch can be that small: what needs pairs is 0 then, `student.output.sum() * 0.0`."""
    kind = lesson.term.config.kind
    alone = Lesson(kind, schools[task_of(kind)])
    alone.step(rows=1)
    alone.close()
    assert torch.isfinite(alone.said[0])
    assert all(gradient is None or torch.isfinite(gradient).all() for gradient in alone.gradients.values())


@pytest.mark.parametrize("lesson", CLASS_LOSSES, indirect=True)
def test_a_sure_teacher_and_a_sure_student_that_disagree_leave_it_finite(lesson: Lesson) -> None:
    logits = torch.tensor([[300.0, -300.0, 0.0], [-300.0, 300.0, 0.0]], requires_grad=True)
    teacher = {name: -logits.detach() for name in lesson.given[0][1].teacher}
    found = lesson.term.to("cpu")(NetworkOutput(logits), Targets(teacher, torch.tensor([1, 0])))
    (gradient,) = torch.autograd.grad(found, logits)
    assert torch.isfinite(found)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("task", ["text", "class"])
def test_a_row_of_weight_0_is_never_learned_from(task: str, schools: Mapping[str, Given], tmp_path: Path) -> None:
    """All losses at once but those that draw groups of rows, for which the resource knows no weights."""
    kinds = [kind for kind in LOSSES if task_of(kind) == task and not class_of(kind).wants_groups]
    config = {**STAGE, "losses": [{"kind": kind, **CONFIG.get(kind, {})} for kind in kinds], "epochs": 1, "batchSize": 12}
    digests = {}
    for weight in (0.0, 1.0):
        for name, last in (("as it was", TEXTS[-1]), ("another", "lock zone hash")):
            root = tmp_path / f"{weight} {name}"
            data = written(root / "data", task, [*TEXTS[:-1], last], weight=[1.0] * 11 + [weight])
            given = {**schools[task], "data": data}
            given["outputs"] = asked({"teacher": given["teacher"], "data": data}, root / "outputs", task)
            digests[weight, name] = go(Distill(), config, given, root / "run")[0].digest
    assert digests[0.0, "as it was"] == digests[0.0, "another"]
    assert digests[1.0, "as it was"] != digests[1.0, "another"], "where it weighs something it tells"
