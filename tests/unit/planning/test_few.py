"""What is said of little training data, before and after."""

from __future__ import annotations

import pytest

from stillhouse.planning.few import FEW_ROWS, after_the_gate, beforehand


@pytest.mark.parametrize("rows", [None, FEW_ROWS, 16_000])
def test_enough_or_unknown_is_no_reason_for_a_warning(rows: int | None) -> None:
    assert beforehand(rows, "sentence-embedding") == ""
    assert after_the_gate(rows).startswith("train longer")


@pytest.mark.parametrize("rows", [1, 400, FEW_ROWS - 1])
def test_few_rows_want_more_data_first(rows: int) -> None:
    warning = beforehand(rows, "text-classification")
    assert warning.startswith(f"spec.distill.data: {rows:,} rows")
    assert "leave spec.distill out" in warning
    said = after_the_gate(rows)
    assert said.startswith(f"give it more to learn from ({rows:,} rows now")
    assert said.index("leave spec.distill out") < said.index("train longer")


def test_images_do_not_need_as_many() -> None:
    assert beforehand(1_000, "image-classification") == ""
