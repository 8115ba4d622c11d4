"""The figures of the agreement watch hold what they say: in worlds whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stillhouse.edge.agreement.sampling import chosen
from stillhouse.edge.agreement.settings import Bounds, Expected
from stillhouse.edge.agreement.shares import share
from stillhouse.edge.agreement.verdict import Judge, State, Verdict, figures
from stillhouse.edge.agreement.window import Totals, Window
from stillhouse.errors import SourceError
from stillhouse.inference.drift import Reference, by_chance, psi
from stillhouse.passes.evaluate.intervals import clopper_pearson

LOOK = 600.0


@pytest.mark.parametrize(
    ("count", "n"), [(0, 1), (0, 10), (10, 10), (5, 10), (97, 100), (3, 20_000), (19_990, 20_000), (50_000, 100_000)]
)
def test_of_whole_counts_it_is_the_interval_that_the_gate_has(count: int, n: int) -> None:
    mine, exact = share(count / n, n), clopper_pearson(count, n)
    assert (mine.estimate, mine.low, mine.high) == pytest.approx((exact.estimate, exact.low, exact.high), abs=1e-9)


def test_the_sample_is_a_share_of_the_requests_the_same_ones_each_time() -> None:
    first = [chosen(0.1, "a", f"{number}", b"body") for number in range(20_000)]
    assert first == [chosen(0.1, "a", f"{number}", b"body") for number in range(20_000)]
    assert clopper_pearson(sum(first), 20_000).low < 0.1 < clopper_pearson(sum(first), 20_000).high
    assert first != [chosen(0.1, "b", f"{number}", b"body") for number in range(20_000)]
    # A client that calls everything 1 is sampled all the same; only the middle of a long body is not looked at.
    assert 700 < sum(chosen(0.1, "a", "1", b"%d" % number + bytes(9000)) for number in range(10_000)) < 1300
    assert chosen(1.0, "a", "k") and not chosen(0.0, "a", "k")


def _day_and_night(rng: np.random.Generator, rows: int) -> tuple[Totals, float, int, int]:
    """By night few requests, all compared; by day many, of which a cap lets few through, and on which the edge does worse.

    All rows of a request agree or none: they are as little independent as rows can be. Returns the window, the true
    agreement, and compared requests with those that agree.
    """
    window, requests, right, seen, agreed = Window(4 * 3600, 4, 0), 0, 0.0, 0, 0
    for hour, (often, good) in enumerate(((500, 0.99), (8_000, 0.93), (8_000, 0.95), (500, 0.99))):
        bucket = window.bucket(3600.0 * hour)
        requests, right = requests + often, right + often * good
        bucket.requests, bucket.rows, bucket.squares, bucket.answered = often, often * rows, often * rows**2, often * rows
        taken = int(rng.binomial(often, 0.2))
        compared = min(taken, 150)
        alike = int(rng.binomial(compared, good))
        bucket.chosen, bucket.compared, bucket.compared_squares, bucket.agreed = (
            taken * rows,
            compared * rows,
            compared * rows**2,
            alike * rows,
        )
        seen, agreed = seen + compared, agreed + alike
    return window.totals(3 * 3600.0), right / requests, seen, agreed


@pytest.mark.parametrize("rows", [1, 8])
def test_the_interval_holds_the_truth_though_a_cap_dropped_more_by_day(rows: int) -> None:
    rng = np.random.default_rng(11)
    held = naive = 0
    errors = []
    for _ in range(400):
        totals, truth, seen, agreed = _day_and_night(rng, rows)
        found, raw = figures(totals, None).edge, clopper_pearson(agreed, seen)
        held += found.low <= truth <= found.high
        naive += raw.low <= truth <= raw.high
        errors.append(totals.agreement - truth)
        assert found.n <= seen  # rows of one request are no more evidence than one row
    assert held / 400 >= 0.95
    assert naive / 400 < 0.8  # what it is without weights
    assert abs(np.mean(errors)) < 3 * np.std(errors) / math.sqrt(400)  # and the weighted estimate is not biased


def test_what_was_escalated_agrees_and_two_processes_add_up() -> None:
    window = Window(100.0, 10, 0)
    bucket = window.bucket(0.0)
    bucket.requests = bucket.rows = bucket.squares = 1000
    bucket.answered, bucket.chosen, bucket.compared, bucket.compared_squares, bucket.agreed = 400, 100, 100, 100, 90
    totals = window.totals(0.0)
    found, edge = figures(totals, None), clopper_pearson(90, 100)
    assert found.agreement.estimate == pytest.approx(1 - 0.4 * 0.1)
    assert found.agreement.low == pytest.approx(1 - 0.4 * (1 - edge.low))
    both = figures(totals + totals, None)
    assert (both.rows, both.edge.estimate, both.edge.n) == (2000, pytest.approx(0.9), pytest.approx(200))
    bucket.answered = 0
    assert figures(window.totals(0.0), None).agreement.low == 1.0
    assert math.isnan(figures(window.totals(1000.0), None).agreement.estimate)  # all of it is past


def test_drift_by_chance_is_as_rare_as_it_says() -> None:
    rng = np.random.default_rng(5)
    over_chance = over_bound = 0
    for _ in range(1500):
        reference = Reference.of(rng.beta(5, 1, 1000).tolist())
        cells = [0] * len(reference.cells)
        for value in rng.beta(5, 1, 500).tolist():
            cells[reference.place(value)] += 1
        found = psi(reference.counts, cells[:-1])
        over_chance += found > by_chance(len(reference.counts), 1000, 500, 0.05)
        over_bound += found > max(0.2, by_chance(len(reference.counts), 1000, 500, 0.001))
    assert 0.03 < over_chance / 1500 < 0.07
    assert over_bound == 0


def test_a_reference_keeps_equal_confidences_together_and_abstentions_apart() -> None:
    reference = Reference.of([1.0] * 60 + [0.5] * 20 + [0.25] * 10 + [math.nan] * 10)
    assert (reference.edges, reference.counts, reference.abstained) == ((0.5, 1.0), (10, 20, 60), 10)
    assert [reference.place(each) for each in (0.0, 0.25, 0.5, 0.999, 1.0, math.nan)] == [0, 0, 1, 1, 2, 3]
    assert Reference.from_json(reference.to_json()) == reference
    assert Reference.of([math.nan] * 3).cells == (0, 3)
    for broken in ({}, None, {**reference.to_json(), "version": 2}, {**reference.to_json(), "edges": [1.0, 0.5]}):
        with pytest.raises(SourceError, match="histogram"):
            Reference.from_json(broken)
    with pytest.raises(ValueError, match="counts"):
        Reference.of([])


class World:
    """Traffic of a cascade in stretches of ten minutes, each judged at its end."""

    def __init__(self, bounds: Bounds, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.reference = Reference.of(self.rng.beta(5, 1, 2000).tolist())
        self.window = Window(bounds.window, bounds.buckets, len(self.reference.cells))
        self.judge = Judge(bounds, self.reference, Expected(0.3, 0.32))
        self.now, self.requests, self.compared = 0.0, 0, 0
        self.said: list[frozenset[str]] = []

    def go_on(self, looks: int, *, often: int = 120, good: float, sure: float = 5.0, escalated: float = 0.3) -> Verdict:
        """`good`: agreement of what the edge answers; `sure`: the confidences are beta(sure, 1)."""
        for _ in range(looks):
            bucket = self.window.bucket(self.now)
            values = self.rng.beta(sure, 1, often)
            places = np.searchsorted(self.reference.edges, values, side="right")
            for place, count in enumerate(np.bincount(places, minlength=len(bucket.cells)).tolist()):
                bucket.cells[place] += count
            answered = often - int(self.rng.binomial(often, escalated))
            compared = int(self.rng.binomial(answered, 0.25))
            bucket.requests += often
            bucket.rows += often
            bucket.squares += often
            bucket.answered += answered
            bucket.chosen += compared
            bucket.compared += compared
            bucket.compared_squares += compared
            bucket.agreed += int(self.rng.binomial(compared, good))
            self.requests, self.compared = self.requests + often, self.compared + compared
            found = self.judge.look(self.window.totals(self.now), (self.requests, self.compared))
            self.said.append(frozenset(reason.type for reason in found.reasons))
            self.now += LOOK
        return found

    @property
    def changes(self) -> int:
        return sum(one != other for one, other in zip(self.said, self.said[1:], strict=False))


BOUNDS = Bounds(agreement=0.96)  # of all: at 30 % escalated, 1 - 0.04 / 0.7 of the edge's answers


def test_a_week_of_traffic_exactly_at_the_bound_raises_no_alarm() -> None:
    world = World(BOUNDS, 0)
    world.go_on(7 * 144, good=1 - 0.04 / 0.7)
    assert set(world.said) == {frozenset()}


def test_a_real_drop_is_found_within_a_window_and_said_once_and_ends_once() -> None:
    world = World(BOUNDS, 1)
    assert world.go_on(72, good=0.98).state is State.OK
    found = world.go_on(36, good=0.86)
    assert (found.state, [reason.type for reason in found.reasons]) == (State.OUTSIDE, ["AgreementLow"])
    reason = found.reasons[0]
    assert reason.value < reason.bound == 0.96 and "96.0 % are wanted" in reason.message
    quiet = world.go_on(40, good=0.86, often=3)  # the night: too little to tell, so it is as it was
    assert quiet.state is State.OUTSIDE
    assert world.go_on(72, good=0.98).state is State.OK
    assert world.changes == 2


def test_other_inputs_and_more_escalation_are_told_by_their_names() -> None:
    world = World(BOUNDS, 2)
    assert world.go_on(40, good=0.99).state is State.OK
    found = world.go_on(40, good=0.99, sure=2.0, escalated=0.45)
    assert [reason.type for reason in found.reasons] == ["ConfidenceDrift", "EscalationHigh"]
    assert found.reasons[0].value > 0.2 and found.reasons[1].bound == pytest.approx(0.34)
    assert world.go_on(60, good=0.99).state is State.OK
    assert world.changes <= 4


def test_little_traffic_raises_nothing_however_bad_and_no_new_request_is_no_new_evidence() -> None:
    world = World(BOUNDS, 3)
    found = world.go_on(100, often=12, good=0.5, sure=1.0, escalated=0.9)
    assert found.state is State.TOO_LITTLE and set(found.questions.values()) == {State.TOO_LITTLE}
    world = World(BOUNDS, 4)
    world.go_on(36, good=0.98)
    totals = world.window.totals(world.now)
    bad = Totals(totals.cells, 9000, 9000, 9000, 6000, 900, 900.0, 700.0, 900.0)
    for _ in range(20):
        found = world.judge.look(bad, (world.requests + 1, world.compared + 1))
    assert found.questions["AgreementLow"] is State.OK  # one look, however often


def test_a_bound_of_drift_below_what_is_called_calm_does_not_flap() -> None:
    world = World(Bounds(psi=0.04), 6)
    world.go_on(36, often=2000, good=0.98)
    world.go_on(110, often=2000, good=0.98, sure=4.0)  # an index of about 0.06
    assert world.said[-1] == {"ConfidenceDrift"} and world.changes == 1
