"""What a cascade saves and loses is read off who was right where, and who answered."""

from __future__ import annotations

import numpy as np
from bench.cascade import Quality, figures


def test_figures_are_paired_and_of_the_answers_that_were_given() -> None:
    rows = np.arange(1000)
    small, large, rival = rows % 10 < 7, rows % 10 > 0, rows % 10 < 8
    local = rows % 5 > 0  # a fifth goes on
    texts = [str(row) for row in rows]
    found = figures(Quality(small, large, rival, small == large, local, texts, 16))

    assert found["student_accuracy"].median == 0.7
    assert found["cloud_accuracy"].median == 0.9
    assert abs(found["student_below_cloud_points"].median - 20) < 1e-9
    assert abs(found["cloud_call_reduction"].median - 5) < 1e-9
    # Of ten rows, 0 and 5 go on: 0 is lost there, 7, 8 and 9 by the small model.
    assert abs(found["cascade_accuracy"].median - 0.6) < 1e-9
    assert abs(found["accuracy_loss_points"].median - 30) < 1e-9
    assert found["accuracy_loss_points"].low < 30 < found["accuracy_loss_points"].high
    assert abs(found["cloud_above_rival_points"].median - 10) < 1e-9
