"""The losses against computations written another way (numpy, row by row), and their gradients against differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse.passes.distill.losses import build_losses
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.term import LossTerm, Sizes, Targets
from stillhouse.passes.models.network import NetworkOutput

NONE = Sizes(0, 0, 0, {})


def term_of(loss: dict[str, Any], sizes: Sizes = NONE) -> LossTerm:
    (term,) = build_losses([LossConfig(**loss)], sizes)
    return term.double()


def numbers(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape) * scale)


def probabilities(logits: Any, temperature: float) -> list[float]:
    powers = [math.exp(float(value) / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def soft_reference(kind: str, student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    rows = []
    for mine, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        q, p = probabilities(mine, temperature), probabilities(theirs, temperature)
        if kind == "reverse-kl":
            rows.append(temperature**2 * sum(b * math.log(b / a) for a, b in zip(p, q, strict=True)))
        elif kind == "jsd":
            # As entropies: H(m) − (H(p) + H(q)) / 2.
            entropy = [-sum(x * math.log(x) for x in each) for each in (p, q, [(a + b) / 2 for a, b in zip(p, q, strict=True)])]
            rows.append(temperature**2 * (entropy[2] - (entropy[0] + entropy[1]) / 2))
        else:
            # As the most that any set of labels differs in probability.
            rows.append(temperature * sum(max(0.0, a - b) for a, b in zip(p, q, strict=True)))
    return sum(rows) / len(rows)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("kind", ["reverse-kl", "jsd", "tvd"])
def test_divergences_of_probabilities(kind: str, temperature: float) -> None:
    student, teacher = numbers(1, 4, 5), numbers(2, 4, 5)
    term = term_of({"kind": kind, "temperature": temperature})

    def forward(logits: torch.Tensor) -> torch.Tensor:
        return term(NetworkOutput(logits), Targets({"logits": teacher}, None))

    assert forward(student).item() == pytest.approx(soft_reference(kind, student, teacher, temperature), rel=1e-10)
    assert forward(teacher).item() == pytest.approx(0.0, abs=1e-12)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())


@pytest.mark.parametrize("kind", ["reverse-kl", "jsd", "tvd"])
def test_divergences_of_a_sure_teacher_and_a_sure_student_are_finite(kind: str) -> None:
    student = torch.tensor([[200.0, -200.0]], requires_grad=True)
    found = term_of({"kind": kind, "temperature": 1})(NetworkOutput(student), Targets({"logits": -student.detach()}, None))
    found.backward()
    # q = (1, 0) and p = (0, 1) to the last digit: log(q₀/p₀) = 400, ln 2, and all of the probability.
    assert found.item() == pytest.approx({"reverse-kl": 400.0, "jsd": math.log(2), "tvd": 1.0}[kind], rel=1e-5)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(("kind", "factor"), [("reverse-kl", 1.0), ("jsd", 0.25)])
def test_divergences_keep_their_gradient_when_the_temperature_changes(kind: str, factor: float) -> None:
    """At high temperature forward KL's gradient is (z − v) / N (Hinton et al. 2015); reverse KL's too, JSD's a quarter."""
    student, teacher = numbers(3, 1, 5), numbers(4, 1, 5)
    student, teacher = student - student.mean(), teacher - teacher.mean()
    for temperature in (500.0, 5000.0):
        logits = student.clone().requires_grad_()
        term_of({"kind": kind, "temperature": temperature})(NetworkOutput(logits), Targets({"logits": teacher}, None)).backward()
        assert torch.allclose(logits.grad, factor * (student - teacher) / 5, atol=0.01)


def test_relational_distance() -> None:
    student, teacher = numbers(5, 5, 3), numbers(6, 5, 4)  # the widths may differ
    term = term_of({"kind": "relational-distance"})

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return term(NetworkOutput(rows), Targets({"embedding": teacher}, None))

    pairs = [(i, j) for i in range(5) for j in range(i)]
    mine, theirs = ([math.dist(x[i], x[j]) for i, j in pairs] for x in (student.tolist(), teacher.tolist()))
    off = [abs(a * len(pairs) / sum(mine) - b * len(pairs) / sum(theirs)) for a, b in zip(mine, theirs, strict=True)]
    expected = sum(x * x / 2 if x <= 1 else x - 0.5 for x in off) / len(pairs)
    assert forward(student).item() == pytest.approx(expected, rel=1e-10)
    assert forward(7 * teacher).item() == pytest.approx(0.0, abs=1e-12)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())
    same = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)  # all rows alike: nothing to divide by
    forward(same).backward()
    assert torch.isfinite(same.grad).all()
    assert forward(student[:1]).item() == 0.0
