"""A goal is met when the end of the range that is against us meets it."""

from __future__ import annotations

import pytest
from bench.harness.goals import judge, verdict
from bench.harness.rounds import Spread


@pytest.mark.parametrize(
    ("goal", "values", "said"),
    [
        (">= 0.7", (0.7, 0.8, 0.9), "met"),
        (">= 0.7", (0.69, 0.8, 0.9), "met in the median"),
        (">= 0.7", (0.5, 0.6, 0.9), "MISSED"),
        ("<= 2", (0.1, 1, 2), "met"),
        ("<= 2", (0.1, 1, 3), "met in the median"),
        ("<= 2", (1, 3, 4), "MISSED"),
        ("= 0", (0, 0, 0), "met"),
        ("= 0", (0, 0, 1), "met in the median"),
        ("= 0", (1, 1, 1), "MISSED"),
    ],
)
def test_it_is_judged_by_the_worse_end(goal: str, values: tuple[float, ...], said: str) -> None:
    assert verdict(goal, Spread.of(values)) == said


def test_what_is_missed_or_was_not_measured_ends_a_benchmark_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    ratios = {"share": Spread.of([0.6]), "idle": Spread.of([0.0]), "objects": Spread.of([400.0])}
    assert judge({"idle": "= 0"}, ratios) == 0
    assert judge({"idle": "= 0", "share": ">= 0.7"}, ratios) == 1
    assert judge({"idle": "= 0", "release_s": "<= 2"}, ratios) == 1
    told = capsys.readouterr()
    assert "missed: share" in told.err
    assert "missed: release_s" in told.err


def test_a_goal_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with"):
        verdict("~ 3", Spread.of([3.0]))
