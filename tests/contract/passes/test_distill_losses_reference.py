"""The losses against computations written another way (numpy, row by row), and their gradients against differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse.errors import DataError, SpecError
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
        if kind == "logits":
            rows.append(temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        elif kind == "reverse-kl":
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


def dot(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def near(x: list[float], y: list[float]) -> float:
    return dot(x, y) / (math.hypot(*x) * math.hypot(*y))


def apart(distance: str, x: list[float], y: list[float]) -> float:
    return math.dist(x, y) ** 2 if distance == "mse" else 1 - near(x, y)


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_embedding(distance: str) -> None:
    student, teacher = numbers(21, 5, 3), numbers(22, 5, 3)
    term = term_of({"kind": "embedding", "distance": distance})

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return term(NetworkOutput(rows), Targets({"embedding": teacher}, None))

    rows = [apart(distance, mine, theirs) for mine, theirs in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert forward(student).item() == pytest.approx(sum(rows) / 5, rel=1e-10)
    assert forward(teacher).item() == pytest.approx(0.0, abs=1e-12)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_hidden(distance: str) -> None:
    student, teacher = numbers(23, 5, 3), numbers(24, 5, 4)
    term = term_of({"kind": "hidden", "distance": distance, "layer": 3}, Sizes(2, 3, 6, {3: 4}))
    other = torch.full((5, 3), torch.nan, dtype=torch.float64)

    def forward(states: torch.Tensor) -> torch.Tensor:
        # Layer 3 of 6 is at the depth of layer 1 of 2; 0 is the embeddings.
        return term(NetworkOutput(other, (other, states, other)), Targets({"hidden-3": teacher}, None))

    made = [[dot(line, row) for line in term.projection.weight.tolist()] for row in student.tolist()]
    rows = [apart(distance, mine, theirs) for mine, theirs in zip(made, teacher.tolist(), strict=True)]
    expected = sum(rows) / 5 / (4 if distance == "mse" else 1)
    assert forward(student).item() == pytest.approx(expected, rel=1e-10)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda _: forward(student), term.projection.weight), "what is learned along"


@pytest.mark.parametrize("given", [{}, {"distance": "mse"}, {"keys": 2}], ids=["kl", "mse", "keys"])
def test_similarity(given: dict[str, Any]) -> None:
    student, teacher, drawn = numbers(25, 4, 3), numbers(26, 4, 3), numbers(27, 3, 3)
    term = term_of({"kind": "similarity", "temperature": 0.5, **given})

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return term(NetworkOutput(rows), Targets({"embedding": teacher}, None, drawn))

    keys = given.get("keys", 0)
    compared = (teacher if keys else student).tolist()  # what the student's rows are held against
    rows = []
    for i, (s, t) in enumerate(zip(student.tolist(), teacher.tolist(), strict=True)):
        others, more = [j for j in range(4) if j != i], drawn.tolist()[:keys]
        mine = [dot(s, compared[j]) for j in others] + [dot(s, key) for key in more]
        theirs = [dot(t, teacher.tolist()[j]) for j in others] + [dot(t, key) for key in more]
        if "distance" in given:
            rows.append(sum((a - b) ** 2 for a, b in zip(mine, theirs, strict=True)) / 3)
        else:
            p, q = probabilities(theirs, 0.5), probabilities(mine, 0.5)
            rows.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert forward(student).item() == pytest.approx(sum(rows) / 4, rel=1e-10)
    assert forward(teacher).item() == pytest.approx(0.0, abs=1e-12)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())


def test_contrastive() -> None:
    student, groups = numbers(28, 6, 3), [7, 7, -1, 7, 3, 3]
    term = term_of({"kind": "contrastive", "temperature": 0.5})

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return term(NetworkOutput(rows), Targets({}, None, groups=torch.tensor(groups)))

    rows = []
    for i, group in enumerate(groups):
        others = [j for j in range(6) if j != i]
        scores = [dot(student[i].tolist(), student[j].tolist()) for j in others]
        likely = dict(zip(others, probabilities(scores, 0.5), strict=True))
        partners = [j for j in others if groups[j] == group >= 0]
        rows += [-sum(math.log(likely[j]) for j in partners) / len(partners)] if partners else []
    assert len(rows) == 5
    assert forward(student).item() == pytest.approx(sum(rows) / 5, rel=1e-10)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_logits(alpha: float) -> None:
    student, teacher, labels = numbers(29, 4, 5), numbers(30, 4, 5), [0, 3, -100, 1]
    term = term_of({"kind": "logits", "temperature": 2.5, "alpha": alpha})

    def forward(logits: torch.Tensor) -> torch.Tensor:
        return term(NetworkOutput(logits), Targets({"logits": teacher}, torch.tensor(labels)))

    hard = cross_entropy_reference(student, labels, 0.0, [1.0] * 5) / 4  # by all rows, not by those with a label
    expected = alpha * soft_reference("logits", student, teacher, 2.5) + (1 - alpha) * hard
    assert forward(student).item() == pytest.approx(expected, rel=1e-10)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())


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


def angle(x: list[float], at: list[float], y: list[float]) -> float:
    a, b = ([p - q for p, q in zip(end, at, strict=True)] for end in (x, y))
    return near(a, b)


def test_relational_angle() -> None:
    student, teacher = numbers(11, 5, 3), numbers(12, 5, 4)
    term = term_of({"kind": "relational-angle"})

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return term(NetworkOutput(rows), Targets({"embedding": teacher}, None))

    mine, theirs, off = student.tolist(), teacher.tolist(), []
    for j in range(5):
        for i in range(5):
            off += [
                abs(angle(mine[i], mine[j], mine[k]) - angle(theirs[i], theirs[j], theirs[k]))
                for k in range(5)
                if len({i, j, k}) == 3
            ]
    assert max(off) > 1, "both parts of Huber's function are to be seen"
    expected = sum(x * x / 2 if x <= 1 else x - 0.5 for x in off) / len(off)
    assert forward(student).item() == pytest.approx(expected, rel=1e-10)
    turned = torch.linalg.qr(numbers(13, 4, 4)).Q
    assert forward(3 * teacher @ turned + 1).item() == pytest.approx(0.0, abs=1e-12)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())
    twice = torch.cat([student[:4], student[:1]]).requires_grad_()
    forward(twice).backward()
    assert twice.grad.abs().max() < 100, "rows that are equal must not blow up the gradient"
    assert forward(student[:2]).item() == 0.0


def test_relational_angles_of_a_large_batch_are_those_of_its_groups() -> None:
    from stillhouse.passes.distill.losses.relational_angle import MOST_ROWS

    rows = MOST_ROWS + 3
    student, teacher = numbers(14, rows, 2), numbers(15, rows, 3)
    term = term_of({"kind": "relational-angle"})

    def of(chosen: slice) -> float:
        return float(term(NetworkOutput(student[chosen]), Targets({"embedding": teacher[chosen]}, None)))

    half = -(-rows // 2)
    assert of(slice(None)) == pytest.approx((of(slice(half)) + of(slice(half, rows))) / 2, rel=1e-10)


@pytest.mark.parametrize("keys", [0, 2])
def test_contrastive_teacher(keys: int) -> None:
    student, teacher, drawn = numbers(16, 4, 3), numbers(17, 4, 3), numbers(18, 3, 3)
    term = term_of({"kind": "contrastive-teacher", "temperature": 0.5, "keys": keys})

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return term(NetworkOutput(rows), Targets({"embedding": teacher}, None, drawn))

    others = teacher.tolist() + drawn.tolist()[:keys]
    rows = [probabilities([near(row, other) for other in others], 0.5)[at] for at, row in enumerate(student.tolist())]
    assert forward(student).item() == pytest.approx(-sum(map(math.log, rows)) / 4, rel=1e-10)
    assert forward(9 * student).item() == pytest.approx(forward(student).item()), "lengths do not matter"
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())


LABELLED = Sizes(0, 0, 0, {}, label_rows={"io": 6, "text": 3, "time": 0, "zone": 1})


def cross_entropy_reference(logits: torch.Tensor, labels: list[int], smoothing: float, weights: list[float]) -> float:
    total = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        if label < 0:
            continue
        likely = [math.log(q) for q in probabilities(row, 1.0)]
        wanted = [smoothing / len(row) + (1 - smoothing) * (c == label) for c in range(len(row))]
        total -= weights[label] * sum(a * b for a, b in zip(wanted, likely, strict=True))
    return total


@pytest.mark.parametrize(
    ("given", "smoothing", "weights"),
    [
        ({"labelSmoothing": 0.1}, 0.1, [1.0] * 4),
        # 10 rows with a label, 4 labels: 10 / (4 · 6), …
        ({"classWeights": "balanced"}, 0.0, [10 / 24, 10 / 12, 0.0, 10 / 4]),
        ({"classWeights": {"zone": 3.0, "io": 0.5}, "labelSmoothing": 0.2}, 0.2, [0.5, 1.0, 1.0, 3.0]),
    ],
)
def test_labels_smoothed_and_weighted(given: dict[str, Any], smoothing: float, weights: list[float]) -> None:
    student, teacher, labels = numbers(7, 5, 4), numbers(8, 5, 4), [0, 3, -100, 1, 0]
    targets = Targets({"logits": teacher}, torch.tensor(labels))
    total = cross_entropy_reference(student, labels, smoothing, weights)
    hard = term_of({"kind": "hard", **given}, LABELLED)
    mixed = term_of({"kind": "logits", "alpha": 0.25, **given}, LABELLED)
    soft = term_of({"kind": "logits", "alpha": 0.25}, LABELLED)
    assert hard(NetworkOutput(student), targets).item() == pytest.approx(total / 4, rel=1e-6)  # 4 of the 5 have a label
    found = mixed(NetworkOutput(student), targets) - soft(NetworkOutput(student), targets)
    plain = cross_entropy_reference(student, labels, 0.0, [1.0] * 4)
    assert found.item() == pytest.approx(0.75 * (total - plain) / 5, rel=1e-6)
    for term in (hard, mixed):
        assert torch.autograd.gradcheck(lambda z, term=term: term(NetworkOutput(z), targets), student.clone().requires_grad_())
    assert not hard.state_dict(), "an older checkpoint must fit"


def test_balanced_weights_make_every_label_count_alike() -> None:
    labels = [0] * 6 + [1] * 3 + [3]
    logits = torch.zeros(10, 4, dtype=torch.float64)
    per_label = []
    for chosen in (0, 1, 3):
        targets = Targets({}, torch.tensor([label if label == chosen else -100 for label in labels]))
        term = term_of({"kind": "hard", "classWeights": "balanced"}, LABELLED)
        per_label.append(term(NetworkOutput(logits), targets).item() * labels.count(chosen))
    assert per_label == pytest.approx([math.log(4) * 10 / 4] * 3, rel=1e-6)


def test_class_weights_that_say_nothing_are_refused() -> None:
    with pytest.raises(SpecError) as caught:
        term_of({"kind": "hard", "classWeights": {"tiem": 2.0}}, LABELLED)
    problem = caught.value.problem
    assert problem.field == "spec.distill.stages[].losses[].classWeights.byLabel"
    assert (problem.found, problem.allowed) == ("tiem", "io, text, time, zone")
    with pytest.raises(DataError, match="no row has a label that counts"):
        term_of({"kind": "hard", "classWeights": {"io": 0, "text": 0, "zone": 0}}, LABELLED)
    with pytest.raises(DataError, match="class weights need labels"):
        term_of({"kind": "logits", "classWeights": "balanced"}, Sizes(0, 0, 0, {}, label_rows={"io": 0}))
